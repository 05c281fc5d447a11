package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// TUF is the repository from which clients take what they trust: the trusted root and the signing configuration.
type TUF mg.Namespace

// Start serves the repository, once it holds the keys and addresses that the stack now has.
func (TUF) Start(ctx context.Context) error {
	if err := needs(ctx, tufRepository); err != nil {
		return err
	}
	return start(ctx, tuf, nil)
}

// Restart builds what has changed of the TUF repository's server and restarts that alone.
func (TUF) Restart(ctx context.Context) error { return restartOnly(ctx, TUF.Start, tuf) }

// Stop ends the repository's server.
func (TUF) Stop(ctx context.Context) error { return stop(ctx, tuf) }

// Rotate gives the repository a new root with new keys, which clients that know the old one follow.
func (TUF) Rotate(ctx context.Context) error {
	if err := needs(ctx, tufRepository); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	said, err := s.tuf(ctx, "rotate")
	fmt.Print(said)
	return err
}

// tufRepository writes what clients trust, and the repository that holds it. What it says is about keys, which are all
// made for it, and not about what runs.
func tufRepository(ctx context.Context) error {
	if err := needs(ctx, Build, caRoot, ctKeys, rekorKey, rekorTilesKey, tsaCertificates); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if err := service.Configure(s.config, "tuf.json", nil); err != nil {
		return err
	}
	_, err = s.tuf(ctx, "publish")
	return err
}

// tuf runs the program tuf.
func (s *stack) tuf(ctx context.Context, action string) (string, error) {
	c := s.config
	out, err := command.Output(ctx, command.New(ctx, c.Home(), []string{"HOME=" + c.Home()}, c.Program("tuf"), action, c.ConfigFile("tuf.json")))
	if failure := (*command.Error)(nil); errors.As(err, &failure) && failure.Output != "" {
		// What this project's own program says needs no frame.
		err = errors.New(strings.TrimSpace(failure.Output))
	}
	return out, err
}

func tuf(c config.Config) service.Service {
	return service.Service{
		Name:  "tuf",
		About: "a TUF repository with what clients trust",
		Uses: []service.Use{
			{Of: "keys/tuf", Signs: "root, targets, snapshot and timestamp", Public: "trust/root.json"},
			{Of: "data/tuf", To: "keep the repository"},
			{Of: "trust", To: "write the same as files"},
		},
		Publishes: []string{
			"dex", "fulcio", "ct", "rekor", "rekor-tiles", "tsa",
			"keys/ca-root.pem", "keys/ctfe.pub", "keys/rekor.pub", "keys/rekor-tiles.pub", "keys/tsa/chain.pem",
		},
		Program: c.Program("tuf"),
		Module:  "github.com/theupdateframework/go-tuf/v2",
		Args:    []string{"serve", c.ConfigFile("tuf.json")},
		Listens: []config.Port{config.TUF},
		Address: c.TUFMirror(),
		Ready:   service.Answers(c.URL(config.TUF) + "/timestamp.json"),
	}
}
