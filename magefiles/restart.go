package main

import (
	"context"
	"path/filepath"
)

// check returns an error if components could not be started again after they are stopped: because what their targets prepare
// cannot be made, or because of their programs, ports or configuration.
func check(ctx context.Context, components ...component) error {
	s, err := load()
	if err != nil {
		return err
	}
	for _, one := range components {
		if err := needs(ctx, one.prepare...); err != nil {
			return err
		}
		if err := s.Engine.Check(one.describe(s.Config)); err != nil {
			return err
		}
	}
	return nil
}

// restartOnly restarts components, which are built from one source: it builds that source if it has changed, stops the
// components, and runs start, the target that starts them again. The services that depend on components keep running, and
// reconnect. If the build or a check fails, nothing is stopped.
func restartOnly(ctx context.Context, start any, components ...component) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	c, _ := s.calledBy(ctx)
	source, _ := s.Config.CheckedOut(filepath.Base(components[0].describe(s.Config).Program))
	c.only = source.Name
	ctx = with(ctx, c)
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if err := check(ctx, components...); err != nil {
		return err
	}
	for _, one := range components {
		if err := stop(ctx, one.describe); err != nil {
			return err
		}
	}
	c.changes = s.Changes.Load()
	return needs(with(ctx, c), start)
}
