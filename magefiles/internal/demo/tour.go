package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"sigstore-local/magefiles/internal/demo/event"
	"sigstore-local/magefiles/internal/logview"
	"sigstore-local/magefiles/internal/project"
)

// Chapter is a part of the tour, which stands alone.
type Chapter struct {
	Title string
	About string // one sentence
	teach func(*Demo) error
}

// Chapters are the parts of the tour, in the order in which they are taught.
func Chapters() []Chapter {
	return []Chapter{
		{"Signing with a key", "Whoever has the private key signs; whoever has the public key verifies.", (*Demo).Keyed},
		{"Signing with a key and a log", "What was signed becomes public, in a log that can only grow.", (*Demo).Logged},
		{"Signing with an identity", "Nobody has to keep a key: a person signs in, and the logs keep a record of what was signed.", (*Demo).Keyless},
		{"What signing protects from", "A signature is worth something only if it keeps an attacker from cheating.", (*Demo).Tamper},
	}
}

// ChapterNumber is the number of the chapter that the flag -chapter names, from 1; 0, which means all of them, if it was not given.
// It returns an error if there is no such chapter.
func ChapterNumber(given *int) (int, error) {
	if given == nil {
		return 0, nil
	}
	if last := len(Chapters()); *given < 1 || *given > last {
		return 0, fmt.Errorf("-chapter is %d; accepted is a number from 1 to %d", *given, last)
	}
	return *given, nil
}

// Tour is a lesson: the three levels and what they protect from, step by step, or one chapter of it, by its number from 1; with
// number 0 all of them. Between the steps it waits for Enter, if somebody may press it: see newLesson.
func (d *Demo) Tour(number int) error {
	d.lesson = newLesson(os.Stdin, os.Stderr, d.teller.form)
	chapters := Chapters()
	for i, one := range chapters {
		if number != 0 && number != i+1 {
			continue
		}
		d.chapter(i+1, one)
		if err := one.teach(d); err != nil {
			return err
		}
	}
	d.lesson.chapter = 0
	switch {
	case number == 0:
		d.end("That was the tour. `" + project.Command + " explain` draws the services that you have used; `" + project.Command + " stop` stops them.")
	case number < len(chapters):
		d.end(fmt.Sprintf("That was chapter %d of %d. Next: `"+project.Command+" demo:tour -chapter=%d`.", number, len(chapters), number+1))
	default:
		d.end(fmt.Sprintf("That was chapter %d of %d, the last one. `"+project.Command+" explain` draws the services of the stack.", number, len(chapters)))
	}
	return d.err
}

// lesson waits for a reader between the steps of a demo.
type lesson struct {
	enter   <-chan struct{} // a value for each Enter, closed at the end of the input; nil if nobody is waited for
	prompt  io.Writer       // where a person is asked for Enter
	chapter int             // the number of the chapter, from 1
	asked   bool            // the reader has asked for the next step already
}

// newLesson is a lesson that reads lines from stdin, if it is a terminal. For a program, which reads JSON, it does so too if stdin
// is a pipe or a file, such as a program has made; /dev/null is neither. Such a program has already asked for the first step.
func newLesson(stdin *os.File, prompt io.Writer, form string) *lesson {
	l := &lesson{prompt: io.Discard, asked: form == JSON}
	terminal := term.IsTerminal(int(stdin.Fd()))
	if terminal {
		l.prompt = prompt
	}
	info, err := stdin.Stat()
	if !terminal && (form != JSON || err != nil || info.Mode()&os.ModeCharDevice != 0) {
		return l
	}
	enter := make(chan struct{})
	go func() {
		defer close(enter)
		for lines := bufio.NewScanner(stdin); lines.Scan(); {
			enter <- struct{}{}
		}
	}()
	l.enter = enter
	return l
}

// wait returns when the reader has pressed Enter; at once if nobody is waited for. It returns an error if ctx ends before.
func (l *lesson) wait(ctx context.Context) error {
	fmt.Fprint(l.prompt, "\n    Enter goes on. ")
	select {
	case _, more := <-l.enter:
		if !more {
			l.enter = nil // the reader has closed the input: the rest of the tour does not wait
			fmt.Fprintln(l.prompt)
		}
		return nil
	case <-ctx.Done():
		fmt.Fprintln(l.prompt)
		return context.Cause(ctx)
	}
}

// chapter begins a part of the tour.
func (d *Demo) chapter(number int, one Chapter) {
	d.lesson.chapter = number
	d.steps = 0
	d.tell(event.Event{Kind: event.Chapter, Title: one.Title, About: one.About})
}

// next counts a step. In the tour it first waits until the reader has pressed Enter after the previous step.
func (d *Demo) next() {
	if l := d.lesson; l != nil {
		if !l.asked && l.enter != nil {
			if d.tell(event.Event{Kind: event.Wait}); d.err == nil {
				d.err = l.wait(d.ctx)
			}
		}
		l.asked = false
	}
	d.steps++
}

// look tells, in the tour, what to look at in the last step.
func (d *Demo) look(format string, args ...any) {
	if d.lesson != nil && d.err == nil {
		d.tell(event.Event{Kind: event.Look, Text: fmt.Sprintf(format, args...)})
	}
}

// drawing is a step that prints what rekor:show prints of an entry in the log that the service name keeps.
func (d *Demo) drawing(name, index string) {
	if d.err != nil {
		return
	}
	flag := ""
	if name != logview.Rekor {
		flag = "-log=" + name + " "
	}
	if !d.say("Draw how the entry's inclusion proof leads to the root of the log's tree.", d.mage("rekor:show "+flag+index)) {
		return
	}
	number, err := logview.Index(index)
	if err != nil {
		d.err = err
		return
	}
	log, err := logview.Open(d.Config, name)
	if err != nil {
		d.err = err
		return
	}
	var text string
	if text, d.err = log.Show(d.ctx, number); d.err == nil {
		d.tell(event.Event{Kind: event.Said, Said: text, Drawing: true})
		d.look("A hash and its sibling together give the hash above them, and so on up to the root, which the log has signed. If one letter of the entry were different, the root would be different.")
	}
}
