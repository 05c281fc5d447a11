package main

import (
	"context"
	"errors"
	"slices"
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
	// What another process is about to start is not this one's to stop.
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
	// On Ctrl-C too.
	if err := stopAllBut(context.WithoutCancel(ctx), before); err != nil {
		return errors.Join(failed, err)
	}
	return failed
}

// stopAllBut ends the services that are not named.
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
