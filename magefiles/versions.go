package main

import (
	"context"
	"os"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/pins"
	"sigstore-local/magefiles/internal/stack"
)

// pinned reads and moves the versions that go.mod pins.
func pinned(c config.Config) pins.Pins {
	return pins.Pins{
		Root: c.Root, Environ: os.Environ(),
		// Dex's releases are v2 without /v2 in its module path.
		Repositories: map[string]string{"github.com/dexidp/dex": "https://github.com/dexidp/dex"},
	}
}

// Versions shows the pinned version of each module beside its newest version.
func Versions(
	ctx context.Context,
	o *string, // the form of the output: table or json
) error {
	form, err := stack.Choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	return pinned(s.Config).Show(ctx, form, s.Console)
}

// Bump pins another version of a module, tidies go.mod, builds, and runs the end-to-end tests. If any of these fails, it puts
// go.mod and go.sum back as they were.
func Bump(
	ctx context.Context,
	module string, // a module as versions lists it, or the last part of its path; with @VERSION to pin another version than the newest
) error {
	s, err := load()
	if err != nil {
		return err
	}
	return pinned(s.Config).Bump(ctx, module, config.Without(os.Environ()))
}
