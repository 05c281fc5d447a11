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

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/config"
)

// block is a block of commands on a page, with what the page says that they print.
type block struct {
	page     string // such as "docs/clients.md"
	line     int
	commands string
	prints   string // empty if the page does not say
	left     string // why no test runs it; empty if one does
}

// fence matches a block, with the mark on the line before it that says why no test runs it.
var fence = regexp.MustCompile("(?ms)^(?:<!-- Not run by a test: ([^\n]+) -->\n)?```([^\n]*)\n(.*?)^```$")

// blocks are those of a page in Markdown: each `sh` block, with the `text` block that comes next.
func blocks(page, text string) ([]block, error) {
	var all []block
	found := fence.FindAllStringSubmatchIndex(text, -1)
	for _, at := range found {
		kind, content := text[at[4]:at[5]], text[at[6]:at[7]]
		line := 1 + strings.Count(text[:at[4]], "\n")
		marked := at[2] >= 0
		switch kind {
		case "sh":
			b := block{page: page, line: line, commands: content}
			if marked {
				b.left = text[at[2]:at[3]]
			}
			all = append(all, b)
			continue
		case "text":
			last := len(all) - 1
			if last < 0 || all[last].prints != "" {
				return nil, fmt.Errorf("%s:%d: of which commands is this the output?", page, line)
			}
			all[last].prints = content
		case "yaml", "mermaid", "cue", "go", "python", "js":
		default:
			return nil, fmt.Errorf("%s:%d: a block of %q is none of sh, text, yaml, mermaid, cue, go, python, js", page, line, kind)
		}
		if marked {
			return nil, fmt.Errorf("%s:%d: no test runs a block of %q anyway", page, line, kind)
		}
	}
	if fences, marks := strings.Count(text, "```"), strings.Count(text, "<!-- Not run by a test"); fences != 2*len(found) {
		return nil, fmt.Errorf("%s: %d fences, and %d blocks that begin and end at the left margin", page, fences, len(found))
	} else if marked := strings.Count(strings.Join(fence.FindAllString(text, -1), ""), "<!-- Not run by a test"); marks != marked {
		return nil, fmt.Errorf("%s: %d of %d blocks that no test is to run lack the reason, or do not follow their mark at once", page, marks-marked, marks)
	}
	return all, nil
}

// pages are README.md and those in docs, with their blocks, in the order in which they are tried: the README's first,
// since it begins with an empty state folder.
func pages(t *testing.T, root string) [][]block {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]block
	for _, file := range append([]string{filepath.Join(root, "README.md")}, files...) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		found, err := blocks(page, string(content))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			all = append(all, found)
		}
	}
	return all
}

// TestThePagesDoWhatTheySay types the commands of every page, one page after another, into one fresh checkout.
func TestThePagesDoWhatTheySay(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	all := pages(t, s.config.Root)
	// As many people name such a folder.
	s.moveTo(filepath.Join(s.home, "Mes projets été & Co", "sigstore-local"))
	count := 0 // of the blocks that are run, if no pattern of go test's leaves out some
	for _, page := range all {
		for _, b := range page {
			if b.left == "" {
				count++
			}
		}
		t.Run(page[0].page, func(t *testing.T) {
			for _, b := range page {
				t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) {
					if b.left != "" {
						t.Skip(b.left)
					}
					s.in(t).try(b)
				})
			}
		})
	}
	if count < 8 {
		t.Errorf("the pages have only %d blocks of commands that are run", count)
	}
	s.must("stop")
}

// try runs a block as a reader would, and compares the output with the page.
func (s *stack) try(b block) {
	s.t.Helper()
	began := time.Now()
	var said string
	switch {
	case strings.Contains(b.commands, "go tool mage watch"):
		said = s.watched(b)
	case b.commands == "go tool mage demo:login\n":
		page := newBrowser(s.t)
		l := s.login()
		page.open(l.page)
		page.signIn(s.config.Email, s.password())
		l.succeeds(s.config.Email)
		said = l.out.String()
	default:
		said = s.typed(b)
	}
	s.t.Logf("took %s", time.Since(began).Round(100*time.Millisecond))
	if b.prints == "" {
		return
	}
	if err := s.prints(b.prints, said); err != nil {
		s.t.Errorf("%s:%d: %v. It printed:\n%s", b.page, b.line, err, said)
	}
}

// moveTo makes s the stack of a fresh checkout in folder. Its state folder has nothing but the programs, without their stamp,
// so that they count as not built.
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

