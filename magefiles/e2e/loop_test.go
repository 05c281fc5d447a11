package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// TestTheLoop works on Rekor v2 as a developer does: in a checkout that the stack is built from.
func TestTheLoop(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	checkout := s.checkout("github.com/sigstore/rekor-tiles/v2")
	pinned := s.env
	s.env = append(s.env, "SIGLOCAL_SRC_REKOR_TILES="+checkout)
	source := filepath.Join(checkout, "cmd", "rekor-server", "posix", "app", "serve.go")
	original := s.read(source)
	const line = `slog.Info("starting rekor-server"`
	save := func(replacement string) {
		t.Helper()
		changed := strings.Replace(original, line, replacement, 1)
		if replacement != line && changed == original {
			t.Fatalf("%s has no line %s", source, line)
		}
		if err := os.WriteFile(source, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	version := func() string {
		t.Helper()
		r := s.mage("status")
		row := regexp.MustCompile(`(?m)^rekor-tiles .*$`).FindString(r.stdout)
		if row == "" {
			t.Errorf("it is not listed: %s", r)
		}
		return row
	}
	log := func() string { t.Helper(); return s.read(s.config.Log("rekor-tiles")) }

	s.must("start")
	before := s.pids()
	revision := strings.TrimSpace(s.run(checkout, "git", "rev-parse", "--short=12", "HEAD").stdout)
	if got := version(); !strings.Contains(got, checkout+" "+revision+" ") {
		t.Errorf("status does not show the checkout and %s: %s", revision, got)
	}
	t.Run("a changed line runs", func(t *testing.T) {
		s := s.in(t)
		save(`slog.Info("starting my own rekor-server"`)
		began := time.Now()
		s.must("rekorTiles:restart")
		t.Logf("it runs %s after it was saved", time.Since(began))
		if !strings.Contains(log(), "starting my own rekor-server") {
			t.Errorf("it is not what runs: %s", log())
		}
		if got := version(); !strings.Contains(got, revision+"-dirty") {
			t.Errorf("status does not show that it was changed: %s", got)
		}
		for name, pid := range s.pids() {
			if (pid == before[name]) != (name != "rekor-tiles") {
				t.Errorf("%s was process %d and is %d", name, before[name], pid)
			}
		}
		s.must("demo:bundle")
	})
	t.Run("an archive of everything has it", func(t *testing.T) {
		s := s.in(t)
		folder := t.TempDir()
		// It starts all by which it signs, and no more.
		s.must("stop")
		s.must("package", "-version=0", "-o="+folder)
		if states := s.states(); states["tsa"] != "ready" || states["page"] != "stopped" {
			t.Errorf("%v", states)
		}
		s.must("start")
		packed := filepath.Join(folder, "sigstore-local-0-linux-"+runtime.GOARCH)
		unpack(t, packed+".tar.zst", folder)
		if s.read(filepath.Join(packed, "bin", "rekor-tiles")) != s.read(filepath.Join(s.config.State, "checkouts", "rekor-tiles", "rekor-tiles")) {
			t.Error("the archive has another program than the stack")
		}
	})
	t.Run("what does not compile leaves what runs alone", func(t *testing.T) {
		s := s.in(t)
		running := s.pids()["rekor-tiles"]
		save(`slog.Inform("starting rekor-server"`)
		for _, restart := range [][]string{{"rekorTiles:restart"}, {"restart", "rekor-tiles"}} {
			r := s.mage(restart...)
			if r.code == 0 || !strings.Contains(r.stderr, "\ncmd/rekor-server/posix/app/serve.go:") || !strings.Contains(r.stderr, "undefined: slog.Inform") {
				t.Errorf("%s", r)
			}
		}
		if got := s.pids()["rekor-tiles"]; got != running {
			t.Errorf("it was process %d and is %d", running, got)
		}
	})
	t.Run("what dies says so, and a fix goes on", func(t *testing.T) {
		s := s.in(t)
		save(`panic("it cannot start"); slog.Info("starting rekor-server"`)
		if r := s.mage("rekorTiles:restart"); r.code == 0 || !strings.Contains(r.stderr, "panic: it cannot start") || !strings.Contains(r.stderr, s.config.Log("rekor-tiles")) {
			t.Errorf("%s", r)
		}
		save(line)
		s.must("rekorTiles:restart")
		if got := version(); !strings.Contains(got, " ready ") {
			t.Error(got)
		}
	})
	t.Run("watch does so at every save", func(t *testing.T) {
		s := s.in(t)
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		var out, progress syncBuffer
		cmd := s.command(ctx, s.config.Root, "go", "tool", "mage", "watch", "rekor-tiles")
		cmd.Stdout, cmd.Stderr = &out, &progress
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := func(count int) string {
			t.Helper()
			for ctx.Err() == nil && strings.Count(out.String(), "\n") < count {
				time.Sleep(20 * time.Millisecond)
			}
			said := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(said) != count {
				t.Fatalf("round %d: it says %q: %s", count, said, &progress)
			}
			return said[count-1]
		}
		if first := lines(1); !strings.HasSuffix(first, "✓ demo:bundle holds") || !strings.Contains(progress.String(), "Watching "+checkout) {
			t.Errorf("%s: %s", first, &progress)
		}
		began := time.Now()
		save(`slog.Info("starting the watched rekor-server"`)
		if second := lines(2); !regexp.MustCompile(`  cmd/rekor-server/posix/app/serve.go: build \S+s, restart \S+s, demo \S+s, ✓ demo:bundle holds$`).MatchString(second) {
			t.Error(second)
		}
		t.Logf("the outcome came %s after it was saved: %s", time.Since(began), out.String())
		if !strings.Contains(log(), "starting the watched rekor-server") {
			t.Errorf("it is not what runs: %s", log())
		}
		save(`slog.Inform("starting rekor-server"`)
		if third := lines(3); !strings.Contains(third, "✗ build failed") || !strings.Contains(progress.String(), "undefined: slog.Inform") {
			t.Errorf("%s: %s", third, &progress)
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("%s: %s", cmd.ProcessState, &progress)
		}
		s.only(names...)
		save(line)
	})
	t.Run("debug runs it under Delve", func(t *testing.T) {
		s := s.in(t)
		r := s.must("debug", "rekor-tiles")
		address := s.config.Address(config.Debug)
		attach := regexp.MustCompile(`(?m)^    \$ (\S+) connect ` + address + `$`).FindStringSubmatch(r.stdout)
		if attach == nil {
			t.Fatalf("%s", r)
		}
		// Commands as typed at Delve's prompt. Delve finds the program's source.
		r = s.run("/", "sh", "-c", `printf 'sources app/serve.go$\nquit -c\n' | "$1" connect "$2"`, "sh", attach[1], address)
		if !strings.Contains(r.stdout, source+"\n") {
			t.Errorf("Delve does not show %s: %s", source, r)
		}
		if got := version(); !strings.Contains(got, "under Delve") {
			t.Error(got)
		}
		// A target's choice of what is built or debugged does not last into the next target.
		s.must("demo:bundle", "debug", "rekor-tiles", "restart", "rekor-tiles")
		if got := version(); strings.Contains(got, "under Delve") {
			t.Errorf("after a restart: %s", got)
		}
		for _, pid := range processes(t, filepath.Join(s.config.State, "checkouts", "debug")) {
			t.Errorf("process %d is left", pid)
		}
		if entries, err := os.ReadDir(filepath.Join(s.home, ".config", "dlv")); err == nil {
			t.Errorf("Delve has put %v into the user's home", entries)
		}
	})
	t.Run("a restart of one builds no other, and what comes after it does", func(t *testing.T) {
		s := s.in(t)
		ko := filepath.Join(s.home, "ko")
		write := func(name, content string) {
			t.Helper()
			for _, err := range []error{os.MkdirAll(ko, 0o700), os.WriteFile(filepath.Join(ko, name), []byte(content), 0o600)} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		said := func() string { return s.run("/", filepath.Join(s.config.State, "checkouts", "ko", "ko")).stderr }
		write("go.mod", "module github.com/google/ko\n\ngo 1.26\n")
		write("main.go", "package main\n\nfunc main() { println(\"one\") }\n")
		s.env = append(slices.Clone(s.env), "SIGLOCAL_SRC_KO="+ko)
		s.must("build")
		write("main.go", "package main\n\nfunc main() { println(\"two\") }\n")
		s.must("rekorTiles:restart")
		if got := said(); got != "one\n" {
			t.Errorf("ko, which was not asked for, says %q", got)
		}
		s.must("rekorTiles:restart", "build")
		if got := said(); got != "two\n" {
			t.Errorf("ko was skipped, and says %q", got)
		}
	})
	t.Run("without the variable the pinned version runs", func(t *testing.T) {
		s.env = pinned
		s.in(t).must("rekorTiles:restart", "demo:bundle")
		if got := version(); strings.Contains(got, checkout) || !strings.Contains(got, " v2.") {
			t.Error(got)
		}
	})
}

// checkout makes a git checkout of a module: of its pinned version, or of the one after an @.
func (s *stack) checkout(module string) string {
	s.t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	var downloaded struct{ Dir string }
	if err := errors.Join(err, json.Unmarshal(out, &downloaded)); err != nil {
		s.t.Fatalf("%s: %v: %s", module, err, out)
	}
	folder, err := os.MkdirTemp(s.home, "checkout")
	if err != nil {
		s.t.Fatal(err)
	}
	script := `cp -r "$1/." "$2" && chmod -R u+w "$2" && cd "$2" && git init -q . && git add -A && git -c user.name=a -c user.email=a@example.org commit -qm all`
	if r := s.run("/", "sh", "-ec", script, "sh", downloaded.Dir, folder); r.code != 0 {
		s.t.Fatalf("%s", r)
	}
	return folder
}
