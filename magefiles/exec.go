package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/magefile/mage/mg"
	"golang.org/x/term"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/project"
)

// Exec starts the stack if need be, runs a command with its environment, stops what it started, and ends as the command.
func Exec(
	ctx context.Context,
	command string, // a command line for sh, such as 'npm test'
) error {
	s, err := load()
	if err != nil {
		return err
	}
	if command == "" {
		return errors.New(`the command is empty; accepted is a command line for sh, such as 'npm test'`)
	}
	// What another process is about to start is not this one's to stop.
	if err := s.hold(ctx); err != nil {
		return err
	}
	before, err := s.running()
	if err != nil {
		return err
	}
	failed := needs(ctx, Start)
	if failed == nil {
		failed = s.shell(ctx, command)
	}
	// On Ctrl-C too.
	if err := s.stopAllBut(context.WithoutCancel(ctx), before); err != nil {
		return errors.Join(failed, err)
	}
	return failed
}

// shell runs a command line with the stack's environment, and lets others change the stack meanwhile.
func (s *stack) shell(ctx context.Context, line string) error {
	if err := s.prepareClients(); err != nil {
		return err
	}
	if err := s.release(); err != nil {
		return err
	}
	env, err := client.Values(s.config, os.Environ(), client.Environment(s.config, client.Keys))
	if err != nil {
		return err
	}
	// The command is the user's and has the user's HOME.
	env = append(env, "HOME="+os.Getenv("HOME"))
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = os.Getenv(project.CalledFrom), env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Mage gives a target five seconds to end after Ctrl-C, two of which are the services'.
	cmd.Cancel = func() error {
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return nil // the terminal has sent it the signal
		}
		return cmd.Process.Signal(syscall.SIGINT)
	}
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return fmt.Errorf("run %q: %w", line, err)
	}
	code := cmd.ProcessState.ExitCode()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal()) // as a shell has it
	}
	if code != 0 {
		return mg.Fatalf(code, "%q ended with exit code %d", line, code)
	}
	return nil
}

// stopAllBut ends the services that are not named.
func (s *stack) stopAllBut(ctx context.Context, kept []string) error {
	var stops []any
	for _, component := range components() {
		if !slices.Contains(kept, component.describe(s.config).Name) {
			stops = append(stops, component.stop)
		}
	}
	return needs(ctx, stops...)
}
