package diagram

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// light is the style of every picture; dark changes its colours.
const light = `
text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 }
.name { font-weight: 600 }
.more, .label { fill: #59636e }
.marked { fill: #0a5bb5 }
.state { text-anchor: end }
.page { fill: #ffffff }
.box { fill: #f6f8fa; stroke: #818b98; stroke-width: 1.2 }
.idle { stroke-dasharray: 5 4 }
.ill { stroke: #d1242f; stroke-width: 2 }
.line { fill: none; stroke: #818b98; stroke-width: 1.2 }
.head { fill: #818b98 }
.dot-well { fill: #1a7f37 }
.dot-idle { fill: #818b98 }
.dot-ill { fill: #d1242f }
`

const dark = `
text { fill: #f0f6fc }
.more, .label { fill: #9198a1 }
.marked { fill: #79b8ff }
.page { fill: #0d1117 }
.box { fill: #151b23; stroke: #656c76 }
.ill { stroke: #f85149 }
.line { stroke: #656c76 }
.head { fill: #656c76 }
.dot-well { fill: #3fb950 }
.dot-ill { fill: #f85149 }
`

// style is the style sheet of t. A viewer without media queries shows Auto as Light.
func (t Theme) style() string {
	switch t {
	case Light:
		return light
	case Dark:
		return light + dark
	default:
		return light + "@media (prefers-color-scheme: dark) {" + dark + "}\n"
	}
}

// StyleSheet is the style sheet of pictures in a page. Its rules are about elements within an svg of the class diagram.
func StyleSheet() string {
	var out strings.Builder
	within := func(rules, indent string) {
		for rule := range strings.Lines(strings.TrimSpace(rules)) {
			out.WriteString(indent + "svg.diagram " + strings.TrimRight(rule, "\n") + "\n")
		}
	}
	within(light, "")
	out.WriteString("@media (prefers-color-scheme: dark) {\n")
	within(dark, "  ")
	out.WriteString("}\n")
	return out.String()
}

// lidDepth is the height of half of a cylinder's lid, in pixels.
const lidDepth = 7.0

