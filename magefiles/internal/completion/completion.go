// Package completion makes the scripts with which shells complete what stands after `mage` and `go tool mage`.
package completion

import (
	"fmt"
	"io"
	"strings"
	"text/template"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/targets"
	"sigstore-local/magefiles/runner"
)

// shells lists the shells that there is a script for.
func shells() []string { return []string{"bash", "zsh", "fish"} }

// Print writes to out the script of a shell for the compiled targets of the project in the folder root.
func Print(out io.Writer, shell, root string, names map[string][]string) error {
	compiled, err := runner.Find(root)
	if err != nil {
		return err
	}
	list, err := targets.Read(compiled.ListFile())
	if err != nil {
		return err
	}
	script, err := scriptFor(shell, list, names)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, script)
	return err
}

// scriptFor returns the script that a shell evaluates at its start. The script holds every word that it completes, so that a key
// press runs no program: the targets of list, their flags, and for the first argument of a target the words that names has for
// that target, or that the argument's comment lists. The script completes only in a checkout of this project. Elsewhere, and for
// go's other commands, it calls what completed them before.
func scriptFor(shell string, list targets.List, names map[string][]string) (string, error) {
	texts := map[string]string{"bash": bash, "zsh": zsh, "fish": fish}
	text, ok := texts[shell]
	if !ok {
		return "", fmt.Errorf("%q is not a shell that there is a completion for; accepted is one of %s", shell, strings.Join(shells(), ", "))
	}
	for name := range names {
		if t, ok := list.Find(name); !ok || len(t.Arguments()) == 0 {
			return "", fmt.Errorf("words are given for the argument of %s, which is not a target with an argument", name)
		}
	}
	var all []target
	for _, one := range list {
		words := names[one.Name]
		if arguments := one.Arguments(); len(arguments) > 0 && words == nil {
			words = arguments[0].Choices()
		}
		all = append(all, target{one.Name, one.Synopsis, len(one.Arguments()), words, flags(one)})
	}
	quote := shellescape.Quote
	if shell == "fish" {
		quote = client.QuoteFish
	}
	functions := template.FuncMap{
		"quote": quote,
		"lower": strings.ToLower,
		"join":  func(words []string) string { return quote(strings.Join(words, " ")) },
		"words": func(flags []flag) string {
			var words []string
			for _, f := range flags {
				words = append(words, f.Word)
			}
			return quote(strings.Join(words, " "))
		},
		// What zsh's _describe reads: the word, a colon, and what it means.
		"described": func(t target) string {
			return quote(strings.ReplaceAll(t.Name, ":", `\:`) + ":" + strings.ReplaceAll(t.Synopsis, `\`, `\\`))
		},
	}
	parsed, err := template.New(shell).Funcs(functions).Parse(text)
	if err == nil {
		_, err = parsed.New("expect").Parse(expect)
	}
	if err != nil {
		return "", err
	}
	var script strings.Builder
	err = parsed.Execute(&script, map[string]any{"Module": "module " + project.Module, "Targets": all, "Own": own()})
	return script.String(), err
}

// target is a target as the scripts need it.
type target struct {
	Name, Synopsis string
	Arguments      int      // how many must be given
	Words          []string // what the first one may be; empty if that is not known
	Flags          []flag
}

// flag is a flag as it is typed: with its value, or ending in an equals sign if that is not known, or alone.
type flag struct{ Word, Comment string }

func flags(t targets.Target) []flag {
	var all []flag
	for _, p := range t.Flags() {
		word := "-" + p.Name
		switch choices := p.Choices(); {
		case len(choices) > 0:
			for _, choice := range choices {
				all = append(all, flag{word + "=" + choice, p.Comment})
			}
		case p.Type == "bool":
			all = append(all, flag{word, p.Comment})
		default:
			all = append(all, flag{word + "=", p.Comment})
		}
	}
	return all
}

// own are those of mage's own flags that make sense in a project with targets; they come before the first target.
func own() []flag {
	return []flag{
		{"-f", "compile the targets even if they are up to date"},
		{"-h", "show what a target does and how it is called"},
		{"-l", "list the targets"},
		{"-t=", "end the targets after this time, such as 5m30s"},
		{"-v", "say which targets run"},
	}
}
