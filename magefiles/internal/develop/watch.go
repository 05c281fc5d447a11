// Package develop is for changing a part of Sigstore: it builds, restarts and tries a checkout at every save, and runs a
// service under a debugger.
package develop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/stack"
)

// Watch builds a source, restarts its services and runs its demo, at once and each time that a file of its checkout is saved,
// until ctx ends. name is that of the source, or of a service or client that is built from it.
func Watch(ctx context.Context, s *stack.Stack, name string) error {
	source, err := s.Source(name)
	if err != nil {
		return err
	}
	folder, ok := s.Config.Checkouts[source.Name]
	if !ok {
		return fmt.Errorf("%s is not set; accepted is the absolute path of a checkout of %s", source.Variable(), source.Module)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return watchLimits(err)
	}
	defer watcher.Close()
	if err := watchFolder(watcher, folder); err != nil {
		return err
	}
	s.Console.Printf("Watching %s, until Ctrl-C.", folder)
	for changed := []string{"everything"}; err == nil; {
		var outcome string
		if outcome, err = round(ctx, s, source); err == nil {
			fmt.Printf("%s  %s: %s\n", time.Now().Format(time.TimeOnly), strings.Join(changed, ", "), outcome)
			changed, err = nextChange(ctx, watcher, folder)
		}
	}
	if ctx.Err() == nil {
		return err
	}
	s.Console.Printf("No longer watching; the stack runs on.")
	return nil
}

// round builds, restarts and runs the demo, and returns the result in one line. It prints the output of a step that fails.
func round(ctx context.Context, s *stack.Stack, source config.Source) (string, error) {
	line := s.Console.Step(source.Name)
	defer line.Drop()
	var parts []string
	for _, step := range []struct{ name, target string }{{"build", "build"}, {"restart", source.Restart}, {"demo", source.Demo}} {
		if step.target == "" {
			continue // nothing of it runs in the background
		}
		line.Detail("%s", step.target)
		began := time.Now()
		said, err := child(ctx, s, step.target)
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		took := console.Duration(time.Since(began))
		if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
			said = strings.TrimSpace(said)
			if step.name == "demo" {
				// The demo's output before its error is the same each time, and left out.
				if at := strings.LastIndex(said, "\nError: "); at >= 0 {
					said = said[at+1:]
				}
			}
			s.Console.Printf("%s", said)
			return strings.Join(append(parts, fmt.Sprintf("✗ %s failed after %s", step.target, took)), ", "), nil
		}
		if err != nil {
			return "", err
		}
		parts = append(parts, step.name+" "+took)
	}
	return strings.Join(parts, ", ") + ", ✓ " + source.Demo + " holds", nil
}

// child runs a target in a process of its own, since mage runs each target once in a process, and returns what it says.
func child(ctx context.Context, s *stack.Stack, target string) (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, target)
	cmd.Dir = s.Config.Root
	// In a process group of its own the child gets Ctrl-C from this process only, and not from the terminal too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// watchFolder watches a folder and all folders below it. The system's watches are for one folder each.
func watchFolder(watcher *fsnotify.Watcher, folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since it was listed
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		if path != folder && ignored(path) {
			return filepath.SkipDir
		}
		return watchLimits(watcher.Add(path))
	})
}

// watchLimits names the limits on watches in errors for which the system's own messages are about disks and open files.
func watchLimits(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("no more folders can be watched (%w): raise fs.inotify.max_user_watches and fs.inotify.max_user_instances "+
			"with sysctl, or, where there is no inotify, the limit of open files with ulimit -n", err)
	}
	return err
}

// settle is how long nothing must change until a save counts as complete: editors and git write several files.
const settle = 150 * time.Millisecond

// nextChange waits until files have changed and names them.
func nextChange(ctx context.Context, watcher *fsnotify.Watcher, folder string) ([]string, error) {
	var changed []string
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case err := <-watcher.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return nil, fmt.Errorf("watch %s: %w", folder, err)
			}
			// More was saved during a round than the system's queue holds.
			changed = append(changed, ".")
		case event := <-watcher.Events:
			if event.Op == fsnotify.Chmod || ignored(event.Name) {
				continue
			}
			name, err := filepath.Rel(folder, event.Name)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(changed, name) {
				changed = append(changed, name)
			}
		case <-settled:
			// New folders among them are watched now, and not before: one that was moved can be watched only after its old
			// watch has ended.
			for _, name := range changed {
				if err := watchFolder(watcher, filepath.Join(folder, name)); err != nil {
					return nil, err
				}
			}
			return names(folder, changed), nil
		}
		settled = time.After(settle)
	}
}

// names are the first of the changed files of a folder, and how many more there are.
func names(folder string, changed []string) []string {
	if slices.Contains(changed, ".") {
		return []string{"very many files"}
	}
	// Files that are gone are mostly an editor's own. They are named only if there are no others, as when a file was deleted.
	if left := slices.DeleteFunc(slices.Clone(changed), func(name string) bool {
		_, err := os.Stat(filepath.Join(folder, name))
		return err != nil
	}); len(left) > 0 {
		changed = left
	}
	const named = 3
	if more := len(changed) - named; more > 0 {
		changed = append(changed[:named], fmt.Sprintf("%d more", more))
	}
	return changed
}

// ignored says whether path is not a source file: one of git's own, or one that an editor writes beside the edited file.
func ignored(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") || name == "4913" || name == "node_modules"
}
