package build

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
)

// ko is a source of one program, in the top folder of its checkout.
var ko = config.Source{Name: "ko", Module: "github.com/google/ko", Programs: map[string]string{"ko": "."}}

// checkedOut is a builder that is told of a checkout of ko with one small program, under git.
func checkedOut(t *testing.T) (b *Builder, folder string, git func(args ...string) string) {
	t.Helper()
	folder = t.TempDir()
	git = func(args ...string) string {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git here")
	}
	write(t, filepath.Join(folder, "go.mod"), "module "+ko.Module+"\n\ngo 1.24\n")
	write(t, filepath.Join(folder, "main.go"), "package main\n\nfunc main() { println(\"first\") }\n")
	git("init", "-q")
	git("add", "-A")
	git("commit", "-qm", "first")
	b = builder(t, checkout(t))
	b.Config, _ = config.Load(b.Config.Root, []string{ko.Variable() + "=" + folder}, config.Part{Source: &ko})
	b.Config.Programs, b.Config.Built = filepath.Join(t.TempDir(), "bin"), t.TempDir()
	return b, folder, git
}

func run(t *testing.T, b *Builder) string {
	t.Helper()
	if err := b.Checkouts(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(b.Config.Program("ko")).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestACheckoutIsBuiltAndKnownByItsRevision(t *testing.T) {
	b, folder, git := checkedOut(t)
	check := func(said, mark string) {
		t.Helper()
		want := folder + " " + git("rev-parse", "HEAD")[:12] + mark
		if got := run(t, b); got != said {
			t.Errorf("what runs says %q, not %q", got, said)
		}
		if got := From(b.Config, "ko"); got != want {
			t.Errorf("it is from %q, not %q", got, want)
		}
	}
	check("first", "")
	write(t, filepath.Join(folder, "main.go"), "package main\n\nfunc main() { println(second) }\n")
	write(t, filepath.Join(folder, "new.go"), "package main\n\nconst second = \"second\"\n")
	check("second", "-dirty")
	git("checkout", "-q", "main.go")
	check("first", "-dirty") // a new file is a difference too
	git("add", "-A")
	git("commit", "-qm", "second")
	check("first", "")
	if err := os.RemoveAll(filepath.Join(folder, ".git")); err != nil {
		t.Fatal(err)
	}
	if got := run(t, b); got != "first" || From(b.Config, "ko") != folder {
		t.Errorf("without git it is %q from %q", got, From(b.Config, "ko"))
	}
}

func TestACheckoutThatDoesNotBuildLeavesItsProgramAndShowsTheCompilersWords(t *testing.T) {
	b, folder, _ := checkedOut(t)
	run(t, b)
	write(t, filepath.Join(folder, "main.go"), "package main\n\nfunc main() { undefinedThing() }\n")
	err := b.Checkouts(t.Context(), "")
	if failure := (*compileError)(nil); !errors.As(err, &failure) || !strings.Contains(err.Error(), "\n./main.go:3:15: undefined: undefinedThing") {
		t.Errorf("got %v", err)
	}
	if out, err := exec.Command(b.Config.Program("ko")).CombinedOutput(); err != nil || string(out) != "first\n" {
		t.Errorf("the program that was there says %q, %v", out, err)
	}
	// A restart of a service of another source is not kept from succeeding.
	if err := b.Checkouts(t.Context(), "rekor"); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(b.Config.CheckoutPrograms(ko)); err != nil {
		t.Fatal(err)
	}
	if err := b.Checkouts(t.Context(), "rekor"); err == nil {
		t.Error("a component that was never built passes for built")
	}
}

func TestAFolderThatACheckoutBuildsWithIsNoticedWhenItChanges(t *testing.T) {
	for _, where := range []string{"../beside", "/absolute", "./inside"} {
		b, folder, _ := checkedOut(t)
		at := filepath.Join(folder, where)
		if where == "/absolute" {
			at = filepath.Join(t.TempDir(), "absolute")
			where = at
		}
		write(t, filepath.Join(at, "go.mod"), "module example.org/other\n\ngo 1.24\n")
		write(t, filepath.Join(folder, "go.mod"), "module "+ko.Module+"\n\ngo 1.24\n\nrequire example.org/other v1.0.0\n\nreplace example.org/other => "+where+"\n")
		write(t, filepath.Join(folder, "main.go"), "package main\n\nimport \"example.org/other\"\n\nfunc main() { println(other.Word) }\n")
		for _, word := range []string{"one", "two"} {
			write(t, filepath.Join(at, "other.go"), "package other\n\nconst Word = \""+word+"\"\n")
			if got := run(t, b); got != word {
				t.Errorf("%s: it says %q, not %q", where, got, word)
			}
		}
		_ = os.RemoveAll(at)
	}
}

func TestAProgramIsBuiltForDebuggingInAFolderOfAnyName(t *testing.T) {
	for name, why := range map[string]string{"My 'Projects' ü&": "", `My "Projects" $x%`: "", `both ' and "`: "quotes of both kinds", "a;b": "without ;"} {
		b, folder, _ := checkedOut(t)
		moved := filepath.Join(t.TempDir(), name)
		if err := os.Rename(folder, moved); err != nil {
			t.Fatal(err)
		}
		b.Config.Checkouts["ko"] = moved
		if got := run(t, b); got != "first" {
			t.Errorf("%s: what runs says %q", name, got)
		}
		out := filepath.Join(t.TempDir(), "ko")
		err := b.Debug(t.Context(), "ko", "", out)
		if why != "" {
			if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), strconv.Quote(moved)) {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if program, err := os.ReadFile(out); err != nil || !strings.Contains(string(program), filepath.Join(moved, "main.go")) {
			t.Errorf("%s: the path of the source is not in the program: %v", name, err)
		}
	}
}
