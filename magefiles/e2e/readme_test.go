package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// block is a block of commands in the README, with what it says that they print.
type block struct {
	line     int
	commands string
	prints   string // empty if it does not say
}

// blocks are those of a text in Markdown: each `sh` block, with the `text` block that comes next.
func blocks(t *testing.T, text string) []block {
	t.Helper()
	var all []block
	for _, found := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatchIndex(text, -1) {
		kind, content := text[found[2]:found[3]], text[found[4]:found[5]]
		line := 1 + strings.Count(text[:found[0]], "\n")
		switch kind {
		case "sh":
			all = append(all, block{line: line, commands: content})
		case "text":
			last := len(all) - 1
			if last < 0 || all[last].prints != "" {
				t.Fatalf("README.md:%d: of which commands is this the output?", line)
			}
			all[last].prints = content
		case "yaml", "mermaid":
		default:
			t.Fatalf("README.md:%d: a block of %q is none of sh, text, yaml, mermaid", line, kind)
		}
	}
	return all
}

func TestTheReadmeDoesWhatItSays(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	text := s.read(filepath.Join(s.config.Root, "README.md"))
	s.moveTo(filepath.Join(s.home, "sigstore-local"))
	count := 0
	for _, b := range blocks(t, text) {
		if b.commands == "go tool mage test\n" || strings.HasPrefix(b.commands, "kubectl ") {
			continue // that runs this; checkReadme looks at what a cluster would be given
		}
		count++
		t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) {
			s := s.in(t)
			began := time.Now()
			var said string
			switch {
			case strings.Contains(b.commands, "go tool mage watch"):
				said = s.watched(b)
			case b.commands == "go tool mage demo:login\n":
				page := newBrowser(t)
				l := s.login()
				page.open(l.page)
				page.signIn(s.config.Email, s.password())
				l.succeeds(s.config.Email)
				said = l.out.String()
			default:
				said = s.typed(b)
			}
			t.Logf("took %s", time.Since(began).Round(time.Second))
			if b.prints == "" {
				return
			}
			if err := s.prints(b.prints, said); err != nil {
				t.Errorf("README.md:%d: %v. It printed:\n%s", b.line, err, said)
			}
		})
	}
	if count < 8 {
		t.Errorf("the README has only %d blocks of commands", count)
	}
	s.must("stop")
}

