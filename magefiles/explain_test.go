package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/explain"
	"sigstore-local/magefiles/internal/explain/diagram"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/service/servicetest"
)

var update = flag.Bool("update", false, "renew the pictures and tables that are made from the descriptions")

// drawn draws the stack of c.
func drawn(c config.Config) explain.Drawing { return explain.Draw(c, described) }

// publishedTo is what a client that has a file of the folder trust, as one of named, finds in it.
func publishedTo(named []string, all []service.Service) []string {
	var published []string
	if slices.ContainsFunc(named, func(name string) bool { return strings.HasPrefix(name, "trust/") }) {
		for _, one := range all {
			published = append(published, one.Publishes...)
		}
	}
	return published
}

// What is drawn is what the descriptions say, so they have to say all that is, and nothing else.
func TestADescriptionHasWordsForWhatTheServiceIsStartedWithAndForNothingElse(t *testing.T) {
	for _, settings := range everyStack {
		t.Run(strings.Join(settings, " "), func(t *testing.T) { checkDescriptions(t, testConfig(t, settings...)) })
	}
}

// everyStack has the settings by which descriptions differ.
var everyStack = [][]string{nil, {"SIGLOCAL_CT_LOG=tesseract"}, {"SIGLOCAL_STACK=tutorial"}, {"SIGLOCAL_STACK=tiles"}}

func checkDescriptions(t *testing.T, c config.Config) {
	t.Helper()
	all := services(c)
	for _, one := range slices.Concat(clients(c), all) {
		if one.About == "" {
			t.Errorf("%s: About does not say what it is", one.Name)
		}
		named, err := servicetest.Named(c, one, all)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range named {
			used := slices.ContainsFunc(one.Uses, func(use service.Use) bool { return use.Of == name })
			if !used && !slices.Contains(one.Publishes, name) {
				t.Errorf("%s: its arguments, variables or configuration name %s, and neither Uses nor Publishes does", one.Name, name)
			}
		}
		reached := slices.Concat(named, publishedTo(named, all))
		for _, use := range one.Uses {
			if !slices.Contains(reached, use.Of) {
				t.Errorf("%s: Uses has %s, and neither its arguments, its variables nor its configuration do", one.Name, use.Of)
			}
			if use.To == "" && use.Signs == "" {
				t.Errorf("%s: Uses does not say what %s is for", one.Name, use.Of)
			}
		}
		for _, name := range one.Publishes {
			if !slices.Contains(named, name) {
				t.Errorf("%s: Publishes has %s, and neither its arguments, its variables nor its configuration do", one.Name, name)
			}
		}
	}
}

func TestEveryPublicKeyThatIsSaidIsKnownToSomebody(t *testing.T) {
	if unknown := drawn(testConfig(t)).Unknown(); len(unknown) > 0 {
		t.Errorf("nobody has %q, which are said to be public keys", unknown)
	}
	signing := 0
	for _, one := range services(testConfig(t)) {
		for _, use := range one.Uses {
			if use.Signs != "" {
				signing++
			}
		}
	}
	if signing < 7 {
		t.Errorf("only %d keys sign", signing)
	}
}

func TestTheTextFitsATerminal(t *testing.T) {
	for _, settings := range everyStack {
		t.Run(strings.Join(settings, " "), func(t *testing.T) {
			fitsATerminal(t, testConfig(t, append(slices.Clone(settings), "SIGLOCAL_PORT_OFFSET=50000")...))
		})
	}
}

func fitsATerminal(t *testing.T, c config.Config) {
	t.Helper()
	d := drawn(c)
	for _, one := range services(c) {
		d.SetState(one.Name, service.NotAnswering)
	}
	for line := range strings.Lines(d.Text()) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 80 {
			t.Errorf("this has more than 80 columns: %s", line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("this ends with a space: %q", line)
		}
	}
}

func TestAPictureShowsWhatIsNotWell(t *testing.T) {
	c := testConfig(t)
	d := drawn(c)
	plain := diagram.Mermaid(d.Whole())
	for _, state := range []service.State{service.Ready, service.Stopped, service.Starting, service.NotAnswering, service.Crashed} {
		d.SetState("rekor", state)
		for form, text := range map[string]string{"Mermaid": diagram.Mermaid(d.Whole()), "SVG": diagram.SVG(d.Whole())} {
			if !strings.Contains(text, string(state)) || !strings.Contains(text, c.URL(config.Rekor)) || strings.Contains(plain, c.URL(config.Rekor)) {
				t.Errorf("%s of %s: %s", form, state, text)
			}
		}
	}
}

