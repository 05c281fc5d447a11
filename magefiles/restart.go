package main

import (
	"context"
	"path/filepath"
)

// check is an error if something would keep components from being started again after they are ended: what their targets
// prepare, their programs, ports or configuration.
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

// restartOnly builds the source of components, which they share, if it has changed, ends them, and runs start, the target
// that starts them again. Services that depend on them go on running, and reconnect. If the build or a check fails, nothing
// is ended.
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
