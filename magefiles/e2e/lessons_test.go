package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/demo/event"
)

// events are what a demo printed with -o=json, and nothing else may be printed.
func (s *stack) events(stdout string) []event.Event {
	s.t.Helper()
	var all []event.Event
	for line := range strings.Lines(stdout) {
		var one event.Event
		known := json.NewDecoder(strings.NewReader(line))
		known.DisallowUnknownFields()
		if err := known.Decode(&one); err != nil || known.More() {
			s.t.Fatalf("the line %q: %v", line, err)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		s.t.Fatal("no event is told")
	}
	return all
}

func TestAProgramCanFollowADemo(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("demo:keyed") // which makes the key pairs, so that both runs after it have the same steps
	text, events := s.must("demo:keyed").stdout, s.events(s.must("demo:keyed", "-o=json").stdout)
	steps, refused := 0, 0
	for i, one := range events {
		switch one.Kind {
		case event.Step:
			steps++
			// The name of an image that nobody signed is another one each time.
			program, _, _ := strings.Cut(one.Command, "@sha256:")
			if want := fmt.Sprintf("\n%d. %s\n\n    $ %s", steps, one.Why, program); one.Step != steps || !strings.Contains(text, want) {
				t.Errorf("step %d is not the one of the text: %+v\n%s", steps, one, text)
			}
			if next := events[i+1]; next.Kind != event.Said || next.Step != steps || next.Said == "" {
				t.Errorf("after step %d, told is %+v", steps, next)
			}
		case event.Said:
			if one.Refused {
				refused++
				if one.Line == "" || !strings.Contains(one.Said, one.Line) {
					t.Errorf("what was refused does not hold the reason: %+v", one)
				}
			}
		}
	}
	if want := strings.Count(text, "\n    $ ") - 1; steps != want || steps < 5 || refused != strings.Count(text, "Refused, as it should be.") {
		t.Errorf("%d steps of %d, %d refused", steps, want, refused)
	}
	if first, last := events[0], events[len(events)-1]; first.Kind != event.Intro || last.Kind != event.Done || last.Chapter != 0 || !strings.Contains(text, "\n"+last.Text+"\n") {
		t.Errorf("it begins with %+v and ends with %+v", first, last)
	}
	t.Run("its failure is the last event", func(t *testing.T) {
		r := s.in(t).mage("demo:tour", "-o=json", "-chapter=9")
		if got := s.in(t).events(r.stdout); r.code == 0 || !slices.Equal(got, []event.Event{{Kind: event.Failed, Text: "-chapter is 9; accepted is a number from 1 to 4"}}) {
			t.Errorf("%s", r)
		}
	})
}
