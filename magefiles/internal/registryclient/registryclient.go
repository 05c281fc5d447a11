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
	request.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
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

// NewImage stores a small new image, which therefore nobody has signed, and returns its reference by digest.
func NewImage(ctx context.Context, c config.Config, repository, title string) (string, error) {
	text, err := Manifest(ctx, c, "base", "latest")
	if err != nil {
		return "", err
	}
	var manifest map[string]any
	if err := json.Unmarshal(text, &manifest); err != nil {
		return "", err
	}
	manifest["annotations"] = map[string]string{"org.opencontainers.image.title": title, "org.opencontainers.image.created": time.Now().UTC().Format(time.RFC3339Nano)}
	if text, err = json.Marshal(manifest); err != nil {
		return "", err
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	return c.Image(repository) + "@" + digest, PutManifest(ctx, c, repository, digest, text)
}
