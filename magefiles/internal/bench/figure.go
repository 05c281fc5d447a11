package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Series is what several runs measured.
type Series struct {
	Unit   string    `json:"unit"` // "s", "ms", "MB", "/s"
	Values []float64 `json:"values"`
}

// Add adds what one more run measured.
func (s *Series) Add(value float64) { s.Values = append(s.Values, value) }

// median is the value in the middle; of an even number the mean of the two in the middle.
func (s Series) median() float64 {
	sorted := slices.Sorted(slices.Values(s.Values))
	middle := len(sorted) / 2
	switch {
	case len(sorted) == 0:
		return 0
	case len(sorted)%2 == 1:
		return sorted[middle]
	default:
		return (sorted[middle-1] + sorted[middle]) / 2
	}
}

// String is the median with, of several values, the least and the greatest.
func (s Series) String() string {
	switch len(s.Values) {
	case 0:
		return ""
	case 1:
		return number(s.Values[0]) + " " + s.Unit
	default:
		return fmt.Sprintf("%s %s (%s–%s)", number(s.median()), s.Unit, number(slices.Min(s.Values)), number(slices.Max(s.Values)))
	}
}

// number formats x with three significant digits.
func number(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

// Aim is what a figure should be: at most, or at least, Limit. If the figure is compared with another one, Limit is a limit of the
// ratio of their medians.
type Aim struct {
	AtLeast bool    `json:"at_least,omitempty"`
	Limit   float64 `json:"limit"`
}

// Figure is one line of the table.
type Figure struct {
	Name     string  `json:"figure"`
	Measured Series  `json:"measured"`
	Against  string  `json:"against,omitempty"` // what Compared is a measurement of, in the same runs
	Compared *Series `json:"compared,omitempty"`
	Aim      *Aim    `json:"aim,omitempty"`
}

// ratio is the measured median divided by the one that it is compared with; 0 if there is none.
func (f Figure) ratio() float64 {
	if f.Compared == nil || f.Compared.median() == 0 {
		return 0
	}
	return f.Measured.median() / f.Compared.median()
}

// holds says whether the aim is reached; true if there is none.
func (f Figure) holds() bool {
	if f.Aim == nil {
		return true
	}
	got := f.Measured.median()
	if f.Compared != nil {
		got = f.ratio()
	}
	if f.Aim.AtLeast {
		return got >= f.Aim.Limit
	}
	return got <= f.Aim.Limit
}

// MarshalJSON adds what is computed: the ratio, and whether the aim is reached.
func (f Figure) MarshalJSON() ([]byte, error) {
	type fields Figure
	return json.Marshal(struct {
		fields
		Median float64 `json:"median"`
		Ratio  float64 `json:"ratio,omitempty"`
		Holds  bool    `json:"holds"`
	}{fields(f), f.Measured.median(), f.ratio(), f.holds()})
}

// verdict is the ratio, if there is one, and the aim with a mark that says whether it is reached.
func (f Figure) verdict() string {
	var parts []string
	if f.Compared != nil {
		parts = append(parts, fmt.Sprintf("%.2f times", f.ratio()))
	}
	if f.Aim != nil {
		bound, mark := "at most", "✓"
		if f.Aim.AtLeast {
			bound = "at least"
		}
		if !f.holds() {
			mark = "✗"
		}
		unit := ""
		if f.Compared == nil && f.Measured.Unit != "" {
			unit = " " + f.Measured.Unit
		}
		parts = append(parts, fmt.Sprintf("%s %g%s %s", bound, f.Aim.Limit, unit, mark))
	}
	return strings.Join(parts, ", ")
}

// write prints figures as a Markdown table that reads well in a terminal too.
func write(w io.Writer, figures []Figure) error {
	rows := [][]string{{"figure", "measured", "against", "that is"}}
	for _, f := range figures {
		against := f.Against
		if f.Compared != nil {
			against += ": " + f.Compared.String()
		}
		rows = append(rows, []string{f.Name, f.Measured.String(), against, f.verdict()})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	rule := make([]string, len(widths))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
	}
	for _, row := range slices.Insert(rows, 1, rule) {
		for i, cell := range row {
			row[i] = cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		}
		if _, err := fmt.Fprintln(w, "| "+strings.Join(row, " | ")+" |"); err != nil {
			return err
		}
	}
	return nil
}
