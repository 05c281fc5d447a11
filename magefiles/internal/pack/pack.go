// Package pack makes an archive of a stack that runs without its sources: on a machine without Go and without a compiler.
package pack

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/targets"
	"sigstore-local/magefiles/runner"
)

// Command is the name of the program that is handed out, and what a person types before the name of a target.
const Command = "sigstore-local"

// Contents is what an archive holds.
type Contents struct {
	Folder string    `json:"folder"` // that holds all
	Time   time.Time `json:"time"`   // of each file
	Files  []File    `json:"files"`
}

// File is a file of an archive.
type File struct {
	Name    string `json:"name"`    // below the folder, with slashes
	From    string `json:"from"`    // the path of what it holds
	Program bool   `json:"program"` // it can be run
}

// needSources are the targets that are of no use without the sources.
var needSources = []string{
	"build", "test", "bench", "watch", "debug", "versions", "bump", "completion", "package", "image", "demo:attest",
}

var plainVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

// Version is the version that a user has named, or else what git says of the checkout.
func Version(ctx context.Context, root string, named *string) (string, error) {
	if named != nil {
		if !plainVersion.MatchString(*named) {
			return "", fmt.Errorf("-version is %q; accepted are 1 to 64 letters, digits or any of . _ + -", *named)
		}
		return *named, nil
	}
	said, err := command.Output(ctx, command.New(ctx, root, os.Environ(), "git", "describe", "--tags", "--always", "--dirty"))
	version := strings.TrimPrefix(strings.TrimSpace(said), "v")
	if err != nil || !plainVersion.MatchString(version) {
		return "", fmt.Errorf("git does not say which version of this checkout is packed: name one with -version")
	}
	return version, nil
}

