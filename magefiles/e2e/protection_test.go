package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/rekorlog"
)

func TestEveryAttackIsNoticed(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	began := time.Now()
	r := s.must("demo:tamper")
	t.Logf("the attacks took %s", time.Since(began))
	attacks := regexp.MustCompile(`(?m)^(\d+)\. .+\n   (.+) notices: .+$`).FindAllStringSubmatch(r.stdout, -1)
	who := map[string]int{}
	for i, line := range attacks {
		if line[1] != fmt.Sprint(i+1) {
			t.Errorf("attack %d is number %s", i+1, line[1])
		}
		who[line[2]]++
	}
	want := map[string]int{}
	for _, one := range attack.All(s.config) {
		want[one.Who]++
	}
	if !maps.Equal(who, want) || len(attacks) < 14 {
		t.Errorf("%d attacks, noticed by %v, not by %v: %s", len(attacks), who, want, r)
	}
	t.Run("nothing of it is left", func(t *testing.T) {
		s := s.in(t)
		s.nothingInScratch()
		s.only(tutorial...)
		if watched := s.mage("rekor:monitor"); watched.code != 0 || !strings.Contains(watched.stderr, "The first look at the log") {
			t.Errorf("the log is not as it was: %s", watched)
		}
	})
	t.Run("who claims an identity by another CA is told from who has it", func(t *testing.T) {
		listed := s.in(t).must("rekor:monitor", "-identity="+s.config.Email).stdout
		claimed := strings.Count(listed, "a CA that is not this stack's")
		if lines := strings.Count(listed, "\n"); claimed != 1 || lines < 4 || strings.Count(listed, s.config.Email) != lines {
			t.Errorf("%d of %d lines are claims:\n%s", claimed, lines, listed)
		}
	})
	t.Run("an entry that stays rewritten is shown as such, and put back by the next start", func(t *testing.T) {
		s := s.in(t)
		log, err := rekorlog.Open(s.config.URL(config.Rekor), s.config.Key("rekor.pub"))
		if err != nil {
			t.Fatal(err)
		}
		other, err := log.Entry(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		// The entry as a demo:tamper that was killed leaves it.
		if err := database.Rewrite(t.Context(), s.config, 0, other.Body); err != nil {
			t.Fatal(err)
		}
		if entry, err := log.Entry(t.Context(), 0); err != nil || !bytes.Equal(entry.Body, other.Body) {
			t.Errorf("it is not rewritten: %v", err)
		}
		s.must("rekor:start")
		shown := s.must("rekor:show", "0").stdout
		if !strings.Contains(shown, s.config.Email+", as "+s.config.Issuer()+" says") || !strings.Contains(shown, "✓ the log's key has signed this root") {
			t.Error(shown)
		}
	})
}

// scratch is the folder in which stack.NewScratch makes scratch folders.
func (s *stack) scratch() string { return filepath.Join(s.config.State, "tmp") }

func (s *stack) nothingInScratch() {
	s.t.Helper()
	if left := processes(s.t, s.scratch()); len(left) > 0 {
		s.t.Errorf("left are processes %v", left)
	}
	if left, err := os.ReadDir(s.scratch()); err != nil || len(left) != 0 {
		s.t.Errorf("left are %v, %v", left, err)
	}
}

func TestAnAttackReliesOnNoOther(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	// Each needs something that others make too, when it comes first.
	for _, name := range []string{"rewritten-entry", "dated-back", "moved-signature", "other-audience"} {
		if r := s.must("demo:tamper", "-only="+name); !strings.Contains(r.stdout, "\n1. ") || !strings.Contains(r.stdout, "The attack was noticed.") {
			t.Errorf("%s: %s", name, r)
		}
	}
	t.Run("attackers' daemons end with the demo even if it is killed", func(t *testing.T) {
		for _, test := range []struct {
			name    string
			program *regexp.Regexp // the demo is killed once this runs in its scratch folder
		}{{"other-ct-log", regexp.MustCompile("ct_server")}, {"two-histories", regexp.MustCompile("mariadbd")}, {"two-histories", regexp.MustCompile("/sweep$")}} {
			s := s.in(t)
			cmd := s.command(t.Context(), s.config.Root, s.config.Program("targets"), "demo:tamper", "-only="+test.name)
			var output syncBuffer
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			daemons := func() int {
				count := 0
				for _, pid := range processes(t, s.scratch()) {
					if program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && test.program.MatchString(program) {
						count++
					}
				}
				return count
			}
			for end := time.Now().Add(time.Minute); daemons() == 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("no attacker's daemon runs: %s", &output)
				}
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if left, err := os.ReadDir(s.scratch()); err == nil && len(left) == 0 && len(processes(t, s.scratch())) == 0 {
					break
				}
			}
			s.nothingInScratch()
		}
	})
}

