// Package runner runs this project's targets from any folder below the project's.
//
// `go tool mage` is two programs, since each call of `go tool` reads all packages that its tool imports, which takes longer
// the more there are. The small one, magefiles/cmd/mage, is this package and little else: it runs the compiled targets,
// state/bin/targets. The other one, magefiles/cmd/magefile, holds mage itself; the small one calls it only when something
// must be compiled or mage's own flags are used.
package runner

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/targets"
)

// Main does what mage.Main does, for the project that holds the working directory, and returns the exit code.
func Main() int {
	NoticeBrokenPipes()
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
	root, err := project.Root(wd)
	if err != nil {
		return 1, err
	}
	if len(args) == 0 {
		// Mage's own way to name the default target, a variable Default, does not compile for a target that takes flags.
		args = []string{"status"}
	}
	list, help := len(args) == 1 && args[0] == "-l", len(args) == 2 && args[0] == "-h"
	if list || help || !strings.HasPrefix(args[0], "-") {
		compiled, err := Find(root)
		if err != nil {
			return 1, err
		}
		known, fresh := compiled.Fresh()
		switch {
		case !fresh:
		case list:
			cmd := exec.Command(compiled.Program)
			cmd.Env = append(os.Environ(), "MAGEFILE_LIST=1")
			return Execute(cmd, root, wd, true)
		case help:
			return Help(known, args[1]), nil
		default:
			if code := Check(known, args); code != 0 {
				return code, nil
			}
			return Execute(exec.Command(compiled.Program, args...), root, wd, true)
		}
	}
	return Execute(exec.Command("go", append([]string{"tool", project.Module + "/magefiles/cmd/magefile"}, args...)...), root, wd, false)
}

// brokenPipe is the exit code of a process whose output nobody reads any longer, as a shell has it.
const brokenPipe = 128 + int(syscall.SIGPIPE)

// NoticeBrokenPipes makes it an error to write to a pipe that nobody reads any longer. Otherwise such a write would end this
// process by a signal, and the go(1) that has started this process would report that signal.
func NoticeBrokenPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// Output is standard output. It remembers whether nobody reads it any longer.
type Output struct{ broken bool }

func (o *Output) Write(text []byte) (int, error) {
	n, err := os.Stdout.Write(text)
	o.broken = o.broken || errors.Is(err, syscall.EPIPE)
	return n, err
}

// Code is the exit code of a program that would otherwise end with code.
func (o *Output) Code(code int) int {
	if o.broken {
		return brokenPipe
	}
	return code
}

// wrongWords is the exit code for a command line that cannot be run; it is mage's too.
const wrongWords = 2

// Check says on standard error what is wrong with the words that name targets and their arguments, and returns the exit code
// for that; 0 if nothing is wrong.
func Check(known targets.List, words []string) int {
	if err := known.Check(words); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return wrongWords
	}
	return 0
}

// Help prints what a target does and how it is called, and returns the exit code.
func Help(known targets.List, target string) int {
	text, err := known.Help(target)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return wrongWords
	}
	var out Output
	fmt.Fprintln(&out, text)
	return out.Code(0)
}

// Compiled is the program that mage makes of a project's magefiles, which runs its targets.
type Compiled struct {
	Program string // its path
	Stamp   string // identifies what it would be compiled from now
}

// Find is the program of the project in the folder root. It may not be compiled yet.
func Find(root string) (Compiled, error) {
	stamp, err := sources(root)
	return Compiled{filepath.Join(root, "state", "bin", "targets"), stamp}, err
}

// StampFile holds the Stamp of what the program was compiled from.
func (c Compiled) StampFile() string { return c.beside(".targets-from") }

// ListFile holds the list of the program's targets.
func (c Compiled) ListFile() string { return c.beside(".targets-list") }

// LockFile is locked while the program is compiled.
func (c Compiled) LockFile() string { return c.beside(".targets.lock") }

func (c Compiled) beside(name string) string { return filepath.Join(filepath.Dir(c.Program), name) }

// Fresh says whether the program and the list of its targets are there and up to date, and returns the list.
func (c Compiled) Fresh() (known targets.List, fresh bool) {
	content, err := os.ReadFile(c.StampFile())
	if err != nil || string(content) != c.Stamp {
		return nil, false
	}
	if _, err := os.Stat(c.Program); err != nil {
		return nil, false
	}
	known, err = targets.Read(c.ListFile())
	return known, err == nil
}

// sources identifies what the magefiles are compiled from: this project's own code and templates, the pinned modules, Go.
func sources(root string) (string, error) {
	hash := fnv.New128a()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, os.Getenv("GOFLAGS"), os.Getenv("CGO_ENABLED"))
	add := func(path string) error {
		content, err := os.ReadFile(path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(content), content)
		return err
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		if err := add(filepath.Join(root, file)); err != nil {
			return "", err
		}
	}
	for _, folder := range []string{"magefiles", "templates"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			// Mage's main function is there only while mage compiles. All files of templates are embedded.
			is := filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") && entry.Name() != "mage_output_file.go"
			if err != nil || entry.IsDir() || !is && folder != "templates" {
				return err
			}
			return add(path)
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

// wait waits until cmd has ended, and returns how. The first process of a container is also the parent of every process there that has
// lost its own, and collects how those end: the PID of a process of which nobody does stays taken.
func wait(cmd *exec.Cmd) (status syscall.WaitStatus, err error) {
	if os.Getpid() != 1 {
		err := cmd.Wait()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return 0, err
		}
		return cmd.ProcessState.Sys().(syscall.WaitStatus), nil
	}
	for {
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case pid == cmd.Process.Pid:
			return status, nil
		}
	}
}

// Execute runs cmd, in the folder root for a user who is in wd, and returns its exit code; that is 141, silently, if nobody reads
// its output any longer. With last, cmd is the compiled targets, and not another program that calls them.
//
// On a terminal, Ctrl-C reaches the targets directly. Elsewhere they get a process group of their own, and one signal for however
// many arrive here at once: `go tool` passes on a signal that its whole process group has got already, and mage takes a second
// one for the wish to end without cleaning up.
func Execute(cmd *exec.Cmd, root, wd string, last bool) (int, error) {
	cmd.Dir = root
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(cmd.Environ(), project.CalledFrom+"="+wd)
	interactive := term.IsTerminal(int(os.Stdin.Fd()))
	if last && !interactive {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	type end struct {
		status syscall.WaitStatus
		err    error
	}
	done := make(chan end, 1)
	go func() {
		status, err := wait(cmd)
		done <- end{status, err}
	}()
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
		case ended := <-done:
			switch status := ended.status; {
			case ended.err != nil:
				return 1, ended.err
			case status.Exited():
				return status.ExitStatus(), nil
			case status.Signal() == syscall.SIGPIPE:
				// The reader of the output may end before it, as head does, which is no error.
				return brokenPipe, nil
			default:
				return 1, fmt.Errorf("the targets ended by the signal %s", status.Signal())
			}
		}
	}
}
