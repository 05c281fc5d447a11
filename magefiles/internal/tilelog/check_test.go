package tilelog

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	for _, err := range []error{os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// newLog makes a log of so many entries in a folder, as Tessera's POSIX storage does.
func newLog(t *testing.T, size int64) Log {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	l := Log{Dir: filepath.Join(t.TempDir(), "log"), Origin: "localhost", Key: filepath.Join(t.TempDir(), "key.pub")}
	write(t, l.Key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))

	var stored []tlog.Hash
	hashes := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	bundle := []byte{}
	for i := range size {
		entry := fmt.Appendf(nil, "entry %d", i)
		more, err := tlog.StoredHashes(i, entry, hashes)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
		if i == size-1 || i%256 == 255 {
			name := fmt.Sprintf("%03d", i/256)
			if i%256 != 255 {
				name = filepath.Join(name+".p", fmt.Sprint(i%256+1))
			}
			write(t, filepath.Join(l.Dir, "tile", "entries", name), bundle)
			bundle = nil
		}
	}
	root, err := tlog.TreeHash(size, hashes)
	if err != nil {
		t.Fatal(err)
	}
	for _, tile := range tlog.NewTiles(height, 0, size) {
		content, err := tlog.ReadTileData(tile, hashes)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(l.Dir, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)), content)
	}
	text, err := json.Marshal(state{Size: size, Root: root[:]})
	if err != nil {
		t.Fatal(err)
	}
	write(t, l.stateFile(), text)
	verifier, err := l.verifier()
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf("%s\n%d\n%s\n", l.Origin, size, base64.StdEncoding.EncodeToString(root[:]))
	signature := binary.BigEndian.AppendUint32(nil, verifier.KeyHash())
	signature = append(signature, ed25519.Sign(private, []byte(body))...)
	write(t, filepath.Join(l.Dir, "checkpoint"), fmt.Appendf(nil, "%s\n— %s %s\n", body, l.Origin, base64.StdEncoding.EncodeToString(signature)))
	if _, err := note.Open([]byte(readFile(t, filepath.Join(l.Dir, "checkpoint"))), note.VerifierList(verifier)); err != nil {
		t.Fatal(err)
	}
	return l
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAWholeLogPasses(t *testing.T) {
	if err := (Log{Dir: filepath.Join(t.TempDir(), "none")}).Check(); err != nil {
		t.Errorf("a folder without a log: %v", err)
	}
	for _, size := range []int64{1, 2, 255, 256, 257, 300, 513} {
		if err := newLog(t, size).Check(); err != nil {
			t.Errorf("%d entries: %v", size, err)
		}
	}
	l := newLog(t, 5)
	if err := os.Remove(filepath.Join(l.Dir, "checkpoint")); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); err != nil {
		t.Errorf("a checkpoint that is still to be published: %v", err)
	}
}

func TestDamageThatTheServerWouldNotFindIsNamed(t *testing.T) {
	for _, name := range []string{"checkpoint", ".state/treeState", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"} {
		for kind, damage := range map[string]func([]byte) []byte{
			"deleted": func([]byte) []byte { return nil },
			"emptied": func([]byte) []byte { return []byte{} },
			"cut":     func(whole []byte) []byte { return whole[:len(whole)/2] },
			"garbled": func(whole []byte) []byte {
				garbled := make([]byte, len(whole))
				for i, b := range whole {
					garbled[i] = b ^ 0x55
				}
				return garbled
			},
		} {
			if name == "checkpoint" && kind == "deleted" {
				continue // the server publishes another
			}
			l := newLog(t, 300)
			file := filepath.Join(l.Dir, filepath.FromSlash(name))
			content := damage([]byte(readFile(t, file)))
			err := os.Remove(file)
			if content != nil {
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
			if tile := kind == "garbled" && strings.HasPrefix(name, "tile/") && !strings.Contains(name, "entries"); !tile && !strings.Contains(err.Error(), file) {
				t.Errorf("%s %s: it is not named: %v", name, kind, err)
			}
		}
	}
}