func TestTheMonitorNoticesALogWithTwoHistories(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	data := s.config.Data("mariadb")
	s.must("rekor:start")
	add := func(name string) {
		s.t.Helper()
		artifact := s.file(name, name)
		s.mustSign(artifact)
	}
	add("one")
	s.must("stop")
	if err := os.CopyFS(data+".older", os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	s.must("rekor:start")
	add("two")
	first := s.must("rekor:monitor")
	if strings.Count(first.stdout, "\n") != 2 || !strings.Contains(first.stderr, "it has 2 entries, 0 to 1") {
		t.Errorf("%s", first)
	}
	add("three")
	if grown := s.must("rekor:monitor"); strings.Count(grown.stdout, "\n") != 1 || !strings.Contains(grown.stderr, "only grown since the last look, from 2 to 3") {
		t.Errorf("%s", grown)
	}
	if same := s.must("rekor:monitor"); same.stdout != "" || !strings.Contains(same.stderr, "Nothing is new") {
		t.Errorf("%s", same)
	}
	t.Run("it goes on until Ctrl-C when it is to watch", func(t *testing.T) {
		s := s.in(t)
		var out, progress syncBuffer
		cmd := s.command(t.Context(), s.config.Root, "go", "tool", "mage", "rekor:monitor", "-watch")
		cmd.Stdout, cmd.Stderr = &out, &progress
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor := func(output *syncBuffer, text string) {
			t.Helper()
			for end := time.Now().Add(time.Minute); !strings.Contains(output.String(), text); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("it does not say %q: %s%s", text, &out, &progress)
				}
			}
		}
		waitFor(&progress, "Watching the log")
		s.must("rekor:stop")
		waitFor(&progress, "The log does not answer")
		s.must("rekor:start")
		add("four")
		waitFor(&out, "3\t")
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%v: %s%s", err, &out, &progress)
		}
	})
	s.must("stop")
	for _, err := range []error{os.RemoveAll(data), os.Rename(data+".older", data)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.must("rekor:start")
	for _, shrunk := range []bool{true, false} {
		r := s.mage("rekor:monitor")
		evidence := regexp.MustCompile(`are in (\S+\.txt)`).FindStringSubmatch(r.stderr)
		if r.code != 6 || !strings.Contains(r.stderr, "two histories") || evidence == nil {
			t.Fatalf("%s", r)
		}
		if both := s.read(evidence[1]); strings.Count(both, "\n— ") != 2 {
			t.Errorf("%s does not hold both checkpoints: %s", evidence[1], both)
		}
		if shrunk {
			for i := range 4 {
				add(fmt.Sprint("another ", i))
			}
		}
	}
}

// mustSign signs a file with the stack's key pair, with an entry in Rekor.
func (s *stack) mustSign(artifact string) {
	s.t.Helper()
	if _, err := os.Stat(s.config.Key("cosign.key")); err != nil {
		s.program("cosign", "generate-key-pair", "--output-key-prefix", strings.TrimSuffix(s.config.Key("cosign.key"), ".key"))
	}
	s.program("cosign", "sign-blob", "--key", s.config.Key("cosign.key"), "--output-signature", artifact+".sig", artifact)
}

// tour runs the tour without a terminal, and returns what it printed.
func (s *stack) tour() result {
	s.t.Helper()
	r := s.must("demo:tour")
	for _, want := range []string{"1. Signing with a key", "2. Signing with a key and a log", "3. Signing with an identity", "4. What signing protects from", "this entry", fmt.Sprintf("%d attacks, and each was noticed.", len(attack.All(s.config)))} {
		if !strings.Contains(r.stdout, want) {
			s.t.Errorf("it does not say %q", want)
		}
	}
	commands, looks := strings.Count(r.stdout, "\n    $ "), strings.Count(r.stdout, "\n   Look: ")
	if commands < 35 || looks < 25 || strings.Contains(r.stdout+r.stderr, "Enter goes on") || strings.Contains(r.stdout, "Next: `") {
		s.t.Errorf("%d commands, %d looks: %s", commands, looks, r)
	}
	if failed := slices.ContainsFunc(strings.Split(r.stdout, "\n"), func(line string) bool { return strings.Contains(line, "✗") }); failed {
		s.t.Errorf("%s", r)
	}
	return r
}

// tourAtTerminal runs the first steps of the tour at a terminal.
func (s *stack) tourAtTerminal() {
	t := s.t
	t.Helper()
	s.must("demo:keyed") // so that the first step takes no time
	terminal := s.terminal()
	terminal.run("go tool mage demo:tour")
	const prompt = "Enter goes on."
	screen := func(prompts int) string {
		terminal.wait(fmt.Sprintf("%d times %q", prompts, prompt), func() bool { return strings.Count(terminal.tmux("capture-pane", "-p"), prompt) == prompts })
		return terminal.tmux("capture-pane", "-p")
	}
	if shown := screen(1); strings.Contains(shown, "\n1. Build") {
		t.Errorf("it does not wait before the first step: %s", shown)
	}
	terminal.tmux("send-keys", "Enter")
	if shown := screen(2); !strings.Contains(shown, "\n1. Build") || !strings.Contains(shown, "Look: ") || strings.Contains(shown, "\n2. ") {
		t.Errorf("after Enter: %s", shown)
	}
	terminal.tmux("send-keys", "C-c")
	terminal.shows("context canceled")
}
