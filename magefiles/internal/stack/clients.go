package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/term"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/exitcode"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/statedir"
)

// ClientEnvironment lists the variables with which clients use the stack, and makes the secret that they name.
func (s *Stack) ClientEnvironment(trust client.Trust) ([]client.Variable, error) {
	_, err := statedir.Secret(s.Config, config.CosignPassword)
	return client.Environment(s.Config, trust), err
}

// ClientProcess is the environment of a process that is a client: environ, with the stack's variables.
func (s *Stack) ClientProcess(environ []string, trust client.Trust) ([]string, error) {
	variables, err := s.ClientEnvironment(trust)
	if err != nil {
		return nil, err
	}
	return client.Values(s.Config, environ, variables)
}

// Shell runs a command line of the user's with the stack's environment, and without the stack's lock. If the command fails,
// the error has its exit code.
func (s *Stack) Shell(ctx context.Context, line string) error {
	env, err := s.ClientProcess(os.Environ(), client.Trusts(s.Config)[0])
	if err != nil {
		return err
	}
	if err := s.Release(); err != nil {
		return err
	}
	// The command is the user's and has the user's HOME.
	env = append(env, "HOME="+os.Getenv("HOME"))
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = os.Getenv(project.CalledFrom), env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Mage gives a target five seconds to end after Ctrl-C. The command gets two of them, and stopping the services the rest.
	cmd.Cancel = func() error {
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return nil // Ctrl-C at a terminal reaches the command directly
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
		return exitcode.New(code, "%q ended with exit code %d", line, code)
	}
	return nil
}
