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

// build measures builds from an empty cache: of everything, of a stack of tiles, and of everything by other means.
func (b *benchmark) build(ctx context.Context) error {
	everything, err := b.described(whole)
	if err != nil {
		return err
	}
	alone, err := b.described(tiles)
	if err != nil {
		return err
	}
	compiler, err := b.Builder().Ready(ctx)
	if err != nil {
		return err
	}
	var upstream []string
	for _, pkg := range everything.Programs() {
		if _, path := build.Program(pkg); !strings.HasPrefix(path, project.Module+"/") {
			upstream = append(upstream, path)
		}
	}
	of := func(r *rig) func(dir string, environ []string) error {
		return func(dir string, environ []string) error {
			builder := r.Builder()
			builder.Config.Programs, builder.Environ = filepath.Join(dir, "bin"), environ
			return builder.Run(ctx)
		}
	}
	var graphs []string
	ways := []struct {
		name string
		make func(dir string, environ []string) error
	}{
		{"build", of(everything)},
		{"tiles", of(alone)},
		{"go build", func(dir string, environ []string) error {
			graphs = nil
			// Two programs have the same last element of their paths, and so cannot be written by one call.
			for i, layer := range build.Layers(everything.Programs()) {
				graph := b.scratch.Path(fmt.Sprintf("actions%d.json", i))
				graphs = append(graphs, graph)
				args := []string{"build", "-debug-actiongraph=" + graph, "-ldflags=-s -w", "-o", filepath.Join(dir, "bin", fmt.Sprint(i)) + "/"}
				for _, pkg := range layer {
					_, path := build.Program(pkg)
					args = append(args, path)
				}
				if _, err := command.Combined(ctx, command.New(ctx, b.Config.Root, append(build.Env(environ, true), "CC="+compiler), "go", args...)); err != nil {
					return err
				}
			}
			return nil
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
	b.add("build of `tiles` from an empty cache, processor time", *processor["tiles"], "of everything", processor["build"], atMost(0.75))
	b.add("build of `tiles` from an empty cache, elapsed", *wall["tiles"], "of everything", wall["build"], nil)
	return b.costs(graphs)
}

// costs adds the processor time of the ten costliest parts of a build, which are linking, the standard library, cgo and each
// module, from the action graphs that `go build -debug-actiongraph` has written.
func (b *benchmark) costs(graphs []string) error {
	type action struct {
		Mode, Package   string
		CmdUser, CmdSys time.Duration
	}
	var actions []action
	for _, graph := range graphs {
		text, err := os.ReadFile(graph)
		if err != nil {
			return err
		}
		var more []action
		if err := json.Unmarshal(text, &more); err != nil {
			return fmt.Errorf("%s: %w", graph, err)
		}
		actions = append(actions, more...)
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
