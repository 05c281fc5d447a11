package demo

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"sigstore-local/magefiles/internal/logview"
)

// Tour is a lesson: the three levels and what they protect from, step by step. At a terminal it waits for Enter.
func (d *Demo) Tour() error {
	d.lesson = newLesson()
	for _, chapter := range []struct {
		title, about string
		teach        func(*Demo) error
	}{
		{"Signing with a key", "Whoever has the private key signs; whoever has the public key verifies.", (*Demo).Keyed},
		{"Signing with a key and a log", "What was signed becomes public, in a log that can only grow.", (*Demo).Logged},
		{"Signing with an identity", "Nobody has to keep a key: a person signs in, and the logs keep a record of what was signed.", (*Demo).Keyless},
		{"What signing protects from", "A signature is worth something only if it keeps an attacker from cheating.", (*Demo).Tamper},
	} {
		d.chapter(chapter.title, chapter.about)
		if err := chapter.teach(d); err != nil {
			return err
		}
	}
	fmt.Println("\nThat was the tour. `go tool mage explain` draws the services that you have used; `go tool mage stop` stops them.")
	return nil
}

// lesson waits for a reader between the steps of a demo.
type lesson struct {
	enter    <-chan struct{} // a value for each Enter, closed at the end of the input; nil without a terminal
	chapters int
}

func newLesson() *lesson {
	l := &lesson{}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return l
	}
	enter := make(chan struct{})
	go func() {
		defer close(enter)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			enter <- struct{}{}
		}
	}()
	l.enter = enter
	return l
}

// wait returns when the reader has pressed Enter; at once without a terminal. It returns an error if ctx ends before.
func (l *lesson) wait(ctx context.Context) error {
	if l.enter == nil {
		return nil
	}
	fmt.Fprint(os.Stderr, "\n    Enter goes on. ")
	select {
	case _, more := <-l.enter:
		if !more {
			l.enter = nil // the reader has closed the input: the rest of the tour does not wait
			fmt.Fprintln(os.Stderr)
		}
		return nil
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr)
		return context.Cause(ctx)
	}
}

// chapter begins a part of the tour.
func (d *Demo) chapter(title, about string) {
	d.lesson.chapters++
	d.steps = 0
	heading := fmt.Sprintf("%d. %s", d.lesson.chapters, title)
	fmt.Printf("\n\n%s\n%s\n\n%s\n", heading, strings.Repeat("=", len(heading)), about)
}

// next counts a step. In the tour it first waits until the reader has pressed Enter after the previous step.
func (d *Demo) next() {
	d.steps++
	if d.lesson != nil {
		d.err = d.lesson.wait(d.ctx)
	}
}

// look prints, in the tour, what to look at in the last step.
func (d *Demo) look(format string, args ...any) {
	if d.lesson != nil && d.err == nil {
		fmt.Printf("\n   Look: %s\n", fmt.Sprintf(format, args...))
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
	d.say("Draw how the entry's inclusion proof leads to the root of the log's tree.", d.mage("rekor:show "+flag+index))
	if d.err != nil {
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
		fmt.Println("    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    "))
		d.look("A hash and its sibling together give the hash above them, and so on up to the root, which the log has signed. If one letter of the entry were different, the root would be different.")
	}
}
