// Package build compiles the stack's programs from the versions that go.mod pins.
package build

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/project"
)

// tags are those of every build, so that all share their packages in the build cache: with netgo and osusergo packages are
// the same with cgo and without, and mysql leaves Trillian's other databases out.
const tags = "netgo,osusergo,mysql"

// Flags is the GOFLAGS of every build, ko's too.
const Flags = "-trimpath -buildvcs=false -tags=" + tags

// ImageFlags is the GOFLAGS of an image's build. Without symbol table and debug information, which nobody looks for in it, the
// program is linked and pushed in two thirds of the time.
const ImageFlags = Flags + " -ldflags=-s"

// Schema is the name, beside the programs, of Trillian's database schema as the pinned version has it.
const Schema = "trillian.sql"

// SchemaSource is the path of the schema in Trillian's source.
const SchemaSource = "storage/mysql/schema/storage.sql"

// stampFile is the name of the file, beside the programs, that says what they were built from.
const stampFile = ".built-from"

// NeedsC says whether a program needs cgo: those that load PKCS#11 modules do. With cgo, the others would contain C code for
// a database and a compression, whose compilation is a tenth of the work of a build.
func NeedsC(pkg string) bool {
	name, _ := Program(pkg)
	return slices.Contains([]string{"fulcio", "hsm"}, name)
}

// Program is the name of a program and its import path, of an element of service.Service.Packages.
func Program(pkg string) (name, importPath string) {
	name, importPath, ok := strings.Cut(pkg, "=")
	if !ok {
		return path.Base(pkg), pkg
	}
	return name, importPath
}

// Env is environ, with the variables that decide how Go builds set as this project needs them.
func Env(environ []string, cgo bool) []string {
	enabled := "0"
	if cgo {
		enabled = "1"
	}
	return append(slices.Clone(environ), "GOFLAGS="+Flags, "GOWORK=off", "CGO_ENABLED="+enabled)
}

// EnvFor is Env for the architecture arch, as Go names it. With cgo, compiler is the C compiler that compiles for arch.
func EnvFor(environ []string, cgo bool, arch, compiler string) []string {
	env := append(Env(environ, cgo), "GOARCH="+arch)
	if cgo {
		env = append(env, "CC="+compiler)
	}
	return env
}

// Builder builds Packages, programs in the form of service.Service.Packages, into the folder Programs. Programs that another
// stack of the checkout has had built there stay.
type Builder struct {
	Config   config.Config
	Console  *console.Console
	Environ  []string
	Packages []string
	// Arch is the architecture that the programs run on, as Go names it; this machine's if empty.
	Arch string
	// Ready is called before anything is compiled: it finds a C compiler for Arch or says how to get one.
	Ready func(context.Context) (compiler string, err error)
}

// Architecture is Arch, or this machine's if that is empty.
func (b *Builder) Architecture() string { return cmp.Or(b.Arch, runtime.GOARCH) }

// Programs is the folder of the programs: those for another architecture have one of their own, since this machine's run the
// stack.
func (b *Builder) Programs() string {
	if b.Architecture() == runtime.GOARCH {
		return b.Config.Programs
	}
	return filepath.Join(b.Config.Programs, b.Arch)
}

// Run builds the pinned programs, unless they are up to date. The old programs stay in place until all new ones are complete.
func (b *Builder) Run(ctx context.Context) error {
	if project.Packaged() {
		return nil
	}
	stamp, err := b.stamp()
	if err != nil {
		return err
	}
	if b.built(stamp) {
		return nil
	}
	compiler, err := b.Ready(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.Programs(), 0o755); err != nil {
		return err
	}
	step := b.Console.Step("build")
	err = locked(ctx, b.pinned(".lock"), step, func() error {
		// Another process may have built while this one waited.
		if b.built(stamp) {
			return nil
		}
		return b.build(ctx, step, compiler, stamp)
	})
	if err != nil {
		step.Fail()
		return fmt.Errorf("build: %w", err)
	}
	step.Done("%d programs are in %s", len(b.Packages), b.Programs())
	return nil
}

