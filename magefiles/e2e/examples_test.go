package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/format"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"al.essio.dev/pkg/shellescape"
	"go.yaml.in/yaml/v3"

	"sigstore-local/magefiles/internal/project"
)

// examplesPage is the page whose examples the tests in this file run, in the form in which it has them.
const examplesPage = "docs/tests.md"

// npmAt is the variable by which the tests within a network namespace learn the folder with Jest and testcontainers in it.
const npmAt = "EXAMPLES_NPM"

// examples are what the page shows.
type examples struct {
	files    map[string]string // by the names in their first lines
	commands []string          // without the fence
}

// readExamples reads the page. Each of its blocks is a file, whose first line has its name in a comment, or else one command.
func readExamples(t *testing.T) examples {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := project.Root(wd)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, examplesPage))
	if err != nil {
		t.Fatal(err)
	}
	all := examples{files: map[string]string{}}
	named := regexp.MustCompile(`^(?:#|//) ([\w./-]+)\n`)
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		content := found[3]
		name := named.FindStringSubmatch(content)
		switch {
		case name != nil && all.files[name[1]] == "":
			all.files[name[1]] = content
		case name == nil && found[2] == "sh" && strings.Count(content, "\n") == 1:
			all.commands = append(all.commands, strings.TrimSuffix(content, "\n"))
		default:
			t.Fatalf("%s has a block that is neither a new file nor one command:\n%s", examplesPage, content)
		}
	}
	// Each of these is run below. What the page gains has to be added here, or else nobody would try it.
	for name := range all.files {
		if !slices.Contains([]string{
			"test_sign.py", "sign.test.js", "sign_test.go", "sigstore-env.sh", ".github/workflows/test.yml", ".gitlab-ci.yml", "compose.yaml", "sigstore.js", "stop.js",
		}, name) {
			t.Errorf("no test takes the file %s from %s", name, examplesPage)
		}
	}
	for _, command := range all.commands {
		if !regexp.MustCompile(`pytest|npx jest|^go test \.$`).MatchString(command) {
			t.Errorf("no test runs %s, which is on %s", command, examplesPage)
		}
	}
	return all
}

// matching are the commands that the pattern matches, of which there have to be as many as count says.
func (e examples) matching(t *testing.T, pattern string, count int) []string {
	t.Helper()
	found := slices.DeleteFunc(slices.Clone(e.commands), func(command string) bool { return !regexp.MustCompile(pattern).MatchString(command) })
	if len(found) != count {
		t.Fatalf("%s has %q, and not %d commands like %s", examplesPage, found, count, pattern)
	}
	return found
}

// in writes files of the page into a new folder, which has the name that projects have beside a checkout of this one.
func (e examples) in(t *testing.T, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my project")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, ok := e.files[name]
		if !ok {
			t.Fatalf("%s has no file %s", examplesPage, name)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".go" {
			// As every Go project that has no other modules.
			if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example\n\ngo 1.26\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// examplesNPM makes a folder with Jest and testcontainers in it, once for all tests. It is empty where there is no npm.
var examplesNPM = sync.OnceValues(func() (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", nil
		}
	}
	dir := filepath.Join(shared, "npm")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "tests-js"))); err != nil {
		return "", err
	}
	return dir, npmCI(dir)
})

// npmCI installs what the lock file in a folder names.
func npmCI(dir string) error {
	// npm waits minutes for a connection that went silent, and does not try again.
	var failed error
	for range 3 {
		// On a busy machine it works for more than a minute.
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-timeout=20000", "--maxsockets=4")
		cmd.Dir, cmd.WaitDelay = dir, time.Second
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil {
			return nil
		}
		failed = fmt.Errorf("npm ci: %w: %s", err, out)
	}
	return failed
}

