package bench

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAFigureIsAMedianWithItsSpreadAndSaysWhetherItsAimIsReached(t *testing.T) {
	slow, fast := Series{"s", []float64{3, 1, 2}}, Series{"s", []float64{1, 1.5}}
	for _, test := range []struct {
		figure Figure
		want   string
	}{
		{Figure{Name: "x", Measured: slow}, "x|2.00 s (1.00–3.00)||"},
		{Figure{Name: "x", Measured: slow, Aim: &Aim{Limit: 2}}, "x|2.00 s (1.00–3.00)||at most 2 s ✓"},
		{Figure{Name: "x", Measured: slow, Aim: &Aim{Limit: 1.9}}, "x|2.00 s (1.00–3.00)||at most 1.9 s ✗"},
		{Figure{Name: "x", Measured: slow, Against: "y", Compared: &fast, Aim: &Aim{Limit: 1.3}}, "x|2.00 s (1.00–3.00)|y: 1.25 s (1.00–1.50)|1.60 times, at most 1.3 ✗"},
		{Figure{Name: "x", Measured: slow, Against: "y", Compared: &fast, Aim: &Aim{Limit: 1.6, AtLeast: true}}, "x|2.00 s (1.00–3.00)|y: 1.25 s (1.00–1.50)|1.60 times, at least 1.6 ✓"},
		{Figure{Name: "x", Measured: slow, Against: "y", Compared: &fast}, "x|2.00 s (1.00–3.00)|y: 1.25 s (1.00–1.50)|1.60 times"},
	} {
		var out strings.Builder
		if err := write(&out, []Figure{test.figure}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\n")
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(lines[2], "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		if got := strings.Join(cells, "|"); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		if len(lines[0]) == 0 || len([]rune(lines[0])) != len([]rune(lines[2])) {
			t.Errorf("the columns do not line up:\n%s", out.String())
		}
	}
}

func TestDriveMakesSoManyRequestsFromSoManyCallersAndEndsWithTheFirstError(t *testing.T) {
	var made, atOnce, most atomic.Int64
	load, err := Drive(t.Context(), 4, 20, func(context.Context) error {
		most.Store(max(most.Load(), atOnce.Add(1)))
		time.Sleep(2 * time.Millisecond)
		atOnce.Add(-1)
		made.Add(1)
		return nil
	})
	if err != nil || made.Load() != 20 || len(load.Latencies) != 20 || most.Load() < 2 || most.Load() > 4 {
		t.Errorf("%d requests, %d at once, %v", made.Load(), most.Load(), err)
	}
	if load.Percentile(50) < 2*time.Millisecond || load.Percentile(99) < load.Percentile(50) || load.Rate() > 2000 {
		t.Errorf("median %s, 99th percentile %s, %.0f a second", load.Percentile(50), load.Percentile(99), load.Rate())
	}
	broken := errors.New("broken")
	load, err = Drive(t.Context(), 2, 1000, func(context.Context) error { return broken })
	if !errors.Is(err, broken) || len(load.Latencies) != 0 {
		t.Errorf("%d latencies, %v", len(load.Latencies), err)
	}
}

func TestPartsAreFiguresInTheOrderInWhichTheyWereMeasuredFirst(t *testing.T) {
	p := newParts("of it: ")
	for range 2 {
		p.add("second by name", 2*time.Millisecond)
		p.add("first by name", time.Millisecond)
	}
	b := &benchmark{}
	p.addTo(b)
	if len(b.figures) != 2 || b.figures[0].Name != "of it: second by name" || b.figures[1].Measured.String() != "1.00 ms (1.00–1.00)" {
		t.Errorf("%+v", b.figures)
	}
}

func TestAllButTheBuildIsMeasuredUnlessSomethingIsNamed(t *testing.T) {
	options, err := Parse(nil, nil, nil)
	if err != nil || len(options.Only) != len(benchmarks)-1 || slices.Contains(options.Only, "build") {
		t.Errorf("%v, %v", options, err)
	}
	if options, err = Parse(new("build,tiles-upload"), nil, new(1_000_000)); err != nil || !slices.Equal(options.Only, []string{"build", "tiles-upload"}) || options.Entries != 1_000_000 {
		t.Errorf("%v, %v", options, err)
	}
}

func TestEventsOfAStreamAreReadAsTheyWereSent(t *testing.T) {
	var got []string
	err := readEvents(strings.NewReader("event: open\ndata: \n\nevent: size\ndata: {\"size\":\ndata:  3}\n\n: a comment\n\ndata: plain\n\nevent: cut off\ndata: x\n"),
		func(kind, data string) error {
			got = append(got, kind+"="+data)
			return nil
		})
	if want := []string{"open=", "size={\"size\":\n 3}", "=plain"}; !slices.Equal(got, want) || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", got, err)
	}
	broken := errors.New("broken")
	if err := readEvents(strings.NewReader("data: 1\n\ndata: 2\n\n"), func(string, string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}
