package main

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/develop"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

func testConfig(t *testing.T, environ ...string) config.Config {
	t.Helper()
	c, err := config.Load("/checkout", environ, described.Parts()...)
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
		if slices.Contains(names, s.Name) {
			t.Errorf("two services are called %s", s.Name)
		}
		names = append(names, s.Name)
		if s.Name == "" || !filepath.IsAbs(s.Program) && s.Program != "mariadbd" || s.Address == "" || s.Ready.URL == "" && !s.Ready.Database {
			t.Errorf("%q lacks its program, address or probe", s.Name)
		}
		for _, name := range s.Templates {
			if _, err := os.Stat(filepath.Join("..", "templates", name+".tmpl")); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		for _, port := range s.Listens {
			if other, ok := listening[port]; ok {
				t.Errorf("%s and %s both listen on %s", other, s.Name, port.Name)
			}
			listening[port] = s.Name
		}
	}
	for _, port := range c.Ports() {
		if listening[port] == "" && port != config.Debug && port != config.Callback {
			t.Errorf("no service listens on %s", port.Name)
		}
	}
}

// Programs that show or run the stack elsewhere get its descriptions as JSON.
func TestADescriptionIsData(t *testing.T) {
	c := testConfig(t)
	for _, s := range slices.Concat(services(c), clients(c)) {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		var again service.Service
		if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%s becomes, as JSON, %v\n%+v\nand was\n%+v", s.Name, err, again, s)
		}
	}
}

// pinnedPrograms are the import paths of all programs that are built for any stack, by the programs' names.
func pinnedPrograms() map[string]string {
	all := map[string]string{}
	for _, kind := range []config.Stack{config.Whole, config.Tiles} {
		for _, pkg := range (&stack.Stack{Descriptions: described, Config: config.Config{Stack: kind}}).Programs() {
			name, importPath := build.Program(pkg)
			all[name] = importPath
		}
	}
	return all
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
	programs := pinnedPrograms()
	// Tools for people who work on the stack, which are no service or client of it.
	developers := []string{develop.Delve, "honnef.co/go/tools/cmd/staticcheck"}
	for _, tool := range developers {
		if !slices.Contains(pinned, tool) || slices.Contains(slices.Collect(maps.Values(programs)), tool) {
			t.Errorf("%s is a developer's tool, which is pinned and not built", tool)
		}
	}
	for _, tool := range pinned {
		if !strings.HasPrefix(tool, project.Module+"/") && !slices.Contains(developers, tool) && !slices.Contains(slices.Collect(maps.Values(programs)), tool) {
			t.Errorf("%s is pinned and not built", tool)
		}
	}
	for _, program := range slices.Sorted(maps.Values(programs)) {
		if !strings.HasPrefix(program, project.Module) && !slices.Contains(pinned, program) {
			t.Errorf("%s is built and not pinned", program)
		}
	}
	for _, s := range services(testConfig(t)) {
		if s.Name != "mariadb" && programs[filepath.Base(s.Program)] == "" {
			t.Errorf("%s runs %s, which is not built", s.Name, s.Program)
		}
	}
}

func TestEachStackHasItsServicesAndBuildsNoOthers(t *testing.T) {
	for kind, want := range map[config.Stack]string{
		config.Tutorial: "registry mariadb log-server log-signer rekor ct dex fulcio page",
		config.Tiles:    "registry tesseract dex fulcio tsa rekor-tiles tiles tuf page",
	} {
		c := testConfig(t, "SIGLOCAL_STACK="+string(kind))
		if got := strings.Join(stack.Names(services(c)), " "); got != want {
			t.Errorf("%s has %s, not %s", kind, got, want)
		}
		other := regexp.MustCompile(map[config.Stack]string{
			config.Tutorial: `tesseract|rekor-tiles|cosign/v3|timestamp`, config.Tiles: `trillian|sigstore/rekor/|cosign/v2`,
		}[kind])
		for _, program := range (&stack.Stack{Descriptions: described, Config: c}).Programs() {
			if other.MatchString(program) {
				t.Errorf("%s builds %s", kind, program)
			}
		}
	}
	if got := len(services(testConfig(t))); got != len(components()) {
		t.Errorf("the whole stack has %d of %d services", got, len(components()))
	}
}

