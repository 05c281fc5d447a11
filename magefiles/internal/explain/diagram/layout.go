package diagram

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Sizes, in pixels. A character is taken to be as wide as the average one of DejaVu Sans, than which few fonts are wider.
const (
	charWidth  = 7.8
	lineHeight = 17.0
	padding    = 11.0
	margin     = 24.0
	heading    = 34.0
	columnGap  = 46.0 // in which arrows change their height
	rowGap     = 14.0
	lineGap    = 8.0 // between arrows side by side

	boxColumns   = 27 // characters in a line of a box
	labelColumns = 22 // and of a label

	// Of a diagram from top to bottom, whose labels stand beside their lines.
	downColumnGap    = 30.0
	downBoxColumns   = 22
	downLabelColumns = 11
	besideLine       = 6.0
)

// item is a box, an arrow's label, or the place where an arrow passes a column of boxes.
type item struct {
	box    *Box
	lines  []string // of a box below its name, or of a label
	marked []string // of a box, below these

	column        int
	place         float64 // among the items of its column, while they are put in order
	x, y          float64 // its middle
	width, height float64

	before, after []*item // what lines lead to it from the column before, and from it to the column after
}

// way is the way of an arrow: a box, a label, all that it passes, and a box.
type way struct {
	items    []*item
	backward bool // the arrow's head is at the first
}

// ends are the names of the boxes at which the arrow begins and ends.
func (w way) ends() (from, to string) {
	from, to = w.items[0].box.Name, w.items[len(w.items)-1].box.Name
	if w.backward {
		return to, from
	}
	return from, to
}

// turned is a copy of the item, with its coordinates exchanged if turn is true.
func (it *item) turned(turn bool) item {
	other := *it
	if turn {
		other.x, other.y, other.width, other.height = it.y, it.x, it.height, it.width
	}
	return other
}

// layout has a place for everything in a diagram. Boxes stand in the columns with even numbers, labels in those between
// them, and a line that passes a column has a row of its own there, so that no text meets another text or a line. For a
// diagram from top to bottom, the columns are its rows: the same is done with all coordinates exchanged, and they are
// exchanged again at the end.
type layout struct {
	columns       [][]*item
	ways          []way
	width, height float64
}

func arrange(d Diagram) *layout {
	l := &layout{}
	boxColumns, labelColumns, columnGap := boxColumns, labelColumns, columnGap
	if d.Down {
		boxColumns, labelColumns, columnGap = downBoxColumns, downLabelColumns, downColumnGap
	}
	boxes := map[string]*item{}
	forward := withoutCycles(d.Arrows)
	ranks := rank(d.Boxes, forward)
	for i, box := range d.Boxes {
		it := &item{box: &d.Boxes[i], column: 2 * ranks[box.Name]}
		it.lines, it.marked = wrap(boxColumns, box.Lines...), wrap(boxColumns, box.Marked...)
		it.width = 2*padding + charWidth*float64(max(longest(it.lines), longest(it.marked), utf8.RuneCountInString(box.Name+box.State)+4))
		it.height = 2*padding + lineHeight*float64(1+len(it.lines)+len(it.marked))
		boxes[box.Name] = it
		l.add(it)
	}
	for i, arrow := range forward {
		from, to := boxes[arrow.From], boxes[arrow.To]
		label := &item{lines: wrap(labelColumns, arrow.Label), column: from.column + 1}
		label.width, label.height = charWidth*float64(longest(label.lines)), lineHeight*float64(len(label.lines))+3
		if d.Down {
			label.width += besideLine
		}
		items := []*item{from, label}
		for column := label.column + 1; column < to.column; column++ {
			items = append(items, &item{column: column})
		}
		for _, it := range items[1:] {
			l.add(it)
		}
		items = append(items, to)
		for j, it := range items[1:] {
			it.before = append(it.before, items[j])
			items[j].after = append(items[j].after, it)
		}
		l.ways = append(l.ways, way{items, arrow != d.Arrows[i]})
	}
	l.order()
	l.turn(d.Down)
	l.setColumns(columnGap)
	l.setRows()
	l.turn(d.Down)
	if d.Title != "" {
		l.height += heading
		for _, column := range l.columns {
			for _, it := range column {
				it.y += heading
			}
		}
	}
	return l
}

