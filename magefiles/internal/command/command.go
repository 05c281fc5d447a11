// Package command runs programs to their end, without a shell.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// New prepares program to run with args in the folder dir with exactly the environment env. It gets a process group of
// its own, and when ctx ends the whole group is asked to end and, if it has not after a second, killed: so no child of
// the program is left behind.
func New(ctx context.Context, dir string, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		group := -cmd.Process.Pid
		err := syscall.Kill(group, syscall.SIGTERM)
		time.AfterFunc(time.Second, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		return err
	}
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Error is a program's failure with what it said.
type Error struct {
	Program string
	Err     error // what became of the process
	Output  string
}

func (e *Error) Error() string {
	output := strings.TrimSpace(e.Output)
	if output == "" {
		return fmt.Sprintf("%s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("%s: %v:\n  | %s", e.Program, e.Err, strings.ReplaceAll(output, "\n", "\n  | "))
}

func (e *Error) Unwrap() error { return e.Err }

// Output runs cmd and returns its standard output. A failure is an *Error with what it wrote to standard error, or the
// reason for which ctx ended.
func Output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return stdout.String(), wrap(ctx, cmd, err, &stderr, &stdout)
}

// OwnOutput is Output for a program of this project's own: the text of the error is what that program wrote to standard error, and
// nothing else.
func OwnOutput(ctx context.Context, cmd *exec.Cmd) (string, error) {
	out, err := Output(ctx, cmd)
	if failure := (*Error)(nil); errors.As(err, &failure) && failure.Output != "" {
		err = errors.New(strings.TrimSpace(failure.Output))
	}
	return out, err
}

// Combined runs cmd and returns what it wrote to standard output and standard error, in the order in which it came. The writers
// in also get the same output while the program runs.
func Combined(ctx context.Context, cmd *exec.Cmd, also ...io.Writer) (string, error) {
	var output bytes.Buffer
	cmd.Stdout = io.MultiWriter(append(also, &output)...)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	return output.String(), wrap(ctx, cmd, err, &output)
}

func wrap(ctx context.Context, cmd *exec.Cmd, err error, said ...*bytes.Buffer) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failure := &Error{Program: filepath.Base(cmd.Path), Err: err}
	// exec.Error would name the program once more.
	if execErr := (*exec.Error)(nil); errors.As(err, &execErr) {
		failure.Err = execErr.Err
	}
	for _, output := range said {
		if failure.Output = output.String(); failure.Output != "" {
			break
		}
	}
	return failure
}

// GoTest runs go(1) in the folder dir, with this process's standard output and standard error. When ctx ends, the tests get 30
// seconds to remove what they have made.
func GoTest(ctx context.Context, dir string, environ []string, args ...string) error {
	cmd := New(ctx, dir, environ, "go", args...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
