package diagram

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Mermaid writes d as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html). Its boxes and arrows are in the
// order in which SVG places them, which Mermaid begins from: in another order its lines run into boxes and labels.
func Mermaid(d Diagram) string {
	var out strings.Builder
	out.WriteString(`%%{init: {"flowchart": {"curve": "bumpX"}}}%%` + "\nflowchart LR\n")
	var arrows strings.Builder
	brackets := map[Shape][2]string{Rounded: {"(", ")"}, Square: {"[", "]"}, Cylinder: {"[(", ")]"}}
	moods := map[Mood][]string{}
	for _, box := range arrange(d).boxes() {
		id, head := mermaidID(box.Name), box.Name
		if box.State != "" {
			head += ": " + box.State
			moods[box.Mood] = append(moods[box.Mood], id)
		}
		text := strings.Join(slices.Concat([]string{head}, box.Lines, box.Marked), "\n")
		shape := brackets[box.Shape]
		fmt.Fprintf(&out, "  %s%s\"%s\"%s\n", id, shape[0], mermaidText.Replace(text), shape[1])
		for _, arrow := range d.Arrows {
			if arrow.From == box.Name {
				fmt.Fprintf(&arrows, "  %s -- \"%s\" --> %s\n", id, mermaidText.Replace(arrow.Label), mermaidID(arrow.To))
			}
		}
	}
	out.WriteString(arrows.String())
	for _, mood := range []struct {
		name  Mood
		style string
	}{{Idle, "stroke-dasharray:4"}, {Ill, "stroke:#d1242f,stroke-width:3px"}} {
		if boxes := moods[mood.name]; len(boxes) > 0 {
			fmt.Fprintf(&out, "  classDef %s %s\n  class %s %s\n", mood.name, mood.style, strings.Join(boxes, ","), mood.name)
		}
	}
	return out.String()
}

var notPlain = regexp.MustCompile(`\W`)

// mermaidID is a name as an identifier, without dashes, which Mermaid can take for the beginning of an arrow.
func mermaidID(name string) string { return notPlain.ReplaceAllString(name, "_") }

// mermaidText writes a text for within double quotes.
var mermaidText = strings.NewReplacer(`"`, "#quot;", "#", "#35;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "`", "#96;", "\n", "<br>")
