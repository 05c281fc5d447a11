package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"sigstore-local/magefiles/internal/foreground"
)

// Run starts the stack, or what SIGLOCAL_SERVICES names, and stays: it starts again what dies, and stops the stack when it is told to
// end, by Ctrl-C or SIGTERM. It is for containers and service managers.
func Run(
	ctx context.Context,
	quiet *bool, // do not print what the services write into their logs
	unit *bool, // start nothing, and print a unit for systemd that runs this
) error {
	s, err := load()
	if err != nil {
		return err
	}
	if unit != nil && *unit {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		fmt.Print(foreground.Unit(s.Config, append(slices.Clone(s.Config.Settings), foreground.Path()), program, "run"))
		return nil
	}
	if err := needs(ctx, Start); err != nil {
		return err
	}
	// Other processes can change the stack meanwhile.
	if err := s.Release(); err != nil {
		return err
	}
	err = foreground.Keep(ctx, s.Stack, quiet == nil || !*quiet, func(ctx context.Context, name string) error {
		at := slices.IndexFunc(components(), func(c component) bool { return c.describe(s.Config).Name == name })
		if err := s.Hold(ctx); err != nil {
			return err
		}
		defer s.Release()
		s.Changes.Add(1)
		return needs(ctx, components()[at].start)
	})
	if err != nil {
		return err
	}
	ending := context.WithoutCancel(ctx)
	was := s.Status(ending)
	s.Changes.Add(1)
	if err := needs(ending, Stop); err != nil {
		return err
	}
	return foreground.End(was)
}
