// Package explain draws a stack from its descriptions: who talks to whom, which keys sign what, and where they are kept.
package explain

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/explain/diagram"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// Show prints the stack, and how each service is, in the form text, svg or mermaid.
func Show(ctx context.Context, s *stack.Stack, form string) error {
	d := Draw(s.Config, s.Descriptions)
	for _, row := range s.Status(ctx) {
		d.SetState(row.Service, row.State)
	}
	switch form {
	case "svg":
		fmt.Print(diagram.SVG(d.Whole()))
	case "mermaid":
		fmt.Print(diagram.Mermaid(d.Whole()))
	default:
		fmt.Print(d.Text())
		s.Console.Printf("\nAs a picture: `%s explain -o=svg > stack.svg`", project.Command)
	}
	return nil
}

// Drawing is a stack that is drawn.
type Drawing struct {
	config config.Config
	parts  []part // the clients first
}

// part is a client or a service as it is drawn.
type part struct {
	service.Service
	client bool
	state  service.State // empty if it is not known
}

// Draw draws the stack that descriptions describe for c, without the services' states, which SetState adds.
func Draw(c config.Config, descriptions stack.Descriptions) Drawing {
	d := Drawing{config: c}
	for _, one := range descriptions.Clients(c) {
		d.parts = append(d.parts, part{Service: one, client: true})
	}
	for _, one := range descriptions.Services(c) {
		d.parts = append(d.parts, part{Service: one})
	}
	return d
}

// SetState says how a service is.
func (d Drawing) SetState(name string, state service.State) {
	i := slices.IndexFunc(d.parts, func(p part) bool { return !p.client && p.Name == name })
	d.parts[i].state = state
}

// Words says what a use is for.
func Words(use service.Use) string {
	if use.To == "" && use.Signs != "" {
		return "sign " + use.Signs
	}
	return use.To
}

// files are the folders below the state folder whose files are used.
var files = []string{"data", "keys", "secrets", "trust"}

// At is the service or the token that Use.Of names; empty if it names a file.
func At(name string) string {
	name, _, _ = strings.Cut(name, "/")
	if slices.Contains(files, name) {
		return ""
	}
	return name
}

// Place is Use.Of in words for people.
func Place(c config.Config, name string) string {
	_, database, _ := strings.Cut(name, "/")
	switch {
	case name == service.Token:
		return tokenName(c)
	case At(name) != "" && database != "":
		return At(name) + ", database " + database
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
		kind := port.Name[strings.LastIndex(port.Name, "_")+1:]
		text += fmt.Sprintf(", %d (%s)", c.Port(port), strings.NewReplacer("GRPC", "gRPC", "METRICS", "metrics").Replace(kind))
	}
	return text
}

// arrowEnd is the column in which the arrows of the text end: what they lead to has room in a line of 80.
const arrowEnd = 52

// Text is the stack as text.
func (d Drawing) Text() string {
	c, parts := d.config, d.parts
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
	for _, use := range p.Uses {
		line, head := "    "+Words(use)+" ", "─"
		if At(use.Of) != "" {
			head = "▶"
		}
		fmt.Fprintf(out, "%s%s%s %s\n", line, strings.Repeat("─", max(1, arrowEnd-utf8.RuneCountInString(line))), head, Place(c, use.Of))
	}
	// The keys that it publishes are in the list of keys.
	published := slices.DeleteFunc(slices.Clone(p.Publishes), func(name string) bool { return At(name) == "" })
	if len(published) > 0 {
		fmt.Fprintf(out, "    names %s, and their keys\n", strings.Join(published, ", "))
	}
}

// writeKeys writes which keys sign what, where each is kept, and who knows its public half.
func writeKeys(out *strings.Builder, c config.Config, parts []part) {
	fmt.Fprintf(out, "\nKeys\n\n")
	for _, p := range parts {
		for _, use := range p.Uses {
			if use.Signs == "" {
				continue
			}
			fmt.Fprintf(out, "  %-24s %s signs %s\n", Place(c, use.Of), p.Name, use.Signs)
			if known := knowing(parts, p.Name, use.Public); len(known) > 0 {
				fmt.Fprintf(out, "  %-24s as %s to %s\n", "", use.Public, strings.Join(known, ", "))
			}
		}
	}
	fmt.Fprintf(out, "  %-24s a client signs keyless with a key that is then gone\n", "in memory")
}

