package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/bench"
	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/fulcioclient"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/service"
)

// benchmarks lists what bench measures, by the names that -only takes, in the order of the table.
var benchmarks = []struct {
	name    string
	measure func(*benchmark, context.Context) error
}{
	{"start", (*benchmark).start},
	{"stop", (*benchmark).stop},
	{"build", (*benchmark).build},
	{"demo", (*benchmark).demo},
	{"keyless", (*benchmark).keyless},
	{"upload", (*benchmark).upload},
	{"growth", (*benchmark).growth},
	{"commands", (*benchmark).commands},
}

// Bench measures what the stack costs, on throwaway stacks beside yours, and prints a table.
func Bench(
	ctx context.Context,
	o *string, // the form of the output: table or json
	only *string, // what to measure, with commas between: start, stop, build, demo, keyless, upload, growth, commands; all but build, which takes most of an hour, if not given
	runs *int, // how often each figure is measured; 5 if not given
	entries *int, // how many entries the log is filled with for growth; 10000 if not given
) error {
	form, err := choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	b := &benchmark{runs: 5, entries: 10000}
	for _, number := range []struct {
		flag  string
		given *int
		value *int
		least int
	}{{"runs", runs, &b.runs, 1}, {"entries", entries, &b.entries, 1000}} {
		if number.given != nil {
			if *number.value = *number.given; *number.value < number.least {
				return fmt.Errorf("-%s is %d; accepted is a whole number from %d", number.flag, *number.value, number.least)
			}
		}
	}
	var names, chosen []string
	for _, one := range benchmarks {
		names = append(names, one.name)
	}
	chosen = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "build" })
	if only != nil {
		chosen = strings.Split(*only, ",")
		for _, name := range chosen {
			if !slices.Contains(names, name) {
				return fmt.Errorf("-only has %q; accepted are %s, with commas between them", name, strings.Join(names, ", "))
			}
		}
	}
	if err := needs(ctx, requireAll); err != nil {
		return err
	}
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if b.stack, err = load(); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	// After Ctrl-C too.
	defer b.remove(context.WithoutCancel(ctx))
	for _, one := range benchmarks {
		if !slices.Contains(chosen, one.name) {
			continue
		}
		b.step = b.stack.console.Step(one.name)
		if err := one.measure(b, ctx); err != nil {
			b.step.Fail()
			return fmt.Errorf("measure %s: %w", one.name, err)
		}
		b.step.Done("is measured")
	}
	machine := fmt.Sprintf("%d processors (%s), %s/%s, %s", runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	if form == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"machine": machine, "runs": b.runs, "figures": b.figures})
	}
	fmt.Printf("Medians of %d runs, with the least and the greatest, on %s.\n\n", b.runs, machine)
	return bench.Write(os.Stdout, b.figures)
}

// processor is the processor's name, where the system tells.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if found := regexp.MustCompile(`model name\s*: (.*)`).FindStringSubmatch(string(text)); err == nil && found != nil {
		return found[1]
	}
	return "not told"
}

// benchmark measures on two stacks of its own: one as users have it, and one with upstream's defaults.
type benchmark struct {
	stack         *stack
	step          *console.Step
	runs, entries int
	figures       []bench.Figure
	dir           string
	tuned, plain  *rig
}

// tutorialServices are those of the three levels, in an order in which each finds what it needs.
var tutorialServices = []string{"registry", "mariadb", "log-server", "log-signer", "rekor", "ct", "dex", "fulcio"}

func (b *benchmark) prepare(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "sigstore-bench"); err != nil {
		return err
	}
	for _, one := range []struct {
		rig    **rig
		tuning config.Tuning
	}{{&b.tuned, config.TunedLocal}, {&b.plain, config.TunedUpstream}} {
		var others []*rig
		if b.tuned != nil {
			others = append(others, b.tuned)
		}
		if *one.rig, err = b.stack.throwaway(filepath.Join(b.dir, string(one.tuning)), one.tuning, tutorialServices, others...); err == nil {
			_, err = (*one.rig).mage(ctx, "start", "stop")
		}
		if err != nil {
			b.remove(context.WithoutCancel(ctx))
			return err
		}
	}
	return nil
}

