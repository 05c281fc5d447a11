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

// Versions shows what is pinned beside what is newest.
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

// Bump moves the pin of one module, tidies, builds, and runs the end-to-end tests; if any fails, the pin stays.
func Bump(
	ctx context.Context,
	module string, // a module as versions lists it, or the last part of its path, with @ and a version if not the newest
) error {
	s, err := load()
	if err != nil {
		return err
	}
	return pinned(s.Config).Bump(ctx, module, config.Without(os.Environ()))
}
