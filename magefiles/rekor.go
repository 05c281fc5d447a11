package main

import (
	"context"
	"os"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/service"
)

// Rekor is the signature transparency log.
type Rekor mg.Namespace

// Start runs Rekor once Trillian is up.
func (Rekor) Start(ctx context.Context) error { return needs(ctx, startRekor, startLogSigner) }

// startRekor does not wait for the log signer, which Rekor never speaks to.
func startRekor(ctx context.Context) error {
	if err := needs(ctx, startLogServer, rekorKey); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	if _, ok := s.config.Checkouts["tsa"]; ok {
		// Upstream's own program wants the port on which Rekor serves its metrics.
		if err := needs(ctx, TSA.Start); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.config.Data("rekor-attestations"), 0o700); err != nil {
		return err
	}
	// If demo:tamper was killed.
	if err := database.PutBack(ctx, s.config); err != nil {
		return err
	}
	tree, err := database.Tree(ctx, s.config, "rekor")
	if err != nil {
		return err
	}
	return start(ctx, rekor, service.Values{"Tree": tree})
}

// rekorKey makes the key with which the log signs.
func rekorKey(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	return keys.Ensure(keys.ECDSA, s.config.Key("rekor.pem"), s.config.Key("rekor.pub"), "")
}

// Restart builds what has changed of Rekor and restarts that alone.
func (Rekor) Restart(ctx context.Context) error { return restartOnly(ctx, Rekor.Start, rekor) }

// Stop ends Rekor.
func (Rekor) Stop(ctx context.Context) error { return stop(ctx, rekor) }

func rekor(c config.Config) service.Service {
	return service.Service{
		Name:  "rekor",
		About: "Rekor, the signature transparency log",
		Uses: []service.Use{
			{Of: "log-server", To: "add entries, get proofs"},
			{Of: "mariadb/rekor", To: "keep the search index"},
			{Of: "secrets/database-password", To: "log in there"},
			{Of: "keys/rekor.pem", Signs: "entry timestamps (SETs), checkpoints", Public: "keys/rekor.pub"},
			{Of: "data/rekor-attestations", To: "keep attestations"},
		},
		Program:   c.Program("rekor-server"),
		Args:      []string{"serve", "--config=" + c.ConfigFile("rekor.yaml")},
		Env:       threads(c),
		Templates: []string{"rekor.yaml"},
		Listens:   []config.Port{config.Rekor},
		Address:   c.URL(config.Rekor),
		// Unlike /ping, this asks Trillian for the tree's root.
		Ready: service.Answers(c.URL(config.Rekor) + "/api/v1/log"),
	}
}
