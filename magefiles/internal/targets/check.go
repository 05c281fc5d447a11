package targets

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/nearest"
	"sigstore-local/magefiles/internal/project"
)

// Check is an error, with a message for the user, if a word of a command line after mage's own flags is wrong. It reads the
// words as the main function does that mage makes, which finds a wrong word only after it has run the targets before it.
func (l List) Check(words []string) error {
	for at := 0; at < len(words); {
		t, ok := l.Find(words[at])
		if !ok {
			if at > 0 && strings.HasPrefix(words[at], "-") {
				return fmt.Errorf("%q is neither a target nor for the one before; mage's own flags come before the first target", words[at])
			}
			return l.unknown(words[at])
		}
		at++
		for i, p := range t.Arguments() {
			if at == len(words) {
				return t.wrong("wants " + wants(t.Arguments()[i:]))
			}
			if name, isFlag := strings.CutPrefix(words[at], "-"); isFlag {
				name, _, _ = strings.Cut(name, "=")
				if _, ok := t.flag(name); ok {
					return t.wrong(fmt.Sprintf("takes %s after %s", words[at], placeholder(p)))
				}
			}
			if accepted := p.refuses(words[at]); accepted != "" {
				return t.wrong(fmt.Sprintf("was given %q for %s; accepted is %s", words[at], placeholder(p), accepted))
			}
			at++
		}
		for len(t.Flags()) > 0 && at < len(words) && strings.HasPrefix(words[at], "-") {
			name, value, given := strings.Cut(words[at][1:], "=")
			p, ok := t.flag(name)
			switch {
			case !ok:
				return t.wrong("has no flag -" + name)
			case !given && p.Type == "bool":
				value = "true"
			case !given:
				return t.wrong(fmt.Sprintf("wants a value for -%s, after an equals sign", p.Name))
			}
			if accepted := p.refuses(value); accepted != "" {
				return t.wrong(fmt.Sprintf("was given %s; accepted is %s", words[at], accepted))
			}
			at++
		}
	}
	return nil
}

// Help says what a target does and how it is called.
func (l List) Help(name string) (string, error) {
	t, ok := l.Find(name)
	if !ok {
		return "", l.unknown(name)
	}
	return t.Comment + "\n\n    " + t.usage(), nil
}

// unknown is the message about a word that is no target.
func (l List) unknown(word string) error {
	var known []string
	for _, t := range l {
		known = append(known, t.Name)
	}
	near, distance := nearest.To(word, known)
	lists := "`" + project.Command + " -l` lists them all"
	switch {
	case distance > 1+len(word)/3:
		return fmt.Errorf("%q is not a target; %s", word, lists)
	case len(near) == 1:
		return fmt.Errorf("%q is not a target; the nearest is %s, and %s", word, near[0], lists)
	}
	return fmt.Errorf("%q is not a target; the nearest are %s, and %s", word, strings.Join(near, ", "), lists)
}

// wrong is the message that says what is wrong with a call of the target, and how it is called.
func (t Target) wrong(what string) error {
	return errors.New(t.Name + " " + what + ": " + t.usage())
}

// usage is how the target is called, and below it what its parameters mean.
func (t Target) usage() string {
	line, width := project.Command+" "+t.Name, 0
	var labels, comments []string
	add := func(label, comment string) {
		labels, comments = append(labels, label), append(comments, comment)
		width = max(width, len(label))
	}
	for _, p := range t.Arguments() {
		line += " " + placeholder(p)
		add(placeholder(p), p.Comment)
	}
	for _, p := range t.Flags() {
		label := "-" + p.Name
		if p.Type != "bool" {
			label += "=" + placeholder(p)
		}
		line += " [" + label + "]"
		add(label, p.Comment)
	}
	for i, label := range labels {
		if i == 0 {
			line += "\n"
		}
		line += strings.TrimRight(fmt.Sprintf("\n  %-*s  %s", width, label, comments[i]), " ")
	}
	return line
}

// placeholder stands for a parameter's value in the usage of a target.
func placeholder(p Param) string {
	switch {
	case !p.Flag:
		return strings.ToUpper(p.Name)
	case len(p.Choices()) > 0:
		return strings.Join(p.Choices(), "|")
	case p.Type == "int" || p.Type == "float64":
		return "N"
	case p.Type == "time.Duration":
		return "DURATION"
	case len(p.Name) > 1:
		return strings.ToUpper(p.Name)
	}
	return "TEXT"
}

// wants names arguments: "a service", "a name and an index".
func wants(arguments []Param) string {
	var names []string
	for _, p := range arguments {
		article := "a "
		if strings.ContainsAny(p.Name[:1], "aeiou") {
			article = "an "
		}
		names = append(names, article+p.Name)
	}
	return strings.Join(names, " and ")
}

// refuses says what the parameter accepts if it does not take value; empty if it does.
func (p Param) refuses(value string) (accepted string) {
	var err error
	switch p.Type {
	case "int":
		_, err = strconv.Atoi(value)
		accepted = "a whole number"
	case "float64":
		_, err = strconv.ParseFloat(value, 64)
		accepted = "a number"
	case "bool":
		_, err = strconv.ParseBool(value)
		accepted = "true or false"
	case "time.Duration":
		_, err = time.ParseDuration(value)
		accepted = "a duration, such as 5m30s"
	}
	if err == nil {
		return ""
	}
	return accepted
}