// remove ends the throwaway stacks and deletes their folders.
func (b *benchmark) remove(ctx context.Context) {
	for _, r := range []*rig{b.tuned, b.plain} {
		if r != nil {
			_, _ = r.mage(ctx, "stop")
		}
	}
	_ = os.RemoveAll(b.dir)
}

func (b *benchmark) add(name string, measured bench.Series, against string, compared *bench.Series, aim *bench.Aim) {
	b.figures = append(b.figures, bench.Figure{Name: name, Measured: measured, Against: against, Compared: compared, Aim: aim})
}

func atMost(limit float64) *bench.Aim  { return &bench.Aim{Limit: limit} }
func atLeast(limit float64) *bench.Aim { return &bench.Aim{Limit: limit, AtLeast: true} }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// described lists the tutorial's services, without the templates that are rendered already.
func (r *rig) described() []service.Service {
	var all []service.Service
	for _, name := range tutorialServices {
		for _, one := range services(r.config) {
			if one.Name == name {
				one.Templates = nil
				all = append(all, one)
			}
		}
	}
	return all
}

// criticalPath is the longest way along what the services need.
func criticalPath(alone map[string]time.Duration) time.Duration {
	database := alone["mariadb"]
	trillian := database + alone["log-server"]
	return max(alone["registry"], database+alone["log-signer"], trillian+alone["rekor"],
		max(trillian+alone["ct"], database+alone["dex"])+alone["fulcio"])
}

// start measures a warm start, beside the daemons alone and beside other ways to start the same commands.
func (b *benchmark) start(ctx context.Context) error {
	r := b.tuned
	start, list, path := bench.Series{Unit: "s"}, bench.Series{Unit: "s"}, bench.Series{Unit: "s"}
	script, tmux := bench.Series{Unit: "s"}, bench.Series{Unit: "s"}
	for run := range b.runs {
		b.step.Detail("run %d of %d", run+1, b.runs)
		took, err := r.mage(ctx, "-l")
		if err != nil {
			return err
		}
		list.Add(took.Seconds())
		took, err = r.mage(ctx, "start")
		if err != nil {
			return err
		}
		start.Add(took.Seconds())
		if _, err := r.mage(ctx, "stop"); err != nil {
			return err
		}
		alone := map[string]time.Duration{}
		for _, one := range r.described() {
			began := time.Now()
			if err := r.engine.Start(ctx, one, nil); err != nil {
				return err
			}
			alone[one.Name] = time.Since(began)
		}
		path.Add(criticalPath(alone).Seconds())
		if _, err := r.mage(ctx, "stop"); err != nil {
			return err
		}
		for _, other := range []struct {
			program string
			series  *bench.Series
			start   func(context.Context, *rig) (time.Duration, error)
		}{{"bash", &script, b.byScript}, {"tmux", &tmux, b.byTmux}} {
			if _, err := exec.LookPath(other.program); err != nil {
				continue
			}
			if took, err = other.start(ctx, r); err != nil {
				return fmt.Errorf("start by %s: %w", other.program, err)
			}
			other.series.Add(took.Seconds())
		}
	}
	const name = "warm start of the tutorial's services"
	b.add(name, start, "the daemons' critical path, each timed alone", &path, atMost(1.3))
	b.add("of that: what go tool takes until a target is called", list, "", nil, nil)
	if len(script.Values) > 0 {
		b.add(name, start, "a shell script, one after another", &script, atMost(1))
	}
	if len(tmux.Values) > 0 {
		b.add(name, start, "windows of tmux, with the old launch script's pauses", &tmux, atMost(1))
	}
	return nil
}

