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

// Start starts Trillian and then Rekor.
func (Rekor) Start(ctx context.Context) error { return up(ctx, startRekor, startLogSigner) }

// startRekor starts Rekor without waiting for the log signer: Rekor speaks only to the log server.
func startRekor(ctx context.Context) error {
	if err := needs(ctx, startLogServer, rekorKey); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	if _, ok := s.Config.Checkouts["tsa"]; ok {
		// A checkout builds upstream's own timestamp authority, which ends unless it gets port 2112, where Rekor serves
		// metrics.
		if err := needs(ctx, TSA.Start); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.Config.Data("rekor-attestations"), 0o700); err != nil {
		return err
	}
	// If a demo:tamper was killed, the entry that it changed in the database is still changed.
	if err := database.PutBack(ctx, s.Config); err != nil {
		return err
	}
	tree, err := database.Tree(ctx, s.Config, rekor(s.Config).Tree)
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
	return keys.Ensure(keys.ECDSA, s.Config.Key("rekor.pem"), s.Config.Key("rekor.pub"), "")
}

// Restart rebuilds Rekor if its source has changed, and restarts only Rekor.
func (Rekor) Restart(ctx context.Context) error {
	return restartOnly(ctx, Rekor.Start, rekorComponent())
}

// Stop stops Rekor.
func (Rekor) Stop(ctx context.Context) error { return stop(ctx, rekor) }

// rekorSource is the source of Rekor and of its client.
func rekorSource() *config.Source {
	return &config.Source{
		Name: "rekor", Module: "github.com/sigstore/rekor",
		Programs: map[string]string{"rekor-server": "cmd/rekor-server", "rekor-cli": "cmd/rekor-cli"},
		Restart:  "rekor:restart", Demo: "demo:rekor",
	}
}

func rekorComponent() component {
	return component{describe: rekor, start: Rekor.Start, stop: Rekor.Stop, prepare: []any{rekorKey}}
}

func rekor(c config.Config) service.Service {
	uses := []service.Use{
		{Of: "log-server", To: "add entries, get proofs"},
		{Of: "mariadb/rekor", To: "keep the search index"},
		{Of: "secrets/database-password", To: "log in there"},
	}
	if c.RekorKey() == "" {
		uses = append(uses, service.Use{Of: "keys/rekor.pem", Signs: "entry timestamps (SETs), checkpoints", Public: "keys/rekor.pub"})
	}
	if c.Cluster == nil || c.Cluster.Attestations == "" {
		uses = append(uses, service.Use{Of: "data/rekor-attestations", To: "keep attestations"})
	}
	return service.Service{
		Name:      "rekor",
		About:     "Rekor, the signature transparency log",
		Uses:      uses,
		Stacks:    []config.Stack{config.Tutorial},
		Tree:      "rekor",
		Program:   c.Program("rekor-server"),
		Packages:  []string{"github.com/sigstore/rekor/cmd/rekor-server"},
		Source:    rekorSource(),
		Args:      []string{"serve", "--config=" + c.ConfigFile("rekor.yaml")},
		Env:       threads(c),
		Templates: []string{"rekor.yaml"},
		Listens:   []config.Port{config.Rekor},
		Address:   c.URL(config.Rekor),
		// Unlike /ping, this asks Trillian for the tree's root.
		Ready: service.Answers(c.URL(config.Rekor) + "/api/v1/log"),
		Passes: []service.Passage{
			{Line: entryInRekor(`"userAgent":"rekor-cli/`), From: "rekor-cli", To: "rekor", What: "entry"},
			{Line: entryInRekor(""), From: "cosign", To: "rekor", What: "entry"},
		},
	}
}

// entryInRekor matches the line that Rekor logs once it has taken an entry of the client that has said user, part of the JSON, of itself.
func entryInRekor(user string) string {
	return `^\{"severity":"INFO","time":"(?P<time>[^"]+)","caller":"[^"]+","message":"completed request","operation":\{"id":"[^"]*"\},` +
		`"httpRequest":\{"requestMethod":"POST","requestUrl":"[^"?]*/api/v1/log/entries","requestSize":"\d+","status":201,.*` + user + `.*"latency":"(?P<took>[^"]+)"`
}