// What a page has between these lines is made from the descriptions.
const (
	madeBegins = "<!-- Made from the descriptions of the services: go test ./magefiles -run Pictures -update -->\n"
	madeEnds   = "<!-- Made until here. -->\n"
)

// pictures are the files that are made from the descriptions, by their paths: what each is to be, given what it is.
func pictures(c config.Config) map[string]func(was string) (string, error) {
	svg := func(theme diagram.Theme) func(string) (string, error) {
		return func(string) (string, error) {
			overview := drawn(c).Overview()
			overview.Theme = theme
			return diagram.SVG(overview), nil
		}
	}
	return map[string]func(string) (string, error){
		"../docs/stack.svg":      svg(diagram.Light),
		"../docs/stack-dark.svg": svg(diagram.Dark),
		"../docs/what-runs.md":   between(fmt.Sprintf("\n```mermaid\n%s```\n\n%s\n", diagram.Mermaid(drawn(c).Whole()), drawn(c).Table())),
		"../docs/settings.md":    between("\n" + portsAndSources(c) + "\n"),
	}
}

// between puts what is made into a page, at its place.
func between(made string) func(string) (string, error) {
	return func(was string) (string, error) {
		before, rest, begins := strings.Cut(was, madeBegins)
		_, after, ends := strings.Cut(rest, madeEnds)
		if !begins || !ends {
			return "", fmt.Errorf("it does not have the lines\n%sand\n%s", madeBegins, madeEnds)
		}
		return before + madeBegins + made + madeEnds + after, nil
	}
}

// portsAndSources are tables of the settings that follow from what services and clients are described with.
func portsAndSources(c config.Config) string {
	var ports, sources strings.Builder
	ports.WriteString("| variable | port of | default |\n|---|---|---|\n")
	sources.WriteString("| variable | a checkout of | for |\n|---|---|---|\n")
	for _, one := range services(c) {
		for _, port := range one.Listens {
			fmt.Fprintf(&ports, "| `%s` | %s | `%d` |\n", port.Variable(), one.Name, port.Default)
		}
	}
	fmt.Fprintf(&ports, "| `%s` | Delve, while a service is debugged | `%d` |\n", config.Debug.Variable(), config.Debug.Default)
	fmt.Fprintf(&ports, "| `%s` | cosign, while `demo:login` waits for the browser | `%d` |\n", config.Callback.Variable(), config.Callback.Default)
	for _, source := range c.Sources() {
		var users []string
		for _, one := range slices.Concat(services(c), clients(c)) {
			if one.Source != nil && one.Source.Name == source.Name {
				users = append(users, one.Name)
			}
		}
		fmt.Fprintf(&sources, "| `%s` | %s | %s |\n", source.Variable(), source.Module, strings.Join(users, ", "))
	}
	return ports.String() + "\n" + sources.String()
}

func TestThePicturesAreWhatTheServicesAreStartedWith(t *testing.T) {
	c := testConfig(t)
	for file, picture := range pictures(c) {
		was, err := os.ReadFile(file)
		if err != nil && !(*update && errors.Is(err, fs.ErrNotExist)) {
			t.Error(err)
			continue
		}
		want, err := picture(string(was))
		switch {
		case err != nil:
			t.Errorf("%s: %v", file, err)
		case string(was) == want:
		case *update:
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%s is out of date; this renews it:\n\n\tgo test ./magefiles -run Pictures -update\n\n%s", file, want)
		}
	}
}

func TestThePicturesAreTheSameEverywhere(t *testing.T) {
	c := testConfig(t)
	other, err := config.Load("/elsewhere", []string{"SIGLOCAL_STATE=/x", "SIGLOCAL_PORT_OFFSET=700", "SIGLOCAL_TUNING=upstream", "SIGLOCAL_EMAIL=a@example.org"}, described.Parts()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []func(config.Config) string{
		func(c config.Config) string { return diagram.Mermaid(drawn(c).Whole()) },
		func(c config.Config) string { return diagram.SVG(drawn(c).Overview()) },
	} {
		if here, there := form(c), form(other); here != there {
			t.Errorf("here it is\n%s\nand there\n%s", here, there)
		}
	}
}
