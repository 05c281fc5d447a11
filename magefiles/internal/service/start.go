package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/statedir"
)

// Start runs s in the background and returns when it is ready; started is false if it ran already. An error says what to try.
// A service that is not ready in time is left running, to be examined.
func (e *Engine) Start(ctx context.Context, s Service, values Values) (started bool, err error) {
	if e.otherwise(s) {
		if err := e.Stop(ctx, s); err != nil {
			return false, err
		}
	}
	step := e.Console.Step(s.Name)
	defer func() {
		switch {
		case err != nil:
			step.Fail()
			err = fmt.Errorf("%s: %w", s.Name, err)
		case started:
			step.Done("is ready at %s", s.Address)
		default:
			step.Drop()
		}
	}()
	for {
		p, alive, err := e.running(s)
		if err != nil {
			return false, err
		}
		if !alive {
			break
		}
		err = e.waitReady(ctx, s, func() error {
			if !p.alive() {
				return errEnded
			}
			return nil
		})
		if !errors.Is(err, errEnded) {
			return false, err
		}
		// The daemon has ended while this waited for it, as after an interrupted stop: start it anew.
	}
	for _, port := range s.Listens {
		if err := e.waitPortFree(ctx, s, port); err != nil {
			return false, err
		}
	}
	if err := statedir.RoomFor(e.Config, statedir.Spare); err != nil {
		return false, err
	}
	for _, socket := range s.Sockets {
		if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	for _, name := range s.Templates {
		if err := Configure(e.Config, name, values); err != nil {
			return false, err
		}
	}
	cmd, err := e.launch(s)
	if err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := e.waitLocked(s, cmd.Process.Pid); err != nil {
		return false, err
	}
	return true, e.waitReady(ctx, s, func() error {
		select {
		case err := <-ended:
			return e.died(s, "it ended before it was ready (%s)", exitText(cmd, err))
		default:
			return nil
		}
	})
}

// waitLocked waits until the process pid, which launch runs in, holds the PID file of s or has ended. Without the lock, a stop
// after an interrupted start would not find the daemon.
func (e *Engine) waitLocked(s Service, pid int) error {
	for {
		held, err := lock.Holder(e.pidFile(s))
		if err != nil || held == pid || syscall.Kill(pid, 0) != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// errEnded says that a daemon that ran before has ended.
var errEnded = errors.New("it ended")

func exitText(cmd *exec.Cmd, err error) string {
	if cmd.ProcessState != nil {
		return cmd.ProcessState.String()
	}
	return err.Error()
}

// PortFree is an error if port cannot be listened on. The error names the process that holds it.
func PortFree(c config.Config, port config.Port) error {
	address := c.ListenAddress(port)
	// A child that is forked meanwhile would hold the port until it executes its program. Elsewhere than on Linux, Listen takes this lock
	// itself.
	if runtime.GOOS == "linux" {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
	}
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s, which %s moves: %w", address, port.Variable(), err)
	}
	return fmt.Errorf("%s is taken by %s: end that, or move this with %s or SIGLOCAL_PORT_OFFSET", address, platform.Listener(c.Address(port)), port.Variable())
}

// Check returns an error if s could not be started, whether it runs now or not: because of its program, its ports, the room on the
// disk, or what its configuration is made of.
func (e *Engine) Check(s Service) error {
	p, alive, err := e.running(s)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if _, err := exec.LookPath(s.Program); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	for _, port := range s.Listens {
		err := e.portFree(s, port)
		// A port that s itself holds is no obstacle. Under Delve, the listener is Delve's child, whose PID is not known here. If
		// the system does not tell who listens (the PID is 0), the listener is taken for s.
		if listener := platform.ListenerPID(e.Config.Address(port)); err != nil && alive && (listener == p.pid || listener == 0 || e.UnderDelve(s)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	if err := statedir.RoomFor(e.Config, statedir.Spare); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	for _, name := range s.Templates {
		if _, err := Render(e.Config, name, StandIns(), statedir.Secret); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// portFree is PortFree for a port of s. If s runs although its PID file was deleted, no target can stop it, and it still holds the
// port: the error then says how to end it.
func (e *Engine) portFree(s Service, port config.Port) error {
	err := PortFree(e.Config, port)
	if err == nil {
		return nil
	}
	pid := platform.ListenerPID(e.Config.Address(port))
	if _, alive, lockErr := e.running(s); pid == 0 || alive || lockErr != nil || platform.Program(pid) != s.Program {
		return err
	}
	return fmt.Errorf("%w (if that is this stack's own, whose PID file %s is gone, `kill %d` ends it)", err, e.pidFile(s), pid)
}

// waitPortFree is portFree, but for a port that no process is seen to hold it waits a second: a daemon that was killed gives its PID
// file up before its port.
func (e *Engine) waitPortFree(ctx context.Context, s Service, port config.Port) error {
	for end := time.Now().Add(time.Second); ; {
		err := e.portFree(s, port)
		if err == nil || platform.ListenerPID(e.Config.Address(port)) != 0 || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// launch starts the program of s in a session of its own, so that neither Ctrl-C nor a closed terminal ends it. Its output goes to
// a file: a pipe to this process would break when this process ends, and this process's own standard output, if that is a pipe,
// would stay open and keep its reader waiting.
func (e *Engine) launch(s Service) (*exec.Cmd, error) {
	if err := rotate(e.Config.Log(s.Name)); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(e.Config.Log(s.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := e.remember(s); err != nil {
		return nil, err
	}
	args := append([]string{e.pidFile(s), s.Program}, s.Args...)
	// Not CommandContext: the daemon outlives this process and its context.
	cmd := exec.Command(e.Config.Program("launch"), args...)
	cmd.Dir = e.Config.Home()
	cmd.Env = e.Env(s)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
}

// Env is the environment of s. Daemons do not get most of the user's variables: Rekor would read PORT, and other programs would
// read proxies and credentials.
func (e *Engine) Env(s Service) []string {
	env := []string{
		"HOME=" + e.Config.Home(),
		"TMPDIR=" + filepath.Join(e.Config.State, "tmp"),
	}
	for _, name := range []string{"PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	if e.Config.Tuning == config.TunedLocal {
		env = append(env, rareCollection...)
	}
	return append(env, s.Env...)
}

// rareCollection makes a Go program collect garbage when its heap has grown to five times what is in use, rather than to twice.
// The heap of a daemon is small at first, and collecting garbage each time that it doubles takes a sixth of a start. The memory
// limit, which no daemon reaches in normal use, makes collections frequent again before a large heap grows to five times its size.
var rareCollection = []string{"GOGC=400", "GOMEMLIMIT=256MiB"}

const (
	poll         = 4 * time.Millisecond
	probeTimeout = 5 * time.Second
)

// ErrHopeless is what a probe's error wraps if waiting does not help.
var ErrHopeless = errors.New("waiting does not help")

// waitReady asks s until it works. It gives up when ctx ends, after StartTimeout, or when dead returns an error.
func (e *Engine) waitReady(ctx context.Context, s Service, dead func() error) error {
	waiting, cancel := context.WithTimeout(ctx, e.StartTimeout)
	defer cancel()
	var answer error // the last error of a probe that was not cut short by the end of waiting
	for {
		probe, done := context.WithTimeout(waiting, probeTimeout)
		err := e.Ask(probe, s)
		done()
		if waiting.Err() == nil || answer == nil {
			answer = err
		}
		// This is checked after the probe: if the daemon has died, it may have been another process that answered.
		if deadErr := dead(); deadErr != nil {
			return deadErr
		}
		if err == nil || errors.Is(err, ErrHopeless) {
			return err
		}
		select {
		case <-time.After(poll):
		case <-waiting.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("wait until it is ready: %w", context.Cause(ctx))
			}
			return fmt.Errorf("it runs but is not ready after %s: %w\n%s", e.StartTimeout, answer, e.advice(s))
		}
	}
}

// died is the error of a daemon that ended by itself.
func (e *Engine) died(s Service, format string, args ...any) error {
	return fmt.Errorf("%s\n%s", fmt.Sprintf(format, args...), e.advice(s))
}

// advice shows the end of the log and says what to try.
func (e *Engine) advice(s Service) string {
	hint := s.Hint
	if hint == "" {
		hint = "fix what the log says, then run `" + project.Command + " start` again: it goes on from here"
	}
	return fmt.Sprintf("%sThe whole log: %s\nWhat to try: %s", LogTail(e.Config.Log(s.Name), 10), e.Config.Log(s.Name), hint)
}
