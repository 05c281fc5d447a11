package completion

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/targets"
)

var (
	list = targets.List{
		{Name: "demo:keyed", Synopsis: "signs with a key: the owner's"},
		{Name: "demo:keyless", Synopsis: "signs without"},
		{Name: "exec", Synopsis: "runs a command", Params: []targets.Param{{Name: "command", Type: "string"}}},
		{Name: "logs", Synopsis: "prints a log", Params: []targets.Param{
			{Name: "service", Type: "string"}, {Name: "f", Type: "bool", Flag: true}, {Name: "n", Type: "int", Flag: true, Comment: "how many"},
		}},
		{Name: "start", Synopsis: "starts"},
		{Name: "status", Synopsis: "shows", Params: []targets.Param{
			{Name: "o", Type: "string", Flag: true, Comment: "the form of the output: table or json"}, {Name: "watch", Type: "bool", Flag: true},
		}},
		{Name: "stop", Synopsis: "stops"},
	}
	names = map[string][]string{"logs": {"all", "registry", "rekor"}}
)

// completed are command lines, and what becomes of them when the Tab key is pressed.
var completed = []struct{ typed, line string }{
	{"mage demo:keyl", "mage demo:keyless "},
	{"mage demo:", "mage demo:key"},
	{"mage dem", "mage demo:key"},
	{"go tool mage demo:keyl", "go tool mage demo:keyless "},
	{"FOO=1 go tool mage sto", "FOO=1 go tool mage stop "},
	{"mage start demo:keyl", "mage start demo:keyless "},
	{"mage logs re", "mage logs re"},
	{"mage logs rek", "mage logs rekor "},
	{"mage logs demo:keyl", "mage logs demo:keyl"},
	{"mage logs rekor -n", "mage logs rekor -n="},
	{"mage logs rekor sto", "mage logs rekor stop "},
	{"mage logs rekor -f demo:keyl", "mage logs rekor -f demo:keyless "},
	{"go tool mage status -w", "go tool mage status -watch "},
	{"mage status -o=ta", "mage status -o=table "},
	{"mage status -o=json sto", "mage status -o=json stop "},
	{"mage start -o=ta", "mage start -o=ta"},
	{"mage exec 'npm test' demo:keyl", "mage exec 'npm test' demo:keyless "},
	{"mage exec ./na", "mage exec ./name-of-a-file "},
	{"mage -v demo:keyl", "mage -v demo:keyless "},
	{"mage -t 5m demo:keyl", "mage -t 5m demo:keyless "},
	{"mage nosuch", "mage nosuch"},
	{"mage name-of", "mage name-of"},
	{"go bef", "go before "},
	{"go tool before", "go tool before "},
}

