package tilelog_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/tilelog"
	"sigstore-local/magefiles/internal/tilelog/tilelogtest"
)

func TestAWholeLogPasses(t *testing.T) {
	if err := (tilelog.Log{Files: tilelog.Folder(filepath.Join(t.TempDir(), "none"))}).Check(); err != nil {
		t.Errorf("a folder without a log: %v", err)
	}
	for _, size := range []int{1, 2, 255, 256, 257, 300, 513} {
		if err := tilelogtest.OfSize(t, size).Check(); err != nil {
			t.Errorf("%d entries: %v", size, err)
		}
	}
	l := tilelogtest.OfSize(t, 5)
	if err := os.Remove(l.Files.Place("checkpoint")); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); err != nil {
		t.Errorf("a checkpoint that is still to be published: %v", err)
	}
}

func TestDamageThatTheServerWouldNotFindIsNamed(t *testing.T) {
	for _, name := range []string{"checkpoint", ".state/treeState", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"} {
		for kind, damage := range map[string]func([]byte) []byte{
			"deleted": func([]byte) []byte { return nil },
			"emptied": func([]byte) []byte { return []byte{} },
			"cut":     func(whole []byte) []byte { return whole[:len(whole)/2] },
			"garbled": garbled,
		} {
			if name == "checkpoint" && kind == "deleted" {
				continue // the server publishes another
			}
			l := tilelogtest.OfSize(t, 300)
			file := l.Files.Place(name)
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if content := damage(whole); content == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			err = l.Check()
			if err == nil || !strings.Contains(err.Error(), "put back a copy of "+l.Dir) {
				t.Errorf("%s %s: %v", name, kind, err)
				continue
			}
			// Of the tiles at the right edge, only all of them together are known to be wrong.
			if edge := kind == "garbled" && (name == "tile/0/001.p/44" || name == "tile/1/000.p/1"); !edge && !strings.Contains(err.Error(), file) {
				t.Errorf("%s %s: it is not named: %v", name, kind, err)
			}
		}
	}
}

// growing are the files of a log that grows each time after one of them was read.
type growing struct {
	tilelog.Files
	log *tilelogtest.Log
}

func (g growing) Read(ctx context.Context, name string) ([]byte, error) {
	content, err := g.Files.Read(ctx, name)
	g.log.Append([]byte("another entry"))
	return content, err
}

func TestALogThatGrowsMeanwhilePasses(t *testing.T) {
	for _, size := range []int{1, 250, 300, 500} {
		l := tilelogtest.OfSize(t, size)
		checked := l.Log
		checked.Files = growing{l.Files, l}
		if err := checked.Check(); err != nil {
			t.Errorf("%d entries: %v", size, err)
		}
	}
}

func garbled(whole []byte) []byte {
	content := make([]byte, len(whole))
	for i, b := range whole {
		content[i] = b ^ 0x55
	}
	return content
}
