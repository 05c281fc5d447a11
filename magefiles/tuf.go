package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
)

// TUF is the repository from which clients get the trusted root, which says what to trust, and the signing configuration, which
// says where the services are.
type TUF mg.Namespace

// Start updates the repository to the stack's current keys and addresses, and then serves it.
func (TUF) Start(ctx context.Context) error {
	if err := needs(ctx, tufRepository); err != nil {
		return err
	}
	return start(ctx, tuf, nil)
}

// Restart rebuilds the repository's server if its source has changed, updates the repository, and restarts only the server.
func (TUF) Restart(ctx context.Context) error { return restartOnly(ctx, TUF.Start, tufComponent()) }

// Stop stops the repository's server.
func (TUF) Stop(ctx context.Context) error { return stop(ctx, tuf) }

// Rotate gives the repository a new root with new keys. It is signed with the old keys and the new ones, so clients that trust
// the old root accept it.
func (TUF) Rotate(ctx context.Context) error {
	if err := needs(ctx, tufRepository); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	said, err := tufProgram(ctx, s.Config, "rotate", s.Config.ConfigFile("tuf.json"))
	fmt.Print(said)
	return err
}

// tufRepository writes the trusted root, the signing configuration and the repository that holds both. These contain keys and
// addresses of services: all keys are made first, and no service has to run.
func tufRepository(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	known, err := s.Config.Remembered()
	if err != nil {
		return err
	}
	targets := []any{Build, caRoot}
	if known.Includes(config.Tutorial) {
		targets = append(targets, ctKeys, rekorKey)
	}
	if known.Includes(config.Tiles) {
		targets = append(targets, tesseractKey, rekorTilesKey, tsaCertificates)
	}
	if err := needs(ctx, targets...); err != nil {
		return err
	}
	if err := service.Configure(s.Config, "tuf.json", nil); err != nil {
		return err
	}
	index, err := client.Index(s.Config)
	if err != nil {
		return err
	}
	// On a disk that is full, an index that has not changed is not written again.
	if there, err := os.ReadFile(s.Config.Trust("index.json")); err != nil || !bytes.Equal(there, index) {
		if err := renameio.WriteFile(s.Config.Trust("index.json"), index, 0o644); err != nil {
			return err
		}
	}
	_, err = tufProgram(ctx, s.Config, tuf(s.Config).First...)
	return err
}

// tufProgram runs the program tuf.
func tufProgram(ctx context.Context, c config.Config, args ...string) (string, error) {
	return command.OwnOutput(ctx, command.New(ctx, c.Home(), []string{"HOME=" + c.Home()}, c.Program("tuf"), args...))
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
		Publishes: published(c),
		Stacks:    []config.Stack{config.Tiles},
		Program:   c.Program("tuf"),
		Packages:  []string{project.Module + "/magefiles/cmd/tuf"},
		Module:    "github.com/theupdateframework/go-tuf/v2",
		Single:    "it signs the repository in its folder anew whenever it is started",
		First:     []string{"publish", c.ConfigFile("tuf.json")},
		Args:      []string{"serve", c.ConfigFile("tuf.json")},
		Listens:   []config.Port{config.TUF},
		Address:   c.TUFMirror(),
		Ready:     service.Answers(c.URL(config.TUF) + "/timestamp.json"),
	}
}

// published are the services and keys that the trusted root and the signing configuration of the stack name.
func published(c config.Config) []string {
	names := []string{"dex", "fulcio", "keys/ca-root.pem"}
	if c.Stack.Includes(config.Tutorial) {
		names = append(names, "ct", "rekor", "keys/ctfe.pub", "keys/rekor.pub")
	}
	if c.Stack.Includes(config.Tiles) {
		names = append(names, "tiles", "tsa", "keys/tesseract.pub", "keys/rekor-tiles.pub", "keys/tsa/chain.pem")
	}
	return names
}