// knowing are the services and clients, beside its owner, that verify with the file of a public key or publish it.
func knowing(parts []part, owner, public string) []string {
	var names []string
	for _, p := range parts {
		uses := slices.ContainsFunc(p.Uses, func(use service.Use) bool { return use.Of == public })
		if p.Name != owner && (uses || slices.Contains(p.Publishes, public)) {
			names = append(names, p.Name)
		}
	}
	return names
}

// Whole makes a diagram of the stack, without states and addresses if the states are not known.
func (d Drawing) Whole() diagram.Diagram {
	c := d.config
	whole := diagram.Diagram{Title: "The stack in " + c.State}
	for _, p := range d.parts {
		box := diagram.Box{Name: p.Name, Shape: diagram.Square, Lines: []string{p.About}}
		switch {
		case p.client:
			box.Shape = diagram.Rounded
		case p.Name == "mariadb":
			box.Shape = diagram.Cylinder
		}
		if p.state != "" {
			box.State, box.Mood = string(p.state), Mood(p.state)
			box.Lines = append(box.Lines, address(c, p.Service))
		}
		for _, use := range p.Uses {
			if to := At(use.Of); to != "" {
				whole.Arrows = append(whole.Arrows, diagram.Arrow{From: p.Name, To: to, Label: Words(use)})
			}
			if use.Signs != "" {
				box.Marked = append(box.Marked, "signs "+use.Signs, "key: "+Place(c, use.Of))
			}
		}
		whole.Boxes = append(whole.Boxes, box)
	}
	whole.Boxes = append(whole.Boxes, diagram.Box{Name: service.Token, Shape: diagram.Cylinder, Lines: []string{"PKCS#11 " + tokenName(c) + ", with the CA's key"}})
	return whole
}

// storage are the services that only keep what others make.
var storage = []string{"log-server", "log-signer", "mariadb"}

// Overview is the part of the stack that makes a keyless signature by cosign, without the services that only store it.
func (d Drawing) Overview() diagram.Diagram {
	overview := d.Whole()
	reached := map[string]bool{"cosign": true}
	for before := 0; before != len(reached); {
		before = len(reached)
		for _, arrow := range overview.Arrows {
			if reached[arrow.From] && !slices.Contains(storage, arrow.To) {
				reached[arrow.To] = true
			}
		}
	}
	overview.Title, overview.Down = "", true
	overview.Boxes = slices.DeleteFunc(overview.Boxes, func(box diagram.Box) bool { return !reached[box.Name] })
	overview.Arrows = slices.DeleteFunc(overview.Arrows, func(arrow diagram.Arrow) bool { return !reached[arrow.From] || !reached[arrow.To] })
	for i := range overview.Boxes {
		overview.Boxes[i].Marked = slices.DeleteFunc(overview.Boxes[i].Marked, func(line string) bool { return !strings.HasPrefix(line, "signs ") })
		if overview.Boxes[i].Name == "cosign" {
			overview.Boxes[i].Marked = nil // it signs with the keys of the other levels
		}
	}
	return overview
}

// Table is a table of the services in Markdown.
func (d Drawing) Table() string {
	var out strings.Builder
	out.WriteString("| service | what it is | address |\n|---|---|---|\n")
	for _, p := range d.parts {
		if !p.client {
			fmt.Fprintf(&out, "| %s | %s | %s |\n", p.Name, p.About, addresses(d.config, p.Service))
		}
	}
	return out.String()
}

// Unknown lists the public keys that a description names and that no other service or client uses.
func (d Drawing) Unknown() []string {
	var names []string
	for _, p := range d.parts {
		for _, use := range p.Uses {
			if use.Public != "" && len(knowing(d.parts, p.Name, use.Public)) == 0 {
				names = append(names, use.Public)
			}
		}
	}
	return names
}

// Mood is what a state means.
func Mood(state service.State) diagram.Mood {
	switch state {
	case service.Ready:
		return diagram.Well
	case service.Stopped:
		return diagram.Idle
	default:
		return diagram.Ill
	}
}