func TestTheOffsetReachesEveryArgumentAndTemplate(t *testing.T) {
	state := t.TempDir()
	plain := testConfig(t)
	c := plain
	c.State = state
	shifted, err := config.Load("/checkout", []string{"SIGLOCAL_PORT_OFFSET=20000"}, described.Parts()...)
	if err != nil {
		t.Fatal(err)
	}
	shifted.State = state
	if err := statedir.MakeFolders(shifted); err != nil {
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
	for _, port := range plain.Ports() {
		if strings.Contains(text.String(), ":"+strings.TrimPrefix(plain.Address(port), "127.0.0.1:")) {
			t.Errorf("the default port of %s is left", port.Name)
		}
		if !strings.Contains(text.String(), strings.TrimPrefix(shifted.Address(port), "127.0.0.1:")) {
			t.Errorf("the shifted port of %s is not there", port.Name)
		}
	}
}

// Those are each public port of a service, in its arguments or in a template.
func TestWhatClientsReachListensOnAllAddressesIfSoSet(t *testing.T) {
	for _, setting := range []string{"loopback", "all"} {
		c := testConfig(t, "SIGLOCAL_LISTEN="+setting, "SIGLOCAL_STATE="+t.TempDir())
		if err := statedir.MakeFolders(c); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		templates, err := filepath.Glob("../templates/*.tmpl")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range templates {
			content, err := service.Render(c, strings.TrimSuffix(filepath.Base(file), ".tmpl"), service.StandIns(), statedir.Secret)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(content)
		}
		ports := 0
		for _, s := range services(c) {
			text.WriteString(strings.Join(s.Args, "\n") + "\n")
			ports += len(config.PublicPorts(s.Listens))
		}
		want := map[string]int{"loopback": 0, "all": ports}[setting]
		if got := strings.Count(text.String(), "0.0.0.0"); got != want || ports < 10 {
			t.Errorf("SIGLOCAL_LISTEN=%s: %d of %d ports are on all addresses", setting, got, ports)
		}
	}
}

func TestACheckoutOfDexShowsItsOwnPages(t *testing.T) {
	c := testConfig(t)
	c.State = t.TempDir()
	if err := statedir.MakeFolders(c); err != nil {
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
	if err := statedir.MakeFolders(c); err != nil {
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

func TestEverySourceIsDescribedInFull(t *testing.T) {
	known := targets(t)
	c := testConfig(t)
	programs := pinnedPrograms()
	running := map[string]bool{}
	for _, one := range services(c) {
		if one.Source != nil {
			running[one.Source.Name] = true
		}
	}
	for _, source := range c.Sources() {
		if source.Restart == "" && running[source.Name] || source.Restart != "" && !slices.Contains(known, source.Restart) {
			t.Errorf("%s: there is no target %q, which is to restart it", source.Name, source.Restart)
		}
		if !slices.Contains(known, source.Demo) {
			t.Errorf("%s: there is no target %q, which is to show that it works", source.Name, source.Demo)
		}
		for program, folder := range source.Programs {
			if programs[program] == "" {
				t.Errorf("%s: %s is none of the stack's programs", source.Name, program)
				continue
			}
			// The timestamp authority's pinned program is this project's own.
			pinned := regexp.MustCompile(`/v[0-9]+(/|$)`).ReplaceAllString(programs[program], "$1")
			if want := path.Join(source.Module, folder); pinned != want && !strings.HasPrefix(pinned, project.Module) {
				t.Errorf("%s: %s is built from %s, and pinned is %s", source.Name, program, want, pinned)
			}
		}
	}
	// Upstream's programs are all of some source.
	for name, importPath := range programs {
		if strings.HasPrefix(importPath, project.Module) {
			continue
		}
		if !slices.ContainsFunc(c.Sources(), func(s config.Source) bool { _, ok := s.Programs[path.Base(name)]; return ok }) {
			t.Errorf("%s is of no source", importPath)
		}
	}
}

func TestTheServicesThatCannotGoOnWithoutOneAreFound(t *testing.T) {
	all := services(testConfig(t))
	for name, want := range map[string]string{
		"fulcio": "", "registry": "", "ct": "fulcio", "log-server": "rekor ct fulcio", "mariadb": "log-server log-signer rekor ct dex fulcio", "tsa": "",
	} {
		users := service.UsersOf(all, []string{name})
		slices.SortFunc(users, func(a, b string) int {
			index := func(name string) int {
				return slices.IndexFunc(all, func(one service.Service) bool { return one.Name == name })
			}
			return index(a) - index(b)
		})
		if got := strings.Join(users, " "); got != want {
			t.Errorf("without %s these cannot go on: %q, not %q", name, got, want)
		}
	}
}
