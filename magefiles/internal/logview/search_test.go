package logview

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/exitcode"
	"sigstore-local/magefiles/internal/rekorlog"
)

// lying is a log whose index names entries, of which some are not in the log.
type lying struct {
	rekorlog.Log
	found rekorlog.Found
}

func (l lying) Search(context.Context, rekorlog.Query, int) (rekorlog.Found, error) {
	return l.found, nil
}

func (lying) Check(e rekorlog.Entry) (checkpoint.Checkpoint, error) {
	if e.UUID == "forged" {
		return checkpoint.Checkpoint{}, rekorlog.ErrNotInTree
	}
	return checkpoint.Checkpoint{}, nil
}

// find returns what a search prints on standard output and says beside that.
func find(t *testing.T, found rekorlog.Found, form string) (printed, said string, err error) {
	t.Helper()
	var texts [2]string
	var files [2]*os.File
	for i := range files {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		files[i] = file
	}
	stdout := os.Stdout
	os.Stdout = files[0]
	log := Log{Log: lying{found: found}, name: "the-log"}
	err = log.Find(t.Context(), console.New(files[1], func(string) string { return "dumb" }), rekorlog.Query{Identity: "alice@example.org"}, 20, form)
	os.Stdout = stdout
	for i, file := range files {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	return texts[0], texts[1], err
}

func TestNothingIsShownThatTheLogDoesNotProve(t *testing.T) {
	body := []byte(`{"kind":"hashedrekord","apiVersion":"0.0.2","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"AAEC"}}}}`)
	for _, form := range []string{"table", "json"} {
		printed, _, err := find(t, rekorlog.Found{Total: 1, Entries: []rekorlog.Entry{{Index: 7, UUID: "forged", Body: body}}}, form)
		var coded *exitcode.Error
		if printed != "" || !errors.As(err, &coded) || coded.Code != exitcode.BrokenLog {
			t.Errorf("%s: %q, %v", form, printed, err)
		}
	}
	// An entry that is in the log and does not say what was searched for.
	other := rekorlog.Found{Total: 3, Entries: []rekorlog.Entry{{Index: 7, Body: body}}}
	printed, said, err := find(t, other, "table")
	if err != nil || !strings.HasPrefix(printed, "7\t-\thashedrekord\tsha256:000102\t") || !strings.Contains(printed, "only the log's index says so") || !strings.Contains(said, "newest 1 of 3") {
		t.Errorf("%q, %q, %v", printed, said, err)
	}
	printed, _, err = find(t, other, "json")
	if err != nil || !strings.Contains(printed, `"onlyIndex": true`) || !strings.Contains(printed, `"total": 3`) {
		t.Errorf("%q, %v", printed, err)
	}
}

func TestASearchSaysWhatItDoesNotFind(t *testing.T) {
	for want, found := range map[string]rekorlog.Found{
		"No entry of the-log has alice@example.org.":        {},
		"5 entries of the log are not in it yet":            {Behind: 5},
		"5 entries of the log were not searched: it is odd": {Behind: 5, Problem: "it is odd"},
	} {
		printed, said, err := find(t, found, "table")
		if err != nil || printed != "" || !strings.Contains(said, want) {
			t.Errorf("%q, %q, %v", printed, said, err)
		}
		printed, _, err = find(t, found, "json")
		if err != nil || !strings.Contains(printed, `"entries": []`) {
			t.Errorf("%q, %v", printed, err)
		}
	}
}