// moveTo makes of s the stack of a fresh checkout in folder, with nothing in its state folder but the programs, which
// are still to be built.
func (s *stack) moveTo(folder string) {
	s.t.Helper()
	tracked, err := exec.Command("git", "-C", s.config.Root, "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	for name := range strings.Lines(string(tracked)) {
		name = strings.TrimSuffix(name, "\n")
		content, err := os.ReadFile(filepath.Join(s.config.Root, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		copied := filepath.Join(folder, name)
		for _, err := range []error{err, os.MkdirAll(filepath.Dir(copied), 0o755), os.WriteFile(copied, content, 0o755)} {
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
	programs := filepath.Join(folder, "state", "bin")
	for _, err := range []error{os.CopyFS(programs, os.DirFS(s.config.Programs)), os.Remove(filepath.Join(programs, ".built-from"))} {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	offset := fmt.Sprint("SIGLOCAL_PORT_OFFSET=", s.config.Port(config.Registry)-1338)
	if s.config, err = config.Load(folder, []string{offset}, parts...); err != nil {
		s.t.Fatal(err)
	}
	s.env = slices.DeleteFunc(s.env, func(entry string) bool { return strings.HasPrefix(entry, "SIGLOCAL_") })
	s.env = append(s.env, offset)
	s.t.Cleanup(s.killAll)
}

// script is what a reader types in a shell of its own, with places that no other stack has.
func (s *stack) script(b block) string {
	elsewhere := strings.NewReplacer("/tmp/second", filepath.Join(s.home, "second"), "SIGLOCAL_PORT_OFFSET=10000", fmt.Sprintf("SIGLOCAL_PORT_OFFSET=%d", 10000+7*offsets.Add(1)))
	return "set -e\n" + elsewhere.Replace(b.commands)
}

// typed runs a block of commands, which must succeed, and returns what they print.
func (s *stack) typed(b block) string {
	s.t.Helper()
	r := s.run(s.config.Root, "sh", "-c", "exec 2>&1\n"+s.script(b))
	if r.code != 0 {
		s.t.Fatalf("README.md:%d: %s", b.line, r)
	}
	return r.stdout
}

// watched runs a block that ends with a watch of rekor-tiles, plays who saves a file twice, the second time with a mistake,
// and ends it with Ctrl-C.
func (s *stack) watched(b block) string {
	s.t.Helper()
	if err := os.Mkdir(filepath.Join(s.home, "src"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	checkout := filepath.Join(s.home, "src", "rekor-tiles")
	if err := os.Rename(s.checkout("github.com/sigstore/rekor-tiles/v2"), checkout); err != nil {
		s.t.Fatal(err)
	}
	var out, progress syncBuffer
	cmd := s.command(context.Background(), s.config.Root, "sh", "-c", s.script(b))
	cmd.Stdout, cmd.Stderr = &out, &progress
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		_ = cmd.Wait()
	})
	s.t.Cleanup(end)
	source := filepath.Join(checkout, "cmd", "rekor-server", "posix", "app", "serve.go")
	original := s.read(source)
	for i, saved := range []string{original + "// A comment.\n", original + "a mistake\n", ""} {
		for limit := time.Now().Add(deadline); strings.Count(out.String(), "\n") <= i; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(limit) {
				s.t.Fatalf("round %d does not end: %s%s", i, &out, &progress)
			}
		}
		if saved == "" {
			break
		}
		if err := os.WriteFile(source, []byte(saved), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	end()
	return out.String()
}

// aside are the forms of what differs from one time and machine to the next: times, durations, digests, ports.
var aside = []string{
	`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, `\d\d:\d\d:\d\d`, `(?:\d+m\d\ds|\d+\.\d+s)`, `[0-9a-f]{8,}`, `:\d{4,5}\b`,
}

var anyAside = regexp.MustCompile("…|" + strings.Join(aside, "|"))

// linePattern is what a line of the README stands for: itself, but for what is aside, and for what an ellipsis leaves out.
func linePattern(line string) *regexp.Regexp {
	pattern, at := "^", 0
	for _, found := range anyAside.FindAllStringIndex(line, -1) {
		pattern += regexp.QuoteMeta(line[at:found[0]])
		text := line[found[0]:found[1]]
		at = found[1]
		form := slices.IndexFunc(aside, func(form string) bool { return regexp.MustCompile("^" + form + "$").MatchString(text) })
		if form < 0 {
			pattern += ".*"
		} else {
			pattern += aside[form]
		}
	}
	return regexp.MustCompile(pattern + regexp.QuoteMeta(line[at:]) + "$")
}

// signOfLife is what a step prints that takes long, without a terminal.
var signOfLife = regexp.MustCompile(`^  ?[\w-]+ .*\(\S+s\)$`)

// outputLines are the lines of an output that are compared. What goes on side by side ends in any order, so those lines
// are sorted.
func outputLines(text string) []string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		return strings.TrimSpace(line) == "" || signOfLife.MatchString(line)
	})
	for i := 0; i < len(lines); i++ {
		end := i
		for end < len(lines) && strings.HasPrefix(lines[end], "✓ ") {
			end++
		}
		slices.Sort(lines[i:end])
		i = max(i, end)
	}
	return lines
}

// prints says whether an output is what the README says, where a line … stands for any number of lines.
func (s *stack) prints(expected, said string) error {
	said = strings.ReplaceAll(said, s.config.Root, "/home/you/sigstore-local")
	said = regexp.MustCompile(`SIGLOCAL_PORT_OFFSET=\d+ `).ReplaceAllString(said, "")
	got, skipping := outputLines(said), false
	for _, line := range outputLines(expected) {
		if line == "…" {
			skipping = true
			continue
		}
		pattern := linePattern(line)
		for skipping && len(got) > 0 && !pattern.MatchString(got[0]) {
			got = got[1:]
		}
		switch {
		case len(got) == 0:
			return fmt.Errorf("nothing that is printed is\n%s", line)
		case !pattern.MatchString(got[0]):
			return fmt.Errorf("what is printed is\n%s\nand not\n%s", got[0], line)
		}
		got, skipping = got[1:], false
	}
	if len(got) > 0 && !skipping {
		return fmt.Errorf("it also prints\n%s", strings.Join(got, "\n"))
	}
	return nil
}

func TestWhatTheReadmeSaysIsComparedButForWhatIsAside(t *testing.T) {
	t.Parallel()
	var s stack
	s.config.Root = "/checkout"
	const expected = "✓ b is at localhost:1338 (0.1s)\n✓ a is in /home/you/sigstore-local (1m02s)\n…\nsha256:0123abcd… at 10:11:12\n"
	for said, want := range map[string]bool{
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\n":                     true,
		"✓ b is at localhost:5338 (3m00s)\n✓ a is in /checkout (2.0s)\nmore\n\nsha256:aaaaaaaa at 00:00:00\n":               true,
		"✓ c is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\n":                     false,
		"✓ a is in /elsewhere (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\n":                    false,
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at noon\n":                         false,
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\nand more than that\n": false,
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\n":                                                    false,
		"": false,
	} {
		if err := s.prints(expected, said); (err == nil) != want {
			t.Errorf("%q: %v", said, err)
		}
	}
}
