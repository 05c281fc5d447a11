package diagram

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
)

// style is a light page, and a dark one where that is preferred. What knows no media queries shows the light one.
const style = `
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
@media (prefers-color-scheme: dark) {
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
}
`

// SVG draws d.
func SVG(d Diagram) string {
	l := arrange(d)
	var out strings.Builder
	title := html.EscapeString(d.Title)
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s">`+"\n",
		l.width, l.height, l.width, l.height, title)
	fmt.Fprintf(&out, "<title>%s</title>\n<style>%s</style>\n", title, style)
	out.WriteString(`<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">` +
		`<path class="head" d="M0 0L10 5L0 10z"/></marker></defs>` + "\n" + `<rect class="page" width="100%" height="100%"/>` + "\n")
	fmt.Fprintf(&out, `<text class="title" x="%.0f" y="%.0f">%s</text>`+"\n", margin, margin+14, title)
	for _, w := range l.ways {
		w.draw(&out)
	}
	for _, column := range l.columns {
		for _, it := range column {
			if it.box != nil {
				it.drawBox(&out)
			}
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// draw draws an arrow: level where it passes a column, below its label, and curved between columns.
func (w way) draw(out *strings.Builder) {
	last := len(w.items) - 1
	first, second := w.items[0], w.items[1]
	x, y := first.x+first.width/2, end(first, first.after, second)
	path := fmt.Sprintf("M%.1f %.1f", x, y)
	for i, it := range w.items[1:] {
		height := it.y
		if it == second {
			height = it.line()
		}
		if i+1 == last {
			height = end(it, it.before, w.items[i])
		}
		left := it.x - it.width/2
		path += fmt.Sprintf("C%.1f %.1f %.1f %.1f %.1f %.1f", (x+left)/2, y, (x+left)/2, height, left, height)
		x, y = it.x+it.width/2, height
		if i+1 < last {
			path += fmt.Sprintf("H%.1f", x)
		}
	}
	marker := "end"
	if w.backward {
		marker = "start"
	}
	fmt.Fprintf(out, `<path class="line" marker-%s="url(#head)" d="%s"/>`+"\n", marker, path)
	for i, line := range second.lines {
		fmt.Fprintf(out, `<text class="label" x="%.1f" y="%.1f">%s</text>`+"\n",
			second.x-second.width/2, second.y-second.height/2+lineHeight*float64(i)+12, html.EscapeString(line))
	}
}

// end is the height at which the line to or from neighbour meets a box: in the order of the neighbours that are on the
// same side.
func end(it *item, side []*item, neighbour *item) float64 {
	sorted := slices.Clone(side)
	slices.SortStableFunc(sorted, func(a, b *item) int { return cmp.Compare(a.y, b.y) })
	step := min(14, (it.height-padding)/float64(len(side)))
	return it.y + step*(float64(slices.Index(sorted, neighbour))-float64(len(side)-1)/2)
}

// line is the height of the line below a label.
func (it *item) line() float64 { return it.y + it.height/2 }

func (it *item) drawBox(out *strings.Builder) {
	box := it.box
	left, top := it.x-it.width/2, it.y-it.height/2
	class := "box"
	if box.Mood != "" {
		class += " " + string(box.Mood)
	}
	switch box.Shape {
	case Cylinder:
		const depth = 7
		fmt.Fprintf(out, `<path class="%s" d="M%.1f %.1fa%.1f %d 0 0 1 %.1f 0v%.1fa%.1f %d 0 0 1 -%.1f 0zm0 0a%.1f %d 0 0 0 %.1f 0"/>`+"\n",
			class, left, top, it.width/2, depth, it.width, it.height, it.width/2, depth, it.width, it.width/2, depth, it.width)
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