// byScript starts the daemons by a shell script that waits for each one's port, and ends them.
func (b *benchmark) byScript(ctx context.Context, r *rig) (time.Duration, error) {
	script := "set -eu\npids=\n"
	for _, one := range r.described() {
		line := shellescape.QuoteCommand(append(append([]string{"env"}, one.Env...), append([]string{one.Program}, one.Args...)...))
		script += fmt.Sprintf("%s >/dev/null 2>&1 &\npids=\"$pids $!\"\n", line)
		if len(one.Listens) > 0 {
			script += fmt.Sprintf("until (: </dev/tcp/127.0.0.1/%d) 2>/dev/null; do sleep 0.02; done\n", r.config.Port(one.Listens[0]))
		} else {
			script += fmt.Sprintf("until [ -S %s ]; do sleep 0.02; done\n", shellescape.Quote(one.Address))
		}
	}
	// Two signals: Trillian's daemons sleep for seconds after one.
	script += "echo ready\nread -r _ || :\nkill $pids; sleep 0.3; kill $pids 2>/dev/null || :\nwait\n"
	for _, one := range r.described() {
		for _, socket := range one.Sockets {
			_ = os.Remove(socket)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cmd := command.New(ctx, r.config.Home(), append(os.Environ(), "HOME="+r.config.Home(), "TMPDIR="+b.dir), "bash", "-c", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// Whatever the script has left.
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	ready := make([]byte, len("ready\n"))
	if _, err = out.Read(ready); err == nil {
		// A port is open a moment before the daemon answers.
		err = works(ctx, r.described()...)
	}
	took := time.Since(began)
	_ = in.Close()
	if waited := cmd.Wait(); err == nil {
		err = waited
	}
	return took, err
}

// works waits until services answer.
func works(ctx context.Context, services ...service.Service) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, one := range services {
		for {
			err := one.Ready(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s does not answer: %w", one.Name, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// byTmux starts the daemons in windows of a tmux server of its own, with the pauses that the launch script of the old
// tutorial has: a second each after the log server and after Dex. Its MariaDB ran already, so here the script waits for it.
func (b *benchmark) byTmux(ctx context.Context, r *rig) (time.Duration, error) {
	tmux := func(ctx context.Context, args ...string) (string, error) {
		args = append([]string{"-f", os.DevNull, "-S", filepath.Join(b.dir, "tmux")}, args...)
		return command.Output(ctx, command.New(ctx, r.config.Home(), append(os.Environ(), "HOME="+r.config.Home(), "TMPDIR="+b.dir), "tmux", args...))
	}
	defer func() {
		// After Ctrl-C too.
		ctx := context.WithoutCancel(ctx)
		pids, _ := tmux(ctx, "list-panes", "-a", "-F", "#{pane_pid}")
		endAll(strings.Fields(pids))
		_, _ = tmux(ctx, "kill-server")
	}()
	began := time.Now()
	for i, one := range r.described() {
		for _, socket := range one.Sockets {
			_ = os.Remove(socket)
		}
		window := []string{"new-window", "-d", "-t", "=bench:"}
		if i == 0 {
			window = []string{"new-session", "-d", "-s", "bench"}
		}
		line := "exec " + shellescape.QuoteCommand(append(append([]string{"env"}, one.Env...), append([]string{one.Program}, one.Args...)...))
		if _, err := tmux(ctx, append(window, line)...); err != nil {
			return 0, err
		}
		switch one.Name {
		case "mariadb":
			if err := works(ctx, one); err != nil {
				return 0, err
			}
		case "log-server", "dex":
			time.Sleep(time.Second)
		}
	}
	err := works(ctx, r.described()...)
	return time.Since(began), err
}

// endAll ends processes: by two signals, since Trillian's daemons sleep for seconds after one, and at last by force.
func endAll(pids []string) {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, 300 * time.Millisecond}, {syscall.SIGTERM, 10 * time.Second}, {syscall.SIGKILL, time.Second}} {
		send := func(sig syscall.Signal) {
			pids = slices.DeleteFunc(pids, func(text string) bool {
				pid, err := strconv.Atoi(text)
				return err != nil || syscall.Kill(pid, sig) != nil
			})
		}
		send(step.signal)
		for end := time.Now().Add(step.wait); len(pids) > 0 && time.Now().Before(end); send(0) {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// stop measures the end of a stack that is in use, beside one SIGTERM to each daemon, and looks for what was acknowledged.
func (b *benchmark) stop(ctx context.Context) error {
	r := b.tuned
	stop, term := bench.Series{Unit: "s"}, bench.Series{Unit: "s"}
	acknowledged, lost := 0, 0
	for run := range b.runs {
		b.step.Detail("run %d of %d", run+1, b.runs)
		for _, way := range []struct {
			series *bench.Series
			end    func() (time.Duration, error)
		}{
			{&stop, func() (time.Duration, error) { return r.mage(ctx, "stop") }},
			{&term, func() (time.Duration, error) { return r.terminate(ctx) }},
		} {
			if _, err := r.mage(ctx, "start"); err != nil {
				return err
			}
			uploader, err := bench.NewUploader(r.config.URL(config.Rekor))
			if err != nil {
				return err
			}
			var mu sync.Mutex
			var uuids []string
			clients := make(chan error, 1)
			go func() {
				// Ends with the first that is refused.
				_, err := bench.Drive(ctx, 4, 1<<30, func(ctx context.Context) error {
					uuid, err := uploader.Upload(ctx)
					if err == nil {
						mu.Lock()
						uuids = append(uuids, uuid)
						mu.Unlock()
					}
					return err
				})
				clients <- err
			}()
			time.Sleep(time.Second)
			took, err := way.end()
			<-clients
			if err != nil {
				return err
			}
			way.series.Add(took.Seconds())
			if _, err := r.mage(ctx, "rekor:start"); err != nil {
				return err
			}
			acknowledged += len(uuids)
			log, err := rekorlog.Open(r.config.URL(config.Rekor), r.config.Key("rekor.pub"))
			if err != nil {
				return err
			}
			for _, uuid := range uuids {
				entry, err := log.EntryByUUID(ctx, uuid)
				if err == nil {
					_, err = log.Check(entry)
				}
				if err != nil {
					lost++
				}
			}
			if _, err := r.mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	b.add("stop, with four clients at work", stop, "", nil, atMost(1.5))
	b.add("stop, with four clients at work", stop, "one SIGTERM to each", &term, atMost(1))
	b.add(fmt.Sprintf("entries lost of %d that were acknowledged before a stop", acknowledged), bench.Series{Values: []float64{float64(lost)}}, "", nil, atMost(0))
	return nil
}

// terminate sends each daemon one SIGTERM and waits until all have ended.
func (r *rig) terminate(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	holders := map[string]int{}
	for _, one := range r.described() {
		file := r.config.Run(one.Name + ".pid")
		pid, err := lock.Holder(file)
		if err != nil {
			return 0, err
		}
		if pid != 0 {
			holders[file] = pid
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	for file := range holders {
		for {
			if pid, err := lock.Holder(file); err != nil || pid == 0 {
				break
			}
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return time.Since(began), nil
}

// build measures builds from an empty cache, once each.
func (b *benchmark) build(ctx context.Context) error {
	compiler, err := b.stack.builder().Ready(ctx)
	if err != nil {
		return err
	}
	var upstream []string
	for _, name := range programs() {
		if !strings.HasPrefix(name, config.Module+"/") {
			upstream = append(upstream, name)
		}
	}
	graph := ""
	wall, processor := map[string]*bench.Series{}, map[string]*bench.Series{}
	for _, way := range []struct {
		name string
		make func(dir string, environ []string) error
	}{
		{"build", func(dir string, environ []string) error {
			builder := b.stack.builder()
			builder.Config.Programs, builder.Environ, builder.Console = filepath.Join(dir, "bin"), environ, b.tuned.engine.Console
			return builder.Run(ctx)
		}},
		{"go build", func(dir string, environ []string) error {
			graph = filepath.Join(b.dir, "actions.json")
			args := append([]string{"build", "-debug-actiongraph=" + graph, "-ldflags=-s -w", "-o", filepath.Join(dir, "bin") + "/"}, programs()...)
			_, err := command.Combined(ctx, command.New(ctx, b.stack.config.Root, append(build.Env(environ, true), "CC="+compiler), "go", args...))
			return err
		}},
		{"go install", func(dir string, environ []string) error {
			environ = append(environ, "GOBIN="+filepath.Join(dir, "bin"), "GOFLAGS=", "GOWORK=off")
			for _, name := range upstream {
				if _, err := command.Combined(ctx, command.New(ctx, b.stack.config.Root, environ, "go", "install", name)); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		b.step.Detail("%s from an empty cache", way.name)
		dir, err := os.MkdirTemp(b.dir, "build")
		if err != nil {
			return err
		}
		before, err := spent()
		if err != nil {
			return err
		}
		began := time.Now()
		if err := way.make(dir, append(testEnviron(), "GOCACHE="+filepath.Join(dir, "cache"))); err != nil {
			return err
		}
		took := time.Since(began)
		after, err := spent()
		if err != nil {
			return err
		}
		wall[way.name] = &bench.Series{Unit: "s", Values: []float64{took.Seconds()}}
		processor[way.name] = &bench.Series{Unit: "s", Values: []float64{(after - before).Seconds()}}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	const name = "build of everything from an empty cache, "
	b.add(name+"processor time", *processor["build"], "one `go build` of the same, with the same flags", processor["go build"], atMost(1.05))
	b.add(name+"elapsed", *wall["build"], "the same", wall["go build"], atMost(1.05))
	b.add(name+"processor time", *processor["build"], "`go install` of each upstream program", processor["go install"], atMost(1))
	b.add(name+"elapsed", *wall["build"], "the same", wall["go install"], atMost(1))
	return b.costs(graph)
}

// costs adds what the processor time of a build went into: the ten costliest of linking, the standard library, cgo and the
// modules, from what `go build -debug-actiongraph` has written.
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
		share := bench.Series{Unit: "%", Values: []float64{100 * spent[name].Seconds() / sum.Seconds()}}
		b.add("of that: "+name, share, "", nil, nil)
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

// shown are the commands that a demo prints for a person to type.
var shown = regexp.MustCompile(`(?m)^    \$ (?:COSIGN_IDENTITY_TOKEN="\$\([^"]*\)" )?(.*)$`)

// demo measures demo:keyless, beside the commands that it shows, each run alone.
func (b *benchmark) demo(ctx context.Context) error {
	r := b.tuned
	if _, err := r.mage(ctx, "demo:keyless"); err != nil {
		return err
	}
	environ, err := r.clients(ctx)
	if err != nil {
		return err
	}
	demo, alone := bench.Series{Unit: "s"}, bench.Series{Unit: "s"}
	for run := range b.runs {
		b.step.Detail("run %d of %d", run+1, b.runs)
		took, said, err := r.run(ctx, "demo:keyless")
		if err != nil {
			return err
		}
		demo.Add(took.Seconds())
		token, took, err := r.token(ctx)
		if err != nil {
			return err
		}
		sum := took
		for _, line := range shown.FindAllStringSubmatch(said, -1) {
			if strings.HasPrefix(line[1], "eval ") {
				continue
			}
			cmd := command.New(ctx, r.config.Home(), append(slices.Clone(environ), "COSIGN_IDENTITY_TOKEN="+token), "sh", "-c", line[1])
			began := time.Now()
			// Some are there to be refused.
			if _, err := command.Combined(ctx, cmd); ctx.Err() != nil {
				return err
			}
			sum += time.Since(began)
		}
		alone.Add(sum.Seconds())
	}
	b.add("demo:keyless on a running stack", demo, "its commands, each run alone", &alone, atMost(1.2))
	_, err = r.mage(ctx, "stop")
	return err
}

// clients is the environment of the stack's clients.
func (r *rig) clients(ctx context.Context) ([]string, error) {
	if _, err := service.Secret(r.config, config.CosignPassword); err != nil {
		return nil, err
	}
	folders, err := client.GoFolders(ctx, r.config.Root)
	if err != nil {
		return nil, err
	}
	environ, err := client.Values(r.config, testEnviron(), client.Environment(r.config, client.Keys))
	return append(environ, folders...), err
}

// token signs in, and says how long that took.
func (r *rig) token(ctx context.Context) (string, time.Duration, error) {
	began := time.Now()
	token, err := idToken(ctx, r.config, r.config.Email)
	return token, time.Since(began), err
}

// keyless measures keyless signatures of a file, the ID token included, beside a stack with upstream's defaults.
func (b *benchmark) keyless(ctx context.Context) error {
	callers := []int{1, 8}
	type result struct {
		median, rate bench.Series
		all          bench.Load // of all runs, since a run has too few for a percentile
	}
	results := map[*rig]map[int]*result{}
	parts := map[string]*bench.Series{}
	var order []string
	part := func(name string, took time.Duration) {
		if parts[name] == nil {
			parts[name], order = &bench.Series{Unit: "ms"}, append(order, name)
		}
		parts[name].Add(milliseconds(took))
	}
	for _, r := range []*rig{b.tuned, b.plain} {
		results[r] = map[int]*result{}
		for _, n := range callers {
			results[r][n] = &result{median: bench.Series{Unit: "ms"}, rate: bench.Series{Unit: "/s"}}
		}
	}
	for run := range b.runs {
		for _, r := range []*rig{b.tuned, b.plain} {
			b.step.Detail("run %d of %d", run+1, b.runs)
			if _, err := r.mage(ctx, "start"); err != nil {
				return err
			}
			sign, err := r.signer(ctx)
			if err != nil {
				return err
			}
			for _, n := range callers {
				load, err := bench.Drive(ctx, n, 24+8*n, sign)
				if err != nil {
					return err
				}
				got := results[r][n]
				got.median.Add(milliseconds(load.Percentile(50)))
				got.rate.Add(load.Rate())
				got.all.Latencies = append(got.all.Latencies, load.Latencies...)
			}
			if r == b.tuned {
				if err := r.parts(ctx, part); err != nil {
					return err
				}
			}
			if _, err := r.mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	for _, n := range callers {
		name := fmt.Sprintf("keyless signature, %d at a time, ", n)
		ours, theirs := results[b.tuned][n], results[b.plain][n]
		b.add(name+"median", ours.median, "upstream's defaults", &theirs.median, atMost(0.7))
		b.add(fmt.Sprintf("%s99th percentile of %d", name, len(ours.all.Latencies)), high(ours.all), "upstream's defaults", new(high(theirs.all)), nil)
		b.add(name+"signatures a second", ours.rate, "upstream's defaults", &theirs.rate, nil)
	}
	for _, name := range order {
		b.add("of a keyless signature: "+name, *parts[name], "", nil, nil)
	}
	return nil
}

// high is the 99th percentile of a load.
func high(load bench.Load) bench.Series {
	slices.Sort(load.Latencies)
	return bench.Series{Unit: "ms", Values: []float64{milliseconds(load.Percentile(99))}}
}

// signer prepares keyless signatures by cosign.
func (r *rig) signer(ctx context.Context) (func(context.Context) error, error) {
	environ, err := r.clients(ctx)
	if err != nil {
		return nil, err
	}
	file := r.config.Data("bench.txt")
	if err := os.WriteFile(file, []byte("An artifact to sign.\n"), 0o600); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		token, _, err := r.token(ctx)
		if err != nil {
			return err
		}
		cmd := command.New(ctx, r.config.Home(), append(slices.Clone(environ), "COSIGN_IDENTITY_TOKEN="+token),
			r.config.Program("cosign"), "sign-blob", "--output-certificate="+os.DevNull, file)
		_, err = command.Output(ctx, cmd)
		return err
	}, nil
}

// parts times what a keyless signature consists of, each alone.
func (r *rig) parts(ctx context.Context, part func(name string, took time.Duration)) error {
	uploader, err := bench.NewUploader(r.config.URL(config.Rekor))
	if err != nil {
		return err
	}
	environ, err := r.clients(ctx)
	if err != nil {
		return err
	}
	token, took, err := r.token(ctx)
	if err != nil {
		return err
	}
	part("the token of Dex", took)
	for _, one := range []struct {
		name string
		run  func() error
	}{
		{"cosign's own start (cosign version)", func() error {
			_, err := command.Output(ctx, command.New(ctx, r.config.Home(), environ, r.config.Program("cosign"), "version"))
			return err
		}},
		{"the certificate of Fulcio, with its entry in the CT log", func() error {
			return fulcioclient.Certify(ctx, r.config.URL(config.Fulcio), token, r.config.Email)
		}},
		{"the entry in Rekor", func() error {
			_, err := uploader.Upload(ctx)
			return err
		}},
	} {
		began := time.Now()
		if err := one.run(); err != nil {
			return err
		}
		part(one.name, time.Since(began))
	}
	return nil
}

// upload measures uploads to Rekor by its API, beside a stack with upstream's defaults.
func (b *benchmark) upload(ctx context.Context) error {
	callers := []int{1, 16, 64}
	rates, medians := map[*rig][]bench.Series{}, map[*rig][]bench.Series{}
	for run := range b.runs {
		for _, r := range []*rig{b.tuned, b.plain} {
			b.step.Detail("run %d of %d", run+1, b.runs)
			if _, err := r.mage(ctx, "rekor:start"); err != nil {
				return err
			}
			for i, n := range callers {
				load, err := r.fill(ctx, n, 20+10*n)
				if err != nil {
					return err
				}
				if run == 0 {
					rates[r], medians[r] = append(rates[r], bench.Series{Unit: "/s"}), append(medians[r], bench.Series{Unit: "ms"})
				}
				rates[r][i].Add(load.Rate())
				medians[r][i].Add(milliseconds(load.Percentile(50)))
			}
			if _, err := r.mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	for i, n := range callers {
		name := fmt.Sprintf("upload to Rekor, %d at a time, ", n)
		b.add(name+"entries a second", rates[b.tuned][i], "upstream's defaults", &rates[b.plain][i], atLeast(2))
		b.add(name+"median", medians[b.tuned][i], "upstream's defaults", &medians[b.plain][i], nil)
	}
	return nil
}

// fill uploads so many entries from so many callers at a time.
func (r *rig) fill(ctx context.Context, callers, count int) (bench.Load, error) {
	uploader, err := bench.NewUploader(r.config.URL(config.Rekor))
	if err != nil {
		return bench.Load{}, err
	}
	return bench.Drive(ctx, callers, count, func(ctx context.Context) error {
		_, err := uploader.Upload(ctx)
		return err
	})
}

// growth measures how the whole stack does with ever more entries in the log, and what it takes of the machine.
func (b *benchmark) growth(ctx context.Context) error {
	r, err := b.stack.throwaway(filepath.Join(b.dir, "grown"), config.TunedLocal, config.ServiceNames(), b.tuned, b.plain)
	if err != nil {
		return err
	}
	defer func() { _, _ = r.mage(context.WithoutCancel(ctx), "stop") }()
	sizes := []int{100, 10000, b.entries}
	slices.Sort(sizes)
	sizes = slices.DeleteFunc(slices.Compact(sizes), func(size int) bool { return size > b.entries })
	if _, err := r.mage(ctx, "start"); err != nil {
		return err
	}
	var starts, signatures, memory, filled []bench.Series
	idle := bench.Series{Unit: "% of one processor"}
	entries := 0
	for i, size := range sizes {
		b.step.Detail("fills the log with %d entries", size)
		if _, err := r.fill(ctx, 64, size-entries); err != nil {
			return err
		}
		filled = append(filled, bench.Series{Unit: "MB", Values: []float64{r.memory(ctx)}})
		starts, signatures, memory = append(starts, bench.Series{Unit: "s"}), append(signatures, bench.Series{Unit: "ms"}), append(memory, bench.Series{Unit: "MB"})
		entries = size
		for run := range b.runs {
			b.step.Detail("%d entries, run %d of %d", size, run+1, b.runs)
			if _, err := r.mage(ctx, "stop"); err != nil {
				return err
			}
			took, err := r.mage(ctx, "start")
			if err != nil {
				return err
			}
			starts[i].Add(took.Seconds())
			memory[i].Add(r.memory(ctx))
			if i == 0 {
				const while = 3 * time.Second
				before := r.processor(ctx)
				time.Sleep(while)
				idle.Add(100 * (r.processor(ctx) - before).Seconds() / while.Seconds())
			}
			sign, err := r.signer(ctx)
			if err != nil {
				return err
			}
			load, err := bench.Drive(ctx, 1, 12, sign)
			if err != nil {
				return err
			}
			entries += 12
			signatures[i].Add(milliseconds(load.Percentile(50)))
		}
	}
	for i, size := range sizes[1:] {
		with := fmt.Sprintf(" with %d entries", size)
		b.add("keyless signature"+with, signatures[i+1], "itself with 100", &signatures[0], atMost(1.2))
		b.add("warm start of everything"+with, starts[i+1], "itself with 100", &starts[0], atMost(1.2))
	}
	if memory[0].Median() > 0 {
		b.add("resident memory of everything, idle", memory[0], "", nil, atMost(512))
		for i, size := range sizes[1:] {
			b.add(fmt.Sprintf("resident memory after the upload of %d entries", size), filled[i+1], "", nil, nil)
			b.add(fmt.Sprintf("resident memory with %d entries, started again", size), memory[i+1], "", nil, atMost(512))
		}
		b.add("processor time of everything, idle", idle, "", nil, nil)
	}
	return nil
}

// memory is the resident memory of all services in MB; 0 where the system does not tell.
func (r *rig) memory(ctx context.Context) float64 {
	sum := int64(0)
	for _, one := range services(r.config) {
		sum += r.engine.Status(ctx, one).Memory
	}
	return float64(sum) / (1 << 20)
}

// processor is the processor time that all services have taken; 0 where the system does not tell.
func (r *rig) processor(ctx context.Context) time.Duration {
	sum := time.Duration(0)
	for _, one := range services(r.config) {
		sum += platform.ProcessorTime(r.engine.Status(ctx, one).PID)
	}
	return sum
}

// commands measures the targets that one types all the time.
func (b *benchmark) commands(ctx context.Context) error {
	r := b.tuned
	if _, err := r.mage(ctx, "start"); err != nil {
		return err
	}
	for _, target := range []string{"-l", "status"} {
		series := bench.Series{Unit: "s"}
		for range b.runs {
			took, err := r.mage(ctx, target)
			if err != nil {
				return err
			}
			series.Add(took.Seconds())
		}
		b.add("go tool mage "+target, series, "", nil, atMost(0.5))
	}
	_, err := r.mage(ctx, "stop")
	return err
}
