package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/google/renameio/v2"
	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/service"
)

// Fulcio is the CA that gives a short-lived certificate to whoever signs in.
type Fulcio mg.Namespace

// caRootID is the PKCS#11 ID of the CA's key and certificate, which the program hsm gives the key.
const caRootID = "1"

// CA shows the CA's root certificate, and makes it if there is none.
func (Fulcio) CA(ctx context.Context) error {
	if err := needs(ctx, caRoot); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	root, err := caCertificate(s.config)
	if err != nil {
		return err
	}
	fmt.Printf("Subject:     %s\nValid:       %s to %s\nKey:         %s\nSHA-256:     %X\nFile:        %s\n\n%s",
		root.Subject, root.NotBefore.Format(time.DateOnly), root.NotAfter.Format(time.DateOnly), root.PublicKeyAlgorithm,
		sha256.Sum256(root.Raw), s.config.Key("ca-root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	return nil
}

// caCertificate is the certificate of the stack's CA, nil if it has not been made.
func caCertificate(c config.Config) (*x509.Certificate, error) {
	content, err := os.ReadFile(c.Key("ca-root.pem"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate as PEM", c.Key("ca-root.pem"))
	}
	return x509.ParseCertificate(block.Bytes)
}

// caRoot makes the root certificate on the token, unless it is there, and writes it to a file.
func caRoot(ctx context.Context) error {
	if err := needs(ctx, HSM.Init); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	file := s.config.Key("ca-root.pem")
	known, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	root := s.certificate
	if root == "" {
		if root, err = hsm(ctx, s.config, "certificate"); err != nil {
			return err
		}
	}
	if len(known) > 0 && string(known) != root {
		return fmt.Errorf("the CA's certificate in %s is not the one on the token %q: put back the file or the token's data, or wipe the stack's data and keys with `go tool mage reset`",
			file, s.config.PKCS11Token)
	}
	if root == "" {
		create := command.New(ctx, s.config.Home(), append(os.Environ(), softHSMEnv(s.config), "HOME="+s.config.Home()), s.config.Program("fulcio"),
			"createca", "--org=Sigstore Local", "--hsm-caroot-id="+caRootID, "--pkcs11-config-path="+s.config.ConfigFile("crypto11.json"))
		if _, err := command.Combined(ctx, create); err != nil {
			return fmt.Errorf("make the CA's certificate: %w", err)
		}
		if root, err = hsm(ctx, s.config, "certificate"); err != nil {
			return err
		}
	}
	block, _ := pem.Decode([]byte(root))
	if block == nil {
		return fmt.Errorf("the token %q holds no certificate for the CA after it was made", s.config.PKCS11Token)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("the CA's certificate on the token %q: %w", s.config.PKCS11Token, err)
	}
	if err := keys.CheckClock("the CA's certificate", certificate, time.Now()); err != nil {
		return err
	}
	if len(known) > 0 {
		return nil
	}
	return renameio.WriteFile(file, []byte(root), 0o644)
}

// Start runs Fulcio once the CT log and Dex are up.
func (Fulcio) Start(ctx context.Context) error {
	if err := needs(ctx, CT.Start, Dex.Start); err != nil {
		return err
	}
	return start(ctx, fulcio, nil)
}

// Restart builds what has changed of Fulcio and restarts that alone.
func (Fulcio) Restart(ctx context.Context) error { return restartOnly(ctx, Fulcio.Start, fulcio) }

// Stop ends Fulcio.
func (Fulcio) Stop(ctx context.Context) error { return stop(ctx, fulcio) }

func fulcio(c config.Config) service.Service {
	return service.Service{
		Name:  "fulcio",
		About: "Fulcio, the CA",
		Uses: []service.Use{
			{Of: "dex", To: "check the ID token"},
			{Of: "ct", To: "log the certificate"},
			{Of: service.Token, Signs: "certificates", Public: "keys/ca-root.pem"},
			{Of: "secrets/hsm-pin", To: "open the token"},
			{Of: "data/hsm", To: "find SoftHSM's tokens"},
			{Of: "keys/ctfe.pub", To: "check SCTs"},
		},
		Program: c.Program("fulcio"),
		Args: []string{
			"serve",
			"--ca=pkcs11ca", "--hsm-caroot-id=" + caRootID, "--pkcs11-config-path=" + c.ConfigFile("crypto11.json"),
			"--config-path=" + c.ConfigFile("fulcio.yaml"),
			"--ct-log-url=" + c.CTLog(), "--ct-log-public-key-path=" + c.Key("ctfe.pub"),
			// Upstream's defaults serve on every address, take Rekor's port for metrics, and share one socket's name among
			// all stacks of a machine.
			"--host=127.0.0.1", "--port=" + strconv.Itoa(c.Port(config.Fulcio)),
			"--grpc-host=127.0.0.1", "--grpc-port=" + strconv.Itoa(c.Port(config.FulcioGRPC)),
			"--metrics-port=" + strconv.Itoa(c.Port(config.FulcioMetrics)),
			"--legacy-unix-domain-socket=" + c.FulcioSocket(),
			"--log_type=prod",
		},
		Env:       []string{softHSMEnv(c)},
		Templates: []string{"fulcio.yaml"},
		Listens:   []config.Port{config.Fulcio, config.FulcioGRPC, config.FulcioMetrics},
		Sockets:   []string{c.FulcioSocket()},
		Address:   c.URL(config.Fulcio),
		// The CA's chain, which Fulcio has from the token.
		Ready: service.Answers(c.URL(config.Fulcio) + "/api/v2/trustBundle"),
	}
}
