package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Each call of `go tool mage` reads all packages that the runner is made of.
func TestTheRunnerImportsLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../cmd/mage").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if most := 80; len(packages) > most {
		t.Errorf("it is made of %d packages, more than %d: %v", len(packages), most, packages)
	}
}

// compile has what comes next run by the small program alone, unless mage's own flags are used.
func compile(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("go", "tool", "mage", "-l").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestAWrongWordIsFoundBeforeAnyTargetRuns(t *testing.T) {
	compile(t)
	for _, args := range [][]string{{"explain", "demo:keyles"}, {"-t=1m", "explain", "demo:keyles"}, {"-h", "demo:keyles"}} {
		var out, said strings.Builder
		cmd := exec.Command("go", append([]string{"tool", "mage"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &said
		_ = cmd.Run()
		const want = "\"demo:keyles\" is not a target; the nearest is demo:keyless, and `go tool mage -l` lists them all\n"
		if code := cmd.ProcessState.ExitCode(); code != 2 || out.Len() > 0 || said.String() != want {
			t.Errorf("%q: exit code %d, %q, and on standard error %q", args, code, out.String(), said.String())
		}
	}
	out, err := exec.Command("go", "tool", "mage", "-h", "logs").Output()
	if want := "go tool mage logs SERVICE [-f] [-n=N]\n"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("the help of logs is %q, %v", out, err)
	}
}

// As in `go tool mage status | true`: of what the targets, the small program and the one that holds mage print.
func TestABrokenPipeIsSilent(t *testing.T) {
	compile(t)
	for _, args := range [][]string{{"-l"}, {"-h", "logs"}, {"-h"}, {"-t=1m", "status"}} {
		cmd := exec.Command("go", append([]string{"tool", "mage"}, args...)...)
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = write, &said
		_ = cmd.Run()
		write.Close()
		if code := cmd.ProcessState.ExitCode(); code != 141 || said.Len() > 0 {
			t.Errorf("%q: exit code %d, and on standard error %q", args, code, said.String())
		}
	}
}

// What the targets are compiled from must be noticed when it changes, or a contributor's change would not be run; and
// nothing else, or each call would compile.
func TestSourcesAreWhatTheTargetsAreCompiledFrom(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "magefiles/a.go", "magefiles/internal/b/b.go", "templates/c.tmpl", "templates/d/d.html"} {
		write(name, "one")
	}
	stamp := func() string {
		t.Helper()
		stamp, err := sources(root)
		if err != nil {
			t.Fatal(err)
		}
		return stamp
	}
	before := stamp()
	for _, name := range []string{"magefiles/a_test.go", "magefiles/mage_output_file.go", "magefiles/e2e/testdata/package.json", "README.md", "state/x.go"} {
		write(name, "one")
		if stamp() != before {
			t.Errorf("%s is not compiled and is taken for a source", name)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "magefiles/a.go", "magefiles/internal/b/b.go", "templates/c.tmpl", "templates/d/d.html", "magefiles/new.go"} {
		write(name, "two")
		if stamp() == before {
			t.Errorf("a change of %s is not noticed", name)
		}
		before = stamp()
	}
	t.Setenv("GOFLAGS", "-tags=x")
	if stamp() == before {
		t.Error("a change of GOFLAGS is not noticed")
	}
}
