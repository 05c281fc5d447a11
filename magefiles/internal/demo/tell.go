package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"sigstore-local/magefiles/internal/demo/event"
)

// The forms in which a demo tells what happens. The first is for people, the other for programs.
const (
	Text = "text"
	JSON = "json" // one event.Event a line
)

// Teller tells what happens in a demo. It writes each event at once.
type Teller struct {
	out  io.Writer
	form string
}

// NewTeller returns a teller that writes to out in a form, which is Text or JSON.
func NewTeller(out io.Writer, form string) Teller { return Teller{out, form} }

// Tell writes an event. An error says that it could not be written.
func (t Teller) Tell(e event.Event) error {
	if t.form == JSON {
		lines := json.NewEncoder(t.out)
		lines.SetEscapeHTML(false)
		return lines.Encode(plain(e))
	}
	var err error
	if text := text(e); text != "" {
		_, err = io.WriteString(t.out, text)
	}
	return err
}

// TellFailure tells that a demo has failed, if it has, and returns its error. People get that error from the demo's caller.
func (t Teller) TellFailure(failure error) error {
	if failure == nil {
		return nil
	}
	// The failure may be that nothing can be told any longer, which is not worth a second error.
	_ = t.Tell(event.Event{Kind: event.Failed, Text: failure.Error()})
	return failure
}

// text is an event as people read it.
func text(e event.Event) string {
	switch e.Kind {
	case event.Chapter:
		heading := fmt.Sprintf("%d. %s", e.Chapter, e.Title)
		return fmt.Sprintf("\n\n%s\n%s\n\n%s\n", heading, strings.Repeat("=", len(heading)), e.About)
	case event.Intro:
		if e.Command == "" {
			return fmt.Sprintf("\n%s\n", e.Text)
		}
		return fmt.Sprintf("\n%s\n\n    $ %s\n", e.Text, e.Command)
	case event.Step:
		return fmt.Sprintf("\n%d. %s\n\n    $ %s\n", e.Step, e.Why, e.Command)
	case event.Said:
		switch {
		case e.Refused:
			// cosign gives the reason once for each signature on the image, and the demo is about one of them.
			return output(e.Line) + "    Refused, as it should be.\n"
		case e.Drawing:
			return "    " + strings.ReplaceAll(strings.TrimSpace(e.Said), "\n", "\n    ") + "\n"
		}
		return output(e.Said)
	case event.Look:
		return fmt.Sprintf("\n   Look: %s\n", e.Text)
	case event.Attack:
		line := cut(e.Line, 200)
		if e.Chapter == 0 {
			return fmt.Sprintf("\n%d. %s\n   %s notices: %s\n", e.Step, e.Did, e.Who, line)
		}
		return fmt.Sprintf("\n%d. %s\n\n    $ %s\n    %s\n\n   Look: %s notices. %s\n", e.Step, e.Did, e.Command, line, e.Who, e.Because)
	case event.SignIn:
		return fmt.Sprintf("\n%s\n\n", indented.ReplaceAllString(e.Text, "    $0"))
	case event.Done:
		return fmt.Sprintf("\n%s\n", e.Text)
	}
	return "" // the lesson itself asks for Enter, and the target's error is printed by its caller
}

// output is a command's output, cut to what fits.
func output(said string) string {
	const lines, columns = 16, 140
	var text strings.Builder
	all := strings.Split(strings.TrimSpace(said), "\n")
	for i, line := range all {
		if i == lines {
			fmt.Fprintf(&text, "    … %d more lines\n", len(all)-lines)
			break
		}
		if strings.TrimSpace(line) != "" {
			fmt.Fprintf(&text, "    %s\n", cut(line, columns))
		}
	}
	return text.String()
}

// indented matches what lines with text begin with.
var indented = regexp.MustCompile(`(?m)^.`)

// cut is a line with at most so many characters.
func cut(line string, most int) string {
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return line
}

// hostedTerms matches the terms of the public Sigstore, which cosign prints before it signs, and which are not this stack's.
var hostedTerms = regexp.MustCompile(`(?ms)^\s*The sigstore service, hosted by .*?^By typing 'y', [^\n]*\n`)

// escapes matches what makes a terminal change colours, move its cursor or set its title (ECMA-48: control sequences and strings),
// and all other control characters but tabs and line feeds.
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]`)

// mostSaid is how many bytes of a command's output, or of an error, a program is told.
const mostSaid = 64 << 10

// plain is an event whose texts from elsewhere have a bounded size and no characters that control a terminal.
func plain(e event.Event) event.Event {
	for _, text := range []*string{&e.Said, &e.Line, &e.Text} {
		*text = bounded(strings.TrimSpace(strings.ToValidUTF8(escapes.ReplaceAllString(*text, ""), "\uFFFD")))
	}
	return e
}

// bounded is text with at most mostSaid bytes. If it is cut, it ends with an ellipsis.
func bounded(text string) string {
	const ellipsis = "…"
	if len(text) <= mostSaid {
		return text
	}
	end := mostSaid - len(ellipsis)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
