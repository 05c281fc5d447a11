package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/stack"
)

// Build compiles every program of the stack: in the version that go.mod pins, or from a checkout if a setting names one.
func Build(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	c, _ := s.calledBy(ctx)
	return s.Build(ctx, c.only)
}

// Test installs and builds what the tests need and runs all tests, including those that start real stacks.
func Test(
	ctx context.Context,
	faults *bool, // repeat each fault as often as docs/numbers.md says, which takes about 20 minutes more
	cluster *bool, // also run the whole stack on a real Kubernetes, which takes about half an hour more
) error {
	if err := needs(ctx, requireAll, Build); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	// Tests run every kind of stack.
	for _, kind := range []config.Stack{config.Tutorial, config.Tiles} {
		other, err := stack.New(s.Config.Root, []string{"SIGLOCAL_STACK=" + string(kind)}, described)
		if err != nil {
			return err
		}
		if err := other.Build(ctx, ""); err != nil {
			return err
		}
	}
	// Tests have stacks of their own, so this stack's settings are left out.
	environ := build.Env(config.Without(os.Environ()), true)
	if faults != nil && *faults {
		environ = append(environ, "FAULT_ROUNDS=full")
	}
	if cluster != nil && *cluster {
		environ = append(environ, "CLUSTER_TEST=yes")
	}
	// What takes longest to compile is compiled before anything is timed: compilers would keep tests that wait for something from the
	// processors.
	if runtime.GOOS == "linux" {
		step := s.Console.Step("kubernetes")
		step.Detail("is compiled for the tests")
		rig := filepath.Join(s.Config.Root, "magefiles", "rig")
		programs, err := command.Output(ctx, command.New(ctx, rig, append(environ, "GOFLAGS="), "go", "run", ".", "-build"))
		if err != nil {
			step.Fail()
			return err
		}
		step.Done("is compiled for the tests: %s", strings.TrimSpace(programs))
	}
	listed, err := command.Output(ctx, command.New(ctx, s.Config.Root, environ, "go", "list", "./..."))
	if err != nil {
		return err
	}
	const limit = "-timeout=80m"
	units := []string{"test", "-count=1", limit}
	for _, pkg := range strings.Fields(listed) {
		if pkg != endToEnd {
			units = append(units, pkg)
		}
	}
	failures := []error{
		command.GoTest(ctx, s.Config.Root, environ, units...),
		command.GoTest(ctx, s.Config.Root, environ, "test", "-count=1", "-race", "./magefiles/internal/service"),
	}
	// The end-to-end tests wait for most of their time, for daemons and checkpoints, so that each processor can do three at a time. Tests
	// of single packages, some of which are about a fraction of a second, are not run beside them.
	return errors.Join(append(failures, command.GoTest(ctx, s.Config.Root, environ,
		"test", "-count=1", limit, fmt.Sprint("-parallel=", 3*runtime.GOMAXPROCS(0)), endToEnd))...)
}

// endToEnd is the package of the tests that start whole stacks.
const endToEnd = "sigstore-local/magefiles/e2e"
