package completion

// bash is the script for bash. It also works in bash 3.2, which macOS has, but there a space stays after some completions that the
// user has to delete.
const bash = `# Completes mage and "go tool mage" in bash.
{{template "expect" .}}
_sigstore_local_complete() {
	# Bash splits words at the colon and the equals sign too. Those that no space is between are put together again, up to
	# the cursor.
	local rest=${COMP_LINE:0:COMP_POINT} line=() count=0 i word
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if ((i == 0)) || [[ $rest == [[:space:]]* ]]; then
			rest=${rest#"${rest%%[![:space:]]*}"}
			count=$((count + 1))
			line[count - 1]=
		fi
		if ((i == COMP_CWORD)); then
			word=$rest
		fi
		line[count - 1]+=$word
		rest=${rest#"$word"}
	done
	# Variables may be set before the command.
	i=0
	while [[ ${line[i]} =~ ^[A-Za-z_][A-Za-z0-9_]*= ]]; do
		i=$((i + 1))
	done
	case ${line[i]##*/} in
	mage) i=$((i + 1)) ;;
	go)
		if [[ ${line[i + 1]} == tool && ${line[i + 2]} == mage ]]; then
			i=$((i + 3))
		else
			i=$count
		fi
		;;
	*) i=$count ;;
	esac
	if ((i >= count)) || ! _sigstore_local_here; then
		_sigstore_local_before "$@"
		return
	fi
	local choices flags expected current=${line[count - 1]} candidates sign cut=
	_sigstore_local_expect "${line[@]:i}"
	COMPREPLY=()
	case $expected in
	anything) return ;; # files, as bash does by itself
	choices) candidates=$choices ;;
	targets) candidates="{{range .Targets}}{{.Name}} {{end}}" ;;
	esac
	compopt +o default +o bashdefault 2>/dev/null
	# Bash replaces only what stands after the last of its word breaks.
	for sign in : =; do
		if [[ $COMP_WORDBREAKS == *$sign* && $current == *$sign* ]]; then
			word=${current%"${current##*$sign}"}
			((${#word} > ${#cut})) && cut=$word
		fi
	done
	for word in $candidates; do
		if [[ $word == "$current"* ]]; then
			COMPREPLY+=("${word#"$cut"}")
		fi
	done
	if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
		compopt -o nospace 2>/dev/null
	fi
}

# Completes as if this script were not there.
_sigstore_local_before() {
	local command=${1##*/} variable loader parts i function= program= status=0 rounds
	variable=_sigstore_local_before_$command
	for rounds in 1 2; do
		if [[ -z ${!variable} ]]; then
			# What loads completions when they are first needed finds that of this command taken.
			loader=$(complete -p -D 2>/dev/null)
			[[ $loader == *"-F "* ]] || return 0
			loader=${loader#*-F }
			"${loader%% *}" "$@"
			printf -v "$variable" %s "$(complete -p "$command" 2>/dev/null)"
			complete -o bashdefault -o default -F _sigstore_local_complete "$command"
			if [[ -z ${!variable} || ${!variable} == *_sigstore_local_complete* ]]; then
				printf -v "$variable" %s "complete -o default -o bashdefault $command"
			fi
		fi
		eval "parts=(${!variable})"
		for ((i = 1; i < ${#parts[@]} - 1; i++)); do
			case ${parts[i]} in
			-F) function=${parts[i + 1]} ;;
			-C) program=${parts[i + 1]} ;;
			-o) compopt -o "${parts[i + 1]}" 2>/dev/null ;;
			esac
		done
		if [[ -n $function ]]; then
			"$function" "$@"
			status=$?
			# It has put another one into its place.
			[[ $status == 124 ]] || return $status
			printf -v "$variable" %s "$(complete -p "$command" 2>/dev/null)"
			complete -o bashdefault -o default -F _sigstore_local_complete "$command"
			continue
		fi
		local IFS=$'\n'
		if [[ -n $program ]]; then
			COMPREPLY=($(export COMP_LINE COMP_POINT COMP_KEY COMP_TYPE && eval "$program \"\$@\""))
		else
			COMPREPLY=($(compgen "${parts[@]:1:${#parts[@]}-2}" -- "$2"))
		fi
		return 0
	done
}

for _sigstore_local_command in mage go; do
	_sigstore_local_spec=$(complete -p "$_sigstore_local_command" 2>/dev/null)
	if [[ $_sigstore_local_spec != *_sigstore_local_complete* ]]; then
		printf -v "_sigstore_local_before_$_sigstore_local_command" %s "$_sigstore_local_spec"
	fi
	complete -o bashdefault -o default -F _sigstore_local_complete "$_sigstore_local_command"
done
unset _sigstore_local_command _sigstore_local_spec
`
