package main

import (
	"context"
	"slices"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/develop"
	"sigstore-local/magefiles/internal/service"
)

// Debug builds a service without optimization, restarts it under the debugger Delve, and says how to attach. To run the service
// without Delve again, restart it.
func Debug(
	ctx context.Context,
	name string, // a service, as status lists them, except mariadb; or the name of a source from which only one service is built
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
	// The lock keeps other processes from starting the service after it is stopped and before it is started under Delve.
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
