package main

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
)

// Fulcio is the CA that gives a short-lived certificate to whoever signs in.
type Fulcio mg.Namespace

// CA shows the CA's root certificate, and makes it if there is none.
func (Fulcio) CA(ctx context.Context) error {
	if err := needs(ctx, caRoot); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	root, err := keys.Certificate(s.Config.Key("ca-root.pem"))
	if err != nil {
		return err
	}
	fmt.Printf("Subject:     %s\nValid:       %s to %s\nKey:         %s\nSHA-256:     %X\nFile:        %s\n\n%s",
		root.Subject, root.NotBefore.Format(time.DateOnly), root.NotAfter.Format(time.DateOnly), root.PublicKeyAlgorithm,
		sha256.Sum256(root.Raw), s.Config.Key("ca-root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	return nil
}

// Start starts the CT log and Dex, and then Fulcio.
func (Fulcio) Start(ctx context.Context) error {
	if err := needs(ctx, startCTLog, Dex.Start); err != nil {
		return err
	}
	return start(ctx, fulcio, nil)
}

// startCTLog starts the CT log that Fulcio uses.
func startCTLog(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	switch s.Config.CTLogService {
	case config.TesseraCT:
		return needs(ctx, Tesseract.Start)
	default:
		return needs(ctx, CT.Start)
	}
}

// Restart rebuilds Fulcio if its source has changed, and restarts only Fulcio.
func (Fulcio) Restart(ctx context.Context) error {
	return restartOnly(ctx, Fulcio.Start, fulcioComponent())
}

// Stop stops Fulcio.
func (Fulcio) Stop(ctx context.Context) error { return stop(ctx, fulcio) }

// Ports that only Fulcio's own description uses.
var (
	fulcioGRPC    = config.Port{Name: "FULCIO_GRPC", Default: 5554}
	fulcioMetrics = config.Port{Name: "FULCIO_METRICS", Default: 2113}
)

func fulcioComponent() component {
	return component{describe: fulcio, start: Fulcio.Start, stop: Fulcio.Stop, prepare: []any{caRoot}}
}

func fulcio(c config.Config) service.Service {
	ca := []string{"--ca=pkcs11ca", "--hsm-caroot-id=" + caRootID, "--pkcs11-config-path=" + c.ConfigFile("crypto11.json")}
	uses := []service.Use{
		{Of: service.Token, Signs: "certificates", Public: "keys/ca-root.pem"},
		{Of: "secrets/hsm-pin", To: "open the token"},
		{Of: "data/hsm", To: "find SoftHSM's tokens"},
	}
	token := []string{softHSMEnv(c)}
	switch {
	case c.Cluster == nil:
	case c.Cluster.FulcioKey != "":
		token = nil
		ca = []string{"--ca=kmsca", "--kms-resource=" + c.Cluster.FulcioKey, "--kms-cert-chain-path=" + c.Key("ca-root.pem")}
		uses = []service.Use{{Of: "keys/ca-root.pem", To: "show the CA's certificate"}}
	case c.PKCS11Module != "":
		uses, token = uses[:1], nil // the user's own PIN opens it
	}
	return service.Service{
		Name:  "fulcio",
		About: "Fulcio, the CA",
		Uses: slices.Concat(
			[]service.Use{{Of: "dex", To: "check the ID token"}, {Of: string(c.CTLogService), To: "log the certificate"}}, uses,
			[]service.Use{{Of: c.FromState(c.CTLogKey()), To: "check SCTs"}},
		),
		For:      string(c.CTLogService),
		Stacks:   []config.Stack{config.Tutorial, config.Tiles},
		Program:  c.Program("fulcio"),
		Packages: []string{"github.com/sigstore/fulcio", project.Module + "/magefiles/cmd/hsm"},
		Source: &config.Source{
			Name: "fulcio", Module: "github.com/sigstore/fulcio", Programs: map[string]string{"fulcio": "."},
			Restart: "fulcio:restart", Demo: "demo:keyless",
		},
		Args: slices.Concat([]string{"serve"}, ca, []string{
			"--config-path=" + c.ConfigFile("fulcio.yaml"),
			"--ct-log-url=" + c.CTLog(), "--ct-log-public-key-path=" + c.CTLogKey(),
			// Upstream's defaults serve on every address, take Rekor's port for metrics, and share one socket's name among
			// all stacks of a machine.
			"--host=" + c.ListenHost(config.Fulcio), "--port=" + strconv.Itoa(c.Port(config.Fulcio)),
			"--grpc-host=127.0.0.1", "--grpc-port=" + strconv.Itoa(c.Port(fulcioGRPC)),
			"--metrics-port=" + strconv.Itoa(c.Port(fulcioMetrics)),
			"--legacy-unix-domain-socket=" + c.FromHome(c.FulcioSocket()),
			// With this it logs its requests. In place of JSON, its log is then text, with colors, and with stack traces below warnings.
			"--log_type=dev",
		}),
		Env:       append(issuerByProxy(c), token...),
		Templates: []string{"fulcio.yaml"},
		Listens:   []config.Port{config.Fulcio, fulcioGRPC, fulcioMetrics},
		Sockets:   []string{c.FulcioSocket()},
		Address:   c.URL(config.Fulcio),
		// To answer, Fulcio reads the CA's chain from the token.
		Ready: service.Answers(c.URL(config.Fulcio) + "/api/v2/trustBundle"),
		// Dex logs no token that it gives to a client with a password. A request that Fulcio has granted came with one.
		Passes: []service.Passage{
			{Line: certified("v1beta"), From: "cosign", To: "fulcio", What: "ID token, certificate request"},
			{Line: certified("v2"), From: bundler(c), To: "fulcio", What: "ID token, certificate request"},
		},
	}
}

// issuerByProxy makes Fulcio ask Dex whenever it asks the issuer, although clients have a name for it that may lead nowhere from here. A
// Go program sends requests for other hosts than localhost to a proxy, if there is one, and a server answers requests for a proxy as it
// does others.
func issuerByProxy(c config.Config) []string {
	if c.Cluster == nil && c.Host == config.DefaultHost {
		return nil
	}
	proxy := []string{"HTTP_PROXY=" + c.URL(config.Dex)}
	if c.Cluster == nil {
		return proxy
	}
	if c.Cluster.Issuer != "" || !strings.HasPrefix(c.Issuer(), "http://") {
		return nil
	}
	// On a cluster the CT log is not on localhost either.
	log, err := url.Parse(c.CTLog())
	if err != nil {
		return nil // not reached: a host and a port make a URL
	}
	return append(proxy, "NO_PROXY="+log.Hostname())
}

// certified matches the line that Fulcio logs once it has given a certificate by a version of its API.
func certified(version string) string {
	return `^(?P<time>\S+)\t\S*DEBUG\S*\t\S+\tfinished unary call with code OK\t\{.*"grpc\.service": "dev\.sigstore\.fulcio\.` + version +
		`\.CA", "grpc\.method": "CreateSigningCertificate", "grpc\.code": "OK", .*"grpc\.time_ms": (?P<ms>[0-9.]+)\}$`
}
