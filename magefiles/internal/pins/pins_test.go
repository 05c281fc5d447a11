package pins

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// newPins makes a module that pins v1.0.0 of the tools example.org/tool and example.org/other, and a module proxy, in
// files, that has v1.1.0 too. That of tool needs that of other.
func newPins(t *testing.T) Pins {
	t.Helper()
	root, proxy := t.TempDir(), t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, module := range []string{"example.org/tool", "example.org/other"} {
		dir := filepath.Join(proxy, module, "@v")
		write(filepath.Join(dir, "list"), "v1.0.0\nv1.1.0\n")
		for _, version := range []string{"v1.0.0", "v1.1.0"} {
			mod := "module " + module + "\n\ngo 1.24\n"
			if module == "example.org/tool" && version == "v1.1.0" {
				mod += "\nrequire example.org/other v1.1.0\n"
			}
			write(filepath.Join(dir, version+".info"), `{"Version":"`+version+`","Time":"2026-01-01T00:00:00Z"}`)
			write(filepath.Join(dir, version+".mod"), mod)
			var archive bytes.Buffer
			z := zip.NewWriter(&archive)
			for name, content := range map[string]string{"go.mod": mod, "main.go": "package main\n\nfunc main() { println(\"" + version + "\") }\n"} {
				w, err := z.Create(module + "@" + version + "/" + name)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write([]byte(content)); err != nil {
					t.Fatal(err)
				}
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			write(filepath.Join(dir, version+".zip"), archive.String())
		}
	}
	write(filepath.Join(root, "go.mod"), "module example.org/root\n\ngo 1.24\n")
	cache := t.TempDir()
	p := Pins{Root: root, Environ: append(os.Environ(), "GOPROXY=file://"+proxy, "GONOSUMDB=*", "GOSUMDB=off", "GOFLAGS=-modcacherw", "GOMODCACHE="+cache, "GOWORK=off")}
	if _, err := p.run(t.Context(), "get", "-tool", "example.org/tool@v1.0.0", "example.org/other@v1.0.0"); err != nil {
		t.Fatal(err)
	}
	return p
}

// other is the pin that the tests do not move.
var other = Pin{Module: "example.org/other", Pinned: "v1.0.0", Newest: "v1.1.0"}

func TestWhatIsPinnedStandsBesideWhatIsNewest(t *testing.T) {
	p := newPins(t)
	want := []Pin{other, {Module: "example.org/tool", Pinned: "v1.0.0", Newest: "v1.1.0"}}
	if got, err := p.List(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	p.Environ = append(p.Environ, "GOPROXY=file:///no/such/folder")
	p.Repositories = map[string]string{"example.org/other": "/no/such/repository"}
	got, err := p.List(t.Context())
	if err != nil || len(got) != len(want) {
		t.Fatalf("without a proxy: %+v, %v", got, err)
	}
	for i, pin := range got {
		if pin.Newest != unknown || !strings.Contains(pin.Error, "/no/such/") || pin.Pinned != want[i].Pinned {
			t.Errorf("without a proxy: %+v", pin)
		}
	}
}

func TestAModuleIsFoundByTheEndOfItsPath(t *testing.T) {
	p := newPins(t)
	for _, name := range []string{"tool", "example.org/tool"} {
		if got, err := p.Find(name); err != nil || got != "example.org/tool" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "example.org", "third"} {
		if got, err := p.Find(name); err == nil {
			t.Errorf("%q is %q", name, got)
		}
	}
}

func TestNamesAreTheShortestThatAreFound(t *testing.T) {
	p := newPins(t)
	// Two modules end alike, so neither is known by its end.
	if _, err := p.run(t.Context(), "mod", "edit", "-require=example.com/x/v2@v2.0.0", "-require=example.net/x@v1.0.0", "-require=example.net/y/v3@v3.0.0"); err != nil {
		t.Fatal(err)
	}
	names, err := p.Names()
	if want := []string{"example.com/x/v2", "example.net/x", "y", "other", "tool"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v", names, err)
	}
	for _, name := range names {
		if _, err := p.Find(name); err != nil {
			t.Error(err)
		}
	}
}

func TestAPinIsMovedOrGoModStaysAsItWas(t *testing.T) {
	const moved = "example.org/tool: v1.1.0, which was v1.0.0"
	for _, test := range []struct {
		version string
		check   error
		want    string
	}{
		{"", nil, "v1.1.0"},
		{"v1.1.0", nil, "v1.1.0"},
		{"v1.1.0", errors.New("a test failed"), ""},
		{"v1.2.0", nil, ""},
	} {
		p := newPins(t)
		before := p.files(t)
		checked := ""
		var said bytes.Buffer
		err := p.move(t.Context(), "example.org/tool", test.version, &said, func(ctx context.Context) error {
			checked, _ = p.run(ctx, "list", "-m", "-f", "{{.Version}}", "example.org/tool")
			return test.check
		})
		if test.want == "" {
			if err == nil || !strings.Contains(err.Error(), "as they were") || p.files(t) != before {
				t.Errorf("%+v: %v:\n%s", test, err, p.files(t))
			}
			continue
		}
		if err != nil || strings.TrimSpace(checked) != test.want || p.files(t) == before {
			t.Errorf("%+v: %v, checked with %s", test, err, checked)
		}
		// The other is moved with it, which is said.
		for _, want := range []string{moved, "example.org/other: v1.1.0, which was v1.0.0"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%+v: it does not say %q: %s", test, want, &said)
			}
		}
	}
}

func TestAPinThatStaysIsNotChecked(t *testing.T) {
	p := newPins(t)
	before := p.files(t)
	var said bytes.Buffer
	err := p.move(t.Context(), "example.org/tool", "v1.0.0", &said, func(context.Context) error { return errors.New("it is checked") })
	if err != nil || p.files(t) != before || !strings.Contains(said.String(), "already") {
		t.Errorf("%v: %s", err, &said)
	}
}

func TestAnInterruptedMoveIsTakenBack(t *testing.T) {
	p := newPins(t)
	before := p.files(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := p.move(ctx, "example.org/tool", "", &bytes.Buffer{}, func(ctx context.Context) error {
		cancel()
		return context.Cause(ctx)
	})
	if !errors.Is(err, context.Canceled) || p.files(t) != before {
		t.Errorf("%v:\n%s", err, p.files(t))
	}
}

func (p Pins) files(t *testing.T) string {
	t.Helper()
	var all string
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(p.Root, name))
		if err != nil {
			t.Fatal(err)
		}
		all += string(content)
	}
	return all
}

