package build

import (
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
)

const launch = "sigstore-local/magefiles/cmd/launch"

// builder builds packages of the module at root into a folder of the test's own.
func builder(t *testing.T, root string, packages ...string) *Builder {
	t.Helper()
	discard, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { discard.Close() })
	return &Builder{
		Config:   config.Config{Root: root, Programs: filepath.Join(t.TempDir(), "bin")},
		Console:  console.New(discard, func(string) string { return "" }),
		Environ:  os.Environ(),
		Packages: packages,
		Ready:    func(context.Context) (string, error) { return "cc", nil },
	}
}

func checkout(t *testing.T) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := project.Root(wd)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// broken is a module of this project's name whose program does not compile.
func broken(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "go.mod"), "module sigstore-local\n\ngo 1.26\n")
	write(t, filepath.Join(root, "go.sum"), "")
	write(t, filepath.Join(root, "magefiles", "cmd", "launch", "main.go"), "package main\n\nfunc main() { undefinedThing() }\n")
	write(t, filepath.Join(root, "magefiles", "internal", "x.go"), "package internal\n")
	return root
}

func TestWhatIsBuiltIsNotBuiltAgain(t *testing.T) {
	b := builder(t, checkout(t), launch)
	if built, err := b.Built(); built || err != nil {
		t.Errorf("before: %v, %v", built, err)
	}
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if built, err := b.Built(); !built || err != nil {
		t.Errorf("after: %v, %v", built, err)
	}
	for _, name := range []string{"launch", Schema} {
		if info, err := os.Stat(b.Config.Program(name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.Ready = func(context.Context) (string, error) { return "", errors.New("it builds again") }
	if err := b.Run(t.Context()); err != nil {
		t.Error(err)
	}
	// A program that is gone, or cut to nothing, is built again.
	for _, damage := range []func(string) error{os.Remove, func(path string) error { return os.Truncate(path, 0) }} {
		b.Ready = func(context.Context) (string, error) { return "cc", nil }
		if err := damage(b.Config.Program("launch")); err != nil {
			t.Fatal(err)
		}
		if err := b.Run(t.Context()); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(b.Config.Program("launch")); err != nil || info.Size() == 0 {
			t.Errorf("it was not built again: %v", err)
		}
	}
}

// C code that nobody needs would be compiled for minutes.
func TestOnlyProgramsThatLoadModulesInCAreBuiltWithCgo(t *testing.T) {
	b := builder(t, checkout(t), launch, "sigstore-local/magefiles/cmd/hsm")
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"launch": "0", "hsm": "1"} {
		info, err := buildinfo.ReadFile(b.Config.Program(name))
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "CGO_ENABLED" })
		if at < 0 || info.Settings[at].Value != want {
			t.Errorf("%s: CGO_ENABLED is not %s: %v", name, want, info.Settings)
		}
	}
}

func TestAnotherArchitectureIsBuiltForWithItsOwnCompiler(t *testing.T) {
	for _, test := range []struct {
		cgo  bool
		arch string
		want map[string]string
	}{
		{false, "arm64", map[string]string{"GOARCH": "arm64", "CGO_ENABLED": "0", "CC": "the user's"}},
		{true, "arm64", map[string]string{"GOARCH": "arm64", "CGO_ENABLED": "1", "CC": "a compiler"}},
		{true, "amd64", map[string]string{"GOARCH": "amd64", "CGO_ENABLED": "1", "CC": "a compiler"}},
	} {
		test.want["GOFLAGS"] = Flags
		got := map[string]string{}
		for _, entry := range EnvFor([]string{"CC=the user's", "GOARCH=386", "GOFLAGS=-race"}, test.cgo, test.arch, "a compiler") {
			name, value, _ := strings.Cut(entry, "=") // the last value of a variable counts
			got[name] = value
		}
		for name, value := range test.want {
			if got[name] != value {
				t.Errorf("%s, cgo %v: %s is %q, not %q", test.arch, test.cgo, name, got[name], value)
			}
		}
	}
}

