package main

import (
	"context"
	"errors"
	"slices"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/exitcode"
)

// Exec starts the stack if need be, runs a command with the stack's environment variables, stops the services that it started,
// and ends with the command's exit code.
func Exec(
	ctx context.Context,
	command string, // a command line for sh, such as 'npm test'
) error {
	s, err := load()
	if err != nil {
		return err
	}
	if command == "" {
		return errors.New(`the command is empty; accepted is a command line for sh, such as 'npm test'`)
	}
	// While this process holds the lock, no other process is in the middle of starting services. Those would be missing from
	// the list of running services, and be stopped at the end.
	if err := s.Hold(ctx); err != nil {
		return err
	}
	before, err := s.Running()
	if err != nil {
		return err
	}
	failed := needs(ctx, Start)
	if failed == nil {
		failed = s.Shell(ctx, command)
	}
	// The services are stopped even if Ctrl-C has ended ctx.
	err = stopAllBut(context.WithoutCancel(ctx), before)
	switch {
	case err == nil:
		return failed
	case failed == nil:
		return err
	}
	return exitcode.New(mg.ExitStatus(failed), "%w\n%w", failed, err)
}

// stopAllBut stops all services except those whose names are in kept.
func stopAllBut(ctx context.Context, kept []string) error {
	s, err := load()
	if err != nil {
		return err
	}
	var stops []any
	for _, component := range components() {
		if !slices.Contains(kept, component.describe(s.Config).Name) {
			stops = append(stops, component.stop)
		}
	}
	return needs(ctx, stops...)
}
