package main

import (
	"context"
	"path/filepath"
	"slices"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// Restart ends a service, and those that cannot go on without it, and starts them again.
func Restart(
	ctx context.Context,
	name string, // a service, as status lists them, or all
) error {
	s, err := load()
	if err != nil {
		return err
	}
	names, err := serviceNames(s.config, name)
	if err != nil {
		return err
	}
	// If that fails, what runs is left alone.
	if err := needs(ctx, Build); err != nil {
		return err
	}
	// Nobody may start or stop anything in between.
	if err := s.hold(ctx); err != nil {
		return err
	}
	before, err := s.running()
	if err != nil {
		return err
	}
	// With MariaDB it is Dex that ends too. Without, Dex's start finds what is wrong with them.
	if slices.Contains(before, "mariadb") && slices.Contains(before, "dex") && (slices.Contains(names, "mariadb") || slices.Contains(names, "dex")) {
		if err := s.checkConnectors(ctx); err != nil {
			return err
		}
	}
	var stops, starts []any
	for _, component := range components() {
		if slices.Contains(names, component.describe(s.config).Name) {
			stops, starts = append(stops, component.stop), append(starts, component.start)
		}
	}
	if err := needs(ctx, stops...); err != nil {
		return err
	}
	after, err := s.running()
	if err != nil {
		return err
	}
	for _, component := range components() {
		name := component.describe(s.config).Name
		if slices.Contains(before, name) && !slices.Contains(after, name) {
			starts = append(starts, component.start)
		}
	}
	return needs(ctx, starts...)
}

// running are the names of the services that run.
func (s *stack) running() ([]string, error) {
	var names []string
	for _, one := range services(s.config) {
		runs, err := s.engine.Runs(one)
		if err != nil {
			return nil, err
		}
		if runs {
			names = append(names, one.Name)
		}
	}
	return names, nil
}

// restartOnly builds what has changed of a component, ends its services, and runs start, which starts them again. What
// stands on them goes on, and finds them again. If the build fails, what runs is left alone.
func restartOnly(ctx context.Context, start any, describe ...func(config.Config) service.Service) error {
	s, err := load()
	if err != nil {
		return err
	}
	component, _ := s.config.CheckedOut(filepath.Base(describe[0](s.config).Program))
	s.restarted = component.Name
	if err := s.build(ctx, s.restarted); err != nil {
		return err
	}
	for _, one := range describe {
		if err := stop(ctx, one); err != nil {
			return err
		}
	}
	return needs(ctx, start)
}
