package main

import (
	"context"
	"path/filepath"
)

// check finds what would keep components from being started again, before they are ended: what their targets prepare, their
// programs, ports and configuration.
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

// restartOnly builds what has changed of components, which are of one source, ends them, and runs start, which starts them
// again. What stands on them goes on, and finds them again. If anything is wrong before, what runs is left alone.
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