func TestProgramsForAnotherArchitectureAreBesideThoseThatRunHere(t *testing.T) {
	other, want := "arm64", elf.EM_AARCH64
	if runtime.GOARCH == other {
		other, want = "amd64", elf.EM_X86_64
	}
	compiler, err := platform.FindCrossCompiler(other)
	if err != nil {
		t.Skip(err)
	}
	b := builder(t, checkout(t), "sigstore-local/magefiles/cmd/hsm")
	here := *b
	b.Arch, b.Ready = other, func(context.Context) (string, error) { return compiler, nil }
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	program, err := elf.Open(filepath.Join(b.Config.Programs, other, "hsm"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	libraries, err := program.ImportedLibraries()
	if err != nil || program.Machine != want || len(libraries) == 0 {
		t.Errorf("it is for %s with the C libraries %v, %v", program.Machine, libraries, err)
	}
	if built, err := b.Built(); !built || err != nil {
		t.Errorf("there: %v, %v", built, err)
	}
	if built, err := here.Built(); built || err != nil {
		t.Errorf("here: %v, %v", built, err)
	}
	if _, err := os.Stat(here.Config.Program("hsm")); !os.IsNotExist(err) {
		t.Errorf("it is among the programs that run here: %v", err)
	}
}

func TestABuildThatFailsLeavesTheProgramsAndShowsTheCompilersWords(t *testing.T) {
	b := builder(t, broken(t), launch)
	write(t, b.Config.Program("launch"), "the program that was there")
	err := b.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "undefined: undefinedThing") {
		t.Errorf("got %v", err)
	}
	checkUntouched(t, b)
}

func TestABuildThatIsInterruptedLeavesThePrograms(t *testing.T) {
	b := builder(t, checkout(t), launch)
	write(t, b.Config.Program("launch"), "the program that was there")
	ctx, cancel := context.WithCancel(t.Context())
	b.Ready = func(context.Context) (string, error) {
		cancel()
		return "cc", nil
	}
	if err := b.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	checkUntouched(t, b)
}

func checkUntouched(t *testing.T, b *Builder) {
	t.Helper()
	content, err := os.ReadFile(b.Config.Program("launch"))
	if err != nil || string(content) != "the program that was there" {
		t.Errorf("the program is %q, %v", content, err)
	}
	if _, err := os.Stat(b.Config.Program(".new")); !os.IsNotExist(err) {
		t.Errorf("half a build is left: %v", err)
	}
}

func TestWithoutACompilerNothingIsBuilt(t *testing.T) {
	b := builder(t, checkout(t), launch)
	missing := errors.New("no compiler")
	b.Ready = func(context.Context) (string, error) { return "", missing }
	if err := b.Run(t.Context()); !errors.Is(err, missing) {
		t.Errorf("got %v", err)
	}
}

// Stacks share the folder of programs, and not all build the same.
func TestWhatAnotherStackHasBuiltStays(t *testing.T) {
	const sweep = "v3/other=sigstore-local/magefiles/cmd/sweep"
	b := builder(t, checkout(t), launch)
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Packages = []string{sweep}
	if built, err := b.Built(); built || err != nil {
		t.Errorf("before: %v, %v", built, err)
	}
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, packages := range [][]string{{sweep}, {launch}, {launch, sweep}} {
		b.Packages = packages
		if built, err := b.Built(); !built || err != nil {
			t.Errorf("%v: %v, %v", packages, built, err)
		}
	}
	for name, path := range map[string]string{"launch": launch, "v3/other": "sigstore-local/magefiles/cmd/sweep"} {
		info, err := buildinfo.ReadFile(filepath.Join(b.Config.Programs, name))
		if err != nil || info.Path != path {
			t.Errorf("%s is %v, %v", name, info, err)
		}
	}
}

// Two programs whose paths end with the same word cannot be written by one go build.
func TestProgramsOfTheSameNameAreBuiltOneAfterAnother(t *testing.T) {
	got := Layers([]string{"a/cosign", "b/launch", "v3/cosign=c/cosign", "one=d/posix", "two=e/posix"})
	want := [][]string{{"a/cosign", "b/launch", "one=d/posix"}, {"v3/cosign=c/cosign", "two=e/posix"}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v", got)
	}
}

func TestCIChecksWithTheFlagsOfTheBuilds(t *testing.T) {
	content, err := os.ReadFile("../../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	if want := "flags='" + Flags + "'\n"; !strings.Contains(string(content), want) {
		t.Errorf(".ci/run does not say %s: with others it compiles what the builds have compiled again", want)
	}
}
