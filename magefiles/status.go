package main

import (
	"context"
	"fmt"

	"sigstore-local/magefiles/internal/stack"
)

// Status shows the state of every service. Its exit code is 0 if all services that were started are ready, 3 if nothing runs, and
// 4 if a service crashed or does not answer, or with -all if one that a start would start does not run.
func Status(
	ctx context.Context,
	o *string, // the form of the output: table or json
	watch *bool, // show it again and again, until Ctrl-C
	all *bool, // exit code 4 unless all services run that start starts
) error {
	form, err := stack.Choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	return s.ShowStatus(ctx, form, watch != nil && *watch, all != nil && *all)
}

// Logs prints the log of a service, or of all; each line is marked with its service when there are several.
func Logs(
	ctx context.Context,
	service string, // a service, as status lists them, the name of a source, such as trillian, or all
	f *bool, // follow the log: print what is added to it too, until Ctrl-C
	n *int, // how many of the last lines to print first; 100 if not given
) error {
	lines := 100
	if n != nil {
		lines = *n
	}
	if lines < 0 {
		return fmt.Errorf("-n is %d; accepted is a number of lines from 0", lines)
	}
	s, err := load()
	if err != nil {
		return err
	}
	chosen, err := s.Named(service)
	if err != nil {
		return err
	}
	return s.ShowLogs(ctx, chosen, lines, f != nil && *f)
}
