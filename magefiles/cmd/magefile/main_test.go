package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/runner"
)

// newProject makes a project with one magefile and makes its folder the working directory.
func newProject(t *testing.T, magefile string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module " + project.Module + "\n\ngo 1.26\n", "go.sum": "", "templates/x.tmpl": "", "magefiles/magefile.go": magefile,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(root)
	return root
}

func TestTheCompiledTargetsReplaceThoseWithTheirOldName(t *testing.T) {
	root := newProject(t, "package main\n\nimport \"os\"\n\nfunc Hello() error { return os.WriteFile(\"hello\", nil, 0o600) }\n")
	bin := filepath.Join(root, "state", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	old := []string{"mage", ".mage-from", ".mage.lock"}
	for _, name := range old {
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if code, err := run([]string{"hello"}); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	if _, err := os.Stat("hello"); err != nil {
		t.Error("the target was not run")
	}
	for _, name := range old {
		if _, err := os.Stat(filepath.Join(bin, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	compiled, err := runner.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"without the program":       func() error { return os.Remove(compiled.Program) },
		"with no targets in a list": func() error { return os.Truncate(compiled.ListFile(), 0) },
	} {
		if _, fresh := compiled.Fresh(); !fresh {
			t.Fatal("what was just compiled is not up to date")
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, fresh := compiled.Fresh(); fresh {
			t.Errorf("%s it is up to date", name)
		}
		if code, err := run([]string{"hello"}); code != 0 || err != nil {
			t.Fatal(code, err)
		}
	}
}

// Images and archives hand out targets that are compiled for them.
func TestSeveralProcessesCanCompileAtATime(t *testing.T) {
	program, err := exec.Command("go", "tool", "-n", project.Module+"/magefiles/cmd/magefile").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := newProject(t, "package main\n\nfunc Hello() {}\n")
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			if out, err := exec.Command(strings.TrimSpace(string(program)), "-compile", filepath.Join(root, strconv.Itoa(i))).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
}

// silently calls f with nobody to read what it prints, and returns what it wrote to standard error.
func silently(t *testing.T, f func()) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	defer func(out, err *os.File) { os.Stdout, os.Stderr = out, err }(os.Stdout, os.Stderr)
	os.Stdout, os.Stderr = null, file
	f()
	said, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// The first time, compiling takes minutes.
func TestAWrongWordIsFoundBeforeAnythingIsCompiled(t *testing.T) {
	root := newProject(t, "package main\n\n// Hello greets.\nfunc Hello(\n\tname string, // whom\n\tn *int, // how often\n) {}\n")
	const usage = "go tool mage hello NAME [-n=N]\n\n  NAME  whom\n  -n=N  how often\n"
	for _, test := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"helo"}, 2, "\"helo\" is not a target; the nearest is hello, and `go tool mage -l` lists them all\n"},
		{[]string{"-v", "hello"}, 2, "hello wants a name: " + usage},
		{[]string{"-t=5m", "hello", "you", "-n=x"}, 2, "hello was given -n=x; accepted is a whole number: " + usage},
		{[]string{"-h", "helo"}, 2, "\"helo\" is not a target; the nearest is hello, and `go tool mage -l` lists them all\n"},
		{[]string{"-h", "hello"}, 0, ""},
	} {
		said := silently(t, func() {
			if code, err := run(test.args); code != test.code || err != nil {
				t.Errorf("%q: exit code %d, %v", test.args, code, err)
			}
		})
		if said != test.said {
			t.Errorf("%q: it says\n%s\nand not\n%s", test.args, said, test.said)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "state")); err == nil {
		t.Error("something was compiled")
	}
}

func TestNamesAreThoseThatMageLists(t *testing.T) {
	out, err := exec.Command("go", "tool", "mage", "-l").Output()
	if err != nil {
		t.Fatal(err)
	}
	known, err := list("../../..", "go")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, line := range regexp.MustCompile(`(?m)^  (\S+) +(\S.*)$`).FindAllStringSubmatch(string(out), -1) {
		want = append(want, line[1]+" "+line[2])
	}
	for _, target := range known {
		got = append(got, target.Name+" "+target.Synopsis)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the targets are\n%q\nand not\n%q", got, want)
	}
	for name, want := range map[string]string{"RekorTiles:Start": "rekorTiles:start", "CT:Keys": "ct:keys", "CAKey": "caKey", "Ko2x": "ko2x"} {
		if got := listed(name); got != want {
			t.Errorf("%s is listed as %s and not as %s", name, got, want)
		}
	}
}
