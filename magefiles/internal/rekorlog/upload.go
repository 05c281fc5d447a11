package rekorlog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"sigstore-local/magefiles/internal/jsonapi"
)

// Uploader makes entries and uploads them by the API of Rekor v1 or v2, without the cost of a client program.
type Uploader struct {
	url    string
	key    *ecdsa.PrivateKey
	public []byte // a SubjectPublicKeyInfo
	named  []byte // a certificate of the key, in DER, that entries of Rekor v1 have instead; nil if they have the key
	client *http.Client
	entry  func(u *Uploader, digest, signature []byte) any
	name   func(answer map[string]any) string
}

// NewUploader returns an uploader to the Rekor v1 at url. It names an entry by its UUID.
func NewUploader(url string) (*Uploader, error) {
	return newUploader(Uploader{
		url: url + "/api/v1/log/entries",
		entry: func(u *Uploader, digest, signature []byte) any {
			public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: u.public})
			if u.named != nil {
				public = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: u.named})
			}
			return object{"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": object{
				"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest)}},
				"signature": object{"content": signature, "publicKey": object{"content": public}},
			}}
		},
		name: func(answer map[string]any) string {
			for uuid := range answer {
				return uuid
			}
			return ""
		},
	})
}

// NewUploaderV2 returns an uploader to the Rekor v2 at url. It names an entry by its index.
func NewUploaderV2(url string) (*Uploader, error) {
	return newUploader(Uploader{
		url: url + "/api/v2/log/entries",
		entry: func(u *Uploader, digest, signature []byte) any {
			verifier := object{"publicKey": object{"rawBytes": u.public}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
			return object{"hashedRekordRequestV002": object{"digest": digest, "signature": object{"content": signature, "verifier": verifier}}}
		},
		name: func(answer map[string]any) string {
			index, _ := answer["logIndex"].(string)
			return index
		},
	})
}

// NewUploaderAs is NewUploader with entries that name an email address, by a certificate that no CA has issued: Rekor v1 does not mind,
// and finds them by that address.
func NewUploaderAs(url, email string) (*Uploader, error) {
	u, err := NewUploader(url)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), EmailAddresses: []string{email}, NotBefore: now, NotAfter: now.Add(time.Hour)}
	u.named, err = x509.CreateCertificate(rand.Reader, template, template, u.key.Public(), u.key)
	return u, err
}

type object = map[string]any

func newUploader(u Uploader) (*Uploader, error) {
	var err error
	if u.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if u.public, err = x509.MarshalPKIXPublicKey(u.key.Public()); err != nil {
		return nil, err
	}
	u.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512}}
	return &u, nil
}

// sign signs something new.
func (u *Uploader) sign() (digest, signature []byte, err error) {
	blob := make([]byte, 32)
	if _, err := rand.Read(blob); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(blob)
	signature, err = ecdsa.SignASN1(rand.Reader, u.key, sum[:])
	return sum[:], signature, err
}

// Upload signs something new and uploads that as a hashedrekord, and returns the entry's name when the log has it.
func (u *Uploader) Upload(ctx context.Context) (string, error) {
	digest, signature, err := u.sign()
	if err != nil {
		return "", err
	}
	var made map[string]any
	if err := jsonapi.Ask(ctx, u.client, http.MethodPost, u.url, u.entry(u, digest, signature), &made); err != nil {
		return "", err
	}
	if name := u.name(made); name != "" {
		return name, nil
	}
	return "", fmt.Errorf("POST %s: the answer names no entry", u.url)
}

// EntryV2 signs something new, and returns what Rekor v2 would add to its log if that were uploaded
// (https://github.com/sigstore/rekor-tiles/blob/main/api/proto/rekor/v2/entry.proto).
func (u *Uploader) EntryV2() ([]byte, error) {
	digest, signature, err := u.sign()
	if err != nil {
		return nil, err
	}
	// The log keeps JSON in the canonical form of RFC 8785, which for this is how Go writes a map.
	return json.Marshal(object{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": object{"hashedRekordV002": object{
		"data":      object{"algorithm": "SHA2_256", "digest": digest},
		"signature": object{"content": signature, "verifier": object{"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": object{"rawBytes": u.public}}},
	}}})
}
