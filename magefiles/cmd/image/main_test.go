package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
)

// newDescription describes an image of a package and two files, whose program is this test itself, in a folder of its own.
func newDescription(t *testing.T) (c image.Contents, dir string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skipf("there are no packages of Debian: %v", err)
	}
	dir = t.TempDir()
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for name, content := range map[string]string{
		"deb/DEBIAN/control": "Package: example\nVersion: 1.2-3\nArchitecture: amd64\nMaintainer: A <a@example.org>\nDescription: an example\n of two lines\n",
		"deb/usr/lib/a":      "a",
		"own":                "own",
	} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at("archives"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", at("deb"), at("archives/example.deb")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	root, err := os.Create(at("root.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	archive := tar.NewWriter(root)
	for name, content := range map[string]string{
		"./usr/lib/a": "a", "./usr/share/doc/example/copyright": "a license", "./usr/share/doc/example/contributors": "many", "./usr/share/man/man1/a.1": "a page",
		"./usr/share/ca-certificates/mozilla/ca.crt": "a certificate\n", "./etc/machine-id": "1",
	} {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Uid: os.Getuid(), Uname: "me"}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return image.Contents{
		Reference: "localhost/example:1", File: at("image.tar"), SBOM: at("sbom.json"), Time: time.Unix(1700000000, 0).UTC(), Arch: "amd64", Version: "1",
		Root: root.Name(), Packages: at("archives"), Env: []string{"A=b"}, Ports: []int{5555},
		Programs: [][]pack.File{{{Name: "bin/program", From: program, Program: true}}, {{Name: "own", From: at("own")}}},
	}, dir
}

func (made *built) describe(t *testing.T, c image.Contents, dir string) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	description := filepath.Join(dir, "image.json")
	if err := os.WriteFile(description, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if made.Made, err = run(description); err != nil {
		t.Fatal(err)
	}
	if made.archive, err = os.ReadFile(c.File); err != nil {
		t.Fatal(err)
	}
	made.digests = map[string]string{}
	for _, layer := range []string{"base.tar", "layer0.tar", "layer1.tar"} {
		content, err := os.ReadFile(filepath.Join(dir, layer))
		if err != nil {
			t.Fatal(err)
		}
		made.digests[layer] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
}

// built is an image with its archive.
type built struct {
	image.Made
	archive []byte
	digests map[string]string // of its layers
}

func TestTheSameInputGivesTheSameImage(t *testing.T) {
	c, dir := newDescription(t)
	var first, second, other built
	first.describe(t, c, dir)
	// Neither the time at which files were written nor that of now is in an image.
	if err := os.Chtimes(filepath.Join(dir, "own"), time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	second.describe(t, c, dir)
	if first.Digest != second.Digest || !slices.Equal(first.archive, second.archive) {
		t.Errorf("%s and %s", first.Digest, second.Digest)
	}
	c.Time = c.Time.Add(time.Hour)
	if other.describe(t, c, dir); other.Digest == first.Digest || !maps.Equal(other.digests, first.digests) {
		t.Errorf("of another commit the layers are %v, and were %v", other.digests, first.digests)
	}
	c.Env = []string{"A=c"}
	if other.describe(t, c, dir); other.Digest == first.Digest {
		t.Error("another variable gives the same image")
	}
}

func TestTheLowestLayerHasWhatIsNeededAndWhatScriptsWouldHaveMade(t *testing.T) {
	c, dir := newDescription(t)
	packages, err := debianPackages(c.Packages)
	if err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(dir, "base.tar")
	if err := writeBase(layer, c, packages); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(layer)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	found := map[string]string{}
	for archive := tar.NewReader(in); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if found[header.Name] = string(content); header.Uname != "" || header.Uid != 0 && header.Uid != image.User {
			t.Errorf("%s belongs to %d, %q", header.Name, header.Uid, header.Uname)
		}
	}
	for name, want := range map[string]string{
		"usr/lib/a": "a", "usr/share/doc/example/copyright": "a license", "etc/ssl/certs/ca-certificates.crt": "a certificate\n",
		"var/lib/dpkg/status": "Package: example\nStatus: install ok installed\nVersion: 1.2-3\n", "etc/passwd": "sigstore-local:x:65532:65532:", "var/lib/sigstore-local/": "",
	} {
		if content, ok := found[name]; !ok || !strings.Contains(content, want) {
			t.Errorf("%s is %q, and not %q", name, content, want)
		}
	}
	for _, name := range []string{"usr/share/doc/example/contributors", "usr/share/man/man1/a.1", "etc/machine-id"} {
		if _, ok := found[name]; ok {
			t.Errorf("it has %s", name)
		}
	}
}

func TestTheBillOfMaterialsNamesPackagesAndModules(t *testing.T) {
	c, dir := newDescription(t)
	var made built
	made.describe(t, c, dir)
	text, err := os.ReadFile(c.SBOM)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pkg:deb/debian/example@1.2-3?arch=amd64", "pkg:golang/github.com/google/go-containerregistry@v", "pkg:golang/stdlib@1.", strings.TrimPrefix(made.Digest, "sha256:")} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it lacks %s", want)
		}
	}
}
