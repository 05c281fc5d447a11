package project

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestRootIsFoundFromAnyFolderBelow(t *testing.T) {
	root := t.TempDir()
	below := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module "+Module+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A module of somebody else's in between does not count.
	if err := os.WriteFile(filepath.Join(root, "a", "go.mod"), []byte("module example.org/other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Root(below); err != nil || got != root {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Root("/"); err == nil {
		t.Error("found a checkout above the root folder")
	}
}

func TestACheckoutWhosePathNoProgramCanUseIsRefusedByName(t *testing.T) {
	for name, fits := range map[string]bool{
		"My Projects": true, "ü & 'it's' \"x\" $HOME 100% (a)?*[1];|<>!~`{}^+=#@,": true, "می\u200cخواهم": true,
		"a:b": false, `a\b`: false, "a\nb": false, "a\x1b[1mb": false, "a\u202eb": false, "a\u2028b": false, "a\xffb": false,
	} {
		root := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module "+Module+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Root(root)
		if (err == nil) != fits {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "the checkout is at "+strconv.Quote(root)) {
			t.Errorf("%q is not named: %v", name, err)
		}
	}
}
