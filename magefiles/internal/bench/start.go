package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// criticalPath is how long a start takes at least: alone has the time of each service, and a service starts only after those
// that it uses. Services that do not use each other start at the same time.
func criticalPath(services []service.Service, alone map[string]time.Duration) time.Duration {
	var until func(name string) time.Duration
	until = func(name string) time.Duration {
		at := slices.IndexFunc(services, func(one service.Service) bool { return one.Name == name })
		if at < 0 {
			return 0 // a file
		}
		before := time.Duration(0)
		for _, use := range services[at].Uses {
			used, _, _ := strings.Cut(use.Of, "/")
			before = max(before, until(used))
		}
		return before + alone[name]
	}
	longest := time.Duration(0)
	for _, one := range services {
		longest = max(longest, until(one.Name))
	}
	return longest
}

// warm is how long warm starts of a rig take.
type warm struct {
	byTool, byTargets Series // by `go tool mage start`, and by the compiled targets
	path              Series // the critical path
}

func newWarm() warm { return warm{Series{Unit: "s"}, Series{Unit: "s"}, Series{Unit: "s"}} }

// warm starts a rig that is stopped, in each way once, and stops it.
func (r *rig) warm(ctx context.Context, into *warm) error {
	for _, way := range []struct {
		series *Series
		start  func() (time.Duration, error)
	}{
		{&into.byTool, func() (time.Duration, error) { took, _, err := r.Mage(ctx, "start"); return took, err }},
		{&into.byTargets, func() (time.Duration, error) {
			began := time.Now()
			_, err := command.Combined(ctx, command.New(ctx, r.Config.Root, r.Environ, r.Config.Program("targets"), "start"))
			return time.Since(began), err
		}},
		{&into.path, func() (time.Duration, error) {
			alone := map[string]time.Duration{}
			for _, one := range r.rendered() {
				began := time.Now()
				if _, err := r.Engine.Start(ctx, one, nil); err != nil {
					return 0, err
				}
				alone[one.Name] = time.Since(began)
			}
			return criticalPath(r.rendered(), alone), nil
		}},
	} {
		took, err := way.start()
		if err != nil {
			return err
		}
		way.series.Add(took.Seconds())
		if _, _, err := r.Mage(ctx, "stop"); err != nil {
			return err
		}
	}
	return nil
}

