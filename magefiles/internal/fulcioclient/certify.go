// Package fulcioclient asks Fulcio for certificates, as a client of Sigstore does.
package fulcioclient

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"net/http"

	"sigstore-local/magefiles/internal/jsonapi"
)

// Certify asks the Fulcio at url for a certificate for a fresh key, with an ID token of email's
// (https://github.com/sigstore/fulcio/blob/main/fulcio.proto, CreateSigningCertificate). An error holds what Fulcio
// answered.
func Certify(ctx context.Context, url, token, email string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(email))
	possession, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return err
	}
	type object = map[string]any
	return jsonapi.Ask(ctx, http.DefaultClient, http.MethodPost, url+"/api/v2/signingCert", object{
		"credentials": object{"oidcIdentityToken": token},
		"publicKeyRequest": object{
			"publicKey":         object{"algorithm": "ECDSA", "content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))},
			"proofOfPossession": possession,
		},
	}, nil)
}
