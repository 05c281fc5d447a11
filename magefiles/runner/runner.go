// Package runner runs mage on this project's magefiles from any folder below the project's, several times at once.
package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
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
	about := inv.List || inv.Help && len(inv.Args) > 0
	if err != nil || cmd != mage.None || inv.Help && !about || inv.Autocomplete || inv.Dir != "" {
		// Mage answers by itself, from the project's folder unless another was asked for.
		if inv.Dir == "" {
			args = append([]string{"-d", root, "-w", root}, args...)
		}
		return mage.ParseAndRun(os.Stdout, os.Stderr, os.Stdin, args), nil
	}
	if len(inv.Args) == 0 && !about {
		// Mage's own way, a variable Default, does not compile for a target that takes flags.
		inv.Args = []string{"status"}
	}
	program, code, err := compile(root, inv)
	if code != 0 || err != nil {
		return code, err
	}
	return execute(program, root, wd, inv)
}

// compile brings the compiled magefiles up to date. Mage would ask `go build` at each call, which takes half a second to
// find that nothing has changed. It writes its main function into the magefiles' folder while it compiles, so only one
// process may do so at a time.
func compile(root string, inv mage.Invocation) (program string, code int, err error) {
	bin := filepath.Join(root, "state", "bin")
	program, stampFile := filepath.Join(bin, "mage"), filepath.Join(bin, ".mage-from")
	stamp, err := sources(root)
	if err != nil {
		return "", 1, err
	}
	if !inv.Force && compiled(program, stampFile, stamp) {
		return program, 0, nil
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", 1, err
	}
	held, err := waitFor(filepath.Join(bin, ".mage.lock"))
	if err != nil {
		return "", 1, err
	}
	defer held.Close()
	// Another process may have compiled while this one waited.
	if !inv.Force && compiled(program, stampFile, stamp) {
		return program, 0, nil
	}
	compile := inv
	compile.Dir, compile.WorkDir, compile.CompileOut, compile.List, compile.Help = root, root, program, false, false
	compile.Stdout, compile.Stderr, compile.Stdin = os.Stdout, os.Stderr, os.Stdin
	if code := mage.Invoke(compile); code != 0 {
		return "", code, nil
	}
	return program, 0, renameio.WriteFile(stampFile, []byte(stamp), 0o644)
}

// compiled says whether program was made from what stamp identifies.
func compiled(program, stampFile, stamp string) bool {
	content, err := os.ReadFile(stampFile)
	if err != nil || string(content) != stamp {
		return false
	}
	_, err = os.Stat(program)
	return err == nil
}

// sources identifies what the magefiles are compiled from: this project's own code and templates, the pinned modules, Go.
func sources(root string) (string, error) {
	hash := sha256.New()
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
			// Mage's main function comes and goes. Of the templates every file is compiled in.
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
	return hex.EncodeToString(hash.Sum(nil)), nil
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
	if inv.List {
		cmd.Env = append(cmd.Env, "MAGEFILE_LIST=1")
	}
	if inv.Help {
		cmd.Env = append(cmd.Env, "MAGEFILE_HELP=1")
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
