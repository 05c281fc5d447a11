// Package console tells a person what goes on: a line a step, with a spinner on a terminal and plain lines elsewhere.
package console

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Console writes progress. Its methods may be called side by side.
type Console struct {
	out   io.Writer
	fancy bool
	width func() int

	mu      sync.Mutex
	steps   []*Step // those under way, oldest first
	ticking bool
	drawn   bool // a spinner line stands on the screen
	frame   int
}

const (
	redraw     = 100 * time.Millisecond
	signOfLife = 15 * time.Second
)

var frames = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// New returns a console that writes to f. It draws only on a terminal, and only if none of NO_COLOR
// (https://no-color.org), CI or TERM=dumb is set in getenv.
func New(f *os.File, getenv func(string) string) *Console {
	return &Console{
		out:   f,
		fancy: term.IsTerminal(int(f.Fd())) && getenv("NO_COLOR") == "" && getenv("CI") == "" && getenv("TERM") != "dumb",
		width: func() int {
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				return width
			}
			return 80
		},
	}
}

// Fancy says whether the console draws.
func (c *Console) Fancy() bool { return c.fancy }

// Printf writes one line.
func (c *Console) Printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line(fmt.Sprintf(format, args...))
}

// line writes text above the spinner. The caller holds c.mu.
func (c *Console) line(text string) {
	c.clear()
	fmt.Fprintln(c.out, text)
}

// clear takes the spinner off the screen. The caller holds c.mu.
func (c *Console) clear() {
	if c.drawn {
		fmt.Fprint(c.out, "\r\x1b[K")
		c.drawn = false
	}
}

// Step is a piece of work under way.
type Step struct {
	console  *Console
	name     string
	detail   string
	started  time.Time
	lastSign time.Time
}

// Step begins a piece of work called name. It must be ended by Done, Fail or Drop.
func (c *Console) Step(name string) *Step {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Step{console: c, name: name, started: time.Now(), lastSign: time.Now()}
	c.steps = append(c.steps, s)
	if !c.ticking {
		c.ticking = true
		go c.tick()
	}
	return s
}

// Detail says how far the step has come.
func (s *Step) Detail(format string, args ...any) {
	s.console.mu.Lock()
	defer s.console.mu.Unlock()
	s.detail = fmt.Sprintf(format, args...)
}

// Done ends the step with what came of it.
func (s *Step) Done(format string, args ...any) {
	s.end("✓", "\x1b[32m", fmt.Sprintf(format, args...))
}

// Fail ends the step that did not succeed; the error itself is its caller's to return.
func (s *Step) Fail() { s.end("✗", "\x1b[31m", "failed") }

// Drop ends the step without a line: there was nothing to do.
func (s *Step) Drop() {
	s.console.mu.Lock()
	defer s.console.mu.Unlock()
	s.remove()
	s.console.clear()
}

func (s *Step) end(mark, colour, result string) {
	c := s.console
	c.mu.Lock()
	defer c.mu.Unlock()
	s.remove()
	if c.fancy {
		mark = colour + mark + "\x1b[0m"
	}
	c.line(fmt.Sprintf("%s %-11s %s (%s)", mark, s.name, result, Duration(time.Since(s.started))))
}

func (s *Step) remove() {
	c := s.console
	for i, other := range c.steps {
		if other == s {
			c.steps = append(c.steps[:i], c.steps[i+1:]...)
			return
		}
	}
}

// tick draws until no step is under way.
func (c *Console) tick() {
	for {
		time.Sleep(redraw)
		c.mu.Lock()
		if len(c.steps) == 0 {
			c.clear()
			c.ticking = false
			c.mu.Unlock()
			return
		}
		if c.fancy {
			c.draw()
		} else {
			c.signs()
		}
		c.mu.Unlock()
	}
}

// draw shows the steps under way on one line, which the next drawing replaces.
func (c *Console) draw() {
	c.frame = (c.frame + 1) % len(frames)
	var parts []string
	for _, s := range c.steps {
		part := s.name
		if s.detail != "" {
			part += " " + s.detail
		}
		parts = append(parts, part)
	}
	text := []rune(fmt.Sprintf("%c %s (%s)", frames[c.frame], strings.Join(parts, ", "), Duration(time.Since(c.steps[0].started))))
	if width := c.width(); len(text) >= width {
		text = append(text[:width-2], '…')
	}
	fmt.Fprintf(c.out, "\r\x1b[K%s", string(text))
	c.drawn = true
}

// signs writes a plain line for each step that has been silent for long.
func (c *Console) signs() {
	for _, s := range c.steps {
		if time.Since(s.lastSign) < signOfLife {
			continue
		}
		s.lastSign = time.Now()
		c.line(strings.TrimSpace(fmt.Sprintf("  %-11s %s", s.name, s.detail)) + " (" + Duration(time.Since(s.started)) + ")")
	}
}

// Bar draws a bar of 20 cells of which the share done/total is filled.
func Bar(done, total int) string {
	const cells = 20
	filled := 0
	if total > 0 {
		filled = min(cells, cells*done/total)
	}
	return strings.Repeat("█", filled) + strings.Repeat("░", cells-filled)
}

// Duration writes d as a person would: 0.24s, 3.1s, 8m02s.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
}

// Size writes a number of bytes as a person would: 365 MB, 1.4 GB. A MB is 10^6 bytes, a GB 10^9. It is rounded down, so that
// what is less than a round limit reads as less.
func Size(bytes int64) string {
	const mega, giga = 1_000_000, 1_000_000_000
	if bytes < giga {
		return fmt.Sprintf("%d MB", bytes/mega)
	}
	return fmt.Sprintf("%d.%d GB", bytes/giga, bytes%giga/(giga/10))
}
