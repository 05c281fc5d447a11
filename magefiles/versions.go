package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/pins"
)

func (s *stack) pins() pins.Pins {
	return pins.Pins{
		Root: s.config.Root, Environ: os.Environ(),
		// Dex's releases are v2 without /v2 in its module path.
		Repositories: map[string]string{"github.com/dexidp/dex": "https://github.com/dexidp/dex"},
	}
}

// Versions shows what is pinned beside what is newest.
func Versions(
	ctx context.Context,
	o *string, // the form of the output: table or json
) error {
	form, err := choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	all, err := s.pins().List(ctx)
	if err != nil {
		return err
	}
	if form == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "MODULE\tPINNED\tNEWEST")
	for _, pin := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\n", pin.Module, pin.Version(), pin.Newest)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, pin := range all {
		if pin.Error != "" {
			s.console.Printf("\nThe newest release of %s is not known: %s", pin.Module, pin.Error)
		}
	}
	return nil
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
	name, version, _ := strings.Cut(module, "@")
	path, err := s.pins().Find(name)
	if err != nil {
		return err
	}
	return s.pins().Move(ctx, path, version, os.Stderr, func(ctx context.Context) error {
		// In processes of their own, which are compiled with the versions that now are pinned.
		fmt.Fprintln(os.Stderr, "go tool mage build")
		if err := s.shown(ctx, testEnviron(), "tool", "mage", "build"); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "go test ./magefiles/e2e")
		return s.shown(ctx, build.Env(testEnviron(), true), "test", "-count=1", "-timeout=80m", "./magefiles/e2e")
	})
}
