package pins

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/console"
)

// Show prints the pinned and the newest version of each module, in the form table or json. If a newest version is not known, it
// prints the reason to out.
func (p Pins) Show(ctx context.Context, form string, out *console.Console) error {
	all, err := p.List(ctx)
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
			out.Printf("\nThe newest release of %s is not known: %s", pin.Module, pin.Error)
		}
	}
	return nil
}

// Bump moves the pin of a module, named as NAME or NAME@VERSION, and keeps that if all builds and the end-to-end tests pass
// in the environment environ.
func (p Pins) Bump(ctx context.Context, module string, environ []string) error {
	name, version, _ := strings.Cut(module, "@")
	path, err := p.Find(name)
	if err != nil {
		return err
	}
	return p.move(ctx, path, version, os.Stderr, func(ctx context.Context) error {
		// These run in processes of their own, which are compiled with the versions that are pinned now.
		for _, args := range [][]string{{"tool", "mage", "build"}, {"test", "-count=1", "-timeout=80m", "./magefiles/e2e"}} {
			fmt.Fprintln(os.Stderr, "go", strings.Join(args, " "))
			if err := command.GoTest(ctx, p.Root, build.Env(environ, true), args...); err != nil {
				return err
			}
		}
		return nil
	})
}