// turn exchanges all coordinates if turn is true.
func (l *layout) turn(turn bool) {
	if !turn {
		return
	}
	l.width, l.height = l.height, l.width
	for _, column := range l.columns {
		for _, it := range column {
			*it = it.turned(true)
		}
	}
}

// boxes lists the boxes, column by column.
func (l *layout) boxes() []*Box {
	var boxes []*Box
	for _, column := range l.columns {
		for _, it := range column {
			if it.box != nil {
				boxes = append(boxes, it.box)
			}
		}
	}
	return boxes
}

func (l *layout) add(it *item) {
	for len(l.columns) <= it.column {
		l.columns = append(l.columns, nil)
	}
	l.columns[it.column] = append(l.columns[it.column], it)
}

// withoutCycles is arrows, of which those that would close a cycle are turned around.
func withoutCycles(arrows []Arrow) []Arrow {
	var forward []Arrow
	var leads func(from, to string) bool
	leads = func(from, to string) bool {
		return from == to || slices.ContainsFunc(forward, func(a Arrow) bool { return a.From == from && leads(a.To, to) })
	}
	for _, arrow := range arrows {
		if leads(arrow.To, arrow.From) {
			arrow.From, arrow.To = arrow.To, arrow.From
		}
		forward = append(forward, arrow)
	}
	return forward
}

// rank numbers the boxes such that every arrow leads to a higher number. Boxes that no arrow leads to stand beside what they
// lead to, but for the rounded ones, with which the diagram begins.
func rank(boxes []Box, arrows []Arrow) map[string]int {
	ranks := map[string]int{}
	for range boxes {
		for _, arrow := range arrows {
			ranks[arrow.To] = max(ranks[arrow.To], ranks[arrow.From]+1)
		}
	}
	for _, box := range boxes {
		next := -1
		for _, arrow := range arrows {
			if arrow.To == box.Name || box.Shape == Rounded {
				next = -1
				break
			}
			if arrow.From == box.Name && (next < 0 || ranks[arrow.To] < next) {
				next = ranks[arrow.To]
			}
		}
		if next > 0 {
			ranks[box.Name] = next - 1
		}
	}
	return ranks
}

// order puts the items of each column in an order in which few lines cross, by sorting each column by the places of its
// neighbours in the one before, then in the one after, and so on.
func (l *layout) order() {
	const sweeps = 24
	l.number()
	best, fewest := l.places(), l.crossings()
	for sweep := range sweeps {
		for i := range l.columns {
			side := func(it *item) []*item { return it.before }
			if sweep%2 == 1 {
				i, side = len(l.columns)-1-i, func(it *item) []*item { return it.after }
			}
			column := l.columns[i]
			mean := map[*item]float64{}
			for _, it := range column {
				mean[it] = average(side(it), it.place, func(it *item) float64 { return it.place })
			}
			slices.SortStableFunc(column, func(a, b *item) int { return cmp.Compare(mean[a], mean[b]) })
			l.number()
		}
		if crossings := l.crossings(); crossings < fewest {
			best, fewest = l.places(), crossings
		}
	}
	l.columns = best
	l.number()
}

// places copies the columns as they are.
func (l *layout) places() [][]*item {
	var columns [][]*item
	for _, column := range l.columns {
		columns = append(columns, slices.Clone(column))
	}
	return columns
}

// number gives each item its place in its column.
func (l *layout) number() {
	for _, column := range l.columns {
		for i, it := range column {
			it.place = float64(i)
		}
	}
}

// crossings counts how often lines cross.
func (l *layout) crossings() int {
	count := 0
	for _, column := range l.columns {
		type line struct{ from, to float64 }
		var lines []line
		for _, it := range column {
			for _, next := range it.after {
				lines = append(lines, line{it.place, next.place})
			}
		}
		for i, a := range lines {
			for _, b := range lines[:i] {
				if (a.from-b.from)*(a.to-b.to) < 0 {
					count++
				}
			}
		}
	}
	return count
}

