package main

import (
	"context"
	"slices"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/develop"
	"sigstore-local/magefiles/internal/service"
)

// Debug restarts a service under Delve, unoptimized, and says how to attach; the service's restart ends that.
func Debug(
	ctx context.Context,
	name string, // a service, as status lists them, but mariadb; or the name of its source, if no other service is of that
) error {
	s, err := load()
	if err != nil {
		return err
	}
	one, err := develop.Debuggable(s.Stack, name)
	if err != nil {
		return err
	}
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if err := develop.Build(ctx, s.Stack, one); err != nil {
		return err
	}
	// No other process may start the service between its end and its start under Delve.
	if err := s.Hold(ctx); err != nil {
		return err
	}
	at := slices.IndexFunc(components(), func(c component) bool { return c.describe(s.Config).Name == one.Name })
	chosen := components()[at]
	if err := check(ctx, chosen); err != nil {
		return err
	}
	if !s.Engine.UnderDelve(one) {
		if err := service.PortFree(s.Config, config.Debug); err != nil {
			return err
		}
	}
	if err := stop(ctx, chosen.describe); err != nil {
		return err
	}
	c, _ := s.calledBy(ctx)
	c.debug = one.Name
	if err := needs(with(ctx, c), chosen.start); err != nil {
		return err
	}
	develop.SayHow(s.Config, one.Name)
	return nil
}
