package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// Logs prints the log of a service, or of all; each line is marked with its service when there are several.
func Logs(
	ctx context.Context,
	service string, // a service, as status lists them, or all
	f *bool, // go on with what is written from now on, until Ctrl-C
	n *int, // how many of the last lines to begin with; 100 if not given
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
	names, err := serviceNames(s.config, service)
	if err != nil {
		return err
	}
	return printLogs(ctx, s.config, names, lines, f != nil && *f)
}

func printLogs(ctx context.Context, c config.Config, names []string, lines int, follow bool) error {
	followers := make([]*service.LogReader, len(names))
	width := 0
	for i, name := range names {
		followers[i] = service.NewLogReader(c.Log(name), lines)
		defer followers[i].Close()
		width = max(width, len(name))
	}
	return service.ReadLogs(ctx, followers, follow, func(i int, line string) error {
		mark := ""
		if len(names) > 1 {
			mark = fmt.Sprintf("%-*s | ", width, names[i])
		}
		_, err := fmt.Fprintln(os.Stdout, mark+line)
		return err
	})
}

// serviceNames are those that a target's argument means: one service, or "all".
func serviceNames(c config.Config, argument string) ([]string, error) {
	var names []string
	for _, s := range services(c) {
		names = append(names, s.Name)
	}
	if argument == "all" {
		return names, nil
	}
	if !slices.Contains(names, argument) {
		return nil, fmt.Errorf("%q is not a service; accepted are all, %s", argument, strings.Join(names, ", "))
	}
	return []string{argument}, nil
}
