package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
	handler, err := newHandler(dir, fsync)
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
		if _, err := newHandler(dir, fsync); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v", err)
		}
	}
}

func TestUnfinishedUploadsAndWritesAreNotServed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder [1]*")
	host := serveDir(t, dir)
	one := image(t)
	push(t, host+"/app:latest", one)
	upload := filepath.Join(dir, "unfinished", "123")
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

// observed is a registry of which a test sees what it has flushed when it begins to answer.
type observed struct {
	http.Handler
	dir     string
	flushed []string // the folders' paths below dir, and the contents of the files
}

func observe(t *testing.T, dir string) *observed {
	t.Helper()
	o := &observed{dir: dir}
	handler, err := newHandler(dir, func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			relative, err := filepath.Rel(dir, path)
			o.flushed = append(o.flushed, relative)
			return err
		}
		if !strings.HasPrefix(path, filepath.Join(dir, "unfinished")+"/") {
			t.Errorf("%s got its name before it was flushed", path)
		}
		content, err := os.ReadFile(path)
		o.flushed = append(o.flushed, string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Handler = handler
	return o
}

// answer is an answer that notes how much was flushed when its status was written.
type answer struct {
	*httptest.ResponseRecorder
	of     *observed
	before []string
}

func (a *answer) WriteHeader(status int) {
	a.before = slices.Clone(a.of.flushed)
	a.ResponseRecorder.WriteHeader(status)
}

// request makes a request and returns its answer, which must be of that status and come after all of want was flushed, in that
// order.
func (o *observed) request(t *testing.T, method, target, body string, status int, want ...string) *answer {
	t.Helper()
	o.flushed = nil
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	got := &answer{ResponseRecorder: httptest.NewRecorder(), of: o}
	o.ServeHTTP(got, r)
	if got.Code != status || !slices.Equal(got.before, want) {
		t.Errorf("%s %s: status %d after %q was flushed; want %d after %q", method, target, got.Code, got.before, status, want)
	}
	return got
}

func TestWhatIsAcknowledgedIsOnTheDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "registry")
	o := observe(t, dir)
	if !slices.Contains(o.flushed, "..") {
		t.Errorf("the folder of the registry is new and was not flushed where it is entered: %q", o.flushed)
	}
	sum := func(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }
	blobs := []string{"blobs/sha256", "blobs", "."}
	flushed := func(content string, folders ...string) []string { return append([]string{content}, folders...) }

	o.request(t, "POST", "/v2/app/blobs/uploads/?digest="+sum("at once"), "at once", 201, flushed("at once", blobs...)...)
	location := o.request(t, "POST", "/v2/app/blobs/uploads/", "", 202).Header().Get("Location")
	o.request(t, "PATCH", location, "in chunks", 202)
	o.request(t, "PUT", location+"?digest="+sum("in chunks"), "", 201, flushed("in chunks", blobs...)...)
	o.request(t, "POST", "/v2/app/blobs/uploads/?digest="+sum("another"), "garbled", 400)

	const manifest = `{"schemaVersion":2}`
	entry := func(kind string) []string {
		return []string{"manifests/team%2Fapp/" + kind, "manifests/team%2Fapp", "manifests", "."}
	}
	byDigest := append(slices.Clone(blobs), flushed("\n"+manifest, entry("digests")...)...)
	o.request(t, "PUT", "/v2/team/app/manifests/"+sum(manifest), manifest, 201, byDigest...)
	o.request(t, "PUT", "/v2/team/app/manifests/latest", manifest, 201, append(byDigest, flushed(sum(manifest), entry("tags")...)...)...)

	o.request(t, "DELETE", "/v2/team/app/manifests/latest", "", 202, entry("tags")...)
	o.request(t, "DELETE", "/v2/team/app/manifests/"+sum(manifest), "", 202, entry("digests")...)
	o.request(t, "DELETE", "/v2/app/blobs/"+sum("at once"), "", 202, blobs...)

	if left, err := os.ReadDir(filepath.Join(dir, "unfinished")); err != nil || len(left) > 0 {
		t.Errorf("left unfinished: %v, %v", left, err)
	}
}

func TestWhatIsNotOnTheDiskIsNotAcknowledged(t *testing.T) {
	dir := t.TempDir()
	full := false
	handler, err := newHandler(dir, func(path string) error {
		if full {
			return syscall.ENOSPC
		}
		return fsync(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	full = true
	blob := []byte("blob")
	if status := call(handler, "POST", fmt.Sprintf("/v2/app/blobs/uploads/?digest=sha256:%x", sha256.Sum256(blob)), "", blob); status != 500 {
		t.Errorf("a blob: status %d", status)
	}
	if status := call(handler, "PUT", "/v2/app/manifests/latest", "", []byte(`{"schemaVersion":2}`)); status != 500 {
		t.Errorf("a manifest: status %d", status)
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
	handler, err := newHandler(dir, fsync)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/v2/../../x/manifests/latest", "/v2/%2e%2e/manifests/latest", "/v2/a/manifests/..", "/v2/a/manifests/%2e%2e%2fx", "/v2/A/manifests/latest"} {
		if status := call(handler, "PUT", target, "text/plain", []byte("{}")); status < 400 {
			t.Errorf("%s: %d", target, status)
		}
	}
}

func TestWhatIsStoredIsLoggedInOneLine(t *testing.T) {
	host := serveDir(t, t.TempDir())
	var said bytes.Buffer
	log.SetOutput(&said)
	defer log.SetOutput(io.Discard)
	const plain, bundle = `{"schemaVersion":2}`, `{"schemaVersion":2,"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`
	tag := "sha256-" + strings.Repeat("0a", 32)
	request := func(method, reference, content string) {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+host+"/v2/app/manifests/"+reference, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	for _, one := range []struct{ method, reference, content, want string }{
		{"PUT", "latest", plain, `stored "app" "latest": manifest`},
		{"PUT", "bundle", bundle, `stored "app" "bundle": signature`},
		{"PUT", tag, plain, `stored "app" "` + tag + `": manifest`},
		{"PUT", tag + ".sig", plain, `stored "app" "` + tag + `.sig": signature`},
		{"PUT", tag + ".att", plain, `stored "app" "` + tag + `.att": signature`},
		{"PUT", tag + ".sbom", plain, `stored "app" "` + tag + `.sbom": manifest`},
		{"DELETE", "latest", "", `deleted "app" "latest"`},
		{"DELETE", "latest", "", ""}, // it is gone
		{"PUT", "-", plain, ""},      // no reference
		{"GET", "bundle", "", ""},
	} {
		said.Reset()
		request(one.method, one.reference, one.content)
		if got := said.String(); got != one.want && !(strings.HasSuffix(got, " "+one.want+"\n") && strings.Count(got, "\n") == 1) {
			t.Errorf("%s %s: the log has %q, not %q", one.method, one.reference, got, one.want)
		}
	}
}
