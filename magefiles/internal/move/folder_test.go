package move

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// content is what a log of tiles may have in its folder.
var content = map[string]string{
	"checkpoint": "log\n3\nroot\n\n— log signature\n", "tile/0/000": strings.Repeat("\x00\xff", 70_000), "tile/entries/000.p/3": "three",
	"tile-data/x": "sorts before tile/", "empty": "", "été/a b": "a name", ".state/treeState": "{}",
}

func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// held are the files of dir that are data.
func held(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, found fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, file)
		if err != nil || found.IsDir() {
			return err
		}
		if !isOurs(strings.Split(name, "/")[0]) {
			text, err := os.ReadFile(file)
			files[name] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sent(t *testing.T, files map[string]string) ([]byte, Digest) {
	t.Helper()
	from := t.TempDir()
	fill(t, from, files)
	var stream bytes.Buffer
	digest, err := SendFolder(t.Context(), from, &stream)
	if err != nil {
		t.Fatal(err)
	}
	return stream.Bytes(), digest
}

func marked(t *testing.T, dir string) bool {
	t.Helper()
	ok, err := FolderReceived(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestWhatIsNamedIsNotSent(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	fill(t, from, map[string]string{"a": "1", "b": "2", "c/a": "3", "d/a": "4"})
	var stream bytes.Buffer
	if _, err := SendFolder(t.Context(), from, &stream, "a", "d"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReceiveFolder(t.Context(), to, &stream); err != nil {
		t.Fatal(err)
	}
	if got := held(t, to); !maps.Equal(got, map[string]string{"b": "2", "c/a": "3"}) {
		t.Errorf("it received %q", got)
	}
}

func TestAFolderArrivesAsItWas(t *testing.T) {
	stream, digest := sent(t, content)
	if part := digest.Parts[0]; part.Files != 7 || part.Bytes < 140_000 || digest.Checkpoint != content["checkpoint"] {
		t.Errorf("the digest is %+v", digest)
	}
	to := filepath.Join(t.TempDir(), "new")
	if marked(t, to) {
		t.Error("a folder that is not there is marked")
	}
	for range 2 { // the second time changes nothing
		got, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(digest) || !maps.Equal(held(t, to), content) || !marked(t, to) {
			t.Errorf("received %+v of %+v: %q", got, digest, held(t, to))
		}
		// A service has gone on since.
		fill(t, to, map[string]string{"checkpoint": content["checkpoint"]})
	}
	for name, want := range map[string]fs.FileMode{"tile/0/000": 0o600, "tile/0": 0o700 | fs.ModeDir} {
		if info, err := os.Stat(filepath.Join(to, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(to, ".*"))
	if want := []string{filepath.Join(to, received), filepath.Join(to, ".state")}; !slices.Equal(left, want) {
		t.Errorf("it left %q", left)
	}
	// What was received can be sent on, without the mark.
	if again, err := SendFolder(t.Context(), to, io.Discard); err != nil || !again.Equal(digest) {
		t.Errorf("sent on: %v, %v", again, err)
	}
}

func TestWhatServicesChangeAfterwardsIsKept(t *testing.T) {
	stream, _ := sent(t, content)
	to := t.TempDir()
	if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	fill(t, to, map[string]string{"checkpoint": "a later one"})
	if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream)); err != nil || held(t, to)["checkpoint"] != "a later one" {
		t.Errorf("%v: %q", err, held(t, to)["checkpoint"])
	}
}

func TestAFolderThatIsMadeAnewIsNotSent(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	fill(t, from, map[string]string{"a": "1", "state/index/b": "2", "state/c": "3", "index/d": "4"})
	var stream bytes.Buffer
	if _, err := SendFolder(t.Context(), from, &stream, "state/index"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReceiveFolder(t.Context(), to, &stream); err != nil {
		t.Fatal(err)
	}
	if got := held(t, to); len(got) != 3 || got["state/c"] == "" || got["index/d"] == "" {
		t.Errorf("it holds %v", got)
	}
}

func TestAnEmptyFolderAndAMissingOneAreTheSame(t *testing.T) {
	empty, digest := sent(t, nil)
	var stream bytes.Buffer
	missing, err := SendFolder(t.Context(), filepath.Join(t.TempDir(), "missing"), &stream)
	if err != nil || !missing.Equal(digest) || !bytes.Equal(stream.Bytes(), empty) {
		t.Fatalf("%v, %v, %v", missing, digest, err)
	}
	to := t.TempDir()
	if got, err := ReceiveFolder(t.Context(), to, &stream); err != nil || !got.Equal(digest) || !marked(t, to) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAFolderBehindALinkIsSent(t *testing.T) {
	_, digest := sent(t, content)
	from, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	fill(t, from, content)
	if err := os.Symlink(from, link); err != nil {
		t.Fatal(err)
	}
	if got, err := SendFolder(t.Context(), link, io.Discard); err != nil || !got.Equal(digest) {
		t.Errorf("%v, %v", got, err)
	}
	if err := os.Symlink("elsewhere", filepath.Join(from, "inner")); err != nil {
		t.Fatal(err)
	}
	if _, err := SendFolder(t.Context(), from, io.Discard); err == nil || !strings.Contains(err.Error(), "neither a file nor a folder") {
		t.Errorf("a link in it: %v", err)
	}
	if err := os.RemoveAll(from); err != nil {
		t.Fatal(err)
	}
	if _, err := SendFolder(t.Context(), link, io.Discard); err == nil {
		t.Error("a link to nothing is an empty folder")
	}
}

func TestAStreamThatEndsEarlyIsRefused(t *testing.T) {
	stream, digest := sent(t, map[string]string{"checkpoint": "text", "tile/0/000": strings.Repeat("x", 1500), "tile/0/001": ""})
	end := bytes.LastIndexByte(stream, '}') // the last byte that counts
	to := t.TempDir()
	for cut := 0; cut <= end; cut += 61 {
		if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream[:cut])); err == nil || marked(t, to) || len(held(t, to)) > 0 {
			t.Fatalf("cut after %d of %d bytes: %v: %q", cut, len(stream), err, held(t, to))
		}
	}
	if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream[:end])); err == nil {
		t.Error("without its last byte it is taken")
	}
	// The same with the folder marked.
	for range 2 {
		if got, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream)); err != nil || !got.Equal(digest) {
			t.Fatal(err)
		}
	}
	if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream[:end])); err == nil {
		t.Error("without its last byte it is taken once the data is there")
	}
}

