package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
)

// caRootID is the PKCS#11 ID of the CA's key and certificate. The program hsm makes the key with this ID.
const caRootID = "1"

// caRoot makes the CA's root certificate on the token, if the token has none, and copies the certificate to a file, if the file
// is missing. It returns an error if the certificate is not valid now.
func caRoot(ctx context.Context) error {
	if err := needs(ctx, HSM.Init); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	file := s.Config.Key("ca-root.pem")
	root, err := keys.Certificate(file)
	if err != nil {
		return fmt.Errorf("the CA's certificate: %w: put back a copy of it, or delete it: the next start takes it from the token", err)
	}
	// If there is a file, HSM.Init has compared it with the certificate on the token.
	if root == nil {
		if root, err = makeRoot(ctx, s.Config, file); err != nil {
			return err
		}
	}
	return keys.CheckClock("the CA's certificate", root, time.Now())
}

// makeRoot makes the CA's certificate on the token, if the token has none, and writes that certificate to a file.
func makeRoot(ctx context.Context, c config.Config, file string) (*x509.Certificate, error) {
	root, err := hsm(ctx, c, "certificate")
	if err == nil && root == "" {
		create := command.New(ctx, c.Home(), append(os.Environ(), softHSMEnv(c), "HOME="+c.Home()), c.Program("fulcio"),
			"createca", "--org=Sigstore Local", "--hsm-caroot-id="+caRootID, "--pkcs11-config-path="+c.ConfigFile("crypto11.json"))
		if _, err := command.Combined(ctx, create); err != nil {
			return nil, fmt.Errorf("make the CA's certificate: %w", err)
		}
		root, err = hsm(ctx, c, "certificate")
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(root))
	if block == nil {
		return nil, fmt.Errorf("the token %q holds no certificate for the CA after it was made", c.PKCS11Token)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificate on the token %q: %w", c.PKCS11Token, err)
	}
	return certificate, renameio.WriteFile(file, []byte(root), 0o644)
}
