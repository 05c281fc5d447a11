// Package tilelogtest makes logs of tiles for tests, in folders, as Tessera's POSIX storage does.
package tilelogtest

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

	"sigstore-local/magefiles/internal/tilelog"
)

// Log is a log that a test can add entries to.
type Log struct {
	tilelog.Log
	Dir     string
	Entries [][]byte

	t      *testing.T
	signer note.Signer
	hashes []tlog.Hash // as the package tlog stores them
}

// Origin is the origin of every log of this package.
const Origin = "localhost"

// New makes a log without entries. Its folder is made by the first call of Append.
func New(t *testing.T) *Log {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := note.NewEd25519VerifierKey(Origin, public)
	if err != nil {
		t.Fatal(err)
	}
	// A signer's key in the package note is a verifier's key with another beginning and the private half.
	parts := strings.SplitN(vkey, "+", 3)
	signer, err := note.NewSigner("PRIVATE+KEY+" + Origin + "+" + parts[1] + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...)))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "log")
	l := &Log{
		Log: tilelog.Log{Files: tilelog.Folder(dir), Origin: Origin, Key: filepath.Join(t.TempDir(), "log.pub")},
		Dir: dir, t: t, signer: signer,
	}
	Write(t, l.Key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return l
}

// OfSize makes a log of so many entries, which are texts.
func OfSize(t *testing.T, size int) *Log {
	t.Helper()
	l := New(t)
	var entries [][]byte
	for i := range size {
		entries = append(entries, fmt.Appendf(nil, "entry %d", i))
	}
	l.Append(entries...)
	return l
}

// Forked is a log of the same key in another folder, with the first size entries of l.
func (l *Log) Forked(size int) *Log {
	l.t.Helper()
	other := *l
	other.Dir = filepath.Join(l.t.TempDir(), "log")
	other.Files = tilelog.Folder(other.Dir)
	other.Entries, other.hashes = nil, nil
	other.Append(l.Entries[:size]...)
	return &other
}

// Append adds entries and publishes a checkpoint. Partial tiles and bundles of smaller trees stay.
func (l *Log) Append(entries ...[]byte) {
	l.t.Helper()
	stored := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, index := range indexes {
			found = append(found, l.hashes[index])
		}
		return found, nil
	})
	before := int64(len(l.Entries))
	for _, entry := range entries {
		more, err := tlog.StoredHashes(int64(len(l.Entries)), entry, stored)
		if err != nil {
			l.t.Fatal(err)
		}
		l.Entries, l.hashes = append(l.Entries, entry), append(l.hashes, more...)
	}
	size := int64(len(l.Entries))
	for first := before &^ 255; first < size; first += 256 {
		var bundle []byte
		for _, entry := range l.Entries[first:min(size, first+256)] {
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
		}
		l.write(tlog.Tile{H: 8, L: -1, N: first / 256, W: int(min(size-first, 256))}, bundle)
	}
	for _, tile := range tlog.NewTiles(8, before, size) {
		content, err := tlog.ReadTileData(tile, stored)
		if err != nil {
			l.t.Fatal(err)
		}
		l.write(tile, content)
	}
	root, err := tlog.TreeHash(size, stored)
	if err != nil {
		l.t.Fatal(err)
	}
	state, err := json.Marshal(map[string]any{"size": size, "root": root[:]})
	if err != nil {
		l.t.Fatal(err)
	}
	Write(l.t, l.Files.Place(".state/treeState"), state)
	text := fmt.Sprintf("%s\n%d\n%s\n", Origin, size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	Write(l.t, l.Files.Place("checkpoint"), signed)
}

func (l *Log) write(tile tlog.Tile, content []byte) {
	l.t.Helper()
	name := strings.NewReplacer("tile/8/data/", "tile/entries/", "tile/8/", "tile/").Replace(tile.Path())
	Write(l.t, l.Files.Place(name), content)
}

// Write writes a file, and makes its folder.
func Write(t *testing.T, file string, content []byte) {
	t.Helper()
	for _, err := range []error{os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