// Built says whether Run has nothing to do.
func (b *Builder) Built() (bool, error) {
	if project.Packaged() {
		return true, nil
	}
	stamp, err := b.stamp()
	return err == nil && b.built(stamp), err
}

// pinned is the path of a program as go.mod pins it.
func (b *Builder) pinned(name string) string { return filepath.Join(b.Programs(), name) }

// stamp identifies what the programs are built from: the pinned versions, this project's own code, the flags, Go.
func (b *Builder) stamp() (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, b.Architecture(), Flags)
	files := []string{filepath.Join(b.Config.Root, "go.mod"), filepath.Join(b.Config.Root, "go.sum")}
	for _, folder := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(b.Config.Root, "magefiles", folder), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		// Paths are relative to the checkout, so that one that is moved or copied with its programs need not build them
		// again.
		fmt.Fprintln(hash, strings.TrimPrefix(name, b.Config.Root))
		_, err = io.Copy(hash, f)
		_ = f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// builtFromStamp lists the programs, in the form of Packages, that were built from stamp.
func (b *Builder) builtFromStamp(stamp string) []string {
	content, err := os.ReadFile(b.pinned(stampFile))
	if err != nil {
		return nil // nothing is built
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	if lines[0] != stamp {
		return nil
	}
	return lines[1:]
}

// built says whether all programs are there and come from stamp.
func (b *Builder) built(stamp string) bool {
	known := b.builtFromStamp(stamp)
	return b.present(Schema) && !slices.ContainsFunc(b.Packages, func(pkg string) bool { return !slices.Contains(known, pkg) || !b.present(pkg) })
}

// present says whether a program is there, and not empty.
func (b *Builder) present(pkg string) bool {
	name, _ := Program(pkg)
	info, err := os.Stat(b.pinned(name))
	return err == nil && info.Size() > 0
}

// Layers puts the packages into groups in each of which the last elements of all paths differ. One go build writes all
// programs of a group into one folder, under these names.
func Layers(packages []string) [][]string {
	var all [][]string
	for _, pkg := range packages {
		_, importPath := Program(pkg)
		at := slices.IndexFunc(all, func(layer []string) bool {
			return !slices.ContainsFunc(layer, func(other string) bool {
				_, otherPath := Program(other)
				return path.Base(otherPath) == path.Base(importPath)
			})
		})
		if at < 0 {
			all, at = append(all, nil), len(all)
		}
		all[at] = append(all[at], pkg)
	}
	return all
}

// locked calls f with a lock on file, which every process takes that builds in the same folder.
func locked(ctx context.Context, file string, step *console.Step, f func() error) error {
	for {
		held, err := lock.Acquire(file)
		if err == nil {
			defer held.Close()
			return f()
		}
		other := (*lock.HeldError)(nil)
		if !errors.As(err, &other) {
			return err
		}
		step.Detail("waits for process %d, which builds", other.PID)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (b *Builder) build(ctx context.Context, step *console.Step, compiler, stamp string) error {
	fresh := b.pinned(".new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	step.Detail("reads the pinned modules")
	known := b.builtFromStamp(stamp)
	packages := slices.DeleteFunc(slices.Clone(b.Packages), func(pkg string) bool { return slices.Contains(known, pkg) && b.present(pkg) })
	pure := slices.DeleteFunc(slices.Clone(packages), NeedsC)
	withC := slices.DeleteFunc(slices.Clone(packages), func(name string) bool { return !NeedsC(name) })
	type goBuild struct {
		env, packages []string
		folder        string
	}
	// First those whose linking is short, since two calls of go(1) do not link side by side.
	var builds []goBuild
	for _, layer := range Layers(withC) {
		builds = append(builds, goBuild{EnvFor(b.Environ, true, b.Architecture(), compiler), layer, filepath.Join(fresh, fmt.Sprint(len(builds)))})
	}
	for _, layer := range Layers(pure) {
		builds = append(builds, goBuild{EnvFor(b.Environ, false, b.Architecture(), compiler), layer, filepath.Join(fresh, fmt.Sprint(len(builds)))})
	}
	stale := map[string]bool{}
	for _, one := range builds {
		if err := os.MkdirAll(one.folder, 0o755); err != nil {
			return err
		}
		var paths []string
		for _, pkg := range one.packages {
			name, importPath := Program(pkg)
			paths = append(paths, importPath)
			// The old program is copied, since go build links only programs that are not up to date in the folder that it
			// writes to.
			if err := copyProgram(filepath.Join(one.folder, path.Base(importPath)), b.pinned(name)); err != nil {
				return err
			}
		}
		// A program itself counts as stale until it is linked.
		const libraries = `{{if and .Stale (ne .Name "main")}}{{.ImportPath}}{{end}}`
		listed, err := command.Output(ctx, command.New(ctx, b.Config.Root, one.env, "go", append([]string{"list", "-deps", "-f", libraries}, paths...)...))
		if err != nil {
			return err
		}
		for _, name := range strings.Fields(listed) {
			stale[name] = true
		}
	}
	done := progress{total: len(stale)}
	for _, one := range builds {
		args := []string{"build", "-v", "-ldflags=-s -w", "-o", one.folder + "/"}
		for _, pkg := range one.packages {
			_, importPath := Program(pkg)
			args = append(args, importPath)
		}
		said, err := b.compile(ctx, command.New(ctx, b.Config.Root, one.env, "go", args...), step, &done)
		if failure := (*exec.ExitError)(nil); errors.As(err, &failure) {
			return &command.Error{Program: "go build", Err: err, Output: said}
		}
		if err != nil {
			return err
		}
	}
	folder, err := command.Output(ctx, command.New(ctx, b.Config.Root, Env(b.Environ, false), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian"))
	if err != nil {
		return err
	}
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(folder), SchemaSource))
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(fresh, Schema), schema, 0o644); err != nil {
		return err
	}
	// Without a stamp, a move that is interrupted halfway does not pass for a complete build.
	if err := os.Remove(b.pinned(stampFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(filepath.Join(fresh, Schema), b.pinned(Schema)); err != nil {
		return err
	}
	for _, one := range builds {
		for _, pkg := range one.packages {
			name, importPath := Program(pkg)
			if err := os.MkdirAll(filepath.Dir(b.pinned(name)), 0o755); err != nil {
				return err
			}
			if err := os.Rename(filepath.Join(one.folder, path.Base(importPath)), b.pinned(name)); err != nil {
				return err
			}
		}
	}
	for _, pkg := range known {
		if !slices.Contains(packages, pkg) {
			packages = append(packages, pkg)
		}
	}
	slices.Sort(packages)
	// The stamp is written last, so that an interrupted move is made again.
	return renameio.WriteFile(b.pinned(stampFile), []byte(stamp+"\n"+strings.Join(packages, "\n")+"\n"), 0o644)
}

// copyProgram copies a program, if it is there.
func copyProgram(to, from string) error {
	content, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

// progress is how many packages have been compiled, of how many; of unknown many if total is negative.
type progress struct{ compiled, total int }

func (b *Builder) show(step *console.Step, p progress) {
	switch {
	case p.total < 0:
		step.Detail("compiled %d packages", p.compiled)
	case p.compiled >= p.total:
		step.Detail("links the programs")
	case b.Console.Fancy():
		step.Detail("%s %d of %d packages", console.Bar(p.compiled, p.total), p.compiled, p.total)
	default:
		step.Detail("compiled %d of %d packages", p.compiled, p.total)
	}
}

// compile runs a `go build -v`, which names each package on its standard error when it has compiled it, and counts them. It
// returns all other lines, which are the compiler's messages.
func (b *Builder) compile(ctx context.Context, cmd *exec.Cmd, step *console.Step, done *progress) (said string, err error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.show(step, *done)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			step.Detail("%s", strings.TrimPrefix(line, "go: "))
		case len(strings.Fields(line)) == 1:
			done.compiled++
			b.show(step, *done)
		default:
			said += line + "\n"
		}
	}
	err = cmd.Wait()
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return said, err
}