func TestAByteThatDiffersIsNoticed(t *testing.T) {
	stream, _ := sent(t, content)
	to := t.TempDir()
	for _, text := range []string{"\x00\xff\x00\xff", "three", "data/empty", "— log signature", `"sha256":"`, `"files":7`} {
		other := bytes.Clone(stream)
		other[bytes.LastIndex(other, []byte(text))+len(text)-1] ^= 1
		if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(other)); err == nil || marked(t, to) || len(held(t, to)) > 0 {
			t.Errorf("another byte at the end of %q: %v", text, err)
		}
	}
}

// late calls then before the last bytes are read.
type late struct {
	r    io.Reader
	last []byte
	then func()
}

func (l *late) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err == io.EOF && l.then != nil {
		l.then()
		l.r, l.then = bytes.NewReader(l.last), nil
		return l.Read(p)
	}
	return n, err
}

func TestWhatTheDiskHasChangedIsNoticed(t *testing.T) {
	stream, _ := sent(t, content)
	to := t.TempDir()
	half := bytes.LastIndex(stream, []byte(trailer))
	r := &late{bytes.NewReader(stream[:half]), stream[half:], func() { fill(t, filepath.Join(to, receiving), map[string]string{"tile/entries/000.p/3": "thr3e"}) }}
	if _, err := ReceiveFolder(t.Context(), to, r); err == nil || !strings.Contains(err.Error(), "on the disk") || marked(t, to) {
		t.Errorf("%v", err)
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	for _, header := range []tar.Header{
		{Name: "/etc/x"}, {Name: "data//etc/x"}, {Name: "data/../x"}, {Name: "data/a/../../x"}, {Name: "../x"}, {Name: "x"}, {Name: "data/"}, {Name: "data/./x"},
		{Name: "data/.received"}, {Name: "data/.receiving/x"}, {Name: "data/.moving"}, {Name: "data/lost+found/x"},
		{Name: "data/x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "data/x", Typeflag: tar.TypeLink, Linkname: "data/y"},
		{Name: "data/x", Typeflag: tar.TypeChar}, {Name: "data/x", Typeflag: tar.TypeFifo}, {Name: "data/x/", Typeflag: tar.TypeDir},
		{Name: "data/a"}, {Name: "data/b"}, // out of order, and twice
	} {
		to, beside := filepath.Join(t.TempDir(), "to"), map[string]string{"checkpoint": "x"}
		fill(t, filepath.Dir(to), beside)
		var stream bytes.Buffer
		archive := tar.NewWriter(&stream)
		if err := archive.WriteHeader(&tar.Header{Name: "data/b", Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if err := archive.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		_, err := ReceiveFolder(t.Context(), to, &stream)
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || marked(t, to) || len(held(t, to)) > 0 {
			t.Errorf("%q of type %q: %v", header.Name, header.Typeflag, err)
		}
		if entries, err := os.ReadDir(filepath.Dir(to)); err != nil || len(entries) != 2 {
			t.Errorf("%q of type %q: beside the folder is %v", header.Name, header.Typeflag, entries)
		}
	}
}

func TestOtherDataIsLeftAlone(t *testing.T) {
	stream, _ := sent(t, content)
	other, _ := sent(t, map[string]string{"checkpoint": "another log's"})
	to := t.TempDir()
	fill(t, to, map[string]string{"lost+found/x": "the file system's", "stranger": "nobody's"})
	if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	before := held(t, to)
	if before["stranger"] != "nobody's" {
		t.Errorf("holds %q", before)
	}
	if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(other)); !errors.Is(err, ErrOther) || !maps.Equal(held(t, to), before) {
		t.Errorf("%v: %q", err, held(t, to))
	}
	// What a service has made there, before anything was received, is not replaced.
	to = t.TempDir()
	fill(t, to, map[string]string{"checkpoint": "a live log's"})
	_, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream))
	if got := held(t, to); !errors.Is(err, ErrOther) || len(got) != 1 || got["checkpoint"] != "a live log's" || marked(t, to) {
		t.Errorf("%v: %q", err, got)
	}
}

func TestWhatWasInterruptedIsCompleted(t *testing.T) {
	stream, digest := sent(t, content)
	older, _ := sent(t, map[string]string{"checkpoint": "older", "tile/0/000.p/1": "older", "gone": "older"})
	to := t.TempDir()
	// While the files come.
	if _, err := ReceiveFolder(t.Context(), to, bytes.NewReader(older[:len(older)/2])); err == nil {
		t.Fatal("half a stream is taken")
	}
	// While they are moved: a folder that cannot be replaced ends that in the middle.
	unpacked := filepath.Join(to, receiving)
	if err := os.RemoveAll(unpacked); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(unpacked, 0o700); err != nil {
		t.Fatal(err)
	}
	old, err := unpack(t.Context(), unpacked, bytes.NewReader(older))
	if err != nil {
		t.Fatal(err)
	}
	if err := moveIn(to, unpacked, old); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(to, received)), os.Mkdir(unpacked, 0o700), os.Rename(filepath.Join(to, "tile"), filepath.Join(unpacked, "tile")),
		writeJSON(to, moving, []string{"checkpoint", "gone", "tile"})); err != nil {
		t.Fatal(err)
	}
	if marked(t, to) {
		t.Error("it is marked")
	}
	got, err := ReceiveFolder(t.Context(), to, bytes.NewReader(stream))
	if err != nil || !got.Equal(digest) || !maps.Equal(held(t, to), content) || !marked(t, to) {
		t.Errorf("%v: %q", err, held(t, to))
	}
}

func TestTwoDoNotReceiveAtOnce(t *testing.T) {
	stream, _ := sent(t, content)
	to := t.TempDir()
	var inner error
	r := &late{bytes.NewReader(stream[:1000]), stream[1000:], func() { _, inner = ReceiveFolder(t.Context(), to, bytes.NewReader(stream)) }}
	if _, err := ReceiveFolder(t.Context(), to, r); err != nil || inner == nil || !strings.Contains(inner.Error(), "locked") {
		t.Errorf("%v, %v", err, inner)
	}
}
