// Magefile is mage, for this project: it compiles the targets into state/bin/targets if that is not up to date, and runs
// them. It is the larger of the two programs that `go tool mage` is: each call of `go tool` reads all packages that its tool
// imports, of which mage's are many. So the smaller one, magefiles/cmd/mage, runs the compiled targets by itself, and calls
// this one only when something must be compiled or mage's own flags are used.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/magefile/mage/mage"

	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/runner"
)

func main() {
	runner.NoticeBrokenPipes()
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 1, err
	}
	root, err := project.Root(dir)
	if err != nil {
		return 1, err
	}
	wd := cmp.Or(os.Getenv(project.CalledFrom), dir)
	inv, cmd, err := mage.Parse(io.Discard, io.Discard, args)
	help := inv.Help && len(inv.Args) > 0
	if err != nil || cmd != mage.None || inv.Help && !help || inv.Autocomplete || inv.Dir != "" {
		// These are mage's own flags, so mage runs in this process: in the project's folder, unless the flag -d names another.
		if inv.Dir == "" {
			args = append([]string{"-d", root, "-w", root}, args...)
		}
		if inv.Dir == "" && inv.CompileOut != "" {
			compiled, err := runner.Find(root)
			if err != nil {
				return 1, err
			}
			held, err := onlyCompiler(compiled)
			if err != nil {
				return 1, err
			}
			defer held.Close()
		}
		if err := os.Chdir(wd); err != nil {
			return 1, err
		}
		var out runner.Output
		return out.Code(mage.ParseAndRun(&out, os.Stderr, os.Stdin, args)), nil
	}
	if len(inv.Args) == 0 && !inv.List {
		// Mage's own way to name the default target, a variable Default, does not compile for a target that takes flags.
		inv.Args = []string{"status"}
	}
	// Signals are caught, since go(1) reports success for a tool that a signal has ended.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	// A wrong word is found before anything is compiled, which takes long the first time.
	known, err := list(root, inv.GoCmd)
	if err != nil {
		return 1, err
	}
	if help {
		return runner.Help(known, inv.Args[0]), nil
	}
	if !inv.List {
		if code := runner.Check(known, inv.Args); code != 0 {
			return code, nil
		}
	}
	program, code, err := compile(root, inv)
	signal.Stop(signals)
	if code != 0 || err != nil {
		return code, err
	}
	if len(signals) > 0 {
		return 1, fmt.Errorf("ended by a signal: %s", <-signals)
	}
	return runner.Execute(command(program, inv), root, wd, true)
}

// command calls the compiled targets as inv says.
func command(program string, inv mage.Invocation) *exec.Cmd {
	cmd := exec.Command(program, inv.Args...)
	cmd.Env = append(os.Environ(), "MAGEFILE_GOCMD="+inv.GoCmd)
	if inv.Verbose {
		cmd.Env = append(cmd.Env, "MAGEFILE_VERBOSE=1")
	}
	if inv.List {
		cmd.Env = append(cmd.Env, "MAGEFILE_LIST=1")
	}
	if inv.Timeout > 0 {
		cmd.Env = append(cmd.Env, "MAGEFILE_TIMEOUT="+inv.Timeout.String())
	}
	return cmd
}

// compile brings the compiled targets up to date. Mage would ask `go build` at each call, which takes half a second to find
// that nothing has changed.
func compile(root string, inv mage.Invocation) (program string, code int, err error) {
	compiled, err := runner.Find(root)
	if err != nil {
		return "", 1, err
	}
	program, bin := compiled.Program, filepath.Dir(compiled.Program)
	if _, fresh := compiled.Fresh(); fresh && !inv.Force {
		return program, 0, nil
	}
	held, err := onlyCompiler(compiled)
	if err != nil {
		return "", 1, err
	}
	defer held.Close()
	// Another process may have compiled while this one waited, or somebody changed the sources.
	if compiled, err = runner.Find(root); err != nil {
		return "", 1, err
	}
	if _, fresh := compiled.Fresh(); fresh && !inv.Force {
		return program, 0, nil
	}
	// Without its stamp, a program that is written only in part does not pass for up to date. The other files are the
	// program, its stamp and its lock under the names that they had in earlier versions of this project.
	for _, file := range []string{compiled.StampFile(), filepath.Join(bin, "mage"), filepath.Join(bin, ".mage-from"), filepath.Join(bin, ".mage.lock")} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", 1, err
		}
	}
	known, err := list(root, inv.GoCmd)
	if err != nil {
		return "", 1, err
	}
	compile := inv
	compile.Dir, compile.WorkDir, compile.CompileOut, compile.List = root, root, program, false
	compile.Stdout, compile.Stderr, compile.Stdin = os.Stdout, os.Stderr, os.Stdin
	if code := mage.Invoke(compile); code != 0 {
		return "", code, nil
	}
	if err := renameio.WriteFile(compiled.ListFile(), known.Encode(), 0o644); err != nil {
		return "", 1, err
	}
	return program, 0, renameio.WriteFile(compiled.StampFile(), []byte(compiled.Stamp), 0o644)
}

// onlyCompiler waits until no other process compiles the targets of a project, and then keeps others from it until what it returns is closed:
// mage writes a main function into the magefiles' folder while it compiles, and deletes it afterwards.
func onlyCompiler(of runner.Compiled) (*lock.File, error) {
	if err := os.MkdirAll(filepath.Dir(of.LockFile()), 0o755); err != nil {
		return nil, err
	}
	for {
		held, err := lock.Acquire(of.LockFile())
		if other := (*lock.HeldError)(nil); !errors.As(err, &other) {
			return held, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
