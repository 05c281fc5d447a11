// Package keys makes the logs' key pairs and the timestamp authority's certificates, as PEM files.
package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/project"
)

// Kind is a kind of key.
type Kind string

// The kinds of keys that Ensure makes.
const (
	ECDSA   Kind = "ECDSA" // on the curve P-256
	SEC1    Kind = "SEC 1" // ECDSA, in the older form of SEC 1 (RFC 5915), the one that TesseraCT reads
	Ed25519 Kind = "Ed25519"
)

// fix ends the messages about a key that is not as it was made.
var fix = "put back a copy of it, or wipe the stack's data and keys with `" + project.Command + " reset`"

// Ensure makes a private key in the file private, unless it is there, and writes its public half to the file public. A
// public half without its private key is an error: with another key, nothing that was signed would verify. With a
// password the key, which is then ECDSA, is encrypted as RFC 1423 has it, which is what the CT log reads; without, it is
// PKCS #8, which Rekor reads.
func Ensure(kind Kind, private, public, password string) error {
	content, err := os.ReadFile(private)
	if errors.Is(err, os.ErrNotExist) {
		if _, lost := os.Stat(public); lost == nil {
			return fmt.Errorf("the private key %s, whose public half is in %s, is not there: "+fix, private, public)
		}
		content, err = generate(kind, password)
		if err == nil {
			err = writePrivate(private, content)
		}
	}
	if err != nil {
		return err
	}
	key, err := parse(content, password)
	if err != nil {
		return fmt.Errorf("%s: %w: "+fix, private, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	// A public half that is there already is not written again: flushing it to the disk takes as long as a daemon's start.
	if there, err := os.ReadFile(public); err == nil && bytes.Equal(there, text) {
		return nil
	}
	return renameio.WriteFile(public, text, 0o644)
}

// writePrivate writes a private key, and not by way of TMPDIR, where it would stay if this process were killed.
func writePrivate(file string, key []byte) error {
	return renameio.WriteFile(file, key, 0o600, renameio.WithTempDir(filepath.Dir(file)))
}

func generate(kind Kind, password string) ([]byte, error) {
	if kind == Ed25519 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return encode(key)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if password == "" && kind != SEC1 {
		return encode(key)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if password == "" {
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
	}
	//lint:ignore SA1019 does not authenticate, but is the one form of an encrypted key that ct_server's keyspb.PEMKeyFile takes
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte(password), x509.PEMCipherAES256)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// encode writes key as PKCS #8.
func encode(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func parse(content []byte, password string) (crypto.Signer, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("the file does not hold a private key in PEM")
	}
	if password != "" {
		//lint:ignore SA1019 reads what EncryptPEMBlock has written for ct_server
		der, err := x509.DecryptPEMBlock(block, []byte(password))
		if err != nil {
			return nil, fmt.Errorf("the file's private key cannot be decrypted with the stack's password: %w", err)
		}
		return x509.ParseECPrivateKey(der)
	}
	if block.Type == "EC PRIVATE KEY" {
		return x509.ParseECPrivateKey(block.Bytes)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the file does not hold a private key as PKCS #8: %w", err)
	}
	if key, ok := key.(crypto.Signer); ok {
		return key, nil
	}
	return nil, errors.New("the file's private key is not one that signs")
}

// Private is the private key in a PEM file that Ensure has made without a password.
func Private(file string) (crypto.Signer, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := parse(content, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// Public is the public key in a PEM file, and its SubjectPublicKeyInfo in DER (RFC 5280, section 4.1).
func Public(file string) (key crypto.PublicKey, der []byte, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, nil, fmt.Errorf("%s holds no public key as PEM", file)
	}
	if key, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, block.Bytes, nil
}

// Certificate is the certificate in a PEM file, nil if there is no such file.
func Certificate(file string) (*x509.Certificate, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate as PEM", file)
	}
	return x509.ParseCertificate(block.Bytes)
}

// Chain is the certificates in a PEM file, at least one.
func Chain(file string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s holds no certificate as PEM", file)
	}
	return chain, nil
}
