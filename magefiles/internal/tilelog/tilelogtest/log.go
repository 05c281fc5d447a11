// Package tilelogtest makes logs of tiles for tests, in folders, as Tessera's POSIX storage does.
package tilelogtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sigstore-local/magefiles/internal/tilelog"
)

// Log is a log that a test can add entries to.
type Log struct {
	tilelog.Log
	Dir     string
	Entries [][]byte

	t      *testing.T
	key    ed25519.PrivateKey
	writer *tilelog.Writer
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
	dir := filepath.Join(t.TempDir(), "log")
	l := &Log{
		Log: tilelog.Log{Files: tilelog.Folder(dir), Origin: Origin, Key: filepath.Join(t.TempDir(), "log.pub")},
		Dir: dir, t: t, key: private,
	}
	l.written()
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
	other.Entries = nil
	other.written()
	other.Append(l.Entries[:size]...)
	return &other
}

// written gives the log a writer of its folder.
func (l *Log) written() {
	l.t.Helper()
	var err error
	if l.writer, err = tilelog.NewWriter(tilelog.Folder(l.Dir), Origin, l.key); err != nil {
		l.t.Fatal(err)
	}
}

// Append adds entries and publishes a checkpoint. Partial tiles and bundles of smaller trees stay.
func (l *Log) Append(entries ...[]byte) {
	l.t.Helper()
	l.Entries = append(l.Entries, entries...)
	for _, entry := range entries {
		if err := l.writer.Add(entry); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := l.writer.Publish(); err != nil {
		l.t.Fatal(err)
	}
}

// Write writes a file, and makes its folder.
func Write(t testing.TB, file string, content []byte) {
	t.Helper()
	for _, err := range []error{os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
