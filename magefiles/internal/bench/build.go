package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
)

// build measures builds from an empty cache.
func (b *benchmark) build(ctx context.Context) error {
	compiler, err := b.Builder().Ready(ctx)
	if err != nil {
		return err
	}
	var upstream []string
	for _, name := range b.Programs() {
		if !strings.HasPrefix(name, project.Module+"/") {
			upstream = append(upstream, name)
		}
	}
	graph := ""
	ways := []struct {
		name string
		make func(dir string, environ []string) error
	}{
		{"build", func(dir string, environ []string) error {
			builder := b.Builder()
			builder.Config.Programs, builder.Environ, builder.Console = filepath.Join(dir, "bin"), environ, b.tuned.Console
			return builder.Run(ctx)
		}},
		{"go build", func(dir string, environ []string) error {
			graph = filepath.Join(b.scratch.Dir, "actions.json")
			args := append([]string{"build", "-debug-actiongraph=" + graph, "-ldflags=-s -w", "-o", filepath.Join(dir, "bin") + "/"}, b.Programs()...)
			_, err := command.Combined(ctx, command.New(ctx, b.Config.Root, append(build.Env(environ, true), "CC="+compiler), "go", args...))
			return err
		}},
		{"go install", func(dir string, environ []string) error {
			environ = append(environ, "GOBIN="+filepath.Join(dir, "bin"), "GOFLAGS=", "GOWORK=off")
			for _, name := range upstream {
				if _, err := command.Combined(ctx, command.New(ctx, b.Config.Root, environ, "go", "install", name)); err != nil {
					return err
				}
			}
			return nil
		}},
	}
	wall, processor := map[string]*Series{}, map[string]*Series{}
	for _, way := range ways {
		wall[way.name], processor[way.name] = &Series{Unit: "s"}, &Series{Unit: "s"}
	}
	for run := range b.Runs {
		for _, way := range ways {
			b.step.Detail("run %d of %d: %s from an empty cache", run+1, b.Runs, way.name)
			dir, err := os.MkdirTemp(b.scratch.Dir, "build")
			if err != nil {
				return err
			}
			before, err := spent()
			if err != nil {
				return err
			}
			began := time.Now()
			if err := way.make(dir, append(config.Without(os.Environ()), "GOCACHE="+filepath.Join(dir, "cache"))); err != nil {
				return err
			}
			wall[way.name].Add(time.Since(began).Seconds())
			after, err := spent()
			if err != nil {
				return err
			}
			processor[way.name].Add((after - before).Seconds())
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	const name = "build of everything from an empty cache, "
	b.add(name+"processor time", *processor["build"], "one `go build` of the same, with the same flags", processor["go build"], atMost(1.05))
	b.add(name+"elapsed", *wall["build"], "the same", wall["go build"], atMost(1.05))
	b.add(name+"processor time", *processor["build"], "`go install` of each upstream program", processor["go install"], atMost(1))
	b.add(name+"elapsed", *wall["build"], "the same", wall["go install"], atMost(1))
	return b.costs(graph)
}

// costs adds the processor time of the ten costliest parts of a build, which are linking, the standard library, cgo and each
// module, from the action graph that `go build -debug-actiongraph` has written.
func (b *benchmark) costs(graph string) error {
	text, err := os.ReadFile(graph)
	if err != nil {
		return err
	}
	var actions []struct {
		Mode, Package   string
		CmdUser, CmdSys time.Duration
	}
	if err := json.Unmarshal(text, &actions); err != nil {
		return fmt.Errorf("%s: %w", graph, err)
	}
	spent, sum := map[string]time.Duration{}, time.Duration(0)
	for _, action := range actions {
		parts := strings.Split(action.Package, "/")
		name := strings.Join(parts[:min(3, len(parts))], "/")
		switch {
		case action.Mode == "link":
			name = "linking"
		case !strings.Contains(parts[0], "."):
			name = "Go's standard library and this project"
		}
		spent[name] += action.CmdUser + action.CmdSys
		sum += action.CmdUser + action.CmdSys
	}
	names := slices.SortedFunc(maps.Keys(spent), func(a, b string) int { return cmp.Compare(spent[b], spent[a]) })
	for _, name := range names[:min(10, len(names))] {
		share := Series{Unit: "%", Values: []float64{100 * spent[name].Seconds() / sum.Seconds()}}
		b.add("of one `go build`: "+name, share, "", nil, nil)
	}
	return nil
}

// spent is the processor time of all child processes that have ended.
func spent() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
