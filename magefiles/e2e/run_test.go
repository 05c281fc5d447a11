package e2e

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRunKeepsTheStackUntilItIsToldToEnd(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_STACK=tiles", "SIGLOCAL_SERVICES=fulcio,registry")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := s.command(ctx, s.config.Root, s.config.Program("targets"), "run")
	var out, said syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cancel()
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
			select {
			case err := <-ended:
				t.Fatalf("it ended before %s: %v\n%s", what, err, said.String())
			default:
			}
			if time.Now().After(end) {
				t.Fatalf("not within a minute: %s\n%s", what, said.String())
			}
		}
	}
	want := []string{"dex", "fulcio", "registry", "tesseract"}
	running := func() (names []string) {
		for name, state := range s.states() {
			if state == "ready" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	until("all runs", func() bool { return strings.Contains(said.String(), "Sigstore runs.") && slices.Equal(running(), want) })
	// Other processes can change the stack meanwhile, and what they stop stays stopped.
	s.must("registry:stop")
	for range 2 {
		if err := syscall.Kill(s.pids()["fulcio"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until("fulcio is back", func() bool { return slices.Equal(running(), []string{"dex", "fulcio", "tesseract"}) })
	}
	for _, wanted := range []string{"fulcio died, and is started again in 1s.", "fulcio died, and is started again in 2s.", s.config.Log("fulcio")} {
		if !strings.Contains(said.String(), wanted) {
			t.Errorf("it does not say %q:\n%s", wanted, said.String())
		}
	}
	if !strings.Contains(out.String(), "fulcio") {
		t.Errorf("it does not follow the logs: %s", out.String())
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v:\n%s", err, said.String())
	}
	if left := processes(t, s.config.State); len(left) > 0 {
		t.Errorf("left are processes %v", left)
	}
	if unit := s.must("run", "-unit").stdout; !strings.Contains(unit, "SIGLOCAL_STACK=tiles") || !strings.Contains(unit, "[Install]") {
		t.Errorf("the unit is\n%s", unit)
	}
}
