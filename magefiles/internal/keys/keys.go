// Package keys makes the key pairs of the two logs, ECDSA on P-256, as PEM files.
package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
)

// Ensure makes a private key in the file private, unless it is there, and writes its public half to the file public.
// With a password the key is encrypted as RFC 1423 has it, which is what the CT log reads; without, it is PKCS #8, which
// Rekor reads.
func Ensure(private, public, password string) error {
	content, err := os.ReadFile(private)
	if errors.Is(err, os.ErrNotExist) {
		content, err = generate(password)
		if err == nil {
			err = renameio.WriteFile(private, content, 0o600)
		}
	}
	if err != nil {
		return err
	}
	key, err := parse(content, password)
	if err != nil {
		return fmt.Errorf("%s: %w: put back a copy of it, or wipe the stack's data and keys with `go tool mage reset`", private, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return renameio.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}

func generate(password string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if password == "" {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	// Deprecated, since it does not authenticate; it is the one form that ct_server's keyspb.PEMKeyFile takes.
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte(password), x509.PEMCipherAES256)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

func parse(content []byte, password string) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("the file does not hold a private key in PEM")
	}
	if password != "" {
		der, err := x509.DecryptPEMBlock(block, []byte(password))
		if err != nil {
			return nil, fmt.Errorf("the file's private key cannot be decrypted with the stack's password: %w", err)
		}
		return x509.ParseECPrivateKey(der)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the file does not hold a private key as PKCS #8: %w", err)
	}
	if key, ok := key.(*ecdsa.PrivateKey); ok {
		return key, nil
	}
	return nil, errors.New("the file's private key is not an ECDSA key")
}
