package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
)

// fromFile says, beside the programs of a checkout, of which revision they are.
const fromFile = ".from"

// CompileError is what the compiler says of a checkout.
type CompileError struct {
	Folder string
	Output string // as the compiler has written it
}

func (e *CompileError) Error() string {
	return fmt.Sprintf("%s does not build:\n%s", e.Folder, strings.TrimRight(e.Output, "\n"))
}

// Checkouts builds the programs of each component that is checked out, with the checkout's own go.mod, unless nothing in
// it has changed. The programs that stand there stay as they are if it does not build.
func (b *Builder) Checkouts(ctx context.Context) error {
	for _, component := range config.Components() {
		folder, ok := b.Config.Checkouts[component.Name]
		if !ok {
			continue
		}
		if err := b.checkout(ctx, component, folder, "-ldflags=-s -w"); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) checkout(ctx context.Context, component config.Component, folder string, flags ...string) error {
	programs := b.Config.CheckoutPrograms(component)
	stamp, err := contents(folder, flags)
	if err != nil {
		return err
	}
	if present, err := os.ReadFile(filepath.Join(programs, stampFile)); err == nil && stamp != "" && string(present) == stamp {
		return nil
	}
	compiler, err := b.Ready(ctx)
	if err != nil {
		return err
	}
	step := b.Console.Step("build")
	step.Detail("%s", folder)
	fresh := programs + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(programs, 0o700)); err != nil {
		step.Fail()
		return err
	}
	defer os.RemoveAll(fresh)
	// Go links only what is not up to date where it is built.
	if err := os.CopyFS(fresh, programsOnly{os.DirFS(programs)}); err != nil {
		step.Fail()
		return err
	}
	names := slices.Sorted(maps.Keys(component.Programs))
	args := append([]string{"build"}, flags...)
	args = append(args, "-o", fresh+"/")
	for _, name := range names {
		args = append(args, "./"+component.Programs[name])
	}
	out, err := command.Combined(ctx, command.New(ctx, folder, append(Env(b.Environ, true), "CC="+compiler), "go", args...))
	if err != nil {
		step.Fail()
		if ctx.Err() != nil {
			return err
		}
		if failure := (*exec.ExitError)(nil); errors.As(err, &failure) {
			return &CompileError{folder, out}
		}
		return fmt.Errorf("build %s: %w", folder, err)
	}
	revision := Revision(ctx, folder)
	for _, name := range names {
		if err := os.Rename(filepath.Join(fresh, name), filepath.Join(programs, name)); err != nil {
			step.Fail()
			return err
		}
	}
	err = errors.Join(
		renameio.WriteFile(filepath.Join(programs, fromFile), []byte(folder+" "+revision), 0o600),
		renameio.WriteFile(filepath.Join(programs, stampFile), []byte(stamp), 0o600))
	if err != nil {
		step.Fail()
		return err
	}
	step.Done("%s of %s %s", strings.Join(names, ", "), folder, revision)
	return nil
}

// Debug builds a program without optimization into the file out, with the paths of its sources, which a debugger shows:
// of the checkout that it is built from, if it is, or of the pinned module pkg is of.
func (b *Builder) Debug(ctx context.Context, program, pkg, out string) error {
	compiler, err := b.Ready(ctx)
	if err != nil {
		return err
	}
	folder, unoptimized := b.Config.Root, pkg
	if component, ok := b.Config.CheckedOut(program); ok {
		folder, pkg = b.Config.Checkouts[component.Name], "./"+component.Programs[program]
		unoptimized = component.Module
	} else if listed, err := command.Output(ctx, command.New(ctx, folder, Env(b.Environ, true), "go", "list", "-f", "{{.Module.Path}}", pkg)); err != nil {
		return err
	} else {
		unoptimized = strings.TrimSpace(listed)
	}
	step := b.Console.Step("build")
	step.Detail("%s to debug it", program)
	args := []string{"build", "-trimpath=false", "-gcflags=" + unoptimized + "/...=-N -l", "-o", out, pkg}
	said, err := command.Combined(ctx, command.New(ctx, folder, append(Env(b.Environ, true), "CC="+compiler), "go", args...))
	if err != nil {
		step.Fail()
		if failure := (*exec.ExitError)(nil); errors.As(err, &failure) {
			return &CompileError{folder, said}
		}
		return err
	}
	step.Done("%s, unoptimized, is %s", program, out)
	return nil
}

// From says of which checkout and revision a program was built; it is empty for a pinned one.
func From(c config.Config, program string) string {
	component, ok := c.CheckedOut(filepath.Base(program))
	if !ok {
		return ""
	}
	content, err := os.ReadFile(filepath.Join(c.CheckoutPrograms(component), fromFile))
	if err != nil {
		return c.Checkouts[component.Name]
	}
	return strings.TrimSpace(string(content))
}

// Revision is the revision of a checkout as git abbreviates it, with "-dirty" if files differ from it; empty if git knows
// none.
func Revision(ctx context.Context, folder string) string {
	out, err := exec.CommandContext(ctx, "git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

var localReplacement = regexp.MustCompile(`=>\s*\.`)

// contents identifies the files of a checkout by their names, sizes and times. It is empty if the checkout builds with
// folders beside it, whose files it does not know.
func contents(folder string, flags []string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return "", err
	}
	for _, line := range bytes.Split(mod, []byte("\n")) {
		if localReplacement.Match(line) && !bytes.Contains(line, []byte("=> ./")) {
			return "", nil
		}
	}
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, Flags, flags, folder)
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); name == ".git" || name == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an editor's, and gone
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(hash, path, info.Size(), info.ModTime().UnixNano(), info.Mode())
		return nil
	})
	return hex.EncodeToString(hash.Sum(nil)), err
}
