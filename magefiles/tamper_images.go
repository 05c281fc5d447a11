package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// registry asks the registry for a manifest, or gives it one, and returns the manifest.
func (t *tamper) registry(method, image, reference string, manifest []byte) ([]byte, error) {
	url := fmt.Sprintf("http://%s/v2/%s/manifests/%s", t.config.Localhost(config.Registry), image, reference)
	request, err := http.NewRequestWithContext(t.ctx, method, url, bytes.NewReader(manifest))
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

// push makes a small image that there has not been and returns its reference by digest.
func (t *tamper) push(label string) (string, error) {
	text, err := t.registry(http.MethodGet, "base", "latest", nil)
	if err != nil {
		return "", err
	}
	var manifest map[string]any
	if err := json.Unmarshal(text, &manifest); err != nil {
		return "", err
	}
	manifest["annotations"] = map[string]string{"org.opencontainers.image.title": label, "org.opencontainers.image.created": time.Now().UTC().Format(time.RFC3339Nano)}
	if text, err = json.Marshal(manifest); err != nil {
		return "", err
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	_, err = t.registry(http.MethodPut, "tamper", digest, text)
	return t.config.Image("tamper") + "@" + digest, err
}

// signatureTag is where cosign v2 keeps an image's signatures.
func signatureTag(image string) string {
	_, digest, _ := strings.Cut(image, "@sha256:")
	return "sha256-" + digest + ".sig"
}

// wrongDigest is what cosign says of a signature that is about another image.
var wrongDigest = regexp.MustCompile(`(?i)(invalid or missing|missing or incorrect) digest in claim`)

// images are attacks on what was signed.
func (t *tamper) images() error {
	verify := func(image string) (string, error) {
		return t.cosign(nil, "verify", "--certificate-identity="+t.config.Email, t.issuer, image)
	}
	if _, err := verify(t.image); err != nil {
		return fmt.Errorf("the image that nobody has touched: %w", err)
	}
	changed, err := t.push("changed")
	if err != nil {
		return err
	}
	said, err := verify(changed)
	if err := t.noticed(attack{
		did: "The image is changed after it was signed.", who: "cosign", reason: noSignature,
		because: "A signature is looked up by the image's digest, and what was changed has another digest.",
	}, said, err); err != nil {
		return err
	}

	signature, err := t.registry(http.MethodGet, "tamper", signatureTag(t.image), nil)
	if err == nil {
		_, err = t.registry(http.MethodPut, "tamper", signatureTag(changed), signature)
	}
	if err != nil {
		return err
	}
	said, err = verify(changed)
	if err := t.noticed(attack{
		did: "The signature of the image is put beside the changed one.", who: "cosign", reason: wrongDigest,
		because: "What was signed holds the digest, so a signature is about one image wherever it lies.",
	}, said, err); err != nil {
		return err
	}

	other, err := t.push("other key")
	if err != nil {
		return err
	}
	for _, name := range []string{"cosign", "other"} {
		if _, err := os.Stat(t.key(name + ".pub")); err == nil {
			continue
		}
		if _, err := t.cosign(nil, "generate-key-pair", "--output-key-prefix", t.key(name)); err != nil {
			return err
		}
	}
	if _, err := t.cosign(nil, "sign", "--key", t.key("other.key"), "--tlog-upload=false", other); err != nil {
		return err
	}
	said, err = t.cosign(nil, "verify", "--key", t.key("cosign.pub"), "--insecure-ignore-tlog=true", other)
	return t.noticed(attack{
		did: "An image is signed with a key of the attacker's own.", who: "cosign", reason: wrongKey,
		because: "Only the private half of the trusted key makes signatures that its public half verifies.",
	}, said, err)
}
