package main

import (
	"context"
	"errors"
	"slices"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/exitcode"
)

// Exec starts the stack if need be, runs a command with its environment, stops what it started, and ends as the command.
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
	// With the lock, nothing is being started by another process, whose services must not be stopped at the end.
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
	// Ctrl-C has ended ctx, and the services are stopped all the same.
	err = stopAllBut(context.WithoutCancel(ctx), before)
	switch {
	case err == nil:
		return failed
	case failed == nil:
		return err
	}
	return exitcode.New(mg.ExitStatus(failed), "%w\n%w", failed, err)
}

// stopAllBut ends all services but those named in kept.
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
