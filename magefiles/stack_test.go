package main

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
)

func testConfig(t *testing.T, environ ...string) config.Config {
	t.Helper()
	c, err := config.Load("/checkout", environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryServiceIsDescribedInFull(t *testing.T) {
	c := testConfig(t)
	listening := map[config.Port]string{}
	var names []string
	for _, s := range services(c) {
		names = append(names, s.Name)
		if s.Name == "" || !filepath.IsAbs(s.Program) && s.Program != "mariadbd" || s.Address == "" || s.Ready == nil {
			t.Errorf("%q lacks its program, address or probe", s.Name)
		}
		for _, name := range s.Templates {
			if _, err := os.Stat(filepath.Join("..", "templates", name+".tmpl")); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		for _, port := range s.Listens {
			if other, ok := listening[port]; ok {
				t.Errorf("%s and %s both listen on %s", other, s.Name, port)
			}
			listening[port] = s.Name
		}
	}
	if !slices.Equal(names, config.ServiceNames()) {
		t.Errorf("the services are %q, and the configuration's are %q", names, config.ServiceNames())
	}
	for _, port := range config.PortNames() {
		if listening[port] == "" && port != config.Debug && port != config.Callback {
			t.Errorf("no service listens on %s", port)
		}
	}
}

func TestTheProgramsAreThoseThatGoModPins(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)\ntool \((.*?)\)`).FindSubmatch(mod)
	if block == nil {
		t.Fatal("go.mod has no tools")
	}
	pinned := strings.Fields(string(block[1]))
	for _, tool := range pinned {
		if !strings.HasPrefix(tool, project.Module+"/") && tool != delve && !slices.Contains(programs(), tool) {
			t.Errorf("%s is pinned and not built", tool)
		}
	}
	for _, program := range programs() {
		if !strings.HasPrefix(program, project.Module) && !slices.Contains(pinned, program) {
			t.Errorf("%s is built and not pinned", program)
		}
	}
	for _, s := range services(testConfig(t)) {
		if s.Name != "mariadb" && !slices.ContainsFunc(programs(), func(p string) bool { return path.Base(p) == filepath.Base(s.Program) }) {
			t.Errorf("%s runs %s, which is not built", s.Name, s.Program)
		}
	}
}

func TestTheOffsetReachesEveryArgumentAndTemplate(t *testing.T) {
	state := t.TempDir()
	plain := testConfig(t)
	c := plain
	c.State = state
	shifted, err := config.Load("/checkout", []string{"SIGLOCAL_PORT_OFFSET=20000"})
	if err != nil {
		t.Fatal(err)
	}
	shifted.State = state
	if err := service.MakeFolders(shifted); err != nil {
		t.Fatal(err)
	}
	values := service.Values{"Tree": 42, "Module": "/m.so"}
	var text strings.Builder
	templates, err := filepath.Glob("../templates/*.tmpl")
	if err != nil || len(templates) < 8 {
		t.Fatalf("templates are %v, %v", templates, err)
	}
	for _, file := range templates {
		name := strings.TrimSuffix(filepath.Base(file), ".tmpl")
		if err := service.Configure(shifted, name, values); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		info, err := os.Stat(shifted.ConfigFile(name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		content, err := os.ReadFile(shifted.ConfigFile(name))
		if err != nil {
			t.Fatal(err)
		}
		text.Write(content)
	}
	for _, s := range services(shifted) {
		text.WriteString(strings.Join(append(s.Args, s.Address), "\n") + "\n")
	}
	text.WriteString(shifted.Address(config.Debug) + "\n" + shifted.Address(config.Callback)) // which only debug and demo:login use
	for _, port := range config.PortNames() {
		if strings.Contains(text.String(), ":"+strings.TrimPrefix(plain.Address(port), "127.0.0.1:")) {
			t.Errorf("the default port of %s is left", port)
		}
		if !strings.Contains(text.String(), strings.TrimPrefix(shifted.Address(port), "127.0.0.1:")) {
			t.Errorf("the shifted port of %s is not there", port)
		}
	}
}

func TestACheckoutOfDexShowsItsOwnPages(t *testing.T) {
	c := testConfig(t)
	c.State = t.TempDir()
	if err := service.MakeFolders(c); err != nil {
		t.Fatal(err)
	}
	for _, checkouts := range []map[string]string{{}, {"dex": "/src/dex"}} {
		c.Checkouts = checkouts
		if err := service.Configure(c, "dex.yaml", nil); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(c.ConfigFile("dex.yaml"))
		if ours := len(checkouts) == 0; err != nil || strings.Contains(string(content), c.DexPages()) != ours {
			t.Errorf("with the checkouts %v: %v\n%s", checkouts, err, content)
		}
	}
}

func TestATemplateWithoutItsValueIsAnError(t *testing.T) {
	c := testConfig(t)
	c.State = t.TempDir()
	if err := service.MakeFolders(c); err != nil {
		t.Fatal(err)
	}
	if err := service.Configure(c, "rekor.yaml", service.Values{}); err == nil || !strings.Contains(err.Error(), "rekor.yaml") {
		t.Errorf("got %v", err)
	}
}

// targets lists what `mage -l` lists.
func targets(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "tool", "mage", "-l").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^  ([\w:]+)\*? +\S`).FindAllStringSubmatch(string(out), -1) {
		names = append(names, line[1])
	}
	if len(names) < 20 {
		t.Fatalf("`mage -l` lists only %v", names)
	}
	return names
}

func TestTheRunnerThatNeedsNoInstallationIsTheSame(t *testing.T) {
	listed := map[string]string{}
	for name, args := range map[string][]string{"tool": {"tool", "mage", "-l"}, "file": {"run", "../magefile.go", "-l"}, "package": {"run", ".", "-l"}} {
		out, err := exec.Command("go", args...).Output()
		if err != nil {
			t.Fatalf("go %q: %v", args, err)
		}
		listed[name] = string(out)
	}
	if listed["file"] != listed["tool"] || listed["package"] != listed["tool"] {
		t.Errorf("they list %v", listed)
	}
}

func TestTheReadmeKnowsEveryTargetVariableAndPort(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets(t) {
		if !regexp.MustCompile("(?m)^\\| (`[\\w:]+`, )*`" + target + "`").Match(readme) {
			t.Errorf("no table of the README has the target %s", target)
		}
	}
	for _, v := range config.Variables() {
		if !strings.Contains(string(readme), "`"+v.Name+"`") {
			t.Errorf("the README does not have %s", v.Name)
		}
	}
}

func TestTheReadmeHasNoTargetThatThereIsNot(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := targets(t)
	for _, used := range regexp.MustCompile(`go tool mage ([a-z][\w:]*)`).FindAllStringSubmatch(string(readme), -1) {
		if !slices.Contains(known, used[1]) {
			t.Errorf("the README uses the target %s", used[1])
		}
	}
}

func TestEveryComponentThatIsBuiltFromACheckoutIsWatched(t *testing.T) {
	known := targets(t)
	var names []string
	for _, component := range config.Components() {
		names = append(names, component.Name)
		loop, ok := loops()[component.Name]
		if !ok {
			t.Errorf("%s is not watched", component.Name)
		}
		for _, target := range []string{loop.restart, loop.demo} {
			if !slices.Contains(known, target) {
				t.Errorf("%s: there is no target %q", component.Name, target)
			}
		}
		for program, folder := range component.Programs {
			at := slices.IndexFunc(programs(), func(p string) bool { return path.Base(p) == program })
			if at < 0 {
				t.Errorf("%s: %s is none of the stack's programs", component.Name, program)
				continue
			}
			// The timestamp authority's pinned program is this project's own.
			pinned := regexp.MustCompile(`/v[0-9]+(/|$)`).ReplaceAllString(programs()[at], "$1")
			if want := path.Join(component.Module, folder); pinned != want && !strings.HasPrefix(pinned, project.Module) {
				t.Errorf("%s: %s is built from %s, and pinned is %s", component.Name, program, want, pinned)
			}
		}
	}
	if len(loops()) != len(names) {
		t.Errorf("watched are %v, and the components are %v", loops(), names)
	}
	// Upstream's programs are all of some component.
	for _, program := range programs() {
		if strings.HasPrefix(program, project.Module) {
			continue
		}
		if !slices.ContainsFunc(config.Components(), func(c config.Component) bool { _, ok := c.Programs[path.Base(program)]; return ok }) {
			t.Errorf("%s is of no component", program)
		}
	}
}