func TestAReleaseWhoseTagIsNoVersionIsPinnedByItsCommit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git here")
	}
	p := newPins(t)
	repository := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", repository, "-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	var commits []string
	for _, tag := range []string{"v2.9.0", "v2.10.0"} {
		git("commit", "-q", "--allow-empty", "-m", tag)
		git("tag", "-a", "-m", tag, tag)
		commits = append(commits, git("rev-parse", "HEAD"))
	}
	git("tag", "v2.11.0-rc.1")
	p.Repositories = map[string]string{"example.org/tool": repository}
	if tags, err := p.tags(t.Context(), repository); err != nil || fmt.Sprint(tags) != fmt.Sprintf("[{v2.9.0 %s} {v2.10.0 %s}]", commits[0], commits[1]) {
		t.Errorf("got %v, %v", tags, err)
	}
	// The proxy knows no commits, so the pin cannot be moved. The test is that the proxy is asked for the commit.
	var said bytes.Buffer
	err := p.move(t.Context(), "example.org/tool", "v2.9.0", &said, func(context.Context) error { return nil })
	if want := "go get example.org/tool@" + commits[0]; err == nil || !strings.Contains(said.String(), want) {
		t.Errorf("it does not say %q: %q, %v", want, said.String(), err)
	}
	if err := p.move(t.Context(), "example.org/tool", "v2.8.0", &said, nil); err == nil || !strings.Contains(err.Error(), `no release "v2.8.0"`) {
		t.Errorf("got %v", err)
	}
	// go(1) finds what is not a release, such as a commit or a branch, whether or not the repository can be reached.
	said.Reset()
	p.Repositories["example.org/tool"] = "/no/such/repository"
	for _, version := range []string{commits[0][:12], "main", "v0.0.0-20260101000000-" + commits[0][:12]} {
		if err := p.move(t.Context(), "example.org/tool", version, &said, nil); err == nil || !strings.Contains(said.String(), "go get example.org/tool@"+version) {
			t.Errorf("%s: %v: %s", version, err, &said)
		}
	}
	p.Repositories["example.org/tool"] = repository
	if err := p.comment("example.org/tool", "v2.10.0"); err != nil {
		t.Fatal(err)
	}
	// go(1) keeps it.
	if _, err := p.run(t.Context(), "mod", "tidy"); err != nil {
		t.Fatal(err)
	}
	want := []Pin{other, {Module: "example.org/tool", Pinned: "v1.0.0", Release: "v2.10.0", Newest: "v2.10.0"}}
	if got, err := p.List(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	// A commit that replaces it and is not a release is not called one.
	if err := p.comment("example.org/tool", ""); err != nil {
		t.Fatal(err)
	}
	if got, err := p.List(t.Context()); err != nil || got[1].Version() != "v1.0.0" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAReleaseIsNamedByTheCommentBesideItsCommit(t *testing.T) {
	root := t.TempDir()
	const commit, before = "v0.0.0-20260303133905-11d2eeb52b42", "v0.0.0-20250303133905-aaaaaaaaaaaa"
	mod := "module example.org/root\n\nrequire (\n\texample.org/tool " + commit + " // indirect; release v2.45.1\n\texample.org/other v1.0.0 // indirect\n)\n"
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte(mod), 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := Releases(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ module, version, want string }{
		{"example.org/tool", commit, "v2.45.1"},
		{"example.org/tool", before, before},
		{"example.org/other", "v1.0.0", "v1.0.0"},
		{"example.org/another", commit, commit},
		{"example.org/root", "(devel)", "(devel)"},
	} {
		if got := name(test.module, test.version); got != test.want {
			t.Errorf("%s %s is called %q; want %q", test.module, test.version, got, test.want)
		}
	}
	if _, err := Releases(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a go.mod: %v", err)
	}
}

func BenchmarkReleases(b *testing.B) {
	for b.Loop() {
		if _, err := Releases("../../.."); err != nil {
			b.Fatal(err)
		}
	}
}
