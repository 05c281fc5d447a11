package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// serveDir serves dir until the test ends and returns the registry's host.
func serveDir(t *testing.T, dir string) string {
	t.Helper()
	log.SetOutput(io.Discard)
	handler, err := newHandler(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func reference(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func image(t *testing.T) v1.Image {
	t.Helper()
	image, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func digest(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	hash, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

func push(t *testing.T, ref string, image v1.Image) {
	t.Helper()
	if err := remote.Write(reference(t, ref), image); err != nil {
		t.Fatal(err)
	}
}

// pulls checks that ref is the image of that digest, with all its layers.
func pulls(t *testing.T, ref, want string) {
	t.Helper()
	got, err := remote.Image(reference(t, ref))
	if err != nil {
		t.Errorf("%s: %v", ref, err)
		return
	}
	if is := digest(t, got); is != want {
		t.Errorf("%s is %s, not %s", ref, is, want)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		// The reader verifies the digest.
		if _, err := io.Copy(io.Discard, content); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestManifestsAndTagsOutliveTheRegistry(t *testing.T) {
	dir := t.TempDir()
	host := serveDir(t, dir)
	first, second := image(t), image(t)
	push(t, host+"/app:latest", first)
	push(t, host+"/app:latest", second)
	push(t, host+"/team/app/deep:v1.0_x", first)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: first}, mutate.IndexAddendum{Add: second})
	outer := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})
	if err := remote.WriteIndex(reference(t, host+"/indexes:latest"), outer); err != nil {
		t.Fatal(err)
	}

	host = serveDir(t, dir)
	pulls(t, host+"/app:latest", digest(t, second))
	pulls(t, host+"/app@"+digest(t, first), digest(t, first))
	pulls(t, host+"/team/app/deep:v1.0_x", digest(t, first))
	pulls(t, host+"/indexes@"+digest(t, second), digest(t, second))
	got, err := remote.Index(reference(t, host+"/indexes:latest"))
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, got) != digest(t, outer) {
		t.Errorf("the index is %s, not %s", digest(t, got), digest(t, outer))
	}
	tags, err := remote.List(reference(t, host+"/app:latest").Context())
	if err != nil || len(tags) != 1 || tags[0] != "latest" {
		t.Errorf("got %v, %v", tags, err)
	}
}

func TestWhatIsDeletedStaysDeleted(t *testing.T) {
	dir := t.TempDir()
	host := serveDir(t, dir)
	kept, deleted := image(t), image(t)
	push(t, host+"/app:kept", kept)
	push(t, host+"/app:deleted", deleted)
	if err := remote.Delete(reference(t, host+"/app:deleted")); err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(reference(t, host+"/app@"+digest(t, deleted))); err != nil {
		t.Fatal(err)
	}
	host = serveDir(t, dir)
	pulls(t, host+"/app:kept", digest(t, kept))
	for _, ref := range []string{host + "/app:deleted", host + "/app@" + digest(t, deleted)} {
		if _, err := remote.Image(reference(t, ref)); err == nil {
			t.Errorf("%s is back", ref)
		}
	}
}

func TestATagWhoseManifestIsGoneIsNoReasonNotToServe(t *testing.T) {
	dir := t.TempDir()
	host := serveDir(t, dir)
	gone, kept := image(t), image(t)
	push(t, host+"/app:gone", gone)
	push(t, host+"/app:kept", kept)
	if err := remote.Delete(reference(t, host+"/app@"+digest(t, gone))); err != nil {
		t.Fatal(err)
	}
	pulls(t, serveDir(t, dir)+"/app:kept", digest(t, kept))
}

func TestAGarbledManifestIsNamed(t *testing.T) {
	dir := t.TempDir()
	host := serveDir(t, dir)
	one := image(t)
	push(t, host+"/app:latest", one)
	file := filepath.Join(dir, "manifests", "app", "digests", digest(t, one))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, garbled := range [][]byte{nil, whole[:len(whole)-1], []byte("garbage")} {
		if err := os.WriteFile(file, garbled, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newHandler(dir); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v", err)
		}
	}
}

func TestUnfinishedUploadsAndWritesAreNotServed(t *testing.T) {
	dir := t.TempDir()
	host := serveDir(t, dir)
	one := image(t)
	push(t, host+"/app:latest", one)
	upload := filepath.Join(dir, "blobs", "upload-123")
	write := filepath.Join(dir, "manifests", "app", "digests", ".sha256:abc123")
	for _, file := range []string{upload, write} {
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pulls(t, serveDir(t, dir)+"/app:latest", digest(t, one))
	if _, err := os.Stat(upload); !os.IsNotExist(err) {
		t.Errorf("the unfinished upload is still there: %v", err)
	}
}

func TestTheBaseImageIsThere(t *testing.T) {
	host := serveDir(t, t.TempDir())
	base, err := remote.Image(reference(t, host+"/base:latest"))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := base.Layers()
	if err != nil || len(layers) != 0 {
		t.Errorf("got %d layers, %v", len(layers), err)
	}
}

func TestARepositorysNameCannotLeaveTheFolder(t *testing.T) {
	dir := t.TempDir()
	handler, err := newHandler(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/v2/../../x/manifests/latest", "/v2/%2e%2e/manifests/latest", "/v2/a/manifests/..", "/v2/a/manifests/%2e%2e%2fx", "/v2/A/manifests/latest"} {
		if status := call(handler, "PUT", target, "text/plain", []byte("{}")); status < 400 {
			t.Errorf("%s: %d", target, status)
		}
	}
}