// checkout makes an empty checkout of the project, in which there is a file too, and returns its folder and the script.
func checkout(t *testing.T, shell string) (folder, script string) {
	t.Helper()
	folder = t.TempDir()
	text, err := scriptFor(shell, list, names)
	if err != nil {
		t.Fatal(err)
	}
	script = filepath.Join(t.TempDir(), "script")
	below := filepath.Join(folder, "below")
	for _, err := range []error{
		os.Mkdir(below, 0o755),
		os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module "+project.Module+"\n\ngo 1.26\n"), 0o600),
		os.WriteFile(filepath.Join(below, "name-of-a-file"), nil, 0o600),
		os.WriteFile(script, []byte(text), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return below, script
}

// terminal is a shell in a terminal.
type terminal struct {
	t      *testing.T
	socket string // tmux's
	marks  int    // how many marks were typed
}

// newTerminal runs a shell in the folder dir, with the lines of setup typed first.
func newTerminal(t *testing.T, dir string, setup []string, shell ...string) *terminal {
	t.Helper()
	for _, program := range []string{"tmux", shell[0]} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	term := &terminal{t: t, socket: filepath.Join(t.TempDir(), "tmux")}
	run := append([]string{"-f", os.DevNull, "new-session", "-d", "-x", "150", "-y", "50", "-c", dir, "env", "HOME=" + t.TempDir(), "PS1=$ "}, shell...)
	t.Cleanup(func() { _, _ = term.tmux("kill-server") })
	if out, err := term.tmux(run...); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	term.await("$")
	for _, line := range setup {
		term.runs(line)
	}
	return term
}

// runs types a command and waits for its end.
func (term *terminal) runs(command string) {
	term.t.Helper()
	term.marks++
	term.keys("-l", fmt.Sprintf("%s; echo mark'%d'!", command, term.marks))
	term.keys("Enter")
	term.await(fmt.Sprintf("mark%d!", term.marks))
}

func (term *terminal) tmux(args ...string) (string, error) {
	out, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	return string(out), err
}

func (term *terminal) keys(args ...string) {
	term.t.Helper()
	if out, err := term.tmux(append([]string{"send-keys"}, args...)...); err != nil {
		term.t.Fatalf("tmux: %v: %s", err, out)
	}
}

// await waits until a line of the screen ends with text, and returns the screen's lines.
func (term *terminal) await(text string) []string {
	term.t.Helper()
	var screen string
	for limit := time.Now().Add(5 * time.Minute); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		var err error
		if screen, err = term.tmux("capture-pane", "-p"); err != nil {
			term.t.Fatalf("tmux: %v: %s", err, screen)
		}
		lines := strings.Split(screen, "\n")
		if slices.ContainsFunc(lines, func(line string) bool { return strings.HasSuffix(line, text) }) {
			return lines
		}
	}
	term.t.Fatalf("no line of the screen ends with %q:\n%s", text, screen)
	return nil
}

// complete types a text and presses Tab as often as said, and returns what the line then is and all that the screen shows.
func (term *terminal) complete(typed string, tabs int) (line string, screen []string) {
	term.t.Helper()
	term.keys("C-u")
	term.keys("C-l")
	term.keys("-l", typed)
	for range tabs {
		term.keys("Tab")
	}
	// What is typed after it comes after what Tab has done.
	term.marks++
	mark := fmt.Sprintf("@%d@", term.marks)
	term.keys("-l", mark)
	screen = term.await(mark)
	for _, one := range screen {
		if found, ok := strings.CutSuffix(one, mark); ok {
			line = strings.TrimPrefix(found, "$ ")
		}
	}
	return line, screen
}

// check presses Tab after each of the lines.
func (term *terminal) check(rows []struct{ typed, line string }) {
	term.t.Helper()
	for _, row := range rows {
		if line, screen := term.complete(row.typed, 1); line != row.line {
			term.t.Errorf("%q becomes %q and not %q:\n%s", row.typed, line, row.line, strings.TrimSpace(strings.Join(screen, "\n")))
		}
	}
}

// shows presses Tab until the candidates are shown.
func (term *terminal) shows(typed string, tabs int, words ...string) {
	term.t.Helper()
	_, screen := term.complete(typed, tabs)
	for _, word := range words {
		if !slices.ContainsFunc(screen, func(line string) bool {
			return !strings.HasSuffix(line, "@") && slices.Contains(strings.Fields(line), word)
		}) {
			term.t.Errorf("after %q, %q is not shown:\n%s", typed, word, strings.TrimSpace(strings.Join(screen, "\n")))
		}
	}
}

func TestBashCompletes(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{
		"function":   "before() { COMPREPLY=($(compgen -W before -- \"$2\")); }; complete -F before go",
		"loaded":     "before() { COMPREPLY=($(compgen -W before -- \"$2\")); }; load() { complete -F before \"$1\"; return 124; }; complete -D -F load",
		"program":    "before() { [[ $COMP_LINE == \"go \"* && before == \"$2\"* ]] && echo before; }; complete -C before go",
		"words":      "complete -W before go",
		"no colon":   "complete -W before go; COMP_WORDBREAKS=${COMP_WORDBREAKS//:/}",
		"twice":      "complete -W before go; source SCRIPT",
		"no default": "complete -W before go; complete -r -D",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, script := checkout(t, "bash")
			term := newTerminal(t, dir, []string{strings.ReplaceAll(before, "SCRIPT", script), "source " + script}, "bash", "--norc", "--noprofile", "-i")
			term.check(completed)
			if name == "no colon" {
				term.shows("mage demo:key", 2, "demo:keyed", "demo:keyless")
			} else {
				term.shows("mage demo:key", 2, "keyed", "keyless") // as bash shows what has a colon
			}
			term.shows("mage logs ", 2, "all", "registry", "rekor")
			term.shows("mage status -", 2, "-o=table", "-o=json", "-watch")
			term.shows("mage status -o=", 2, "table", "json")
			term.shows("mage -", 2, "-h", "-v")
			term.elsewhere()
		})
	}
	t.Run("nothing before", func(t *testing.T) {
		t.Parallel()
		dir, script := checkout(t, "bash")
		term := newTerminal(t, dir, []string{"source " + script}, "bash", "--norc", "--noprofile", "-i")
		term.check([]struct{ typed, line string }{{"go run name", "go run name-of-a-file "}, {"go tool mage demo:keyl", "go tool mage demo:keyless "}})
	})
}