// setColumns gives each column its place from left to right, and its items the column's width.
func (l *layout) setColumns(columnGap float64) {
	at := margin
	for _, column := range l.columns {
		width := 0.0
		for _, it := range column {
			width = max(width, it.width)
		}
		for _, it := range column {
			it.width, it.x = width, at+width/2
		}
		at += width + columnGap
	}
	l.width = at - columnGap + margin
}

// setRows gives each item its height on the page: as near as can be to the mean of what lines lead to and from, in the
// order of its column and without touching another.
func (l *layout) setRows() {
	const sweeps = 100
	for _, column := range l.columns {
		spread(column, func(*item) float64 { return 0 })
	}
	for sweep := range sweeps {
		for i := range l.columns {
			if sweep%2 == 1 {
				i = len(l.columns) - 1 - i
			}
			spread(l.columns[i], func(it *item) float64 {
				return average(slices.Concat(it.before, it.after), it.y, func(it *item) float64 { return it.y })
			})
		}
	}
	top, bottom := math.Inf(1), math.Inf(-1)
	for _, column := range l.columns {
		first, last := column[0], column[len(column)-1]
		top, bottom = min(top, first.y-first.height/2), max(bottom, last.y+last.height/2)
	}
	for _, column := range l.columns {
		for _, it := range column {
			it.y += margin - top
		}
	}
	l.height = bottom - top + 2*margin
}

// spread moves the items of a column to where they want to be, as far as their order and sizes allow, with the least sum
// of squares of what is missing: items that would touch become a group, which is where its items want to be on average
// (the pool adjacent violators algorithm).
func spread(column []*item, wanted func(*item) float64) {
	type group struct {
		items       []*item
		sum, height float64 // of where the items want the group's middle to be; from the first item's top to the last one's end
	}
	middle := func(g group) float64 { return g.sum / float64(len(g.items)) }
	var groups []group
	for _, it := range column {
		groups = append(groups, group{[]*item{it}, wanted(it), it.height})
		for len(groups) > 1 {
			above, below := groups[len(groups)-2], groups[len(groups)-1]
			gap := between(above.items[len(above.items)-1], below.items[0])
			height := above.height + gap + below.height
			if middle(below)-middle(above) >= (above.height+below.height)/2+gap {
				break
			}
			// The middle of each group is not that of both: it is off by half of the other group's height and the gap.
			sum := above.sum + float64(len(above.items))*(height-above.height)/2 + below.sum - float64(len(below.items))*(height-below.height)/2
			groups = append(groups[:len(groups)-2], group{append(above.items, below.items...), sum, height})
		}
	}
	for _, g := range groups {
		at := middle(g) - g.height/2
		for i, it := range g.items {
			if i > 0 {
				at += between(g.items[i-1], it)
			}
			it.y = at + it.height/2
			at += it.height
		}
	}
}

// between is how much room there has to be between two items.
func between(a, b *item) float64 {
	if a.box != nil || b.box != nil {
		return rowGap
	}
	return lineGap
}

// average is the mean of value over items, or otherwise if there are none.
func average(items []*item, otherwise float64, value func(*item) float64) float64 {
	if len(items) == 0 {
		return otherwise
	}
	sum := 0.0
	for _, it := range items {
		sum += value(it)
	}
	return sum / float64(len(items))
}

// wrap breaks lines between words so that each has at most columns characters, if its words let it.
func wrap(columns int, lines ...string) []string {
	var out []string
	for _, line := range lines {
		current := ""
		for _, word := range strings.Fields(line) {
			if current != "" && utf8.RuneCountInString(current+" "+word) > columns {
				out = append(out, current)
				current = ""
			}
			current = strings.TrimSpace(current + " " + word)
		}
		out = append(out, current)
	}
	return out
}

// longest is the length of the longest of lines, in characters.
func longest(lines []string) int {
	most := 0
	for _, line := range lines {
		most = max(most, utf8.RuneCountInString(line))
	}
	return most
}