// npmForExamples is that folder, for a test.
func npmForExamples(t *testing.T) string {
	t.Helper()
	dir, err := examplesNPM()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// withPackages gives a project the packages in a folder of npm's.
func withPackages(t *testing.T, project, npm string) {
	t.Helper()
	if npm == "" {
		t.Skip("there is no Node.js here")
	}
	for _, err := range []error{
		os.Symlink(filepath.Join(npm, "node_modules"), filepath.Join(project, "node_modules")),
		os.WriteFile(filepath.Join(project, "package.json"), []byte(`{"private": true}`), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// passed are patterns of what test programs print when exactly the one test of an example passed, and was not taken from a cache.
var passed = map[string]string{"pytest": `\b1 passed\b`, "jest": `Tests: +1 passed, 1 total`, "go": `(?m)^ok  \texample\t\d`}

// TestOtherProjectsTestsGetAStackByExec runs the examples that begin with exec, each in a project of its own.
func TestOtherProjectsTestsGetAStackByExec(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_STACK=tiles")
	e := readExamples(t)
	// An archive's program calls the compiled targets for whoever is in any folder, and this does the same with the checkout's. That
	// an archive has all that they need is another test's.
	bin := filepath.Join(s.home, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	program := fmt.Sprintf("#!/bin/sh\nexport %s=\"$PWD\"\ncd %s && exec %s \"$@\"\n", project.CalledFrom, shellescape.Quote(s.config.Root), shellescape.Quote(filepath.Join(s.config.Programs, "targets")))
	if err := os.WriteFile(filepath.Join(bin, "sigstore-local"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	s.must("env") // compiles them, if they are not yet
	// What Jest and pytest leave in the folder for temporary files goes with the test.
	s.env = append(s.env, "PATH="+bin+":"+os.Getenv("PATH"), "GOFLAGS=", "GOWORK=off", "TMPDIR="+t.TempDir())
	try := func(t *testing.T, dir, command, passes string) {
		t.Helper()
		s := s.in(t)
		if err := os.Symlink(s.config.Root, filepath.Join(filepath.Dir(dir), "sigstore-local")); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		r := s.run(dir, "sh", "-c", command)
		if r.code != 0 || !regexp.MustCompile(passes).MatchString(r.stdout+r.stderr) {
			t.Errorf("%s: %s", command, r)
		}
		if running := s.pids(); len(running) > 0 {
			t.Errorf("%v still run", running)
		}
	}
	// fails has a test that cannot pass fail by the same command.
	fails := func(t *testing.T, dir, file, command string) {
		t.Helper()
		s := s.in(t)
		wrong := strings.Replace(e.files[file], `"user@example.org"`, `"nobody@example.org"`, 1)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(wrong), 0o644); err != nil || wrong == e.files[file] {
			t.Fatalf("%v, or the test names nobody", err)
		}
		if r := s.run(dir, "sh", "-c", command); r.code == 0 || !strings.Contains(r.stdout+r.stderr, "fail") && !strings.Contains(r.stdout+r.stderr, "FAIL") {
			t.Errorf("a test that cannot pass passes: %s", r)
		}
		if running := s.pids(); len(running) > 0 {
			t.Errorf("%v still run", running)
		}
	}
	t.Run("pytest", func(t *testing.T) {
		if _, err := exec.LookPath("pytest"); err != nil {
			t.Skip(err)
		}
		dir := e.in(t, "test_sign.py")
		for _, command := range e.matching(t, "pytest", 2) {
			try(t, dir, command, passed["pytest"])
		}
	})
	t.Run("Go", func(t *testing.T) {
		formatted, err := format.Source([]byte(e.files["sign_test.go"]))
		if err != nil || !bytes.Equal(formatted, []byte(e.files["sign_test.go"])) {
			t.Errorf("it is not formatted as gofmt does: %v", err)
		}
		dir, command := e.in(t, "sign_test.go"), e.matching(t, "^go test", 1)[0]
		try(t, dir, command, passed["go"])
		fails(t, dir, "sign_test.go", command)
	})
	t.Run("Jest", func(t *testing.T) {
		dir := e.in(t, "sign.test.js")
		withPackages(t, dir, npmForExamples(t))
		try(t, dir, e.matching(t, "exec .*npx jest", 1)[0], passed["jest"])
	})
}

// TestTheWorkflowForTestsIsRight has actionlint read the example for GitHub Actions.
func TestTheWorkflowForTestsIsRight(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	const name = ".github/workflows/test.yml"
	text := readExamples(t).files[name]
	if out := s.actionlint(map[string]string{name: text}); out.code != 0 {
		t.Errorf("%s", out)
	}
	wrong := strings.Replace(text, " ports: [", " port: [", 1)
	if out := s.actionlint(map[string]string{name: wrong}); out.code == 0 || !strings.Contains(out.stdout, `"port"`) {
		t.Errorf("a wrong field of a service is not found: %s", out)
	}
}

// The formats below have the fields that the examples use, and these are all that a test here knows how to do: another one is an error.

type workflow struct {
	On   string
	Jobs map[string]struct {
		RunsOn   string `yaml:"runs-on"`
		Env      map[string]string
		Services map[string]struct {
			Image string
			Env   map[string]string
			Ports []string
		}
		Steps []struct{ Uses, Run string }
	}
}

type pipeline map[string]struct {
	Image     string
	Services  []struct{ Name, Alias string }
	Variables map[string]string
	Script    []string
}

type composition struct {
	Services map[string]struct {
		Image       string
		ReadOnly    bool `yaml:"read_only"`
		Environment map[string]string
		Ports       []string
		Volumes     []string
		HealthCheck struct {
			Test              []string
			Interval, Timeout string
			Retries           int
		} `yaml:"healthcheck"`
		DependsOn  map[string]struct{ Condition string } `yaml:"depends_on"`
		WorkingDir string                                `yaml:"working_dir"`
		Command    []string
	}
	Volumes map[string]struct{}
}

// strictly reads a file of the page that is YAML.
func (e examples) strictly(t *testing.T, name string, into any) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(e.files[name]))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// examples runs those with a container, where there is nothing but this machine.
func (p podman) examples(t *testing.T) {
	p.t = t
	// Nobody else needs the default ports in this network namespace, and the examples have them.
	for _, l := range held {
		_ = l.Close()
	}
	held = nil
	e := readExamples(t)
	p.must("tag", "localhost/sigstore-local:1", "localhost/sigstore-local:1.0")
	t.Run("GitHub Actions", func(t *testing.T) { podman{t, p.dir}.asGitHub(e) })
	t.Run("GitLab CI", func(t *testing.T) { podman{t, p.dir}.asGitLab(e) })
	t.Run("compose", func(t *testing.T) { podman{t, p.dir}.asCompose(e) })
	t.Run("testcontainers", func(t *testing.T) { podman{t, p.dir}.asTestcontainers(e) })
}

// service runs the container of an example, whose image has to be this project's in whichever registry.
func (p podman) service(image string, flags []string) {
	p.t.Helper()
	if !strings.HasSuffix(image, "/sigstore-local:1.0") {
		p.t.Fatalf("the image is %s", image)
	}
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("%s", p.run("logs", "service"))
		}
		p.must("rm", "--force", "--volumes", "service")
	})
	p.must(append(append(run("--detach", "--name", "service"), flags...), "localhost/sigstore-local:1.0")...)
}

// healthy waits until the container's health check succeeds, as GitHub's runner and compose do.
func (p podman) healthy() {
	p.t.Helper()
	for end := time.Now().Add(readyWithin); p.run("healthcheck", "run", "service").code != 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it is not healthy after %s", readyWithin)
		}
	}
}

