package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo/event"
	"sigstore-local/magefiles/internal/stack"
)

// told are the events that text holds, one a line. Fields that an Event does not have are an error.
func told(t *testing.T, text string) []event.Event {
	t.Helper()
	var events []event.Event
	for line := range strings.Lines(text) {
		var one event.Event
		known := json.NewDecoder(strings.NewReader(line))
		known.DisallowUnknownFields()
		if err := known.Decode(&one); err != nil || !strings.HasSuffix(line, "\n") || known.More() {
			t.Fatalf("the line %q: %v", line, err)
		}
		events = append(events, one)
	}
	return events
}

// each is an event of each kind, with the text of it for people.
func each() map[string]struct {
	event event.Event
	text  string
} {
	return map[string]struct {
		event event.Event
		text  string
	}{
		"chapter":       {event.Event{Kind: event.Chapter, Chapter: 2, Title: "Logs", About: "They grow."}, "\n\n2. Logs\n=======\n\nThey grow.\n"},
		"intro":         {event.Event{Kind: event.Intro, Text: "Attacks follow."}, "\nAttacks follow.\n"},
		"intro command": {event.Event{Kind: event.Intro, Text: "Type this:", Command: `eval "$(x)"`}, "\nType this:\n\n    $ eval \"$(x)\"\n"},
		"wait":          {event.Event{Kind: event.Wait, Chapter: 1, Step: 2}, ""},
		"step":          {event.Event{Kind: event.Step, Step: 3, Why: "Sign.", Command: "A=1 cosign sign"}, "\n3. Sign.\n\n    $ A=1 cosign sign\n"},
		"said":          {event.Event{Kind: event.Said, Step: 3, Said: "one\n\n two\n"}, "    one\n     two\n"},
		"said nothing":  {event.Event{Kind: event.Said, Step: 3}, ""},
		"drawing":       {event.Event{Kind: event.Said, Step: 3, Drawing: true, Said: "root\n\n" + strings.Repeat("x", 150)}, "    root\n    \n    " + strings.Repeat("x", 150) + "\n"},
		"refused": {
			event.Event{Kind: event.Said, Step: 3, Refused: true, Said: "one\nno signatures found\nmore", Line: "no signatures found"},
			"    no signatures found\n    Refused, as it should be.\n",
		},
		"look": {event.Event{Kind: event.Look, Step: 3, Text: "It is short."}, "\n   Look: It is short.\n"},
		"attack": {
			event.Event{Kind: event.Attack, Step: 4, Attack: "own-ca", Did: "A CA.", Command: "cosign verify", Said: "x\nno\n", Line: "no", Who: "cosign", Because: "It does."},
			"\n4. A CA.\n   cosign notices: no\n",
		},
		"attack in the tour": {
			event.Event{Kind: event.Attack, Chapter: 4, Step: 4, Attack: "own-ca", Did: "A CA.", Command: "cosign verify", Said: "x\nno\n", Line: "no", Who: "cosign", Because: "It does."},
			"\n4. A CA.\n\n    $ cosign verify\n    no\n\n   Look: cosign notices. It does.\n",
		},
		"sign-in": {event.Event{Kind: event.SignIn, Step: 1, Text: "Open this:\n\nhttp://x\n\nIt waits."}, "\n    Open this:\n\n    http://x\n\n    It waits.\n\n"},
		"done":    {event.Event{Kind: event.Done, Text: "A key signed."}, "\nA key signed.\n"},
		"failed":  {event.Event{Kind: event.Failed, Text: "step 1: no"}, ""},
	}
}

