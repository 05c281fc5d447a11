package main

import (
	"context"
	"fmt"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
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
func (TUF) Restart(ctx context.Context) error { return restartOnly(ctx, TUF.Start, tufComponent()) }

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
	said, err := tufProgram(ctx, s.Config, "rotate")
	fmt.Print(said)
	return err
}

// tufRepository writes the trusted root, the signing configuration and the repository that holds both. They name keys and
// addresses, so all keys are made first, and no service has to run.
func tufRepository(ctx context.Context) error {
	if err := needs(ctx, Build, caRoot, ctKeys, rekorKey, rekorTilesKey, tsaCertificates); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if err := service.Configure(s.Config, "tuf.json", nil); err != nil {
		return err
	}
	_, err = tufProgram(ctx, s.Config, "publish")
	return err
}

// tufProgram runs the program tuf.
func tufProgram(ctx context.Context, c config.Config, action string) (string, error) {
	return command.OwnOutput(ctx, command.New(ctx, c.Home(), []string{"HOME=" + c.Home()}, c.Program("tuf"), action, c.ConfigFile("tuf.json")))
}

func tufComponent() component {
	return component{describe: tuf, start: TUF.Start, stop: TUF.Stop, prepare: []any{tufRepository}}
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
		Program:  c.Program("tuf"),
		Packages: []string{project.Module + "/magefiles/cmd/tuf"},
		Module:   "github.com/theupdateframework/go-tuf/v2",
		Args:     []string{"serve", c.ConfigFile("tuf.json")},
		Listens:  []config.Port{config.TUF},
		Address:  c.TUFMirror(),
		Ready:    service.Answers(c.URL(config.TUF) + "/timestamp.json"),
	}
}
