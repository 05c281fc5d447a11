package nearest

import (
	"slices"
	"testing"
)

func TestTheNearestNamesAreFound(t *testing.T) {
	known := []string{"start", "status", "stop", "demo:keyed", "demo:keyless", "demo:rekor", "rekor:start", "rekorTiles:start"}
	for _, test := range []struct {
		word     string
		names    []string
		distance int
	}{
		{"start", []string{"start"}, 0},
		{"Start", []string{"start"}, 0},
		{"statsu", []string{"status"}, 2},
		{"demo:keyles", []string{"demo:keyless"}, 1},
		{"keyles", []string{"demo:keyless"}, 2},
		{"demokeyed", []string{"demo:keyed"}, 1},
		{"rekor", []string{"demo:rekor", "rekor:start"}, 1},
		{"rekortiles:strat", []string{"rekorTiles:start"}, 2},
		{"stat", []string{"start"}, 1},
		{"", []string{"stop"}, 4},
	} {
		names, distance := To(test.word, known)
		if !slices.Equal(names, test.names) || distance != test.distance {
			t.Errorf("%q: the nearest are %q at distance %d, not %q at %d", test.word, names, distance, test.names, test.distance)
		}
	}
	if names, _ := To("x", nil); len(names) != 0 {
		t.Errorf("of nothing, %q is the nearest", names)
	}
}
