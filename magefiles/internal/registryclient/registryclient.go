// Package registryclient puts small images and manifests into the stack's registry
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md).
package registryclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// Manifest gets the manifest of a repository by its digest or tag.
func Manifest(ctx context.Context, c config.Config, repository, reference string) ([]byte, error) {
	return ask(ctx, c, http.MethodGet, repository, reference, nil)
}

// PutManifest stores a manifest under a digest or tag.
func PutManifest(ctx context.Context, c config.Config, repository, reference string, manifest []byte) error {
	_, err := ask(ctx, c, http.MethodPut, repository, reference, manifest)
	return err
}

func ask(ctx context.Context, c config.Config, method, repository, reference string, manifest []byte) ([]byte, error) {
	url := fmt.Sprintf("http://%s/v2/%s/manifests/%s", c.Localhost(config.Registry), repository, reference)
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(manifest))
	if err != nil {
		return nil, err
	}
	if manifest != nil {
		var stored struct{ MediaType string }
		if err := json.Unmarshal(manifest, &stored); err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", stored.MediaType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, url, response.Status, text)
	}
	return text, err
}

// MoveReferrers makes the artifacts that refer to the image with the digest from, such as its signatures in bundles, refer to the
// one with the digest to. A registry without the referrers API, such as the stack's, keeps their list under a tag that is made from
// the image's digest (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema).
func MoveReferrers(ctx context.Context, c config.Config, repository, from, to string) error {
	tag := func(digest string) string { return strings.Replace(digest, ":", "-", 1) }
	target, err := Manifest(ctx, c, repository, to)
	if err != nil {
		return err
	}
	index, err := object(ctx, c, repository, tag(from))
	if err != nil {
		return err
	}
	list, _ := index["manifests"].([]any)
	for _, one := range list {
		listed, _ := one.(map[string]any)
		digest, _ := listed["digest"].(string)
		manifest, err := object(ctx, c, repository, digest)
		if err != nil {
			return err
		}
		subject, ok := manifest["subject"].(map[string]any)
		if !ok {
			return fmt.Errorf("%s refers to nothing", digest)
		}
		subject["digest"], subject["size"] = to, len(target)
		text, err := json.Marshal(manifest)
		if err != nil {
			return err
		}
		listed["digest"], listed["size"] = fmt.Sprintf("sha256:%x", sha256.Sum256(text)), len(text)
		if err := PutManifest(ctx, c, repository, listed["digest"].(string), text); err != nil {
			return err
		}
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return PutManifest(ctx, c, repository, tag(to), text)
}

// object is the manifest of a repository as what its JSON holds.
func object(ctx context.Context, c config.Config, repository, reference string) (map[string]any, error) {
	text, err := Manifest(ctx, c, repository, reference)
	if err != nil {
		return nil, err
	}
	var manifest map[string]any
	err = json.Unmarshal(text, &manifest)
	return manifest, err
}

// NewImage stores a small new image, which therefore nobody has signed, and returns its reference by digest.
func NewImage(ctx context.Context, c config.Config, repository, title string) (string, error) {
	manifest, err := object(ctx, c, "base", "latest")
	if err != nil {
		return "", err
	}
	manifest["annotations"] = map[string]string{"org.opencontainers.image.title": title, "org.opencontainers.image.created": time.Now().UTC().Format(time.RFC3339Nano)}
	text, err := json.Marshal(manifest)
	if err != nil {
		return "", err
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	return c.Image(repository) + "@" + digest, PutManifest(ctx, c, repository, digest, text)
}
