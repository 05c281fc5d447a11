package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/diagram"
	"sigstore-local/magefiles/internal/service"
)

// Explain draws the running stack: who talks to whom, which keys sign what, and where they are kept.
func Explain(
	ctx context.Context,
	o *string, // the form of the output: text, svg or mermaid
) error {
	form, err := choice("o", o, "text", "svg", "mermaid")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	parts, err := explained(s.config)
	if err != nil {
		return err
	}
	for _, row := range s.status(ctx) {
		i := slices.IndexFunc(parts, func(p part) bool { return p.Name == row.Service })
		parts[i].state = row.State
	}
	switch form {
	case "svg":
		fmt.Print(diagram.SVG(draw(s.config, parts)))
	case "mermaid":
		fmt.Print(diagram.Mermaid(draw(s.config, parts)))
	default:
		fmt.Print(describe(s.config, parts))
		s.console.Printf("\nAs a picture: `go tool mage explain -o=svg > stack.svg`")
	}
	return nil
}

// part is a client or a service as explain draws it.
type part struct {
	service.Service
	client bool
	state  service.State // empty if it is not known
	uses   []service.Use // what it is found to use
}

// explained finds out what the stack is made of, the clients first. Who uses what is what the services are started with;
// only the words for it are their descriptions'.
func explained(c config.Config) ([]part, error) {
	var parts []part
	all := services(c)
	add := func(one service.Service, client bool) error {
		p := part{Service: one, client: client}
		named, err := service.Named(c, one, all)
		if err != nil {
			return fmt.Errorf("%s: %w", one.Name, err)
		}
		reached := slices.Concat(named, publishedTo(named, all))
		for _, use := range one.Uses {
			if slices.Contains(reached, use.Of) {
				p.uses = append(p.uses, use)
			}
		}
		for _, name := range undeclared(one, named) {
			p.uses = append(p.uses, service.Use{Of: name})
		}
		parts = append(parts, p)
		return nil
	}
	for _, one := range clients(c) {
		if err := add(one, true); err != nil {
			return nil, err
		}
	}
	for _, one := range all {
		if err := add(one, false); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// undeclared are those of named for which the description of s has no words.
func undeclared(s service.Service, named []string) []string {
	return slices.DeleteFunc(slices.Clone(named), func(name string) bool {
		return slices.Contains(s.Publishes, name) || slices.ContainsFunc(s.Uses, func(use service.Use) bool { return use.Of == name })
	})
}

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

// clients describes who uses the stack, in the form in which services are described: with the variables that env sets,
// and the arguments that a demo or a person adds.
func clients(c config.Config) []service.Service {
	return []service.Service{
		{
			Name:  "cosign",
			About: "signs and verifies images",
			Args:  []string{"--key", c.Key("cosign.key"), "--key", c.Key("other.key"), c.Image("rekor-cli")},
			Env:   environment(c, client.Keys, "COSIGN_", "SIGSTORE_"),
			Uses: []service.Use{
				{Of: "dex", To: "1 sign in"},
				{Of: "fulcio", To: "2 certify a fresh key"},
				{Of: "rekor", To: "3 log the signature"},
				{Of: "registry", To: "4 store the signature"},
				{Of: "keys/ca-root.pem", To: "check certificates"},
				{Of: "keys/ctfe.pub", To: "check SCTs"},
				{Of: "keys/rekor.pub", To: "check log entries"},
				{Of: "keys/cosign.key", Signs: "images in demo:keyed, demo:rekor"},
				{Of: "keys/other.key", To: "show that a wrong key is refused"},
				{Of: "secrets/cosign-password", To: "decrypt these keys"},
			},
		},
		{
			Name:  "bundle",
			About: "cosign, sigstore-go, sigstore-js, with bundles",
			Env:   environment(c, client.Root, "COSIGN_SIGNING_CONFIG", "COSIGN_TRUSTED_ROOT", "TUF_"),
			Uses: []service.Use{
				{Of: "tuf", To: "get what to trust"},
				{Of: "dex", To: "1 sign in"},
				{Of: "fulcio", To: "2 certify a fresh key"},
				{Of: "tsa", To: "3 timestamp the signature"},
				{Of: "rekor-tiles", To: "4 log the signature"},
				{Of: "trust/root.json", To: "check the TUF repository"},
				{Of: "trust/signing_config.json", To: "find these services"},
				{Of: "trust/trusted_root.json", To: "check what they signed"},
			},
		},
		{
			Name:  "ko",
			About: "builds images",
			Env:   environment(c, client.Keys, "KO_"),
			Uses:  []service.Use{{Of: "registry", To: "store images"}},
		},
		{
			Name:  "rekor-cli",
			About: "asks the log",
			Env:   environment(c, client.Keys, "REKOR_REKOR_SERVER"),
			Uses:  []service.Use{{Of: "rekor", To: "add and find entries"}},
		},
		{
			Name:  "browser",
			About: "where a person signs in",
			Args:  []string{c.Issuer(), c.SecretFile(config.DexPassword)},
			Uses: []service.Use{
				{Of: "dex", To: "sign in as a person"},
				{Of: "secrets/dex-password", To: "type this password"},
			},
		},
	}
}

// environment are the clients' variables whose names begin with one of prefixes.
func environment(c config.Config, trust client.Trust, prefixes ...string) []string {
	var env []string
	for _, v := range client.Environment(c, trust) {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(v.Name, prefix) }) {
			env = append(env, v.Name+"="+v.Value+v.Secret)
		}
	}
	return env
}

// words says what a use is for.
func words(use service.Use) string {
	if use.To == "" && use.Signs != "" {
		return "sign " + use.Signs
	}
	return use.To
}

