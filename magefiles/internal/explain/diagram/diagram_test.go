package diagram

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// sample is a diagram of any number of boxes and arrows, some of which go in cycles or from a box to the next but one.
func sample(random *rand.Rand) Diagram {
	text := func(words int) string { return strings.TrimSpace(strings.Repeat("some words ", words)) }
	d := Diagram{Title: "A sample", Down: random.IntN(2) == 0}
	for i := range 1 + random.IntN(12) {
		d.Boxes = append(d.Boxes, Box{
			Name: fmt.Sprint("box-", i), Shape: []Shape{Rounded, Square, Cylinder}[random.IntN(3)],
			Lines: []string{text(random.IntN(6))}, Marked: []string{text(random.IntN(6))},
		})
	}
	for from := range d.Boxes {
		for to := range d.Boxes {
			if from != to && random.IntN(5) == 0 {
				d.Arrows = append(d.Arrows, Arrow{d.Boxes[from].Name, d.Boxes[to].Name, text(1 + random.IntN(4))})
			}
		}
	}
	return d
}

func TestNothingTouchesAnything(t *testing.T) {
	for seed := range uint64(300) {
		d := sample(rand.New(rand.NewPCG(seed, 0)))
		l := arrange(d)
		width, height, least, leastLeft := l.width, l.height, heading, 0.0
		if d.Down {
			width, height, least, leastLeft = height, width, leastLeft, least
		}
		right := leastLeft
		placed := 0
		for i, column := range l.columns {
			bottom := 0.0
			for j, one := range column {
				it := one.turned(d.Down)
				if it.box != nil {
					placed++
				}
				if top := it.y - it.height/2; j > 0 && top < bottom+min(lineGap, rowGap)-0.01 || top < least {
					t.Errorf("seed %d: column %d, row %d begins at %.0f, and the one before it ends at %.0f", seed, i, j, top, bottom)
				}
				bottom = it.y + it.height/2
				if left := it.x - it.width/2; left < right {
					t.Errorf("seed %d: column %d begins at %.0f, and the one before it ends at %.0f", seed, i, left, right)
				}
				if it.x+it.width/2 > width || bottom > height {
					t.Errorf("seed %d: column %d, row %d is not on the page", seed, i, j)
				}
			}
			first := column[0].turned(d.Down)
			right = first.x + first.width/2
		}
		if placed != len(d.Boxes) {
			t.Errorf("seed %d: %d of %d boxes are placed", seed, placed, len(d.Boxes))
		}
		// Each line has a place of its own in every column between its boxes.
		for i, w := range l.ways {
			for j, it := range w.items {
				if it.column != w.items[0].column+j || !slices.Contains(l.columns[it.column], it) {
					t.Errorf("seed %d: the line %+v leaves out a column", seed, d.Arrows[i])
				}
			}
			from, to := w.items[0], w.items[len(w.items)-1]
			if w.backward {
				from, to = to, from
			}
			if from.box.Name != d.Arrows[i].From || to.box.Name != d.Arrows[i].To {
				t.Errorf("seed %d: the line %+v leads from %s to %s", seed, d.Arrows[i], from.box.Name, to.box.Name)
			}
		}
	}
}

func TestItemsStandWhereTheyWantToOrShareWhatIsMissing(t *testing.T) {
	for _, test := range []struct{ wanted, want []float64 }{
		{[]float64{0, 100}, []float64{0, 100}},
		{[]float64{0, 0}, []float64{-9, 9}},
		{[]float64{30, 0, 0}, []float64{-8, 10, 28}},
		{[]float64{0, 0, 100, 90}, []float64{-9, 9, 86, 104}},
	} {
		var column []*item
		wanted := map[*item]float64{}
		for _, y := range test.wanted {
			it := &item{height: 10}
			wanted[it] = y
			column = append(column, it)
		}
		spread(column, func(it *item) float64 { return wanted[it] })
		for i, it := range column {
			if it.y != test.want[i] {
				t.Errorf("%v: item %d is at %v, not %v", test.wanted, i, it.y, test.want[i])
			}
		}
	}
}

