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
	"strings"
	"testing"
)

// newPins makes a module that pins example.org/tool v1.0.0, and a module proxy, in files, that has v1.1.0 too.
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
	const module = "example.org/tool"
	dir := filepath.Join(proxy, module, "@v")
	write(filepath.Join(dir, "list"), "v1.0.0\nv1.1.0\n")
	for _, version := range []string{"v1.0.0", "v1.1.0"} {
		mod := "module " + module + "\n\ngo 1.24\n"
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
	write(filepath.Join(root, "go.mod"), "module example.org/root\n\ngo 1.24\n")
	cache := t.TempDir()
	p := Pins{Root: root, Environ: append(os.Environ(), "GOPROXY=file://"+proxy, "GONOSUMDB=*", "GOSUMDB=off", "GOFLAGS=-modcacherw", "GOMODCACHE="+cache, "GOWORK=off")}
	if _, err := p.run(t.Context(), "get", "-tool", module+"@v1.0.0"); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatIsPinnedStandsBesideWhatIsNewest(t *testing.T) {
	p := newPins(t)
	want := Pin{Module: "example.org/tool", Pinned: "v1.0.0", Newest: "v1.1.0"}
	if got, err := p.List(t.Context()); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, %v", got, err)
	}
	p.Environ = append(p.Environ, "GOPROXY=file:///no/such/folder")
	want.Newest = unknown
	if got, err := p.List(t.Context()); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("without a proxy: %+v, %v", got, err)
	}
}

func TestAModuleIsFoundByTheEndOfItsPath(t *testing.T) {
	p := newPins(t)
	for _, name := range []string{"tool", "example.org/tool"} {
		if got, err := p.Find(name); err != nil || got != "example.org/tool" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "example.org", "other"} {
		if got, err := p.Find(name); err == nil {
			t.Errorf("%q is %q", name, got)
		}
	}
}

func TestAPinIsMovedOrNothingIs(t *testing.T) {
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
		err := p.Move(t.Context(), "example.org/tool", test.version, &bytes.Buffer{}, func(ctx context.Context) error {
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

func TestAReleaseThatIsNoVersionIsItsCommit(t *testing.T) {
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
	// The proxy knows no commits, so that the pin cannot be moved there; that it is asked for the commit is what counts.
	var said bytes.Buffer
	err := p.Move(t.Context(), "example.org/tool", "v2.9.0", &said, func(context.Context) error { return nil })
	if want := "go get example.org/tool@" + commits[0]; err == nil || !strings.Contains(said.String(), want) {
		t.Errorf("it does not say %q: %q, %v", want, said.String(), err)
	}
	if err := p.Move(t.Context(), "example.org/tool", "v2.8.0", &said, nil); err == nil || !strings.Contains(err.Error(), `no release "v2.8.0"`) {
		t.Errorf("got %v", err)
	}
	if err := p.comment("example.org/tool", "v2.10.0"); err != nil {
		t.Fatal(err)
	}
	// go(1) keeps it.
	if _, err := p.run(t.Context(), "mod", "tidy"); err != nil {
		t.Fatal(err)
	}
	want := Pin{Module: "example.org/tool", Pinned: "v1.0.0", Release: "v2.10.0", Newest: "v2.10.0"}
	if got, err := p.List(t.Context()); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, %v", got, err)
	}
}