// SVG draws d.
func SVG(d Diagram) string {
	l := arrange(d)
	var out strings.Builder
	title := html.EscapeString(d.Title)
	role := "img"
	if d.Links != "" {
		role = `group" aria-label="Parts, and arrows to what they use` // with links within
	}
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="%s"`, l.width, l.height, l.width, l.height, role)
	if title != "" {
		fmt.Fprintf(&out, " aria-label=\"%s\">\n<title>%s</title", title, title)
	}
	if d.Links == "" {
		fmt.Fprintf(&out, ">\n<style>%s</style>\n", d.Theme.style())
	} else {
		out.WriteString(" class=\"diagram\">\n")
	}
	out.WriteString(`<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">` +
		`<path class="head" d="M0 0L10 5L0 10z"/></marker></defs>` + "\n" + `<rect class="page" width="100%" height="100%"/>` + "\n")
	if title != "" {
		fmt.Fprintf(&out, `<text class="title" x="%.0f" y="%.0f">%s</text>`+"\n", margin, margin+14, title)
	}
	for _, w := range l.ways {
		if d.Links != "" {
			from, to := w.ends()
			fmt.Fprintf(&out, `<g class="arrow" data-from="%s" data-to="%s">`+"\n", html.EscapeString(from), html.EscapeString(to))
		}
		w.draw(&out, d.Down)
		if d.Links != "" {
			out.WriteString("</g>\n")
		}
	}
	for _, column := range l.columns {
		for _, it := range column {
			if it.box == nil {
				continue
			}
			if d.Links != "" {
				name := html.EscapeString(it.box.Name)
				fmt.Fprintf(&out, `<a class="part" href="%s%s" data-part="%s">`+"\n", html.EscapeString(d.Links), name, name)
			}
			it.drawBox(&out)
			if d.Links != "" {
				out.WriteString("</a>\n")
			}
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// draw draws an arrow: straight where it passes a column and beside its label, and curved between columns. Its points are
// worked out as if it led from left to right; down exchanges their coordinates.
func (w way) draw(out *strings.Builder, down bool) {
	point := func(x, y float64) string {
		if down {
			x, y = y, x
		}
		return fmt.Sprintf("%.1f %.1f", x, y)
	}
	last := len(w.items) - 1
	first := w.items[0].turned(down)
	x, y := first.x+first.width/2, end(first, w.items[0].after, w.items[1], down)
	path := "M" + point(x, y)
	for i, one := range w.items[1:] {
		it := one.turned(down)
		across := it.y
		switch {
		case i+1 == last:
			across = end(it, one.before, w.items[i], down)
		case i == 0 && down:
			across = it.y - it.height/2 // on the left of the label
		case i == 0:
			across = it.y + it.height/2 // below the label
		}
		begin := it.x - it.width/2
		if i+1 == last && down {
			begin -= one.lid(across)
		}
		path += "C" + point((x+begin)/2, y) + " " + point((x+begin)/2, across) + " " + point(begin, across)
		x, y = it.x+it.width/2, across
		if i+1 < last {
			path += "L" + point(x, y)
		}
	}
	marker := "end"
	if w.backward {
		marker = "start"
	}
	fmt.Fprintf(out, `<path class="line" marker-%s="url(#head)" d="%s"/>`+"\n", marker, path)
	label := w.items[1]
	left, top := label.x-label.width/2, label.y-label.height/2
	if down {
		left, top = left+besideLine, label.y-lineHeight*float64(len(label.lines))/2
	}
	for i, line := range label.lines {
		fmt.Fprintf(out, `<text class="label" x="%.1f" y="%.1f">%s</text>`+"\n", left, top+lineHeight*float64(i)+12, html.EscapeString(line))
	}
}

// lid is how far the lid of a cylinder is above the top of its box at x, in pixels.
func (it *item) lid(x float64) float64 {
	if it.box.Shape != Cylinder {
		return 0
	}
	aside := (x - it.x) / (it.width / 2)
	return lidDepth * math.Sqrt(max(0, 1-aside*aside))
}

// end is the height at which the line to or from neighbour meets a box: in the order of the neighbours that are on the
// same side.
func end(box item, side []*item, neighbour *item, down bool) float64 {
	sorted := slices.Clone(side)
	slices.SortStableFunc(sorted, func(a, b *item) int { return cmp.Compare(a.turned(down).y, b.turned(down).y) })
	step := min(14, (box.height-padding)/float64(len(side)))
	if down {
		step = min(40, (box.height-padding)/float64(len(side)))
	}
	return box.y + step*(float64(slices.Index(sorted, neighbour))-float64(len(side)-1)/2)
}

func (it *item) drawBox(out *strings.Builder) {
	box := it.box
	left, top := it.x-it.width/2, it.y-it.height/2
	class := "box"
	if box.Mood != "" {
		class += " " + string(box.Mood)
	}
	switch box.Shape {
	case Cylinder:
		fmt.Fprintf(out, `<path class="%s" d="M%.1f %.1fa%.1f %.0f 0 0 1 %.1f 0v%.1fa%.1f %.0f 0 0 1 -%.1f 0zm0 0a%.1f %.0f 0 0 0 %.1f 0"/>`+"\n",
			class, left, top, it.width/2, lidDepth, it.width, it.height, it.width/2, lidDepth, it.width, it.width/2, lidDepth, it.width)
	default:
		radius := map[Shape]float64{Rounded: 18, Square: 4}[box.Shape]
		fmt.Fprintf(out, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.0f"/>`+"\n",
			class, left, top, it.width, it.height, radius)
	}
	base := top + padding + 13
	fmt.Fprintf(out, `<text class="name" x="%.1f" y="%.1f">%s</text>`+"\n", left+padding, base, html.EscapeString(box.Name))
	if box.State != "" {
		right := left + it.width - padding
		fmt.Fprintf(out, `<circle class="dot-%s" cx="%.1f" cy="%.1f" r="4"/>`+"\n", box.Mood, right-4, base-4.5)
		fmt.Fprintf(out, `<text class="more state" x="%.1f" y="%.1f">%s</text>`+"\n", right-14, base, html.EscapeString(box.State))
	}
	for i, line := range slices.Concat(it.lines, it.marked) {
		class := "more"
		if i >= len(it.lines) {
			class = "marked"
		}
		fmt.Fprintf(out, `<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, left+padding, base+lineHeight*float64(i+1), html.EscapeString(line))
	}
}
