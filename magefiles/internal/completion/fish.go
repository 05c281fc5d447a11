package completion

const fish = `# Completes mage and "go tool mage" in fish.

# Whether the working directory is in a checkout of the project.
function __sigstore_local_here
	set -l folder $PWD
	while true
		if test -r "$folder/go.mod"
			set -l line
			read line <"$folder/go.mod"
			test "$line" = {{quote .Module}}; and return 0
		end
		test -n "$folder"; or return 1
		set folder (string replace -r '/[^/]*$' '' -- $folder)
	end
end

# For the target $argv[1], in lower case: prints how many arguments it must be given, and the words that the first may be.
function __sigstore_local_arguments
	switch $argv[1]
{{- range .Targets}}{{if .Arguments}}
		case {{lower .Name | quote}}
			printf '%s\n' {{.Arguments}}{{range .Words}} {{quote .}}{{end}}
{{- end}}{{end}}
		case '*'
			echo 0
	end
end

# For the target $argv[1], in lower case: prints its flags and what they mean; mage's own without a target.
function __sigstore_local_flags
	switch "$argv[1]"
		case ''
			printf '%s\t%s\n'{{range .Own}} {{quote .Word}} {{quote .Comment}}{{end}}
{{- range .Targets}}{{if .Flags}}
		case {{lower .Name | quote}}
			printf '%s\t%s\n'{{range .Flags}} {{quote .Word}} {{quote .Comment}}{{end}}
{{- end}}{{end}}
	end
end

# Prints what the word at the cursor may be, and fails if that is not known.
function __sigstore_local_candidates
	set -l line (commandline -opc)
	while string match -qr '^[A-Za-z_]\w*=' -- "$line[1]"
		set -e line[1]
	end
	switch (string replace -r '.*/' '' -- "$line[1]")
		case mage
			set -e line[1]
		case go
			test "$line[2]" = tool; and test "$line[3]" = mage; or return 1
			set -e line[1..3]
		case '*'
			return 1
	end
	__sigstore_local_here; or return 1
	set -l target ''
	set -l left 0
	set -l arguments 0
	while set -q line[1]
		if test $left -gt 0
			set left (math $left - 1)
		else if contains -- $line[1] -t -d -w
			test -z "$target"; and set -e line[1]
		else if not string match -q -- '-*' $line[1]
			set target (string lower -- $line[1])
			set arguments (__sigstore_local_arguments $target)
			set left $arguments[1]
		end
		set -e line[1]
	end
	if test $left -gt 0
		test $left = $arguments[1]; and set -q arguments[2]; or return 1
		printf '%s\n' $arguments[2..-1]
	else if string match -q -- '-*' (commandline -ct)
		__sigstore_local_flags $target
	else
		printf '%s\t%s\n'{{range .Targets}} {{quote .Name}} {{quote .Synopsis}}{{end}}
	end
end

complete -c mage -n '__sigstore_local_candidates >/dev/null' -f -a '(__sigstore_local_candidates)'
complete -c go -n '__sigstore_local_candidates >/dev/null' -f -a '(__sigstore_local_candidates)'
`
