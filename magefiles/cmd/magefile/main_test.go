package main

import (
	"os"
	"path/filepath"
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
	if !compiled.Fresh() {
		t.Error("what was just compiled is not up to date")
	}
	if err := os.Remove(compiled.Program); err != nil {
		t.Fatal(err)
	}
	if compiled.Fresh() {
		t.Error("a program that is not there is up to date")
	}
}
