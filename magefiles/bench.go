package main

import (
	"context"

	"sigstore-local/magefiles/internal/bench"
	"sigstore-local/magefiles/internal/stack"
)

// Bench measures what the stack costs, on throwaway stacks beside yours, and prints a table.
func Bench(
	ctx context.Context,
	o *string, // the form of the output: table or json
	only *string, // what to measure, with commas between: start, stop, build, demo, keyless, upload, growth, idle, commands, tiles-start, tiles-keyless, tiles-upload, tiles-growth, page, handout; if not given, all but build, of which each run takes half an hour
	runs *int, // how often each figure is measured; 5 if not given
	entries *int, // how many entries a log is filled with for growth, tiles-growth and page; 10000 if not given
) error {
	form, err := stack.Choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	options, err := bench.Parse(only, runs, entries)
	if err != nil {
		return err
	}
	if err := needs(ctx, requireAll, Build); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	// Only throwaway stacks are changed from here on. They are in the state folder, which acquire has made.
	if err := s.Release(); err != nil {
		return err
	}
	return bench.Run(ctx, s.Stack, options, form)
}
