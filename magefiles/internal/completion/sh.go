package completion

// expect is what the scripts for bash and zsh have in common, in the language that both understand.
const expect = `
# Whether the working directory is in a checkout of the project.
_sigstore_local_here() {
	local folder=$PWD line
	while :; do
		if [ -r "$folder/go.mod" ]; then
			line=
			IFS= read -r line <"$folder/go.mod"
			[ "$line" = {{quote .Module}} ] && return 0
		fi
		[ -n "$folder" ] || return 1
		folder=${folder%/*}
	done
}

# For the target $1: sets arguments to how many it must be given, choices to what the first may be, and flags to its flags.
_sigstore_local_target() {
	arguments=0 choices= flags=
	case $1 in
{{- range .Targets}}{{if or .Arguments .Flags}}
	{{quote .Name}}) arguments={{.Arguments}} choices={{join .Words}} flags={{words .Flags}} ;;
{{- end}}{{end}}
	esac
}

# For the words after mage, the last of which is to be completed: sets expected to targets, to choices (those in choices),
# or to anything.
_sigstore_local_expect() {
	local arguments=0 left=0 first=1
	flags={{words .Own}}
	while [ $# -gt 1 ]; do
		if [ $left -gt 0 ]; then
			left=$((left - 1))
		else
			case $1 in
			-t | -d | -w) # mage's own flags whose value may be the next word
				[ $first = 1 ] && [ $# -gt 2 ] && shift
				;;
			-*) ;;
			*)
				_sigstore_local_target "$1"
				left=$arguments first=0
				;;
			esac
		fi
		shift
	done
	expected=targets
	if [ $left -gt 0 ]; then
		expected=anything
		if [ $left = "$arguments" ] && [ -n "$choices" ]; then
			expected=choices
		fi
	else
		case $1 in
		-*) expected=choices choices=$flags ;;
		esac
	fi
}
`
