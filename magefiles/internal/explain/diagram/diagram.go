// Package diagram draws boxes and the arrows between them: as Mermaid, which lays them out itself, and as an SVG, in
// columns from left to right or in rows from top to bottom.
package diagram

// Diagram is what is drawn.
type Diagram struct {
	Title  string // empty if none is shown
	Boxes  []Box
	Arrows []Arrow
	// Down has an SVG's arrows lead from top to bottom, which makes a wide diagram narrower.
	Down bool
	// Theme says which colours an SVG has.
	Theme Theme
	// Links makes an SVG part of a page that is about its boxes: each is a link to this path and its name. The SVG then has no
	// style sheet of its own, and the page has StyleSheet. What belongs to a box or an arrow is an element of the class part, with its
	// name in the attribute data-part, or of the class arrow, with data-from and data-to. Empty for an SVG that stands alone.
	Links string
}

// Theme says which colours an SVG has.
type Theme string

// The themes.
const (
	Auto  Theme = "" // dark where the reader prefers that, light elsewhere
	Light Theme = "light"
	Dark  Theme = "dark"
)

// Box is something that arrows begin or end at.
type Box struct {
	Name  string
	Shape Shape
	// State is how it is, such as "ready"; empty if that is not shown. Mood is what that means.
	State string
	Mood  Mood
	// Lines say more about it; those that are Marked stand out.
	Lines, Marked []string
}

// Shape is what a box looks like.
type Shape string

// The shapes.
const (
	Rounded  Shape = "rounded"
	Square   Shape = "square"
	Cylinder Shape = "cylinder"
)

// Mood is what a box's state means.
type Mood string

// The moods.
const (
	Well Mood = "well"
	Idle Mood = "idle"
	Ill  Mood = "ill"
)

// Arrow leads from one box to another, by their names.
type Arrow struct{ From, To, Label string }
