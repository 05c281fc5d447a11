// Package targets knows which targets there are and how they are called. It imports little, since each call of `go tool`
// reads all that its tool imports; encoding/json alone would be four packages more.
package targets

import (
	"fmt"
	"os"
	"strings"
)

// Target is a target as its function in the magefiles declares it.
type Target struct {
	Name     string // as `mage -l` lists it; upper and lower case are the same to mage
	Synopsis string // the first sentence of its comment, without its name
	Comment  string // its whole comment, on one line
	Params   []Param
}

// Param is a parameter of a target: an argument, or a flag.
type Param struct {
	Name    string
	Type    string // string, int, float64, bool or time.Duration
	Flag    bool   // whether it may be left out, and is given as -name=value
	Comment string // empty if it has none
}

// List is all targets, sorted by their names.
type List []Target

// Encode writes the list as text for decode, with a line for each target and for each of its parameters.
func (l List) Encode() []byte {
	var text strings.Builder
	line := func(fields ...string) {
		for i, field := range fields {
			// No field may hold what separates fields and lines.
			fields[i] = strings.Join(strings.Fields(field), " ")
		}
		text.WriteString(strings.Join(fields, "\t") + "\n")
	}
	for _, t := range l {
		line("target", t.Name, t.Synopsis, t.Comment)
		for _, p := range t.Params {
			kind := "argument"
			if p.Flag {
				kind = "flag"
			}
			line(kind, p.Name, p.Type, p.Comment)
		}
	}
	return []byte(text.String())
}

// decode reads what Encode wrote. A list without targets is an error.
func decode(text []byte) (List, error) {
	var list List
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch kind := fields[0]; {
		case kind == "target" && len(fields) == 4:
			list = append(list, Target{Name: fields[1], Synopsis: fields[2], Comment: fields[3]})
		case (kind == "argument" || kind == "flag") && len(fields) == 4 && len(list) > 0:
			last := &list[len(list)-1]
			last.Params = append(last.Params, Param{Name: fields[1], Type: fields[2], Flag: kind == "flag", Comment: fields[3]})
		default:
			return nil, fmt.Errorf("the list of targets has the line %q", line)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the list of targets is empty")
	}
	return list, nil
}

// Read reads a file with what Encode wrote.
func Read(file string) (List, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

// Find is the target with a name, in upper or lower case.
func (l List) Find(name string) (Target, bool) {
	for _, t := range l {
		if strings.EqualFold(t.Name, name) {
			return t, true
		}
	}
	return Target{}, false
}

// Arguments are the parameters that must be given, in their order.
func (t Target) Arguments() []Param { return t.params(false) }

// Flags are the parameters that may be left out.
func (t Target) Flags() []Param { return t.params(true) }

func (t Target) params(flags bool) []Param {
	var params []Param
	for _, p := range t.Params {
		if p.Flag == flags {
			params = append(params, p)
		}
	}
	return params
}

// flag is the flag with a name, in upper or lower case.
func (t Target) flag(name string) (Param, bool) {
	for _, p := range t.Flags() {
		if strings.EqualFold(p.Name, name) {
			return p, true
		}
	}
	return Param{}, false
}

// Choices are the values that a parameter takes, if its comment ends with a list of words, such as "the form of the output:
// text, svg or mermaid". What stands in parentheses or after a semicolon does not count.
func (p Param) Choices() []string {
	text := p.Comment
	if at := strings.LastIndex(text, ": "); at >= 0 {
		text = text[at+2:]
	}
	text, _, _ = strings.Cut(text, " (")
	text, _, _ = strings.Cut(text, ";")
	most, last, found := strings.Cut(text, " or ")
	if !found {
		return nil
	}
	choices := append(strings.Split(most, ", "), last)
	for _, choice := range choices {
		if choice == "" || strings.ContainsAny(choice, " ,'\"") {
			return nil
		}
	}
	return choices
}
