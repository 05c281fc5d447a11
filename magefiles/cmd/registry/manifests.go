package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// manifestStore passes requests on to a registry and keeps on disk each manifest that it accepts:
//
//	DIR/REPOSITORY/digests/sha256:HEX   the media type, a newline, and the manifest
//	DIR/REPOSITORY/tags/TAG             the digest
//
// with the repository's slashes escaped, so that no repository's folder stands in another's.
type manifestStore struct {
	registry http.Handler
	dir      string
	disk     disk
	// mu lets one change at a time through, so that the disk sees changes in the order in which the registry does.
	mu sync.Mutex
}

// manifestPath takes a manifest's path apart: repository and reference, which is a tag or a digest (OCI distribution
// specification 1.1, "Endpoints").
var manifestPath = regexp.MustCompile(`^/v2/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)/manifests/(sha256:[0-9a-f]{64}|[A-Za-z0-9_][A-Za-z0-9._-]{0,127})$`)

// keepManifests wraps registry with a store on d and gives it back what the store holds.
func keepManifests(registry http.Handler, d disk) (http.Handler, error) {
	s := &manifestStore{registry: registry, dir: filepath.Join(d.dir, "manifests"), disk: d}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	return s, s.restore()
}

func (s *manifestStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	changes := r.Method == http.MethodPut || r.Method == http.MethodDelete
	if !changes || !strings.Contains(r.URL.Path, "/manifests/") {
		s.registry.ServeHTTP(w, r)
		return
	}
	parts := manifestPath.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		http.Error(w, `{"errors":[{"code":"NAME_INVALID","message":"invalid repository or reference"}]}`, http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	s.mu.Lock()
	defer s.mu.Unlock()
	// The answer is held back until the change is on the disk: what a client was told lasts.
	answer := httptest.NewRecorder()
	s.registry.ServeHTTP(answer, r)
	switch answer.Code {
	case http.StatusCreated:
		err = s.put(parts[1], parts[2], r.Header.Get("Content-Type"), body)
	case http.StatusAccepted:
		err = s.delete(parts[1], parts[2])
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch answer.Code {
	case http.StatusCreated:
		log.Printf("stored %.100q %q: %s", parts[1], parts[2], kind(parts[2], body))
	case http.StatusAccepted:
		log.Printf("deleted %.100q %q", parts[1], parts[2])
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = answer.Body.WriteTo(w)
}

func (s *manifestStore) path(repository, kind, name string) string {
	return filepath.Join(s.dir, url.PathEscape(repository), kind, name)
}

// signatureTag is the tag of signatures or attestations beside the image whose digest it has, as cosign stores them without a bundle
// (cosign's specs/SIGNATURE_SPEC.md).
var signatureTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}\.(sig|att)$`)

// kind says whether what is stored under reference is a signature: under such a tag, or as a Sigstore bundle, which its artifact type
// says (cosign's specs/BUNDLE_SPEC.md).
func kind(reference string, manifest []byte) string {
	var said struct {
		ArtifactType string `json:"artifactType"`
	}
	_ = json.Unmarshal(manifest, &said) // what cannot be read has no artifact type
	if signatureTag.MatchString(reference) || strings.HasPrefix(said.ArtifactType, "application/vnd.dev.sigstore.bundle.") {
		return "signature"
	}
	return "manifest"
}

func isDigest(reference string) bool { return strings.Contains(reference, ":") }

func (s *manifestStore) put(repository, reference, mediaType string, manifest []byte) error {
	sum := sha256.Sum256(manifest)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	// The manifest's blobs have to be on the disk too. Some may have come by an upload that is not acknowledged: it is still
	// under way, or the registry was killed before it answered.
	if err := s.disk.settle(s.disk.blobs("sha256")); err != nil {
		return err
	}
	content := io.MultiReader(strings.NewReader(mediaType+"\n"), bytes.NewReader(manifest))
	if err := s.disk.keep(s.path(repository, "digests", digest), content); err != nil {
		return err
	}
	if isDigest(reference) {
		return nil
	}
	return s.disk.keep(s.path(repository, "tags", reference), strings.NewReader(digest))
}

func (s *manifestStore) delete(repository, reference string) error {
	kind := "tags"
	if isDigest(reference) {
		kind = "digests"
	}
	err := os.Remove(s.path(repository, kind, reference))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.disk.settle(s.path(repository, kind, ""))
}

// restore pushes what the disk holds to the registry.
func (s *manifestStore) restore() error {
	repositories, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range repositories {
		repository, err := url.PathUnescape(entry.Name())
		if err != nil || !entry.IsDir() {
			return fmt.Errorf("%s is not a folder of this registry: move it away", filepath.Join(s.dir, entry.Name()))
		}
		if err := s.restoreRepository(repository); err != nil {
			return err
		}
	}
	return nil
}

func (s *manifestStore) restoreRepository(repository string) error {
	digests, err := names(s.path(repository, "digests", ""))
	if err != nil {
		return err
	}
	// An index is accepted only if the manifests that it lists are there, so refused ones are tried again after the others.
	for waiting := digests; len(waiting) > 0; {
		var refused []string
		for _, digest := range waiting {
			status, err := s.push(repository, digest, digest)
			if err != nil {
				return err
			}
			if status != http.StatusCreated {
				refused = append(refused, digest)
			}
		}
		if len(refused) == len(waiting) {
			// These indexes list manifests that were deleted. All other manifests are served.
			fmt.Fprintf(os.Stderr, "registry: %s: left out, since what they list is gone: %s\n", repository, strings.Join(refused, ", "))
			break
		}
		waiting = refused
	}
	tags, err := names(s.path(repository, "tags", ""))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		digest, err := os.ReadFile(s.path(repository, "tags", tag))
		if err != nil {
			return err
		}
		if _, err := s.push(repository, string(digest), tag); err != nil {
			return fmt.Errorf("tag %s of %s: %w", tag, repository, err)
		}
	}
	return nil
}

// push gives the registry the stored manifest digest under reference.
func (s *manifestStore) push(repository, digest, reference string) (status int, err error) {
	file := s.path(repository, "digests", digest)
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && digest != reference {
		// The manifest was deleted by its digest, so its tags are dropped too.
		return http.StatusNotFound, nil
	}
	if err != nil {
		return 0, err
	}
	mediaType, manifest, ok := bytes.Cut(content, []byte("\n"))
	sum := sha256.Sum256(manifest)
	if !ok || digest != "sha256:"+hex.EncodeToString(sum[:]) {
		return 0, fmt.Errorf("%s does not hold the manifest that its name says: put back a copy of it, or move it away to go on without that image", file)
	}
	return call(s.registry, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, string(mediaType), manifest), nil
}

// names lists a folder's files, none if there is no folder. It leaves out unfinished files, which earlier versions of this
// program wrote here.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		// Unfinished files begin with a dot, which neither a tag nor a digest does.
		if !strings.HasPrefix(entry.Name(), ".") {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// call makes a request of a handler in this process and returns the status of its answer.
func call(handler http.Handler, method, target, contentType string, body []byte) int {
	r := httptest.NewRequest(method, target, bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	return answer.Code
}