// start measures a warm start, beside the daemons alone and beside other ways to start the same commands.
func (b *benchmark) start(ctx context.Context) error {
	r, err := b.rig(ctx, tuned)
	if err != nil {
		return err
	}
	started, list := newWarm(), Series{Unit: "s"}
	script, tmux := Series{Unit: "s"}, Series{Unit: "s"}
	for run := range b.Runs {
		b.step.Detail("run %d of %d", run+1, b.Runs)
		took, _, err := r.Mage(ctx, "-l")
		if err != nil {
			return err
		}
		list.Add(took.Seconds())
		if err := r.warm(ctx, &started); err != nil {
			return err
		}
		for _, other := range []struct {
			program string
			series  *Series
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
	b.add(name, started.byTool, "the daemons' critical path, each timed alone", &started.path, atMost(1.3))
	b.add("of that: what go tool takes until a target is called", list, "", nil, nil)
	b.add(name+" by the compiled targets, without go tool", started.byTargets, "the same", &started.path, atMost(1.3))
	if len(script.Values) > 0 {
		b.add(name, started.byTool, "a shell script, one after another", &script, atMost(1))
	}
	if len(tmux.Values) > 0 {
		b.add(name, started.byTool, "windows of tmux, with the old launch script's pauses", &tmux, atMost(1))
	}
	return nil
}

// byScript starts the daemons by a shell script that waits for each one's port, and ends them.
func (b *benchmark) byScript(ctx context.Context, r *rig) (time.Duration, error) {
	script := "set -eu\npids=\n"
	for _, one := range r.rendered() {
		script += fmt.Sprintf("%s >/dev/null 2>&1 &\npids=\"$pids $!\"\n", r.command(one))
		answers := fmt.Sprintf("[ -S %s ]", shellescape.Quote(one.Address))
		if len(one.Listens) > 0 {
			answers = fmt.Sprintf("(: </dev/tcp/127.0.0.1/%d) 2>/dev/null", r.Config.Port(one.Listens[0]))
		}
		// The script fails if the daemon ends before its port is open.
		script += fmt.Sprintf("until %s; do kill -0 $! || exit 1; sleep 0.02; done\n", answers)
	}
	// Two signals: Trillian's daemons sleep for seconds after one.
	script += "echo ready\nread -r _ || :\nkill $pids; sleep 0.3; kill $pids 2>/dev/null || :\nwait\n"
	for _, one := range r.rendered() {
		for _, socket := range one.Sockets {
			_ = os.Remove(socket)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stack.StartTimeout)
	defer cancel()
	cmd := command.New(ctx, r.Config.Home(), os.Environ(), "bash", "-c", script)
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
	// This kills the daemons that the script has left running.
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	ready := make([]byte, len("ready\n"))
	if _, err = out.Read(ready); err == nil {
		// A port is open a moment before the daemon answers.
		err = r.works(ctx, r.rendered()...)
	}
	took := time.Since(began)
	_ = in.Close()
	if waited := cmd.Wait(); err == nil {
		err = waited
	}
	return took, err
}

// command is the command line of a service, under the lock by which it is found and ended if this process is killed.
func (r *rig) command(one service.Service) string {
	launch := []string{r.Config.Program("launch"), r.Config.Run(one.Name + ".pid"), one.Program}
	return shellescape.QuoteCommand(slices.Concat([]string{"env"}, r.Engine.Env(one), launch, one.Args))
}

// works waits until services answer.
func (r *rig) works(ctx context.Context, services ...service.Service) error {
	ctx, cancel := context.WithTimeout(ctx, stack.StartTimeout)
	defer cancel()
	for _, one := range services {
		for {
			err := r.Engine.Ask(ctx, one)
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
// tutorial has: a second each after the log server and after Dex. In the old tutorial MariaDB ran already; here it is started, and
// byTmux waits for it.
func (b *benchmark) byTmux(ctx context.Context, r *rig) (time.Duration, error) {
	tmux := func(ctx context.Context, args ...string) (string, error) {
		args = append([]string{"-f", os.DevNull, "-S", r.Config.Run("tmux")}, args...)
		return command.Output(ctx, command.New(ctx, r.Config.Home(), os.Environ(), "tmux", args...))
	}
	defer func() {
		// The tmux server is ended even if Ctrl-C has ended ctx.
		ctx := context.WithoutCancel(ctx)
		pids, _ := tmux(ctx, "list-panes", "-a", "-F", "#{pane_pid}")
		endAll(strings.Fields(pids))
		_, _ = tmux(ctx, "kill-server")
	}()
	began := time.Now()
	for i, one := range r.rendered() {
		for _, socket := range one.Sockets {
			_ = os.Remove(socket)
		}
		window := []string{"new-window", "-d", "-t", "=bench:"}
		if i == 0 {
			window = []string{"new-session", "-d", "-s", "bench"}
		}
		if _, err := tmux(ctx, append(window, "exec "+r.command(one))...); err != nil {
			return 0, err
		}
		switch one.Name {
		case "mariadb":
			if err := r.works(ctx, one); err != nil {
				return 0, err
			}
		case "log-server", "dex":
			time.Sleep(time.Second)
		}
	}
	err := r.works(ctx, r.rendered()...)
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

// stop measures how long a stack that is in use takes to stop, beside one SIGTERM to each daemon, and counts the entries that
// were acknowledged before and are lost.
func (b *benchmark) stop(ctx context.Context) error {
	r, err := b.rig(ctx, tuned)
	if err != nil {
		return err
	}
	stop, term := Series{Unit: "s"}, Series{Unit: "s"}
	acknowledged, lost := 0, 0
	for run := range b.Runs {
		b.step.Detail("run %d of %d", run+1, b.Runs)
		for _, way := range []struct {
			series *Series
			end    func() (time.Duration, error)
		}{
			{&stop, func() (time.Duration, error) { took, _, err := r.Mage(ctx, "stop"); return took, err }},
			{&term, func() (time.Duration, error) { return r.terminate(ctx) }},
		} {
			if _, _, err := r.Mage(ctx, "start"); err != nil {
				return err
			}
			uploader, err := rekorlog.NewUploader(r.Config.URL(config.Rekor))
			if err != nil {
				return err
			}
			var mu sync.Mutex
			var uuids []string
			clients := make(chan error, 1)
			go func() {
				// The clients upload until the first upload fails.
				_, err := Drive(ctx, 4, 1<<30, func(ctx context.Context) error {
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
			if _, _, err := r.Mage(ctx, "rekor:start"); err != nil {
				return err
			}
			acknowledged += len(uuids)
			log, err := rekorlog.Open(r.Config.URL(config.Rekor), r.Config.Key("rekor.pub"))
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
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	b.add("stop, with four clients at work", stop, "", nil, atMost(1.5))
	b.add("stop, with four clients at work", stop, "one SIGTERM to each", &term, atMost(1))
	b.add(fmt.Sprintf("entries lost of %d that were acknowledged before a stop", acknowledged), Series{Values: []float64{float64(lost)}}, "", nil, atMost(0))
	return nil
}

// terminate sends each daemon one SIGTERM and waits until all have ended.
func (r *rig) terminate(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	holders := map[string]int{}
	for _, one := range r.rendered() {
		file := r.Config.Run(one.Name + ".pid")
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