func TestZshCompletes(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string][]string{
		"usual":            {"autoload -Uz compinit; compinit -u -D", "before() { compadd before }; compdef before go", "source SCRIPT"},
		"twice":            {"autoload -Uz compinit; compinit -u -D", "before() { compadd before }; compdef before go", "source SCRIPT", "source SCRIPT"},
		"without compinit": {"source SCRIPT", "before() { compadd before }; _sigstore_local_before[go]=before"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, script := checkout(t, "zsh")
			for i := range setup {
				setup[i] = strings.ReplaceAll(setup[i], "SCRIPT", script)
			}
			term := newTerminal(t, dir, setup, "zsh", "-f", "-i")
			term.check(completed)
			term.shows("mage demo:key", 1, "demo:keyed", "demo:keyless", "without", "key:")
			term.shows("mage logs ", 1, "all", "registry", "rekor")
			term.shows("mage status -", 1, "-o=table", "-o=json", "-watch")
			term.elsewhere()
		})
	}
}

// elsewhere checks that nothing is completed outside of a checkout.
func (term *terminal) elsewhere() {
	term.t.Helper()
	term.keys("C-u")
	term.runs("cd /")
	term.check([]struct{ typed, line string }{{"mage demo:keyl", "mage demo:keyl"}, {"go tool mage sto", "go tool mage sto"}})
}

func TestFishCompletes(t *testing.T) {
	t.Parallel()
	fish, err := exec.LookPath("fish")
	if err != nil {
		t.Skip(err)
	}
	dir, script := checkout(t, "fish")
	complete := func(dir, line string) []string {
		t.Helper()
		cmd := exec.Command(fish, "--no-config", "-c", `source $argv[1]; complete -c go -n "not string match -q '* mage *' -- (commandline -c)" -f -a before; complete -C $argv[2]`, script, line)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir())
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil || said.Len() > 0 {
			t.Fatalf("%v: %s", err, &said)
		}
		var words []string
		for candidate := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSuffix(candidate, "\n"), "\t")
			words = append(words, word)
		}
		slices.Sort(words)
		return words
	}
	for _, row := range completed {
		at := strings.LastIndex(row.typed, " ") + 1
		var want []string
		for _, typed := range []string{row.line} {
			word := strings.TrimSuffix(typed[at:], " ")
			switch {
			case strings.HasSuffix(typed, " ") || strings.HasSuffix(typed, "="):
				want = []string{word}
			case word == "demo:key":
				want = []string{"demo:keyed", "demo:keyless"}
			case word == "re":
				want = []string{"registry", "rekor"}
			}
		}
		if got := complete(dir, row.typed); !slices.Equal(got, want) {
			t.Errorf("after %q come %q and not %q", row.typed, got, want)
		}
	}
	for line, want := range map[string][]string{
		"mage logs ":          {"all", "registry", "rekor"},
		"mage LOGS re":        {"registry", "rekor"},
		"go tool mage logs ":  {"all", "registry", "rekor"},
		"mage status -":       {"-o=json", "-o=table", "-watch"},
		"mage status -o=":     {"-o=json", "-o=table"},
		"mage logs rekor -":   {"-f", "-n="},
		"mage ":               {"demo:keyed", "demo:keyless", "exec", "logs", "start", "status", "stop"},
		"go tool mage start ": {"demo:keyed", "demo:keyless", "exec", "logs", "start", "status", "stop"},
	} {
		if got := complete(dir, line); !slices.Equal(got, want) {
			t.Errorf("after %q come %q and not %q", line, got, want)
		}
	}
	for _, line := range []string{"mage demo:keyl", "go tool mage demo:keyl"} {
		if got := complete("/", line); len(got) > 0 {
			t.Errorf("outside of a checkout %q is completed by %q", line, got)
		}
	}
}

func TestAScriptIsOnlyMadeOfWhatThereIs(t *testing.T) {
	if _, err := scriptFor("tcsh", list, nil); err == nil || !strings.Contains(err.Error(), "bash, zsh, fish") {
		t.Errorf("tcsh: %v", err)
	}
	for _, name := range []string{"nosuch", "start", "status"} {
		if _, err := scriptFor("bash", list, map[string][]string{name: {"a"}}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("words for %s: %v", name, err)
		}
	}
}

// The real targets, with their real names.
func TestTheTargetPrintsWhatAShellReads(t *testing.T) {
	for _, shell := range shells() {
		program, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		script, err := exec.Command("go", "tool", "mage", "completion", shell).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"demo:keyless", "rekorTiles:start", "log-signer", "cosign", "-o=mermaid", "go-containerregistry"} {
			if !strings.Contains(strings.ReplaceAll(string(script), `\:`, ":"), word) {
				t.Errorf("%s: %s is not completed", shell, word)
			}
		}
		cmd := exec.Command(program, "-n")
		cmd.Stdin = strings.NewReader(string(script))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
	if out, err := exec.Command("go", "tool", "mage", "completion", "tcsh").CombinedOutput(); err == nil || !strings.Contains(string(out), "bash, zsh, fish") {
		t.Errorf("tcsh: %v: %s", err, out)
	}
}