func TestPeopleAndProgramsAreToldTheSame(t *testing.T) {
	for name, test := range each() {
		var people, program bytes.Buffer
		if err := errors.Join(NewTeller(&people, Text).Tell(test.event), NewTeller(&program, JSON).Tell(test.event)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if people.String() != test.text {
			t.Errorf("%s: people read %q, not %q", name, people.String(), test.text)
		}
		want := test.event
		want.Said = strings.TrimSpace(want.Said)
		if got := told(t, program.String()); len(got) != 1 || got[0] != want {
			t.Errorf("%s: a program reads %+v, not %+v", name, got, want)
		}
	}
}

func TestOutputIsCutForPeopleAndWholeForPrograms(t *testing.T) {
	said := strings.Repeat("line\n", 20) + "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b(B & <b>\tend\r\n"
	var people, program bytes.Buffer
	for _, teller := range []Teller{NewTeller(&people, Text), NewTeller(&program, JSON)} {
		if err := teller.Tell(event.Event{Kind: event.Said, Said: said}); err != nil {
			t.Fatal(err)
		}
	}
	if want := strings.Repeat("    line\n", 16) + "    … 5 more lines\n"; people.String() != want {
		t.Errorf("people read %q, not %q", people.String(), want)
	}
	if got, want := told(t, program.String())[0].Said, strings.Repeat("line\n", 20)+"red  & <b>\tend"; got != want {
		t.Errorf("a program reads %q, not %q", got, want)
	}
	if wide := output(strings.Repeat("é", 141)); wide != "    "+strings.Repeat("é", 140)+"…\n" {
		t.Errorf("a wide line is %q", wide)
	}
	// The cut falls into a character, and what is no UTF-8 does not make it longer.
	for _, much := range []string{"a" + strings.Repeat("é", mostSaid), strings.Repeat("\xff", mostSaid+1), strings.Repeat("a\xff", mostSaid)} {
		got := plain(event.Event{Said: much, Line: much, Text: much})
		if len(got.Said) > mostSaid || len(got.Line) > mostSaid || len(got.Text) > mostSaid || !utf8.ValidString(got.Said) {
			t.Errorf("%q… has %d bytes", much[:5], len(got.Said))
		}
	}
}

// demoOf is a demo whose programs are shell scripts, and that tells out in a form.
func demoOf(t *testing.T, out io.Writer, form string, scripts map[string]string) *Demo {
	t.Helper()
	c, err := config.Load(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.State = t.TempDir()
	for name, script := range scripts {
		file := c.Program(name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(c.Home(), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Demo{Stack: &stack.Stack{Config: c}, ctx: t.Context(), teller: NewTeller(out, form), introduced: true}
}

func kinds(events []event.Event) (all []event.Kind) {
	for _, one := range events {
		all = append(all, one.Kind)
	}
	return all
}

func TestADemoTellsEachStepBeforeItsCommandRuns(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "told"))
	if err != nil {
		t.Fatal(err)
	}
	// The program prints what has been told when it runs.
	d := demoOf(t, out, JSON, map[string]string{
		"signer":   "cat " + out.Name(),
		"verifier": "echo first; echo no signatures found; exit 1",
	})
	d.secret("TOKEN", "print-token", func() (string, error) { return "secret", nil })
	d.step("Sign.", "signer", "an image")
	d.look("This is for the tour only.")
	d.refused("It is refused.", regexp.MustCompile("no signatures"), "verifier")
	if err := d.done("It holds.", "demo:rekor"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	events := told(t, string(text))
	if len(events) != 5 {
		t.Fatalf("told is %s", text)
	}
	if inside := told(t, events[1].Said+"\n"); len(inside) != 1 || inside[0] != events[0] {
		t.Errorf("while the command ran, told was %+v", inside)
	}
	events[1].Said = ""
	want := []event.Event{
		{Kind: event.Step, Step: 1, Why: "Sign.", Command: `TOKEN="$(print-token)" signer 'an image'`},
		{Kind: event.Said, Step: 1},
		{Kind: event.Step, Step: 2, Why: "It is refused.", Command: "verifier"},
		{Kind: event.Said, Step: 2, Refused: true, Said: "first\nno signatures found", Line: "no signatures found"},
		{Kind: event.Done, Text: "It holds. Next: `go tool mage demo:rekor`."},
	}
	if !slices.Equal(events, want) {
		t.Errorf("told is\n%+v, not\n%+v", events, want)
	}
}

func TestAFailureIsToldLast(t *testing.T) {
	for name, test := range map[string]struct {
		run  func(*Demo)
		want string
	}{
		"a step fails":           {func(d *Demo) { d.step("Sign.", "verifier") }, "step 1: verifier: exit status 1:\n  | no signatures found"},
		"nothing is refused":     {func(d *Demo) { d.refused("No.", regexp.MustCompile("x"), "signer") }, "step 1: this had to be refused, and was not"},
		"another reason is told": {func(d *Demo) { d.refused("No.", regexp.MustCompile("x"), "verifier") }, "step 1: this had to be refused for another reason: verifier: exit status 1:\n  | no signatures found"},
	} {
		var out bytes.Buffer
		d := demoOf(t, &out, JSON, map[string]string{"signer": "exit 0", "verifier": "echo no signatures found; exit 1"})
		test.run(d)
		d.step("This does not run.", "signer")
		failure := d.teller.TellFailure(d.done("It holds.", ""))
		events := told(t, out.String())
		if failure == nil || len(events) != 2 || events[0].Kind != event.Step || events[1] != (event.Event{Kind: event.Failed, Text: test.want}) {
			t.Errorf("%s: %v, and told is %+v", name, failure, events)
		}
	}
	var out bytes.Buffer
	if err := NewTeller(&out, JSON).TellFailure(nil); err != nil || out.Len() > 0 {
		t.Errorf("without a failure: %v, %q", err, out.String())
	}
}

// broken is a reader that has gone away.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("nobody reads") }

func TestADemoEndsIfNobodyReads(t *testing.T) {
	d := demoOf(t, broken{}, JSON, map[string]string{"signer": "touch ran"})
	d.step("Sign.", "signer")
	d.step("Sign again.", "signer")
	if err := d.done("It holds.", ""); err == nil || err.Error() != "nobody reads" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(d.Config.Home(), "ran")); err == nil {
		t.Error("a command ran of which nobody could be told")
	}
}

// nextOf reads one event from a pipe, or fails after a time.
func nextOf(t *testing.T, lines <-chan string) event.Event {
	t.Helper()
	select {
	case line := <-lines:
		return told(t, line)[0]
	case <-time.After(time.Minute):
		t.Fatal("nothing is told")
	}
	return event.Event{}
}

// reads are the lines that come through a pipe.
func reads(t *testing.T) (in io.Writer, lines <-chan string) {
	t.Helper()
	read, write := io.Pipe()
	t.Cleanup(func() { read.Close() })
	channel := make(chan string, 100)
	go func() {
		for decoder := json.NewDecoder(read); ; {
			var line json.RawMessage
			if decoder.Decode(&line) != nil {
				return
			}
			channel <- string(line) + "\n"
		}
	}()
	return write, channel
}

func TestALessonForAProgramWaitsForALineBeforeEachStepButTheFirst(t *testing.T) {
	stdin, enter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, lines := reads(t)
	d := demoOf(t, in, JSON, map[string]string{"signer": "echo signed"})
	d.lesson = newLesson(stdin, broken{}, JSON)
	ended := make(chan error, 1)
	go func() {
		d.chapter(1, Chapters()[0])
		for range 4 {
			d.step("Sign.", "signer")
		}
		d.look("It signs.")
		ended <- d.done("It holds.", "demo:rekor")
	}()
	expect := func(kind event.Kind, step int) {
		t.Helper()
		if one := nextOf(t, lines); one.Kind != kind || one.Step != step || one.Chapter != 1 {
			t.Fatalf("told is %+v, not %s of step %d", one, kind, step)
		}
	}
	expect(event.Chapter, 0)
	expect(event.Step, 1)
	expect(event.Said, 1)
	for step := 2; step <= 3; step++ {
		expect(event.Wait, step-1)
		select {
		case line := <-lines:
			t.Fatalf("it does not wait: %s", line)
		case <-time.After(100 * time.Millisecond):
		}
		if step == 3 {
			enter.Close() // the rest does not wait
		} else if _, err := enter.WriteString("\n"); err != nil {
			t.Fatal(err)
		}
		expect(event.Step, step)
		expect(event.Said, step)
	}
	expect(event.Step, 4)
	expect(event.Said, 4)
	expect(event.Look, 4)
	if one := nextOf(t, lines); one != (event.Event{Kind: event.Done, Chapter: 1, Text: "It holds."}) {
		t.Errorf("at the end, told is %+v", one)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestALessonEndsWhileItWaits(t *testing.T) {
	stdin, enter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer enter.Close()
	in, lines := reads(t)
	d := demoOf(t, in, JSON, map[string]string{"signer": "echo signed"})
	ctx, cancel := context.WithCancelCause(t.Context())
	d.ctx, d.lesson = ctx, newLesson(stdin, broken{}, JSON)
	ended := make(chan error, 1)
	go func() {
		d.step("Sign.", "signer")
		d.step("Sign again.", "signer")
		ended <- d.teller.TellFailure(d.done("It holds.", ""))
	}()
	for nextOf(t, lines).Kind != event.Wait {
	}
	cancel(errors.New("that is enough"))
	if one := nextOf(t, lines); one.Kind != event.Failed || one.Text != "that is enough" {
		t.Errorf("told is %+v", one)
	}
	if err := <-ended; err == nil {
		t.Error("it does not fail")
	}
}

func TestALessonWaitsForNobodyWithoutSomebodyWhoAnswers(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pipe, enter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer enter.Close()
	closed, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, test := range map[string]struct {
		stdin *os.File
		form  string
	}{"/dev/null": {null, JSON}, "closed": {closed, JSON}, "text and a pipe": {pipe, Text}, "text and /dev/null": {null, Text}} {
		var out bytes.Buffer
		d := demoOf(t, &out, test.form, map[string]string{"signer": "echo signed"})
		d.lesson = newLesson(test.stdin, broken{}, test.form)
		d.step("Sign.", "signer")
		d.step("Sign again.", "signer")
		if err := d.done("It holds.", ""); err != nil || strings.Contains(out.String(), string(event.Wait)) || d.lesson.enter != nil {
			t.Errorf("%s: %v, %s", name, err, out.String())
		}
		if test.form == JSON && !slices.Equal(kinds(told(t, out.String())), []event.Kind{event.Step, event.Said, event.Step, event.Said, event.Done}) {
			t.Errorf("%s: told is %s", name, out.String())
		}
	}
}

func TestChaptersAreChosenByTheirNumbers(t *testing.T) {
	number := func(n int) *int { return &n }
	last := len(Chapters())
	for _, test := range []struct {
		given *int
		want  int
		err   string
	}{
		{nil, 0, ""},
		{number(1), 1, ""},
		{number(last), last, ""},
		{number(0), 0, "-chapter is 0; accepted is a number from 1 to 4"},
		{number(-1), 0, "-chapter is -1; accepted is a number from 1 to 4"},
		{number(last + 1), 0, "-chapter is 5; accepted is a number from 1 to 4"},
	} {
		got, err := ChapterNumber(test.given)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("%v: %d, %v; not %d, %q", test.given, got, err, test.want, test.err)
		}
	}
	for i, one := range Chapters() {
		if one.Title == "" || one.About == "" || one.teach == nil {
			t.Errorf("chapter %d lacks something: %+v", i+1, one)
		}
	}
}
