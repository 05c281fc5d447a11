package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/develop"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// component is a service with its targets, in the form that mg.CtxDeps takes.
type component struct {
	describe    func(config.Config) service.Service
	start, stop any
	prepare     []any // targets that make or check its keys and what it needs of the system
}

// described describes the services and clients of the stack. It is a variable of the package because mage calls targets without
// a parameter that could pass it to them. The init function of stack.go sets it, and nothing changes it later. An initial value
// here would be an initialization cycle to Go: the components in that value refer to targets, and these refer to described.
var described stack.Descriptions

// shared is what the targets of one mage process share.
type shared struct{ *stack.Stack }

// load reads the configuration, once for all targets of this process.
var load = sync.OnceValues(func() (*shared, error) {
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	root, err := project.Root(wd)
	if err != nil {
		return nil, err
	}
	s, err := stack.New(root, os.Environ(), described)
	if err != nil {
		return nil, err
	}
	interruptOnTerm()
	return &shared{s}, nil
})

// interruptOnTerm turns SIGTERM and SIGHUP into SIGINT, the one signal on which mage lets its targets clean up before it
// ends.
func interruptOnTerm() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
	}()
}

// acquire is load for a target that changes the stack: it also takes the stack's lock, so that no other process changes the
// stack until this process ends or releases the lock.
func acquire(ctx context.Context) (*shared, error) {
	s, err := load()
	if err != nil {
		return nil, err
	}
	return s, s.Hold(ctx)
}

// call is what a target that the user has called passes on to its dependencies, in the context.
type call struct {
	changes int64  // stack.Stack.Changes when the target began
	only    string // the only source whose checkout is built; all checkouts if empty
	debug   string // the service that is started under Delve; none if empty
	starts  *starts
}

// starts counts the services that the dependencies of a call have started or found running.
type starts struct {
	mu      sync.Mutex
	started int
	running []string // the services that ran already
}

type callKey struct{}

// calledBy returns the call that ctx carries. If ctx carries none, then the user has called the current target itself: first is
// true, and c is a new call.
func (s *shared) calledBy(ctx context.Context) (c call, first bool) {
	if c, ok := ctx.Value(callKey{}).(call); ok {
		return c, false
	}
	return call{changes: s.Changes.Load(), starts: &starts{}}, true
}

// with returns a copy of ctx that carries c.
func with(ctx context.Context, c call) context.Context { return context.WithValue(ctx, callKey{}, c) }

// needs runs the targets that a target depends on, as mg.CtxDeps does, but returns an error where mg.CtxDeps panics. With a panic
// inside a dependency, mage's sync.Once would count that dependency as done, and the next target that needs it would go on. The
// error has each line once, however many dependencies failed with the same line.
func needs(ctx context.Context, targets ...any) (err error) {
	defer func() {
		failed := recover()
		if failed == nil {
			return
		}
		failure, ok := failed.(error)
		if !ok {
			panic(failed)
		}
		var lines []string
		for _, line := range strings.Split(failure.Error(), "\n") {
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
		err = mg.Fatal(mg.ExitStatus(failure), strings.Join(lines, "\n"))
	}()
	s, err := load()
	if err != nil {
		return err
	}
	c, _ := s.calledBy(ctx)
	// A slice of its own: targets can be a slice that the caller goes on to use.
	dependencies := make([]any, len(targets))
	for i, target := range targets {
		dependencies[i] = dependency{mg.F(target), c}
	}
	mg.CtxDeps(with(ctx, c), dependencies...)
	return nil
}

// dependency is a function that a target depends on. Mage runs dependencies with the same ID only once in a process. The ID here
// contains how often the stack had changed when the user's target began, so that `start stop start` starts the services twice.
type dependency struct {
	mg.Fn
	call call
}

// ID names the function and what the call passes on to it.
func (d dependency) ID() string {
	return fmt.Sprint(d.Fn.ID(), d.call.changes, d.call.only, d.call.debug)
}

// up is needs for a target whose purpose is to start services. If the user has called that target and all its services ran
// already, up prints that.
func up(ctx context.Context, targets ...any) error {
	s, err := load()
	if err != nil {
		return err
	}
	c, first := s.calledBy(ctx)
	if err := needs(with(ctx, c), targets...); err != nil {
		return err
	}
	switch running := c.starts.running; {
	case !first || c.starts.started > 0:
	case len(running) > 0:
		s.Console.Printf("Already running: %s.", strings.Join(running, ", "))
	default:
		// An earlier target of this process has found the services running, so mage has not run their dependencies again.
		s.Console.Printf("Already running.")
	}
	return nil
}

// start starts one service. Its target has started what the service depends on.
func start(ctx context.Context, describe func(config.Config) service.Service, values service.Values) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	one := describe(s.Config)
	if err := s.has(one); err != nil {
		return err
	}
	if !one.Ready.Database {
		if err := cluster.Moved(s.Config); err != nil {
			return err
		}
	}
	if err := statedir.Remember(s.Config); err != nil {
		return err
	}
	c, first := s.calledBy(ctx)
	one.From = build.From(s.Config, one.Program)
	if one.Name == c.debug {
		one = develop.UnderDelve(ctx, s.Stack, one)
	}
	started, err := s.Engine.Start(ctx, one, values)
	c.starts.mu.Lock()
	defer c.starts.mu.Unlock()
	switch {
	case started:
		s.Changes.Add(1)
		c.starts.started++
	case err == nil && first:
		s.Console.Printf("%s already runs at %s.", one.Name, one.Address)
	case err == nil:
		c.starts.running = append(c.starts.running, one.Name)
	}
	return err
}

// has is an error if a service is not part of the stack.
func (s *shared) has(one service.Service) error {
	if s.Config.Stack.Includes(one.Stacks...) {
		return nil
	}
	return fmt.Errorf("%s is not part of the stack %q: SIGLOCAL_STACK=all adds it", one.Name, s.Config.Stack)
}

// stop ends one service. Its target has ended the services that depend on it.
func stop(ctx context.Context, describe func(config.Config) service.Service) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	s.Changes.Add(1)
	return s.Engine.Stop(ctx, describe(s.Config))
}

// requireDatabase and requireAll install all that the system lacks for a target's services at once, before the first of them
// is started.
func requireDatabase(ctx context.Context) error {
	return requireToRun(ctx, platform.CCompiler, platform.MariaDB)
}

func requireAll(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	return requireToRun(ctx, s.Needs()...)
}

func requireToRun(ctx context.Context, needs ...platform.Need) error {
	s, err := load()
	if err != nil {
		return err
	}
	return s.RequireToRun(ctx, needs...)
}
