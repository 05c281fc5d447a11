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
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/develop"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// component is a service with its targets, in the form that mg.CtxDeps takes.
type component struct {
	describe    func(config.Config) service.Service
	start, stop any
	prepare     []any // what makes or checks its keys, and what it stands on of the system
}

// described is what the stack consists of. The contents, stack.go, say so when the process begins, since mage calls targets with
// nothing that could be handed down to them; nobody changes it later.
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

// interruptOnTerm makes of a SIGTERM or SIGHUP the SIGINT on which mage ends its targets in good order.
func interruptOnTerm() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
	}()
}

// acquire is load for a target that changes the stack: no other process does so until this one has ended, or has let it.
func acquire(ctx context.Context) (*shared, error) {
	s, err := load()
	if err != nil {
		return nil, err
	}
	return s, s.Hold(ctx)
}

// call is what a target that the user has called hands down, with the context, to those that it depends on.
type call struct {
	changes int64  // stack.Stack.Changes when it began
	only    string // the source whose checkout alone is built; all if empty
	debug   string // the service that is started under Delve; none if empty
	starts  *starts
}

// starts counts what became of starts.
type starts struct {
	mu      sync.Mutex
	started int
	running []string // the services that ran already
}

type callKey struct{}

// calledBy is the call of a target, and whether the target is the one that the user has called.
func (s *shared) calledBy(ctx context.Context) (c call, first bool) {
	if c, ok := ctx.Value(callKey{}).(call); ok {
		return c, false
	}
	return call{changes: s.Changes.Load(), starts: &starts{}}, true
}

// with is ctx with a call to hand down.
func with(ctx context.Context, c call) context.Context { return context.WithValue(ctx, callKey{}, c) }

// needs is mg.CtxDeps returning an error: after a panic, mage's Once lets the next caller take the dependency for done. A
// message that reaches a target on several ways is said once.
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
	dependencies := make([]any, len(targets))
	for i, target := range targets {
		dependencies[i] = dependency{mg.F(target), c}
	}
	mg.CtxDeps(with(ctx, c), dependencies...)
	return nil
}

// dependency is what a target depends on. Mage runs each once in a process; this one is run once for each state of the
// stack from which a target begins, and each way to run it, so that `start stop start` starts twice.
type dependency struct {
	mg.Fn
	call call
}

// ID tells the dependency from the same one at another time, or run in another way.
func (d dependency) ID() string {
	return fmt.Sprint(d.Fn.ID(), d.call.changes, d.call.only, d.call.debug)
}

// up is needs for a target that the user calls so that services run. If all of them did already, it says so.
func up(ctx context.Context, targets ...any) error {
	s, err := load()
	if err != nil {
		return err
	}
	c, first := s.calledBy(ctx)
	if err := needs(with(ctx, c), targets...); err != nil {
		return err
	}
	if running := c.starts.running; first && c.starts.started == 0 && len(running) > 0 {
		s.Console.Printf("Already running: %s.", strings.Join(running, ", "))
	}
	return nil
}

// start runs one service, once what its target depends on runs.
func start(ctx context.Context, describe func(config.Config) service.Service, values service.Values) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	c, first := s.calledBy(ctx)
	one := describe(s.Config)
	one.From = build.From(s.Config, one.Program)
	if one.Name == c.debug {
		one = develop.UnderDelve(s.Stack, one)
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

// stop ends one service, once what stands on it has ended.
func stop(ctx context.Context, describe func(config.Config) service.Service) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	s.Changes.Add(1)
	return s.Engine.Stop(ctx, describe(s.Config))
}

// requireDatabase and requireAll install at once what is missing for all that a target starts.
func requireDatabase(ctx context.Context) error {
	return requireToRun(ctx, platform.CCompiler, platform.MariaDB)
}

func requireAll(ctx context.Context) error { return requireToRun(ctx, platform.Needs()...) }

func requireToRun(ctx context.Context, needs ...platform.Need) error {
	s, err := load()
	if err != nil {
		return err
	}
	return s.RequireToRun(ctx, needs...)
}