// script is a block's commands for a shell of its own, with a state folder and ports that no other stack has.
func (s *stack) script(b block) string {
	elsewhere := strings.NewReplacer("/tmp/second", filepath.Join(s.home, "second"), "SIGLOCAL_PORT_OFFSET=10000", fmt.Sprintf("SIGLOCAL_PORT_OFFSET=%d", 10000+7*offsets.Add(1)))
	return "set -e\n" + elsewhere.Replace(b.commands)
}

// typed runs a block of commands, which must succeed, and returns what they print.
func (s *stack) typed(b block) string {
	s.t.Helper()
	r := s.run(s.config.Root, "sh", "-c", "exec 2>&1\n"+s.script(b))
	if r.code != 0 {
		s.t.Fatalf("%s:%d: %s", b.page, b.line, r)
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

// aside are patterns of texts that differ between runs and machines: times, durations, digests, ports.
var aside = []string{
	`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, `\d\d:\d\d:\d\d`, `(?:\d+m\d\ds|\d+\.\d+s)`, `[0-9a-f]{8,}`, `:\d{4,5}\b`,
}

var anyAside = regexp.MustCompile("…|" + strings.Join(aside, "|"))

// linePattern matches the outputs that a line of a page stands for. Texts that match aside, and what an ellipsis leaves out,
// may differ.
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

// signOfLife matches the line that a step prints after a while if there is no terminal.
var signOfLife = regexp.MustCompile(`^[\w-]+  .*\(\S+s\)$`)

// outputLines are the lines of an output that are compared. Steps that run side by side end in any order, so their lines are
// sorted.
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

// prints says whether an output is what a page says, where a line … stands for any number of lines.
func (s *stack) prints(expected, said string) error {
	// The reader's folder has a name that needs no quotes.
	for _, root := range []string{shellescape.Quote(s.config.Root), s.config.Root} {
		said = strings.ReplaceAll(said, root, "/home/you/sigstore-local")
	}
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

func TestWhatPagesSayIsComparedButForWhatIsAside(t *testing.T) {
	t.Parallel()
	var s stack
	s.config.Root = "/checkout"
	const expected = "✓ b is at localhost:1338 (0.1s)\n✓ a is in /home/you/sigstore-local (1m02s)\n…\nsha256:0123abcd… at 10:11:12\n"
	for said, want := range map[string]bool{
		"a           works (1m15s)\n✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\n": true,
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\n":                            true,
		"✓ b is at localhost:5338 (3m00s)\n✓ a is in /checkout (2.0s)\nmore\n\nsha256:aaaaaaaa at 00:00:00\n":                      true,
		"✓ c is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\n":                            false,
		"✓ a is in /elsewhere (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\n":                           false,
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at noon\n":                                false,
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\nsha256:aaaaaaaa22 at 00:00:00\nand more than that\n":        false,
		"✓ a is in /checkout (2.0s)\n✓ b is at localhost:5338 (3m00s)\n":                                                           false,
		"": false,
	} {
		if err := s.prints(expected, said); (err == nil) != want {
			t.Errorf("%q: %v", said, err)
		}
	}
}

func TestPagesHaveNoBlockThatNobodyTries(t *testing.T) {
	t.Parallel()
	const good = "Text.\n\n```sh\necho a\n```\n\n```text\na\n```\n\n<!-- Not run by a test: it is slow. -->\n```sh\nsleep 9\n```\n```yaml\na: b\n```\n"
	all, err := blocks("a.md", good)
	want := []block{{"a.md", 3, "echo a\n", "a\n", ""}, {"a.md", 12, "sleep 9\n", "", "it is slow."}}
	if err != nil || !slices.Equal(all, want) {
		t.Errorf("%v: %+v", err, all)
	}
	for what, text := range map[string]string{
		"another language":          "```bash\necho a\n```\n",
		"no language":               "```\necho a\n```\n",
		"within a list":             "- a\n\n  ```sh\n  echo a\n  ```\n",
		"without an end":            "```sh\necho a\n",
		"output of nothing":         "```text\na\n```\n",
		"left out without a reason": "<!-- Not run by a test: -->\n```sh\necho a\n```\n",
		"a mark too far away":       "<!-- Not run by a test: it is slow. -->\n\n```sh\necho a\n```\n",
		"a mark of what is not run": "<!-- Not run by a test: it is slow. -->\n```yaml\na: b\n```\n",
	} {
		if all, err := blocks("a.md", text); err == nil {
			t.Errorf("%s: got %+v", what, all)
		}
	}
}
