package database

import (
	"strings"
	"testing"
	"time"
)

func TestAClockThatWasSetBackIsSaid(t *testing.T) {
	head := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
	for _, now := range []time.Time{head.Add(time.Hour), head, head.Add(-9 * time.Second)} {
		if err := notBefore(now, head); err != nil {
			t.Errorf("%s: %v", now, err)
		}
	}
	err := notBefore(head.Add(-time.Hour), head)
	if err == nil {
		t.Fatal("an hour before the newest tree head, nothing was said")
	}
	for _, want := range []string{"2026-03-29 00:30:00 UTC", "2026-03-29 01:30:00 UTC", "wait 1h0m0s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the message does not say %q: %v", want, err)
		}
	}
}
