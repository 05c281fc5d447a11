package rekorlog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"

	"sigstore-local/magefiles/internal/jsonapi"
)

// Uploader makes entries for Rekor v1 and uploads them by its API, without the cost of a client program.
type Uploader struct {
	url    string
	key    *ecdsa.PrivateKey
	public []byte // PEM
	client *http.Client
}

// NewUploader returns an uploader to the Rekor at url.
func NewUploader(url string) (*Uploader, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 128}
	return &Uploader{
		url: url + "/api/v1/log/entries", key: key, client: &http.Client{Transport: transport},
		public: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	}, nil
}

// Upload signs something new and uploads it as a hashedrekord of version 0.0.1, and returns the entry's UUID when the log
// has it.
func (u *Uploader) Upload(ctx context.Context) (string, error) {
	blob := make([]byte, 32)
	if _, err := rand.Read(blob); err != nil {
		return "", err
	}
	digest := sha256.Sum256(blob)
	signature, err := ecdsa.SignASN1(rand.Reader, u.key, digest[:])
	if err != nil {
		return "", err
	}
	type object = map[string]any
	entry := object{"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": object{
		"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
		"signature": object{"content": signature, "publicKey": object{"content": u.public}},
	}}
	var made map[string]any
	if err := jsonapi.Ask(ctx, u.client, http.MethodPost, u.url, entry, &made); err != nil {
		return "", err
	}
	for uuid := range made {
		return uuid, nil
	}
	return "", fmt.Errorf("POST %s: the answer names no entry", u.url)
}
