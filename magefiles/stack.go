// A whole Sigstore on this machine: build it, run it, sign and verify with it. Try demo:keyless.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/magefile/mage/mg"
	"golang.org/x/term"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
)

// component is a service with the targets that start and stop it, in the form that mg.CtxDeps takes.
type component struct {
	describe    func(config.Config) service.Service
	start, stop any
}

// components lists the stack's services, in the order in which status shows them. The order in which they are started
// and stopped is that of their targets' dependencies.
func components() []component {
	return []component{
		{registry, Registry.Start, Registry.Stop},
		{mariaDB, startMariaDB, stopMariaDB},
		{logServer, startLogServer, stopLogServer},
		{logSigner, startLogSigner, stopLogSigner},
		{rekor, Rekor.Start, Rekor.Stop},
		{ct, CT.Start, CT.Stop},
		{dex, Dex.Start, Dex.Stop},
		{fulcio, Fulcio.Start, Fulcio.Stop},
		{tsa, TSA.Start, TSA.Stop},
		{rekorTiles, RekorTiles.Start, RekorTiles.Stop},
		{tuf, TUF.Start, TUF.Stop},
	}
}

// services describes every component.
func services(c config.Config) []service.Service {
	var all []service.Service
	for _, component := range components() {
		all = append(all, component.describe(c))
	}
	return all
}

// Start brings up the whole stack, or what SIGLOCAL_SERVICES names; what runs is left alone.
func Start(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	var starts []any
	for _, component := range components() {
		if len(s.config.Services) == 0 || slices.Contains(s.config.Services, component.describe(s.config).Name) {
			starts = append(starts, component.start)
		}
	}
	if len(starts) == len(components()) {
		// What is missing is installed at once, rather than one after another.
		if err := needs(ctx, requireAll); err != nil {
			return err
		}
	}
	if err := needs(ctx, starts...); err != nil {
		return err
	}
	s.console.Printf("Sigstore runs. Next: `go tool mage demo:keyless`, `go tool mage status`, `go tool mage stop`.")
	return nil
}

// Stop ends every service of the stack, those first that stand on others.
func Stop(ctx context.Context) error {
	var stops []any
	for _, component := range components() {
		stops = append(stops, component.stop)
	}
	return needs(ctx, stops...)
}

// Reset stops the stack and, once you agree, wipes its data and keys; what was built is kept.
func Reset(ctx context.Context, yes *bool) error {
	agreed := yes != nil && *yes
	if !agreed && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("reset wipes data and keys, and there is no terminal to ask at: say `go tool mage reset -yes` if that is what you want")
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if err := needs(ctx, Stop); err != nil {
		return err
	}
	if !agreed {
		fmt.Fprintf(os.Stderr, "Wipe all data and keys in %s? What was signed with them no longer verifies. [y/N] ", s.config.State)
		answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return fmt.Errorf("nothing was wiped: %w", err)
		}
		if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
			s.console.Printf("Nothing was wiped.")
			return nil
		}
	}
	if err := service.Wipe(s.config); err != nil {
		return err
	}
	s.console.Printf("The data and keys in %s are gone; the programs in %s are kept.", s.config.State, s.config.Programs)
	return nil
}

// stack is what the targets of one mage process share.
type stack struct {
	config  config.Config
	console *console.Console
	engine  *service.Engine

	installing  sync.Mutex // package managers run one at a time
	certificate string     // the CA's, PEM, as the token has it; empty if that was not asked
	debugged    string     // the service that is to be started under Delve
	restarted   string     // the component that is restarted, whose checkout alone is built

	holding sync.Mutex
	held    *os.File // the lock of the state folder

	changes atomic.Int64 // how often a service was started or stopped
}

// startTimeout is how long one service may take. A database that has to recover from a crash is the slowest.
const startTimeout = 60 * time.Second

// load reads the configuration, once for all targets of this process.
var load = sync.OnceValues(func() (*stack, error) {
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	root, err := project.Root(wd)
	if err != nil {
		return nil, err
	}
	c, err := config.Load(root, os.Environ())
	if err != nil {
		return nil, err
	}
	interruptOnTerm()
	out := console.New(os.Stderr, os.Getenv)
	return &stack{config: c, console: out, engine: &service.Engine{Config: c, Console: out, StartTimeout: startTimeout}}, nil
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

// hold makes the state folder and keeps other processes from changing the stack until release, or the end of this one.
func (s *stack) hold(ctx context.Context) error {
	s.holding.Lock()
	defer s.holding.Unlock()
	if s.held != nil {
		return nil
	}
	held, err := service.Hold(ctx, s.config, func(pid int) {
		s.console.Printf("Process %d is at work on %s: waiting for it to end.", pid, s.config.State)
	})
	s.held = held
	return err
}

// acquire is load for a target that changes the stack: no other process does so until this one has ended, or has let it.
func acquire(ctx context.Context) (*stack, error) {
	s, err := load()
	if err != nil {
		return nil, err
	}
	return s, s.hold(ctx)
}

// release lets others change the stack while this process goes on, as a demo does once all that it needs runs.
func (s *stack) release() error {
	s.holding.Lock()
	defer s.holding.Unlock()
	held := s.held
	s.held = nil
	if held == nil {
		return nil
	}
	return held.Close()
}

// choice is the value of a flag that takes one of accepted; the first of them if it was not given.
func choice(flag string, given *string, accepted ...string) (string, error) {
	if given == nil {
		return accepted[0], nil
	}
	if !slices.Contains(accepted, *given) {
		return "", fmt.Errorf("-%s is %q; accepted is one of %s", flag, *given, strings.Join(accepted, ", "))
	}
	return *given, nil
}

// needs runs what a target depends on, by mg.CtxDeps, and returns as an error what that panics with. Mage takes a
// dependency that panicked for one that succeeded when a second target asks for it; an error it gives to both. The
// message then reaches a target on several ways, and is said once.
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
	changes, known := ctx.Value(changesKey{}).(int64)
	if !known {
		changes = s.changes.Load()
		ctx = context.WithValue(ctx, changesKey{}, changes)
	}
	for i, target := range targets {
		targets[i] = dependency{mg.F(target), changes}
	}
	mg.CtxDeps(ctx, targets...)
	return nil
}

// dependency is what a target depends on. Mage runs each once in a process; this one is run once for each state of the
// stack from which a target begins, so that `start stop start` starts twice.
type dependency struct {
	mg.Fn
	changes int64 // how often a service had been started or stopped by then
}

// ID tells the dependency from the same one at another time.
func (d dependency) ID() string { return fmt.Sprint(d.Fn.ID(), d.changes) }

type changesKey struct{}

// start runs one service, once what its target depends on runs.
func start(ctx context.Context, describe func(config.Config) service.Service, values service.Values) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	one := describe(s.config)
	one.From = build.From(s.config, one.Program)
	if one.Name == s.debugged {
		one = s.underDelve(ctx, one)
	}
	s.changes.Add(1)
	return s.engine.Start(ctx, one, values)
}

// stop ends one service, once what stands on it has ended.
func stop(ctx context.Context, describe func(config.Config) service.Service) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	s.changes.Add(1)
	return s.engine.Stop(ctx, describe(s.config))
}
