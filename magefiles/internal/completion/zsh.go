package completion

const zsh = `# Completes mage and "go tool mage" in zsh.
{{template "expect" .}}
_sigstore_local_complete() {
	local at=0
	case ${words[1]:t} in
	mage) at=2 ;;
	go) [[ $words[2] == tool && $words[3] == mage ]] && at=4 ;;
	esac
	if (( at == 0 || CURRENT < at )) || ! _sigstore_local_here; then
		local before=$_sigstore_local_before[${words[1]:t}]
		if [[ -n $before ]]; then
			eval "$before"
		else
			_default
		fi
		return
	fi
	local -a line=("${(@)words[at,CURRENT-1]}" "$PREFIX") candidates
	() {
		local choices flags expected
		_sigstore_local_expect "${(@)line}"
		case $expected in
		targets) candidates=(targets) ;;
		choices) candidates=(choices ${=choices}) ;;
		esac
	}
	case $candidates[1] in
	targets)
		candidates=(
{{- range .Targets}}
			{{described .}}
{{- end}}
		)
		_describe -t targets target candidates
		;;
	choices)
		shift candidates
		compadd -S '' -- ${(M)candidates:#*=}
		compadd -- ${candidates:#*=}
		;;
	*) _default ;;
	esac
}

if (( ! $+functions[compdef] )); then
	autoload -Uz compinit && compinit
fi
typeset -gA _sigstore_local_before
for _sigstore_local_command in mage go; do
	if [[ $_comps[$_sigstore_local_command] != _sigstore_local_complete ]]; then
		_sigstore_local_before[$_sigstore_local_command]=$_comps[$_sigstore_local_command]
	fi
done
unset _sigstore_local_command
compdef _sigstore_local_complete mage go
`