func TestAnSVGHasTheColoursOfItsTheme(t *testing.T) {
	const white, black, query = "fill: #ffffff", "fill: #0d1117", "@media (prefers-color-scheme: dark)"
	for theme, want := range map[Theme][3]bool{Auto: {true, true, true}, Light: {true, false, false}, Dark: {true, true, false}} {
		svg := SVG(Diagram{Boxes: []Box{{Name: "a", Shape: Square}}, Theme: theme})
		if got := [3]bool{strings.Contains(svg, white), strings.Contains(svg, black), strings.Contains(svg, query)}; got != want {
			t.Errorf("%q: white, black and a media query are in it: %v, and not %v", theme, got, want)
		}
	}
}

func TestLinesCrossAsLittleAsTheyHaveTo(t *testing.T) {
	d := Diagram{}
	for _, name := range []string{"a", "b", "c", "x", "y", "z"} {
		d.Boxes = append(d.Boxes, Box{Name: name, Shape: Square})
	}
	for _, arrow := range []string{"az", "by", "cx", "ay"} {
		d.Arrows = append(d.Arrows, Arrow{arrow[:1], arrow[1:], "is for"})
	}
	if crossings := arrange(d).crossings(); crossings != 0 {
		t.Errorf("lines cross %d times", crossings)
	}
}

// odd has every character that means something in XML or Mermaid.
const odd = "a <b> & \"c\" 'd' #35; `e` é"

func TestTheSVGIsXMLAndHasEveryText(t *testing.T) {
	d := Diagram{
		Title:  odd,
		Boxes:  []Box{{Name: odd, Shape: Rounded, Lines: []string{"line"}}, {Name: "to", Shape: Cylinder, State: "ready", Mood: Well, Marked: []string{"marked"}}},
		Arrows: []Arrow{{odd, "to", odd}, {"to", odd, "back"}},
	}
	var texts []string
	attributes := map[string]int{}
	decoder := xml.NewDecoder(strings.NewReader(SVG(d)))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.CharData:
			texts = append(texts, strings.TrimSpace(string(token)))
		case xml.StartElement:
			for _, attr := range token.Attr {
				attributes[attr.Name.Local]++
			}
		}
	}
	for _, want := range []string{odd, "line", "to", "ready", "marked", "back"} {
		if !strings.Contains(strings.Join(texts, " "), want) {
			t.Errorf("%q is missing in %q", want, texts)
		}
	}
	// The arrow back is the one that closes the cycle.
	if attributes["marker-end"] != 1 || attributes["marker-start"] != 1 {
		t.Errorf("the attributes are %v", attributes)
	}
}

func TestMermaid(t *testing.T) {
	d := Diagram{
		Boxes: []Box{
			{Name: "log-server", Shape: Square, State: "ready", Mood: Well, Lines: []string{"a server"}, Marked: []string{"its key"}},
			{Name: "db", Shape: Cylinder, State: "stopped", Mood: Idle}, {Name: "me", Shape: Rounded, Lines: []string{odd}},
			{Name: "rekor-tiles", Shape: Square, State: "crashed", Mood: Ill},
		},
		Arrows: []Arrow{{"log-server", "db", `say "x"`}, {"me", "log-server", "ask"}},
	}
	want := `%%{init: {"flowchart": {"curve": "bumpX"}}}%%
flowchart LR
  me("me<br>a #lt;b#gt; #amp; #quot;c#quot; 'd' #35;35; #96;e#96; é")
  rekor_tiles["rekor-tiles: crashed"]
  log_server["log-server: ready<br>a server<br>its key"]
  db[("db: stopped")]
  me -- "ask" --> log_server
  log_server -- "say #quot;x#quot;" --> db
  classDef idle stroke-dasharray:4
  class db idle
  classDef ill stroke:#d1242f,stroke-width:3px
  class rekor_tiles ill
`
	if got := Mermaid(d); got != want {
		t.Errorf("got\n%s", got)
	}
}
