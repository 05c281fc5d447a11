// Package runner runs mage on this project's magefiles from any folder below the project's, several times at once.
package runner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/magefile/mage/mage"
	"golang.org/x/term"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/lock"
)

// Main does what mage.Main does, for the project that holds the working directory, and returns the exit code.
func Main() int {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
	}
	return code
}

func run(args []string) (int, error) {
	wd, err := os.Getwd()
	if err != nil {
		return 1, err
	}
	root, err := config.Root(wd)
	if err != nil {
		return 1, err
	}
	inv, cmd, err := mage.Parse(io.Discard, io.Discard, args)
	runsTargets := err == nil && cmd == mage.None && !inv.List && !inv.Help && !inv.Autocomplete && inv.Dir == ""
	if !runsTargets {
		// Mage answers by itself, from the project's folder unless another was asked for.
		if inv.Dir == "" {
			args = append([]string{"-d", root, "-w", root}, args...)
		}
		return mage.ParseAndRun(os.Stdout, os.Stderr, os.Stdin, args), nil
	}
	if len(inv.Args) == 0 {
		// Mage's own way, a variable Default, does not compile for a target that takes flags.
		inv.Args = []string{"status"}
	}
	program, code, err := compile(root, inv)
	if code != 0 || err != nil {
		return code, err
	}
	return execute(program, root, wd, inv)
}

// compile brings the compiled magefiles up to date. Mage writes its main function into the magefiles' folder while it
// compiles, so only one process may do so at a time.
func compile(root string, inv mage.Invocation) (program string, code int, err error) {
	bin := filepath.Join(root, "state", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", 1, err
	}
	held, err := waitFor(filepath.Join(bin, ".mage.lock"))
	if err != nil {
		return "", 1, err
	}
	defer held.Close()
	program = filepath.Join(bin, "mage")
	inv.Dir, inv.WorkDir, inv.CompileOut = root, root, program
	inv.Stdout, inv.Stderr, inv.Stdin = os.Stdout, os.Stderr, os.Stdin
	return program, mage.Invoke(inv), nil
}

func waitFor(path string) (*os.File, error) {
	for {
		held, err := lock.Acquire(path)
		if other := (*lock.HeldError)(nil); !errors.As(err, &other) {
			return held, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// execute runs the compiled magefiles. On a terminal, Ctrl-C reaches them directly; elsewhere they get a process group
// of their own and one signal for however many arrive here at once: `go tool` passes on what its whole group gets too,
// and mage takes a second signal for the wish to end without cleaning up.
func execute(program, root, wd string, inv mage.Invocation) (int, error) {
	cmd := exec.Command(program, inv.Args...)
	cmd.Dir = root
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "MAGEFILE_GOCMD="+inv.GoCmd, config.CalledFrom+"="+wd)
	if inv.Verbose {
		cmd.Env = append(cmd.Env, "MAGEFILE_VERBOSE=1")
	}
	if inv.Timeout > 0 {
		cmd.Env = append(cmd.Env, "MAGEFILE_TIMEOUT="+inv.Timeout.String())
	}
	interactive := term.IsTerminal(int(os.Stdin.Fd()))
	if !interactive {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var lastSent time.Time
	for {
		select {
		case sig := <-signals:
			if interactive && sig == syscall.SIGINT || time.Since(lastSent) < time.Second {
				continue
			}
			lastSent = time.Now()
			if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return 1, err
			}
		case err := <-done:
			exit := (*exec.ExitError)(nil)
			if err != nil && !errors.As(err, &exit) {
				return 1, err
			}
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			return 1, fmt.Errorf("the magefiles ended: %s", cmd.ProcessState)
		}
	}
}
