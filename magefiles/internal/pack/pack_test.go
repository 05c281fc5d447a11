package pack

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

func TestAnArchitectureIsThatOfThisMachineOrHasACompiler(t *testing.T) {
	const upstream, ofGo, own = "example.org/fulcio", "github.com/google/ko", "sigstore-local/magefiles/cmd/hsm"
	s := &stack.Stack{
		Config: config.Config{Programs: "/bin-of-the-state"},
		Descriptions: stack.Descriptions{
			Services: func(config.Config) []service.Service { return []service.Service{{Packages: []string{upstream, own}}} },
			Clients:  func(config.Config) []service.Service { return []service.Service{{Packages: []string{ofGo}}} },
		},
	}
	here, other := runtime.GOARCH, "arm64"
	compiler, packages := "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross"
	if here == other {
		other, compiler, packages = "amd64", "x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu and libc6-dev-amd64-cross"
	}
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	for _, named := range []*string{nil, &here} {
		b, err := Builder(s, named)
		if err != nil || b.Architecture() != here || b.Programs() != "/bin-of-the-state" || len(b.Packages) != len(s.Programs()) {
			t.Errorf("this machine's own: %+v, %v", b, err)
		}
	}
	for _, unknown := range []string{"mips", "", "ARM64", "../bin"} {
		if _, err := Builder(s, &unknown); err == nil || !strings.Contains(err.Error(), "accepted are amd64 and arm64") {
			t.Errorf("%q: %v", unknown, err)
		}
	}
	if runtime.GOOS != "linux" {
		if _, err := Builder(s, &other); err == nil || !strings.Contains(err.Error(), here) {
			t.Errorf("%s on %s: %v", other, runtime.GOOS, err)
		}
		return
	}
	without := func(why string) {
		t.Helper()
		if _, err := Builder(s, &other); err == nil || !strings.Contains(err.Error(), compiler) || !strings.Contains(err.Error(), packages) {
			t.Errorf("%s: %v", why, err)
		}
	}
	without("without a compiler")
	script := func(text string) {
		if err := os.WriteFile(filepath.Join(folder, compiler), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script("echo 'stdlib.h: No such file or directory' >&2; exit 1")
	without("with a compiler that has no C library")
	script("exit 0")
	b, err := Builder(s, &other)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Ready(t.Context()); got != compiler || err != nil {
		t.Errorf("it compiles with %s, %v", got, err)
	}
	if want := "/bin-of-the-state/" + other; b.Architecture() != other || b.Programs() != want || !slices.Equal(b.Packages, []string{upstream}) {
		t.Errorf("it builds %v for %s into %s", b.Packages, b.Architecture(), b.Programs())
	}
}