// job runs commands of an example in a project that has Go's example and the script, with the variables of the job. If there is
// a host, this is the name of the container.
func (p podman) job(e examples, host string, variables map[string]string, commands ...string) {
	p.t.Helper()
	dir, files := e.in(p.t, "sign_test.go", "sigstore-env.sh"), p.t.TempDir()
	script, hosts := filepath.Join(files, "script"), filepath.Join(files, "hosts")
	text := "127.0.0.1 localhost\n"
	if host != "" {
		text += p.must("inspect", "--format={{.NetworkSettings.IPAddress}}", "service") + " " + host + "\n"
	}
	for _, err := range []error{os.WriteFile(hosts, []byte(text), 0o644), os.WriteFile(script, []byte("set -e\n"+strings.Join(commands, "\n")), 0o644)} {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/hosts && exec sh "$2"`, "sh", hosts, script)
	cmd.Dir, cmd.Env = dir, p.environment(files)
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(passed["go"]).Match(out) {
		p.t.Errorf("%v: %s", err, out)
	}
}

// environment is that of a job whose home is a folder, with cosign v3 in its PATH, and with no variable of the machine's that
// leads a client elsewhere.
func (p podman) environment(home string) []string {
	leads := regexp.MustCompile(`(?i)^(SIGSTORE_|COSIGN_|TUF_|SIGLOCAL_|HOME=|TMPDIR=|PATH=|GOFLAGS=|\w+_proxy=)`)
	env := slices.DeleteFunc(os.Environ(), leads.MatchString)
	env = append(env, goFolders...)
	return append(env, "HOME="+home, "TMPDIR="+home, "PATH="+filepath.Dir(os.Getenv(cosignAt))+":"+os.Getenv("PATH"))
}

// flags are a flag for each of values, such as those that publish ports.
func flags(name string, values ...string) []string {
	var all []string
	for _, value := range values {
		all = append(all, name, value)
	}
	return all
}

// pairs are variables as NAME=value.
func pairs(variables map[string]string) []string {
	var all []string
	for name, value := range variables {
		all = append(all, name+"="+value)
	}
	return all
}

func (p podman) asGitHub(e examples) {
	var w workflow
	e.strictly(p.t, ".github/workflows/test.yml", &w)
	job := w.Jobs["test"]
	service, ok := job.Services["sigstore"]
	if !ok || len(w.Jobs) != 1 || len(job.Services) != 1 {
		p.t.Fatalf("%+v", w)
	}
	p.service(service.Image, slices.Concat(flags("--env", pairs(service.Env)...), flags("--publish", service.Ports...)))
	p.healthy()
	var commands []string
	for _, step := range job.Steps {
		switch {
		case step.Run != "":
			commands = append(commands, step.Run)
		case !regexp.MustCompile(`^(actions/checkout|actions/setup-go|sigstore/cosign-installer)@v`).MatchString(step.Uses):
			p.t.Fatalf("a test has nothing in place of %s", step.Uses)
		}
	}
	p.job(e, "", job.Env, commands...)
}

func (p podman) asGitLab(e examples) {
	var all pipeline
	e.strictly(p.t, ".gitlab-ci.yml", &all)
	job := all["test"]
	if len(all) != 1 || len(job.Services) != 1 || job.Services[0].Alias == "" {
		p.t.Fatalf("%+v", all)
	}
	// GitLab's runner waits no longer than until the service listens, so the script has to wait. The image of the job is this machine.
	p.service(job.Services[0].Name, flags("--env", pairs(job.Variables)...))
	p.job(e, job.Services[0].Alias, job.Variables, job.Script...)
}

func (p podman) asCompose(e examples) {
	var c composition
	e.strictly(p.t, "compose.yaml", &c)
	service, tests := c.Services["sigstore"], c.Services["tests"]
	if len(c.Services) != 2 || tests.DependsOn["sigstore"].Condition != "service_healthy" || len(tests.DependsOn) != 1 {
		p.t.Fatalf("%+v", c)
	}
	check := service.HealthCheck
	if len(check.Test) < 2 || check.Test[0] != "CMD" {
		p.t.Fatalf("the health check is %q", check.Test)
	}
	test, err := json.Marshal(check.Test[1:])
	if err != nil {
		p.t.Fatal(err)
	}
	// Podman asks here when the test does, and not by itself: the interval and so on have no effect, but are right as flags.
	given := slices.Concat(flags("--env", pairs(service.Environment)...), flags("--publish", service.Ports...), flags("--volume", service.Volumes...), []string{
		"--health-cmd", string(test), "--health-interval", check.Interval, "--health-timeout", check.Timeout,
		"--health-retries", fmt.Sprint(check.Retries), fmt.Sprintf("--read-only=%t", service.ReadOnly), "--read-only-tmpfs=false",
	})
	for _, volume := range service.Volumes {
		name, _, _ := strings.Cut(volume, ":")
		if _, ok := c.Volumes[name]; !ok {
			p.t.Errorf("the volume %s is not declared", name)
		}
		p.t.Cleanup(func() { p.must("volume", "rm", name) })
	}
	p.service(service.Image, given)
	p.healthy()
	// The image of the tests is this machine, and their folder is the project, so the volume is there already.
	if len(tests.Volumes) != 1 || tests.Volumes[0] != ".:"+tests.WorkingDir || len(tests.Ports) != 0 || tests.ReadOnly || len(tests.HealthCheck.Test) != 0 ||
		service.WorkingDir != "" || len(service.Command) != 0 || len(service.DependsOn) != 0 {
		p.t.Fatalf("%+v", c)
	}
	p.job(e, "sigstore", tests.Environment, shellescape.QuoteCommand(tests.Command))
	// What the page says of the port that is published.
	index := outside{t: p.t}.get("http://localhost:8080/")
	if !bytes.Contains(index, []byte(`"http://sigstore:5556"`)) {
		p.t.Errorf("the index is %s", index)
	}
}

// asTestcontainers runs the example with Podman's service in place of Docker's.
func (p podman) asTestcontainers(e examples) {
	dir, home := e.in(p.t, "sign.test.js", "sigstore.js", "stop.js"), p.t.TempDir()
	withPackages(p.t, dir, os.Getenv(npmAt))
	// What run gives to each container by flags, testcontainers cannot give.
	settings := "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\ndns_servers = [\"127.0.0.1\"]\n"
	file, socket := filepath.Join(home, "containers.conf"), filepath.Join(home, "podman.sock")
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	served := p.command(ctx, "system", "service", "--time=0", "unix://"+socket)
	served.Env = append(os.Environ(), "CONTAINERS_CONF="+file)
	var said syncBuffer
	served.Stdout, served.Stderr = &said, &said
	if err := served.Start(); err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = served.Wait()
	}()
	for end := time.Now().Add(readyWithin); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(end) {
			p.t.Fatalf("Podman does not serve: %s", &said)
		}
	}
	limited, end := context.WithTimeout(p.t.Context(), deadline)
	defer end()
	cmd := exec.CommandContext(limited, "sh", "-c", e.matching(p.t, "globalSetup", 1)[0])
	// Ryuk is an image that removes what is left over, and cannot be pulled here.
	cmd.Dir, cmd.Env = dir, append(p.environment(home), "DOCKER_HOST=unix://"+asDocker(p.t, socket), "TESTCONTAINERS_RYUK_DISABLED=true")
	out, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(passed["jest"]).Match(out) {
		p.t.Errorf("%v: %s\n%s", err, out, &said)
	}
	if left := p.must("ps", "--all", "--quiet"); left != "" {
		p.t.Errorf("the containers %s are left", left)
		p.t.Log(p.run("logs", "--latest"))
	}
}

// asDocker is the socket of a proxy for Podman's service which says of a container's ports what Docker says: those that the image names
// and that are not bound to one of the machine's are not among its bindings. testcontainers waits for all that are.
func asDocker(t *testing.T, podman string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "podman" },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", podman)
		}},
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode != http.StatusOK || !regexp.MustCompile(`/containers/[0-9a-f]+/json$`).MatchString(r.Request.URL.Path) {
				return nil
			}
			var said map[string]any
			if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
				return err
			}
			if host, ok := said["HostConfig"].(map[string]any); ok {
				bindings, _ := host["PortBindings"].(map[string]any)
				maps.DeleteFunc(bindings, func(_ string, bound any) bool { return bound == nil })
			}
			text, err := json.Marshal(said)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
			r.Header.Set("Content-Length", strconv.Itoa(len(text)))
			return err
		},
	}
	server := &http.Server{Handler: &proxy}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}
