package project

import (
	"os"
	"path/filepath"
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
