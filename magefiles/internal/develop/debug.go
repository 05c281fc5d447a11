package develop

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// Delve is the import path of the debugger, which is built when it is asked for.
const Delve = "github.com/go-delve/delve/cmd/dlv"

// Debuggable is the service that name means, if it can be debugged: the service of that name, or the only one that is built
// from the source of that name.
func Debuggable(s *stack.Stack, name string) (service.Service, error) {
	all := AllDebuggable(s)
	found, err := s.Named(name)
	if err == nil && len(found) == 1 && len(found[0].Packages) > 0 {
		return found[0], nil
	}
	if err == nil && len(found) > 1 && name != "all" {
		all = found
	}
	return service.Service{}, fmt.Errorf("%q cannot be debugged; accepted are %s", name, strings.Join(stack.Names(all), ", "))
}

// AllDebuggable are the services that are built here.
func AllDebuggable(s *stack.Stack) []service.Service {
	return slices.DeleteFunc(s.All(), func(one service.Service) bool { return len(one.Packages) == 0 })
}

// Build builds the program of a service so that it can be debugged, and the debugger.
func Build(ctx context.Context, s *stack.Stack, one service.Service) error {
	program := filepath.Base(one.Program)
	var importPath string
	for _, pkg := range one.Packages {
		if name, path := build.Program(pkg); name == program {
			importPath = path
		}
	}
	builder := s.Builder()
	if err := builder.Debug(ctx, "dlv", Delve, debugProgram(s.Config, "dlv")); err != nil {
		return err
	}
	return builder.Debug(ctx, program, importPath, debugProgram(s.Config, program))
}

// debugProgram is the path of a program that is built to be debugged.
func debugProgram(c config.Config, name string) string { return filepath.Join(c.Built, "debug", name) }

// UnderDelve is a service that is run by Delve, which goes on without waiting for somebody to attach.
func UnderDelve(ctx context.Context, s *stack.Stack, one service.Service) service.Service {
	c := s.Config
	one.From = cmp.Or(one.From, s.Version(ctx, one)) + " " + service.UnderDelve
	one.Args = append([]string{
		"exec", "--headless", "--listen=" + c.Address(config.Debug), "--accept-multiclient", "--api-version=2", "--continue",
		debugProgram(c, filepath.Base(one.Program)), "--",
	}, one.Args...)
	one.Program = debugProgram(c, "dlv")
	// Delve would otherwise write its settings into the user's home, whatever HOME is.
	one.Env = append(slices.Clone(one.Env), "XDG_CONFIG_HOME="+filepath.Join(c.Home(), ".config"))
	one.Hint = "Delve needs leave to trace programs (ptrace), which containers often refuse; `" + project.Command + " restart " + one.Name + "` runs it without"
	return one
}

// SayHow says how to attach to a service that runs under Delve.
func SayHow(c config.Config, name string) {
	address, port := c.Address(config.Debug), c.Port(config.Debug)
	fmt.Printf("%s runs under Delve, which listens on %s. To attach:\n\n    $ %s connect %s\n\n"+
		"In VS Code: a launch configuration with \"request\": \"attach\", \"mode\": \"remote\", \"host\": \"127.0.0.1\", \"port\": %d.\n"+
		"In GoLand: Run, Edit Configurations, Go Remote, host 127.0.0.1, port %d.\n"+
		"`quit` there leaves it running; `"+project.Command+" restart %s` makes it the ordinary one again.\n",
		name, address, shellescape.Quote(debugProgram(c, "dlv")), address, port, port, name)
}
