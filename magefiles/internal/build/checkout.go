package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/project"
)

// fromFile is the name of the file, beside the programs of a checkout, that says which revision they were built from.
const fromFile = ".from"

// compileError is what the compiler says of a checkout.
type compileError struct {
	Folder string
	Output string // as the compiler has written it
}

func (e *compileError) Error() string {
	return fmt.Sprintf("%s does not build:\n%s", e.Folder, strings.TrimRight(e.Output, "\n"))
}

// Checkouts builds the programs of each checkout that has changed since it was last built, with the checkout's own go.mod. If a
// checkout does not compile, the programs that were built from it before stay. If only is not empty, the checkout of the source
// of that name is built, and those of other sources only if they were never built.
func (b *Builder) Checkouts(ctx context.Context, only string) error {
	for _, source := range b.Config.Sources() {
		folder, ok := b.Config.Checkouts[source.Name]
		if !ok || only != "" && source.Name != only && b.builtFrom(source) != "" {
			continue
		}
		if err := b.checkout(ctx, source, folder); err != nil {
			return err
		}
	}
	return nil
}

// builtFrom is the stamp of what the programs of a source were built from.
func (b *Builder) builtFrom(source config.Source) string {
	stamp, err := os.ReadFile(filepath.Join(b.Config.CheckoutPrograms(source), stampFile))
	if err != nil {
		return "" // they were never built
	}
	return string(stamp)
}

func (b *Builder) checkout(ctx context.Context, source config.Source, folder string) error {
	revision := revisionOf(ctx, folder)
	stamp, known, err := contents(folder, revision)
	if err != nil {
		return err
	}
	if known && b.builtFrom(source) == stamp {
		return nil
	}
	compiler, err := b.Ready(ctx)
	if err != nil {
		return err
	}
	programs := b.Config.CheckoutPrograms(source)
	if err := os.MkdirAll(programs, 0o700); err != nil {
		return err
	}
	from := strings.TrimSpace(folder + " " + revision)
	step := b.Console.Step("build")
	err = locked(ctx, programs+".lock", step, func() error {
		if err := b.buildCheckout(ctx, source, folder, compiler, step); err != nil {
			return err
		}
		return errors.Join(
			renameio.WriteFile(filepath.Join(programs, fromFile), []byte(from), 0o600),
			renameio.WriteFile(filepath.Join(programs, stampFile), []byte(stamp), 0o600))
	})
	if err != nil {
		step.Fail()
		return err
	}
	step.Done("%s of %s", strings.Join(slices.Sorted(maps.Keys(source.Programs)), ", "), from)
	return nil
}

func (b *Builder) buildCheckout(ctx context.Context, source config.Source, folder, compiler string, step *console.Step) error {
	programs := b.Config.CheckoutPrograms(source)
	fresh := programs + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		return err
	}
	args := []string{"build", "-v", "-ldflags=-s -w", "-o", fresh + "/"}
	cgo := false
	for _, name := range slices.Sorted(maps.Keys(source.Programs)) {
		// As in Builder.build: programs that are up to date are not linked again.
		if err := copyProgram(filepath.Join(fresh, linkedAs(source, name)), filepath.Join(programs, name)); err != nil {
			return err
		}
		args = append(args, "./"+source.Programs[name])
		cgo = cgo || NeedsC(name)
	}
	step.Detail("%s", folder)
	said, err := b.compile(ctx, command.New(ctx, folder, append(Env(b.Environ, cgo), "CC="+compiler), "go", args...), step, &progress{total: -1})
	if failure := (*exec.ExitError)(nil); errors.As(err, &failure) {
		return &compileError{folder, said}
	}
	if err != nil {
		return fmt.Errorf("build %s: %w", folder, err)
	}
	for name := range source.Programs {
		if err := os.Rename(filepath.Join(fresh, linkedAs(source, name)), filepath.Join(programs, name)); err != nil {
			return err
		}
	}
	return nil
}

// linkedAs is how go build calls a program of a checkout: by the last element of its path.
func linkedAs(source config.Source, name string) string {
	return path.Base(path.Join(source.Module, source.Programs[name]))
}

