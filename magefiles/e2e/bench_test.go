package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBenchMeasuresOnStacksOfItsOwnAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	tmp := filepath.Join(s.home, "t")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "TMPDIR="+tmp)
	r := s.mage("bench", "-only=stop,commands", "-runs=1", "-o=json")
	var result struct {
		Machine string
		Runs    int
		Figures []struct {
			Figure string
			Median float64
			Ratio  float64
			Holds  bool
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &result); r.code != 0 || err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	if result.Runs != 1 || !strings.Contains(result.Machine, "processors") || len(result.Figures) != 5 {
		t.Errorf("%s", r)
	}
	for _, f := range result.Figures {
		if strings.Contains(f.Figure, "lost") != (f.Median == 0) {
			t.Errorf("%s: %g", f.Figure, f.Median)
		}
		// However loaded the machine is.
		if (strings.Contains(f.Figure, "lost") || f.Ratio > 0) && !f.Holds {
			t.Errorf("%s: %g, %g times", f.Figure, f.Median, f.Ratio)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		if line, err := os.ReadFile(process); err == nil && strings.Contains(string(line), tmp) {
			t.Errorf("%s is left: %q", process, line)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