// Time is when what is packed was made: SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), or else the time of
// the last commit, or now for a copy of the sources without git.
func Time(ctx context.Context, root string, getenv func(string) string) (time.Time, error) {
	text, from := getenv("SOURCE_DATE_EPOCH"), "SOURCE_DATE_EPOCH"
	if text == "" {
		said, err := command.Output(ctx, command.New(ctx, root, os.Environ(), "git", "log", "-1", "--format=%ct"))
		if err != nil {
			return time.Now().UTC().Truncate(time.Second), nil
		}
		text, from = strings.TrimSpace(said), "git's time of the last commit"
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("%s is %q; accepted are seconds since 1970", from, text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Builder builds the programs of an archive for the architecture that a user has named, or else for this machine's. For
// another one it leaves out this project's own programs, which Files builds, and ko, which needs Go.
func Builder(s *stack.Stack, named *string) (*build.Builder, error) {
	b := s.Builder()
	if named == nil {
		return b, nil
	}
	if known := platform.CrossArchitectures(); !slices.Contains(known, *named) {
		return nil, fmt.Errorf("-arch is %q; accepted are %s", *named, strings.Join(known, " and "))
	}
	if *named == runtime.GOARCH {
		return b, nil
	}
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("-arch is %q; accepted on another system than Linux is its own, which is %s", *named, runtime.GOARCH)
	}
	compiler, err := platform.FindCrossCompiler(*named)
	if err != nil {
		return nil, fmt.Errorf("-arch is %q, and %w", *named, err)
	}
	b.Arch = *named
	b.Packages = slices.DeleteFunc(b.Packages, func(pkg string) bool { return needsGo(pkg) || isOwn(pkg) })
	b.Ready = func(context.Context) (string, error) { return compiler, nil }
	return b, nil
}

// needsGo says whether a program is of no use without Go.
func needsGo(pkg string) bool {
	name, _ := build.Program(pkg)
	return name == "ko"
}

// isOwn says whether a program is of this project's own.
func isOwn(pkg string) bool {
	_, importPath := build.Program(pkg)
	return strings.HasPrefix(importPath, project.Module+"/")
}

// Archive writes an archive of the stack s, with the programs that b has built, into a folder, and returns its path.
func Archive(ctx context.Context, s *stack.Stack, b *build.Builder, version, folder string) (file string, err error) {
	at, err := Time(ctx, s.Config.Root, os.Getenv)
	if err != nil {
		return "", err
	}
	step := s.Console.Step("package")
	defer func() {
		if err != nil {
			step.Fail()
			return
		}
		step.Done("%s", file)
	}()
	staged, err := os.MkdirTemp(filepath.Join(s.Config.State, "tmp"), "package")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(staged)
	step.Detail("links the programs")
	contents := Contents{Folder: fmt.Sprintf("%s-%s-%s-%s", Command, version, runtime.GOOS, b.Architecture()), Time: at}
	if contents.Files, err = Files(ctx, s, b, staged); err != nil {
		return "", err
	}
	text, err := json.Marshal(contents)
	if err != nil {
		return "", err
	}
	description := filepath.Join(staged, "contents.json")
	if err := os.WriteFile(description, text, 0o600); err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	step.Detail("packs %d files", len(contents.Files))
	file = filepath.Join(folder, contents.Folder+".tar.zst")
	program, err := Tool(ctx, s.Config.Root, "archive", staged)
	if err != nil {
		return "", err
	}
	_, err = command.Output(ctx, command.New(ctx, s.Config.Root, os.Environ(), program, file, description))
	return file, err
}

// Tool builds the program name in magefiles/cmd, of the project in the folder root and for this machine, into the folder staged, and returns
// its path.
func Tool(ctx context.Context, root, name, staged string) (string, error) {
	program := filepath.Join(staged, name)
	_, err := command.Output(ctx, command.New(ctx, root, build.Env(os.Environ(), false), "go", "build", "-o", program, project.Module+"/magefiles/cmd/"+name))
	return program, err
}

// Files lists what is handed out, after making in the folder staged what is not there yet: the stack's programs, and further ones of this
// project's own.
func Files(ctx context.Context, s *stack.Stack, b *build.Builder, staged string, further ...string) ([]File, error) {
	flags := fmt.Sprintf("-s -w -X %s/magefiles/internal/project.Command=%s", project.Module, Command)
	var own []string
	var list []File
	for _, pkg := range slices.Concat(s.Programs(), further) {
		name, importPath := build.Program(pkg)
		source, fromCheckout := s.Config.CheckedOut(name)
		switch {
		case needsGo(pkg):
		case fromCheckout && b.Architecture() != runtime.GOARCH:
			return nil, fmt.Errorf("%s names a checkout, which is built for %s alone", source.Variable(), runtime.GOARCH)
		case fromCheckout:
			list = append(list, File{Name: "bin/" + name, From: s.Config.Program(name), Program: true})
		case isOwn(pkg):
			// This project's own programs say what a person types.
			own = append(own, importPath)
			list = append(list, File{Name: "bin/" + name, From: filepath.Join(staged, name), Program: true})
		default:
			list = append(list, File{Name: "bin/" + name, From: filepath.Join(b.Programs(), name), Program: true})
		}
	}
	compiler, err := b.Ready(ctx)
	if err != nil {
		return nil, err
	}
	own = append(own, project.Module+"/magefiles/cmd/sigstore-local")
	withC := slices.DeleteFunc(slices.Clone(own), func(pkg string) bool { return !build.NeedsC(pkg) })
	pure := slices.DeleteFunc(own, build.NeedsC)
	for _, one := range []struct{ env, packages []string }{
		{build.EnvFor(os.Environ(), true, b.Architecture(), compiler), withC},
		{build.EnvFor(os.Environ(), false, b.Architecture(), compiler), pure},
	} {
		args := append([]string{"build", "-ldflags=" + flags, "-o", staged + "/"}, one.packages...)
		if _, err := command.Output(ctx, command.New(ctx, s.Config.Root, one.env, "go", args...)); err != nil {
			return nil, err
		}
	}
	compiled := filepath.Join(staged, "targets")
	compile := command.New(ctx, s.Config.Root, build.Env(os.Environ(), false), "go", "tool", project.Module+"/magefiles/cmd/magefile", "-compile", compiled, "-goarch", b.Architecture(), "-ldflags", flags)
	if _, err := command.Combined(ctx, compile); err != nil {
		return nil, err
	}
	if err := writeList(s.Config.Root, filepath.Join(staged, "list")); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(staged, "README"), []byte(readme), 0o644); err != nil {
		return nil, err
	}
	list = append(list,
		File{Name: Command, From: filepath.Join(staged, Command), Program: true},
		File{Name: "bin/targets", From: compiled, Program: true},
		File{Name: "bin/.targets-list", From: filepath.Join(staged, "list")},
		File{Name: "README", From: filepath.Join(staged, "README")},
		File{Name: "LICENSE", From: filepath.Join(s.Config.Root, "LICENSE")},
		File{Name: "go.mod", From: filepath.Join(s.Config.Root, "go.mod")}, // which says the versions
	)
	if s.Config.HasDatabase() {
		list = append(list, File{Name: "bin/" + build.Schema, From: filepath.Join(b.Programs(), build.Schema)})
	}
	pages := filepath.Join(s.Config.Root, "templates", "dex")
	err = filepath.WalkDir(pages, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(pages, at)
		list = append(list, File{Name: path.Join("templates/dex", filepath.ToSlash(relative)), From: at})
		return err
	})
	return list, err
}

// writeList writes the list of the targets that are handed out.
func writeList(root, to string) error {
	compiled, err := runner.Find(root)
	if err != nil {
		return err
	}
	all, err := targets.Read(compiled.ListFile())
	if err != nil {
		return err
	}
	var kept targets.List
	for _, one := range all {
		if slices.ContainsFunc(needSources, func(name string) bool { return strings.EqualFold(name, one.Name) }) {
			continue
		}
		called := strings.NewReplacer(project.Command, Command)
		one.Synopsis, one.Comment = called.Replace(one.Synopsis), called.Replace(one.Comment)
		kept = append(kept, one)
	}
	return os.WriteFile(to, kept.Encode(), 0o644)
}

const readme = `Sigstore, the local way: a whole Sigstore on this machine.

    ./sigstore-local demo:keyless    signs an image and verifies who signed
    ./sigstore-local status          shows what runs
    ./sigstore-local stop            stops it
    ./sigstore-local -l              lists all targets

It needs SoftHSM and, unless SIGLOCAL_STACK=tiles is set, MariaDB, from your system's packages: it says which, and installs
them if it can without asking for a password. What it makes is in the folder state beside this file, or in that which
SIGLOCAL_STATE names.
`

// Sum writes the checksum of a file in the form of sha256sum(1) beside it, and returns the path.
func Sum(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	sum := name + ".sha256"
	return sum, os.WriteFile(sum, fmt.Appendf(nil, "%x  %s\n", hash.Sum(nil), filepath.Base(name)), 0o644)
}