// at is the service or the token of which the name of a use is; empty if it is a file's.
func at(name string) string {
	name, _, _ = strings.Cut(name, "/")
	if name == service.Token || slices.Contains(config.ServiceNames(), name) {
		return name
	}
	return ""
}

// place is the name of a use as a person would say it.
func place(c config.Config, name string) string {
	_, database, _ := strings.Cut(name, "/")
	switch {
	case name == service.Token:
		return tokenName(c)
	case at(name) != "" && database != "":
		return at(name) + ", database " + database
	default:
		return name
	}
}

func tokenName(c config.Config) string { return "token " + strconv.Quote(c.PKCS11Token) }

// address is where clients reach a service: a URL, host and port, or the path of a socket below the state folder.
func address(c config.Config, s service.Service) string {
	return strings.TrimPrefix(s.Address, c.State+"/")
}

// addresses is a service's address and its other ports.
func addresses(c config.Config, s service.Service) string {
	text := address(c, s)
	for _, port := range s.Listens[min(1, len(s.Listens)):] {
		kind := strings.TrimPrefix(string(port), string(s.Listens[0])+"_")
		text += fmt.Sprintf(", %d (%s)", c.Port(port), strings.NewReplacer("GRPC", "gRPC", "METRICS", "metrics").Replace(kind))
	}
	return text
}

// arrowEnd is the column in which the arrows of the text end: what they lead to has room in a line of 80.
const arrowEnd = 52

// describe is the stack as text.
func describe(c config.Config, parts []part) string {
	var out strings.Builder
	fmt.Fprintf(&out, "The stack in %s, where the files below are.\n", c.State)
	for _, group := range []struct {
		title   string
		clients bool
	}{{"Clients", true}, {"Services", false}} {
		fmt.Fprintf(&out, "\n%s\n", group.title)
		for _, p := range parts {
			if p.client == group.clients {
				p.write(&out, c, parts)
			}
		}
	}
	writeKeys(&out, c, parts)
	return out.String()
}

// write writes p, one of parts, with what it uses.
func (p part) write(out *strings.Builder, c config.Config, parts []part) {
	names, states := 0, 0
	for _, other := range parts {
		names, states = max(names, len(other.Name)), max(states, len(other.state))
	}
	if p.client {
		fmt.Fprintf(out, "\n  %-*s  %s\n", names, p.Name, p.About)
	} else {
		fmt.Fprintf(out, "\n  %-*s  %-*s  %s\n    at %s\n", names, p.Name, states, p.state, p.About, addresses(c, p.Service))
	}
	for _, use := range p.uses {
		line, head := "    "+words(use)+" ", "─"
		if at(use.Of) != "" {
			head = "▶"
		}
		fmt.Fprintf(out, "%s%s%s %s\n", line, strings.Repeat("─", max(1, arrowEnd-utf8.RuneCountInString(line))), head, place(c, use.Of))
	}
	// The keys that it publishes are in the list of keys.
	published := slices.DeleteFunc(slices.Clone(p.Publishes), func(name string) bool { return at(name) == "" })
	if len(published) > 0 {
		fmt.Fprintf(out, "    tell clients of %s and their keys\n", strings.Join(published, ", "))
	}
}

// writeKeys writes which keys sign what, where each is kept, and who knows its public half.
func writeKeys(out *strings.Builder, c config.Config, parts []part) {
	fmt.Fprintf(out, "\nKeys\n\n")
	for _, p := range parts {
		for _, use := range p.uses {
			if use.Signs == "" {
				continue
			}
			fmt.Fprintf(out, "  %-24s %s signs %s\n", place(c, use.Of), p.Name, use.Signs)
			if known := knowing(parts, p.Name, use.Public); len(known) > 0 {
				fmt.Fprintf(out, "  %-24s known as %s to %s\n", "", use.Public, strings.Join(known, ", "))
			}
		}
	}
	fmt.Fprintf(out, "  %-24s a client signs keyless with a key that is then gone\n", "in memory")
}

// knowing are those beside its owner who have the file of a public key: to verify with it, or to publish it.
func knowing(parts []part, owner, public string) []string {
	var names []string
	for _, p := range parts {
		uses := slices.ContainsFunc(p.uses, func(use service.Use) bool { return use.Of == public })
		if p.Name != owner && (uses || slices.Contains(p.Publishes, public)) {
			names = append(names, p.Name)
		}
	}
	return names
}

// draw makes a diagram of the stack, without states and addresses if the states are not known.
func draw(c config.Config, parts []part) diagram.Diagram {
	d := diagram.Diagram{Title: "The stack in " + c.State}
	for _, p := range parts {
		box := diagram.Box{Name: p.Name, Shape: diagram.Square, Lines: []string{p.About}}
		switch {
		case p.client:
			box.Shape = diagram.Rounded
		case p.Name == "mariadb":
			box.Shape = diagram.Cylinder
		}
		if p.state != "" {
			box.State, box.Mood = string(p.state), mood(p.state)
			box.Lines = append(box.Lines, address(c, p.Service))
		}
		for _, use := range p.uses {
			if to := at(use.Of); to != "" {
				d.Arrows = append(d.Arrows, diagram.Arrow{From: p.Name, To: to, Label: words(use)})
			}
			if use.Signs != "" {
				box.Marked = append(box.Marked, "signs "+use.Signs, "key: "+place(c, use.Of))
			}
		}
		d.Boxes = append(d.Boxes, box)
	}
	d.Boxes = append(d.Boxes, diagram.Box{Name: service.Token, Shape: diagram.Cylinder, Lines: []string{"PKCS#11 " + tokenName(c) + ", with the CA's key"}})
	return d
}

func mood(state service.State) diagram.Mood {
	switch state {
	case service.Ready:
		return diagram.Well
	case service.Stopped:
		return diagram.Idle
	default:
		return diagram.Ill
	}
}