// Debug builds a program for debugging into the file out. The packages of its source, checked out or pinned, are compiled
// without optimization and with the paths of their files. All other packages are those of every build, and so mostly in the
// build cache.
func (b *Builder) Debug(ctx context.Context, program, pkg, out string) error {
	compiler, err := b.Ready(ctx)
	if err != nil {
		return err
	}
	folder, module := b.Config.Root, project.Module
	source, checkedOut := b.Config.CheckedOut(program)
	if source.Module != "" {
		module = source.Module
	}
	if checkedOut {
		folder, pkg = b.Config.Checkouts[source.Name], "./"+source.Programs[program]
	}
	paths, err := wholePaths(folder)
	if err != nil {
		return err
	}
	step := b.Console.Step("build")
	step.Detail("%s", program)
	args := []string{"build", "-v", "-gcflags=" + module + "/...=-N -l " + paths, "-o", out, pkg}
	said, err := b.compile(ctx, command.New(ctx, folder, append(Env(b.Environ, NeedsC(program)), "CC="+compiler), "go", args...), step, &progress{total: -1})
	if err != nil {
		step.Fail()
		if failure := (*exec.ExitError)(nil); errors.As(err, &failure) {
			return &compileError{folder, said}
		}
		return err
	}
	step.Done("%s, for debugging, is %s", program, out)
	return nil
}

// wholePaths is the compiler's flag, quoted as in GOFLAGS, that keeps the whole paths of files in folder, which Flags would trim.
// The flag names the folder: with a flag that is the same for every folder, the build cache would return packages with the paths
// of another checkout of the same module.
func wholePaths(folder string) (string, error) {
	for _, quote := range []string{"'", `"`} {
		if !strings.Contains(folder, quote) && !strings.Contains(folder, ";") && !strings.Contains(folder, "=>") {
			return quote + "-trimpath=" + folder + "=>" + folder + quote, nil
		}
	}
	return "", fmt.Errorf("the sources are in %q; accepted, to debug them, is a path without ; and => and without quotes of both kinds, which the compiler's flag -trimpath cannot be given: move them", folder)
}

// From is the checkout and the revision that a program was built from; empty for a pinned program.
func From(c config.Config, program string) string {
	source, ok := c.CheckedOut(filepath.Base(program))
	if !ok {
		return ""
	}
	content, err := os.ReadFile(filepath.Join(c.CheckoutPrograms(source), fromFile))
	if err != nil {
		return c.Checkouts[source.Name]
	}
	return strings.TrimSpace(string(content))
}

// revisionOf is the revision of a checkout, abbreviated, with "-dirty" if files differ from it or are new; empty if git
// knows none.
func revisionOf(ctx context.Context, folder string) string {
	// If the folder is in a larger repository, only changes in the folder count.
	out, err := exec.CommandContext(ctx, "git", "-C", folder, "status", "--porcelain=v2", "--branch", "--", ".").Output()
	if err != nil {
		return ""
	}
	revision, dirty := "", ""
	for line := range strings.Lines(string(out)) {
		if commit, ok := strings.CutPrefix(line, "# branch.oid "); ok {
			revision = commit[:min(len(commit), 12)]
		}
		if !strings.HasPrefix(line, "#") {
			dirty = "-dirty"
		}
	}
	return revision + dirty
}

// elsewhere matches a line of a go.mod that replaces a module by a folder outside of the checkout.
var elsewhere = regexp.MustCompile(`(?m)=>\s*"?(/|\S*\.\./)`)

// contents identifies what a checkout builds from: its revision, which is shown, and its files, by their names, sizes and
// times. known is false if it builds with folders outside of it.
func contents(folder, revision string) (stamp string, known bool, err error) {
	mod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return "", false, err
	}
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, Flags, folder, revision)
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
			return nil // an editor's temporary file, gone since it was listed
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(hash, path, info.Size(), info.ModTime().UnixNano(), info.Mode())
		return nil
	})
	return hex.EncodeToString(hash.Sum(nil)), !elsewhere.Match(mod), err
}
