package main

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// delve is the import path of the debugger, which is built when it is asked for.
const delve = "github.com/go-delve/delve/cmd/dlv"

// Debug restarts a service under Delve, unoptimized, and says how to attach; the service's restart ends that.
func Debug(
	ctx context.Context,
	name string, // a service, as status lists them, but mariadb
) error {
	s, err := load()
	if err != nil {
		return err
	}
	known, err := serviceNames(s.config, name)
	if err != nil || name == "all" || name == "mariadb" {
		known, _ = serviceNames(s.config, "all")
		known = slices.DeleteFunc(known, func(one string) bool { return one == "mariadb" })
		return fmt.Errorf("%q cannot be debugged; accepted are %s", name, strings.Join(known, ", "))
	}
	at := slices.IndexFunc(components(), func(c component) bool { return c.describe(s.config).Name == name })
	chosen := components()[at]
	if err := needs(ctx, Build); err != nil {
		return err
	}
	program := filepath.Base(chosen.describe(s.config).Program)
	pkg := programs()[slices.IndexFunc(programs(), func(p string) bool { return path.Base(p) == program })]
	builder := s.builder()
	if err := builder.Debug(ctx, "dlv", delve, s.debugProgram("dlv")); err != nil {
		return err
	}
	if err := builder.Debug(ctx, program, pkg, s.debugProgram(program)); err != nil {
		return err
	}
	// Nobody may start it in between.
	if err := s.hold(ctx); err != nil {
		return err
	}
	if err := stop(ctx, chosen.describe); err != nil {
		return err
	}
	if err := service.PortFree(s.config, config.Debug); err != nil {
		return err
	}
	s.debugged = name
	if err := needs(ctx, chosen.start); err != nil {
		return err
	}
	address := s.config.Address(config.Debug)
	fmt.Printf("%s runs under Delve, which listens on %s. To attach:\n\n    $ %s connect %s\n\n"+
		"In VS Code: a launch configuration with \"request\": \"attach\", \"mode\": \"remote\", \"host\": \"127.0.0.1\", \"port\": %d.\n"+
		"In GoLand: Run, Edit Configurations, Go Remote, host 127.0.0.1, port %d.\n"+
		"`quit` there leaves it running; `go tool mage restart %s` makes it the ordinary one again.\n",
		name, address, shellescape.Quote(s.debugProgram("dlv")), address, s.config.Port(config.Debug), s.config.Port(config.Debug), name)
	return nil
}

// debugProgram is the path of a program that is built to be debugged.
func (s *stack) debugProgram(name string) string {
	return filepath.Join(s.config.State, "checkouts", "debug", name)
}

// underDelve is a service that is run by Delve, which goes on without waiting for somebody to attach.
func (s *stack) underDelve(ctx context.Context, one service.Service) service.Service {
	one.From = cmp.Or(one.From, version(ctx, one)) + " " + service.UnderDelve
	one.Args = append([]string{
		"exec", "--headless", "--listen=" + s.config.Address(config.Debug), "--accept-multiclient", "--api-version=2", "--continue",
		s.debugProgram(filepath.Base(one.Program)), "--",
	}, one.Args...)
	one.Program = s.debugProgram("dlv")
	// It would otherwise write its settings into the user's home, whatever HOME is.
	one.Env = append(slices.Clone(one.Env), "XDG_CONFIG_HOME="+filepath.Join(s.config.Home(), ".config"))
	one.Hint = "Delve needs leave to trace programs (ptrace), which containers often refuse; `go tool mage restart " + one.Name + "` runs it without"
	return one
}
