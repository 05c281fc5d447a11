package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"sigstore-local/magefiles/internal/pack"
)

func TestTheSameFilesGiveTheSameArchive(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "one", "b": "two"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	files := []pack.File{{Name: "bin/v3/b", From: filepath.Join(dir, "b"), Program: true}, {Name: "a", From: filepath.Join(dir, "a")}}
	var first, second bytes.Buffer
	if err := write(&first, pack.Contents{Folder: "x-1", Time: at, Files: files}); err != nil {
		t.Fatal(err)
	}
	// In another order, and with other times and modes on the disk.
	if err := os.Chtimes(filepath.Join(dir, "a"), time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "b"), 0o640); err != nil {
		t.Fatal(err)
	}
	files[0], files[1] = files[1], files[0]
	if err := write(&second, pack.Contents{Folder: "x-1", Time: at, Files: files}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of the same files differ")
	}
	reader, err := zstd.NewReader(&first)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var listed []string
	for archive := tar.NewReader(reader); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(at) || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s is of %s and of %d:%d", header.Name, header.ModTime, header.Uid, header.Gid)
		}
		listed = append(listed, fmt.Sprintf("%s %o %s", header.Name, header.Mode, text))
	}
	want := "x-1/ 755 |x-1/a 644 one|x-1/bin/ 755 |x-1/bin/v3/ 755 |x-1/bin/v3/b 755 two"
	if got := strings.Join(listed, "|"); got != want {
		t.Errorf("it holds %s, not %s", got, want)
	}
}

func TestAFileThatIsNotThereLeavesNoArchive(t *testing.T) {
	dir := t.TempDir()
	description, out := filepath.Join(dir, "contents.json"), filepath.Join(dir, "out.tar.zst")
	if err := os.WriteFile(description, []byte(`{"folder": "x", "files": [{"name": "a", "from": "/no/such/file"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(out, description); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an archive was left")
	}
}
