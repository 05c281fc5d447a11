// A whole Sigstore on this machine: build it, run it, sign and verify with it. Try demo:keyless.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// components lists the stack's services, in the order in which status shows them. The dependencies of their targets say in which
// order they are started and stopped.
func components() []component {
	return []component{
		registryComponent(),
		mariaDBComponent(),
		logServerComponent(),
		logSignerComponent(),
		rekorComponent(),
		ctComponent(),
		tesseractComponent(),
		dexComponent(),
		fulcioComponent(),
		tsaComponent(),
		rekorTilesComponent(),
		tilesComponent(),
		tufComponent(),
		pageComponent(),
	}
}

func init() { described = stack.Descriptions{Services: services, Clients: clients} }

// services describes the components of the stack that c has chosen.
func services(c config.Config) []service.Service {
	var all []service.Service
	for _, component := range components() {
		one := component.describe(c)
		elsewhere := c.Cluster != nil && (one.Here || slices.Contains(c.Cluster.Without, one.Name))
		if c.Stack.Includes(one.Stacks...) && !elsewhere {
			all = append(all, one)
		}
	}
	return all
}

// Start starts all services, or those that SIGLOCAL_SERVICES names and the services that these need. Services that run already
// are left alone.
func Start(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	var starts []any
	for _, component := range components() {
		one := component.describe(s.Config)
		if s.Config.Stack.Includes(one.Stacks...) && s.Chosen(one) {
			starts = append(starts, component.start)
		}
	}
	if len(s.Config.Services) == 0 {
		// All that the system lacks is installed at once, rather than by one component after another.
		if err := needs(ctx, requireAll); err != nil {
			return err
		}
	}
	c, _ := s.calledBy(ctx)
	if err := needs(with(ctx, c), starts...); err != nil {
		return err
	}
	said := "Sigstore runs."
	if c.starts.started == 0 {
		said = "Sigstore already runs."
	}
	if err := statedir.RoomFor(s.Config, statedir.Spare); err != nil {
		s.Console.Printf("%s Services that cannot write answer, and take no entries: %v", said, err)
		return nil
	}
	s.Console.Printf("%s Next: `"+project.Command+" demo:keyless`, `"+project.Command+" status`, `"+project.Command+" stop`.", said)
	return nil
}

// Stop stops all services, each before the services that it depends on.
func Stop(ctx context.Context) error {
	var stops []any
	for _, component := range components() {
		stops = append(stops, component.stop)
	}
	return needs(ctx, stops...)
}

// Restart stops a service, and the services that cannot run without it, and starts them again.
func Restart(
	ctx context.Context,
	name string, // a service, as status lists them, the name of a source, such as trillian, or all
) error {
	s, err := load()
	if err != nil {
		return err
	}
	chosen, err := s.Named(name)
	if err != nil {
		return err
	}
	// If the build fails, nothing is ended.
	if err := needs(ctx, Build); err != nil {
		return err
	}
	// No other process may start or stop anything before this restart is complete.
	if err := s.Hold(ctx); err != nil {
		return err
	}
	before, err := s.Running()
	if err != nil {
		return err
	}
	names := stack.Names(chosen)
	users := service.UsersOf(s.All(), names)
	var stops, starts []any
	for _, component := range components() {
		name := component.describe(s.Config).Name
		if slices.Contains(names, name) {
			stops, starts = append(stops, component.stop), append(starts, component.start)
		}
		if slices.Contains(names, name) || slices.Contains(users, name) && slices.Contains(before, name) {
			if err := check(ctx, component); err != nil {
				return err
			}
		}
	}
	if err := needs(ctx, stops...); err != nil {
		return err
	}
	after, err := s.Running()
	if err != nil {
		return err
	}
	for _, component := range components() {
		name := component.describe(s.Config).Name
		if slices.Contains(before, name) && !slices.Contains(after, name) {
			starts = append(starts, component.start)
		}
	}
	return needs(ctx, starts...)
}

// Reset stops the stack, asks whether to go on, and deletes the stack's data and keys. The built programs are kept.
func Reset(
	ctx context.Context,
	yes *bool, // do not ask
) error {
	agreed := yes != nil && *yes
	if !agreed && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("reset wipes data and keys, and there is no terminal to ask at: say `" + project.Command + " reset -yes` if that is what you want")
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if err := needs(ctx, Stop); err != nil {
		return err
	}
	if !agreed {
		fmt.Fprintf(os.Stderr, "Wipe all data and keys in %s? What was signed with them no longer verifies. [y/N] ", s.Config.State)
		answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return fmt.Errorf("nothing was wiped: %w", err)
		}
		if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
			s.Console.Printf("Nothing was wiped.")
			return nil
		}
	}
	s.Changes.Add(1)
	if err := statedir.Wipe(s.Config); err != nil {
		return err
	}
	s.Console.Printf("The data and keys in %s are gone; the programs in %s are kept.", s.Config.State, s.Config.Programs)
	return nil
}
