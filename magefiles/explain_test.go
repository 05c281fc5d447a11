package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/diagram"
	"sigstore-local/magefiles/internal/service"
)

var update = flag.Bool("update", false, "renew what of the README is made from the descriptions")

func explainedParts(t *testing.T, c config.Config) []part {
	t.Helper()
	parts, err := explained(c)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestADescriptionHasWordsForWhatTheServiceIsStartedWithAndForNothingElse(t *testing.T) {
	c := testConfig(t)
	all := services(c)
	for _, one := range slices.Concat(clients(c), all) {
		if one.About == "" {
			t.Errorf("%s: About does not say what it is", one.Name)
		}
		named, err := service.Named(c, one, all)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range undeclared(one, named) {
			t.Errorf("%s: its arguments, variables or configuration name %s, and neither Uses nor Publishes does", one.Name, name)
		}
		reached := slices.Concat(named, publishedTo(named, all))
		for _, use := range one.Uses {
			if !slices.Contains(reached, use.Of) {
				t.Errorf("%s: Uses has %s, and neither its arguments, its variables nor its configuration do", one.Name, use.Of)
			}
			if words(use) == "" {
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
	parts := explainedParts(t, testConfig(t))
	signing := 0
	for _, p := range parts {
		for _, use := range p.uses {
			if use.Signs != "" {
				signing++
			}
			if use.Public != "" && len(knowing(parts, p.Name, use.Public)) == 0 {
				t.Errorf("nobody has %s, which is said to be that of %s", use.Public, p.Name)
			}
		}
	}
	if signing < 8 {
		t.Errorf("only %d keys sign", signing)
	}
}

func TestTheTextFitsATerminal(t *testing.T) {
	c := testConfig(t, "SIGLOCAL_PORT_OFFSET=50000")
	parts := explainedParts(t, c)
	for i := range parts {
		if !parts[i].client {
			parts[i].state = service.NotAnswering
		}
	}
	for line := range strings.Lines(describe(c, parts)) {
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
	parts := explainedParts(t, c)
	plain := diagram.Mermaid(draw(c, parts))
	for _, state := range []service.State{service.Ready, service.Stopped, service.Starting, service.NotAnswering, service.Crashed} {
		i := slices.IndexFunc(parts, func(p part) bool { return p.Name == "rekor" })
		parts[i].state = state
		for form, text := range map[string]string{"Mermaid": diagram.Mermaid(draw(c, parts)), "SVG": diagram.SVG(draw(c, parts))} {
			if !strings.Contains(text, string(state)) || !strings.Contains(text, c.URL(config.Rekor)) || strings.Contains(plain, c.URL(config.Rekor)) {
				t.Errorf("%s of %s: %s", form, state, text)
			}
		}
	}
}

// What the README has between these lines is made from the descriptions.
const (
	readmeBegins = "<!-- Made from the descriptions of the services: go test ./magefiles -run README -update -->\n"
	readmeEnds   = "<!-- Made until here. -->\n"
)

// readmeParts is the README's picture and its table of services: without states, and with the default addresses.
func readmeParts(c config.Config, parts []part) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n```mermaid\n%s```\n\n| service | what it is | address |\n|---|---|---|\n", diagram.Mermaid(draw(c, parts)))
	for _, p := range parts {
		if !p.client {
			fmt.Fprintf(&out, "| %s | %s | %s |\n", p.Name, p.About, addresses(c, p.Service))
		}
	}
	return out.String() + "\n"
}

func TestThePictureInTheREADMEIsWhatTheServicesAreStartedWith(t *testing.T) {
	c := testConfig(t)
	content, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(content), readmeBegins)
	made, after, ends := strings.Cut(rest, readmeEnds)
	if !begins || !ends {
		t.Fatalf("README.md does not have the lines\n%sand\n%s", readmeBegins, readmeEnds)
	}
	want := readmeParts(c, explainedParts(t, c))
	if *update {
		if err := os.WriteFile("../README.md", []byte(before+readmeBegins+want+readmeEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if made != want {
		t.Errorf("the picture or the table of services in README.md is out of date; this renews them:\n\n\tgo test ./magefiles -run README -update\n\n%s", want)
	}
}

func TestThePictureInTheREADMEIsTheSameEverywhere(t *testing.T) {
	c := testConfig(t)
	other, err := config.Load("/elsewhere", []string{"SIGLOCAL_STATE=/x", "SIGLOCAL_PORT_OFFSET=700", "SIGLOCAL_TUNING=upstream", "SIGLOCAL_EMAIL=a@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if here, there := diagram.Mermaid(draw(c, explainedParts(t, c))), diagram.Mermaid(draw(other, explainedParts(t, other))); here != there {
		t.Errorf("here it is\n%s\nand there\n%s", here, there)
	}
}
