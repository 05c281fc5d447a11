package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// action is what the test needs of action.yml.
type action struct {
	Inputs map[string]struct{ Default string }
	Runs   struct {
		Steps []struct {
			ID, If, Shell, Run, Uses string
			Env                      map[string]string
		}
	}
}

var expression = regexp.MustCompile(`^\$\{\{ inputs\.([a-z0-9-]+) \}\}$`)

// runAction runs the steps of action.yml that are commands, word for word, with the files that GitHub's runner provides, and returns the
// variables that the steps after the action have.
func (s *stack) runAction(inputs map[string]string) []string {
	t := s.t
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.config.Root, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var a action
	if err := yaml.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	for name := range inputs {
		if _, ok := a.Inputs[name]; !ok {
			t.Fatalf("action.yml has no input %s", name)
		}
	}
	value := func(name string) string {
		if given, ok := inputs[name]; ok {
			return given
		}
		return a.Inputs[name].Default
	}
	dir := t.TempDir()
	env := append(slices.Clone(s.env), "GITHUB_ACTION_PATH="+s.config.Root, "RUNNER_TEMP="+dir)
	files := map[string]string{}
	for _, name := range []string{"GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH"} {
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+files[name])
	}
	// What a step writes into these files is for the steps after it.
	later := func() []string {
		all := slices.Clone(env)
		for line := range strings.Lines(s.read(files["GITHUB_ENV"])) {
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
		for line := range strings.Lines(s.read(files["GITHUB_PATH"])) {
			path := ""
			for _, entry := range all {
				if value, ok := strings.CutPrefix(entry, "PATH="); ok {
					path = value
				}
			}
			all = append(all, "PATH="+strings.TrimSuffix(line, "\n")+":"+path)
		}
		return all
	}
	ran := 0
	for _, step := range a.Runs.Steps {
		archive := value("archive") != ""
		if step.Run == "" || step.If == "inputs.archive == ''" && archive || step.If == "inputs.archive != ''" && !archive {
			continue
		}
		variables := later()
		for name, text := range step.Env {
			input := expression.FindStringSubmatch(text)
			if input == nil {
				t.Fatalf("%s is %q, which is no input", name, text)
			}
			variables = append(variables, name+"="+value(input[1]))
		}
		script := filepath.Join(dir, "step.sh")
		if err := os.WriteFile(script, []byte(step.Run), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		// As GitHub's runner does for `shell: bash`.
		cmd := s.command(ctx, s.home, "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script)
		cmd.Env = variables
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, step.Run, out)
		}
		ran++
	}
	if ran < 2 {
		t.Fatalf("only %d steps ran", ran)
	}
	return later()
}

// signsInJob signs and verifies a file with the variables that the action has set.
func (s *stack) signsInJob(variables []string, mage ...string) {
	s.t.Helper()
	job := *s
	job.env = variables
	script := `set -eu
export SIGSTORE_ID_TOKEN="$("$@" dex:token)"
echo hello > hello.txt
cosign sign-blob --bundle hello.json hello.txt
cosign verify-blob --bundle hello.json --certificate-identity user@example.org --certificate-oidc-issuer "$ISSUER_URL" hello.txt`
	if r := job.run(s.home, "sh", append([]string{"-c", script, "sh"}, mage...)...); r.code != 0 || !strings.Contains(r.stderr, "Verified OK") {
		s.t.Errorf("%s", r)
	}
}

func TestTheActionStartsAStackForTheStepsAfterIt(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	variables := s.runAction(map[string]string{"services": "fulcio,rekor-tiles,tsa,tuf", "users": "alice@example.org", "ports": "CALLBACK=9999\n"})
	for _, want := range []string{"SIGLOCAL_USERS=alice@example.org", "SIGLOCAL_STACK=tiles", "SIGLOCAL_PORT_CALLBACK=9999"} {
		if !slices.Contains(variables, want) {
			t.Errorf("%s is not among the variables %q", want, variables)
		}
	}
	s.signsInJob(variables, "go", "-C", s.config.Root, "tool", "mage")
	s.env = append(s.env, "SIGLOCAL_STACK=tiles")
	s.must("stop")
}

// The workflow in the docs, and by it the action's inputs and outputs, are read by actionlint.
func TestTheWorkflowInTheDocsIsRight(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	block := regexp.MustCompile("(?s)```yaml\n(on: push\n.*?)```").FindStringSubmatch(s.read(filepath.Join(s.config.Root, "docs", "clients.md")))
	if block == nil {
		t.Fatal("docs/clients.md has no workflow")
	}
	files := map[string]string{".github/workflows/sign.yml": block[1], "sigstore-local/action.yml": s.read(filepath.Join(s.config.Root, "action.yml"))}
	if out := s.actionlint(files); out.code != 0 {
		t.Errorf("%s", out)
	}
	// It does read the action: an input that is not there is found.
	files[".github/workflows/sign.yml"] = strings.Replace(block[1], "with: {stack: tiles}", "with: {stacks: tiles}", 1)
	if out := s.actionlint(files); out.code == 0 || !strings.Contains(out.stdout, `"stacks"`) {
		t.Errorf("a wrong input is not found: %s", out)
	}
}

// actionlint has actionlint read the workflows of a repository with the given files.
func (s *stack) actionlint(files map[string]string) result {
	t := s.t
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// By this it knows the repository's folder.
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Not pinned as a tool of this module: it does not compile with the version of a YAML library that others here need.
	tool := *s
	tool.env = append(slices.Clone(s.env), "GOBIN="+dir)
	if out := tool.run(dir, "go", "install", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"); out.code != 0 {
		t.Fatalf("%s", out)
	}
	return s.run(dir, filepath.Join(dir, "actionlint"), "-no-color")
}
