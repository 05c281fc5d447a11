// Package stack is a stack as the features see it: its services and their status, its lock, what it needs of the system, its
// programs, throwaway stacks beside it, and signing in to it.
package stack

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// Descriptions describe, for a configuration, the services of a stack, in the order in which status shows them, and the
// clients that use them.
type Descriptions struct {
	Services, Clients func(config.Config) []service.Service
}

// Parts is what config.Load has to know of the services and clients. It is the same for every configuration, so they are
// described for an empty one.
func (d Descriptions) Parts() []config.Part {
	var parts []config.Part
	for _, one := range d.Services(config.Config{}) {
		parts = append(parts, config.Part{Service: one.Name, Ports: one.Listens, Source: one.Source})
	}
	for _, one := range d.Clients(config.Config{}) {
		parts = append(parts, config.Part{Source: one.Source})
	}
	return parts
}

// Stack is one stack.
type Stack struct {
	Descriptions
	Config  config.Config
	Console *console.Console
	Engine  *service.Engine

	// Changes counts how often the stack may have changed: by a start, a stop or a reset, or by another process, after the lock was
	// released.
	Changes atomic.Int64

	installing sync.Mutex // package managers run one at a time

	reading sync.Once // of go.mod
	release func(module, version string) string

	holding sync.Mutex
	held    *lock.File // of the state folder
}

// StartTimeout is how long one service may take to be ready. A database that has to recover from a crash is the slowest.
const StartTimeout = 60 * time.Second

// New is the stack that environ asks for, of the checkout at root.
func New(root string, environ []string, d Descriptions) (*Stack, error) {
	c, err := config.Load(root, environ, d.Parts()...)
	if err != nil {
		return nil, err
	}
	return newStack(c, console.New(os.Stderr, os.Getenv), d), nil
}

func newStack(c config.Config, out *console.Console, d Descriptions) *Stack {
	return &Stack{
		Descriptions: d, Config: c, Console: out,
		Engine: &service.Engine{
			Config: c, Console: out, StartTimeout: StartTimeout,
			Database: func(ctx context.Context) error { return database.Ping(ctx, c) },
		},
	}
}

// All describes every service.
func (s *Stack) All() []service.Service { return s.Services(s.Config) }

// Chosen says whether the user wants a service to run: SIGLOCAL_SERVICES names it or its source, or names none.
func (s *Stack) Chosen(one service.Service) bool {
	named := s.Config.Services
	return len(named) == 0 || slices.Contains(named, one.Name) || one.Source != nil && slices.Contains(named, one.Source.Name)
}

// Names are the names of services.
func Names(services []service.Service) []string {
	names := make([]string, len(services))
	for i, one := range services {
		names[i] = one.Name
	}
	return names
}

// Named are the services that name means: the service of that name, those that are built from the source of that name, or,
// for "all", every one.
func (s *Stack) Named(name string) ([]service.Service, error) {
	all := s.All()
	if name == "all" {
		return all, nil
	}
	var found []service.Service
	for _, one := range all {
		if one.Name == name {
			return []service.Service{one}, nil
		}
		if one.Source != nil && one.Source.Name == name {
			found = append(found, one)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%q is not a service; accepted are all, %s", name, strings.Join(s.ServiceNames(), ", "))
	}
	return found, nil
}

// ServiceNames are the names that Named takes beside "all".
func (s *Stack) ServiceNames() []string {
	names := Names(s.All())
	for _, one := range s.All() {
		if one.Source != nil && !slices.Contains(names, one.Source.Name) {
			names = append(names, one.Source.Name)
		}
	}
	return names
}

// Source is the source of that name, or the one that the service or client of that name is built from.
func (s *Stack) Source(name string) (config.Source, error) {
	for _, one := range slices.Concat(s.All(), s.Clients(s.Config)) {
		if one.Source != nil && (one.Name == name || one.Source.Name == name) {
			return *one.Source, nil
		}
	}
	return config.Source{}, fmt.Errorf("%q is not built from a source that a checkout can replace; accepted are %s", name, strings.Join(s.SourceNames(), ", "))
}

// SourceNames are the names that Source takes.
func (s *Stack) SourceNames() []string {
	var names []string
	for _, one := range slices.Concat(s.All(), s.Clients(s.Config)) {
		if one.Source == nil {
			continue
		}
		for _, name := range []string{one.Source.Name, one.Name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// One is the service of a name. It panics if there is none.
func One(services []service.Service, name string) service.Service {
	return services[slices.IndexFunc(services, func(one service.Service) bool { return one.Name == name })]
}

// Running are the names of the services that run.
func (s *Stack) Running() ([]string, error) {
	var names []string
	for _, one := range s.All() {
		runs, err := s.Engine.Runs(one)
		if err != nil {
			return nil, err
		}
		if runs {
			names = append(names, one.Name)
		}
	}
	return names, nil
}

// Hold makes the state folder and takes the stack's lock: no other process changes the stack until Release or the end of this
// one.
func (s *Stack) Hold(ctx context.Context) error {
	s.holding.Lock()
	defer s.holding.Unlock()
	if s.held != nil {
		return nil
	}
	held, err := statedir.Hold(ctx, s.Config, func(pid int) {
		s.Console.Printf("Process %d is at work on %s: waiting for it to end.", pid, s.Config.State)
	})
	s.held = held
	return err
}

// Release gives the stack's lock up, so that other processes can change the stack while this one goes on. A demo does so once
// all services that it needs run.
func (s *Stack) Release() error {
	s.holding.Lock()
	defer s.holding.Unlock()
	held := s.held
	s.held = nil
	if held == nil {
		return nil
	}
	s.Changes.Add(1)
	return held.Close()
}

// Choice is the value of a flag that takes one of accepted; the first of them if it was not given.
func Choice(flag string, given *string, accepted ...string) (string, error) {
	given = cmp.Or(given, &accepted[0])
	if !slices.Contains(accepted, *given) {
		return "", fmt.Errorf("-%s is %q; accepted is one of %s", flag, *given, strings.Join(accepted, ", "))
	}
	return *given, nil
}
