package rekorlog

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// indexOf serves a log of Rekor v1 until the test ends, whose entries are signed by who, one after another, and counts the entries
// that it is asked for.
func indexOf(t *testing.T, who []string) (log V1, asked *atomic.Int64) {
	t.Helper()
	o := newOperator(t)
	asked = &atomic.Int64{}
	certificates := map[string]string{}
	for _, one := range who {
		if certificates[one] == "" {
			leaf, _ := certificate(t, one, "https://issuer.example.org")
			certificates[one] = base64.StdEncoding.EncodeToString(leaf)
		}
	}
	uuid := func(index int) string { return fmt.Sprintf("%080d", index) }
	entry := func(index int) map[string]any {
		asked.Add(1)
		return map[string]any{uuid(index): map[string]any{
			"logIndex": index, "body": []byte(`{"kind":"hashedrekord","spec":{"key":"` + certificates[who[index]] + `"}}`),
		}}
	}
	log = o.log(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/log", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"signedTreeHead": o.sign(t, uint64(len(who)), make([]byte, 32))})
	})
	mux.HandleFunc("POST /api/v1/index/retrieve", func(w http.ResponseWriter, r *http.Request) {
		var query struct{ Subject string }
		_ = json.NewDecoder(r.Body).Decode(&query)
		found := []string{}
		for i, one := range who {
			if one == query.Subject {
				found = append(found, uuid(i))
			}
		}
		_ = json.NewEncoder(w).Encode(found)
	})
	mux.HandleFunc("POST /api/v1/log/entries/retrieve", func(w http.ResponseWriter, r *http.Request) {
		var names struct {
			LogIndexes []int
			EntryUUIDs []string
		}
		_ = json.NewDecoder(r.Body).Decode(&names)
		found := []any{}
		for _, index := range names.LogIndexes {
			found = append(found, entry(index))
		}
		for _, name := range names.EntryUUIDs {
			index, _ := strconv.Atoi(name)
			found = append(found, entry(index))
		}
		_ = json.NewEncoder(w).Encode(found)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	log.url = server.URL
	return log, asked
}

func TestASearchThatFindsMuchAsksForFewEntriesAndTellsWhichAreTheNewest(t *testing.T) {
	// Alice has signed the first 300 and two of the newest, Bob all others.
	who := make([]string, 1000)
	for i := range who {
		who[i] = "bob@example.org"
		if i < 300 || i == 990 || i == 998 {
			who[i] = "alice@example.org"
		}
	}
	who[500] = "carol@example.org"
	log, asked := indexOf(t, who)
	for _, test := range []struct {
		identity      string
		total, newest int
		want          string // the indexes of the first three
		shown         int
	}{
		{"alice@example.org", 302, 2, "998 990 17", 20},
		{"bob@example.org", 697, 18, "999 997 996", 20},
		{"carol@example.org", 1, 1, "500", 1},
		{"nobody@example.org", 0, 0, "", 0},
	} {
		asked.Store(0)
		found, err := log.SearchSome(t.Context(), Query{Identity: test.identity}, 20)
		var got []string
		for _, e := range found.Entries[:min(3, len(found.Entries))] {
			got = append(got, fmt.Sprint(e.Index))
		}
		if err != nil || found.Total != uint64(test.total) || found.Newest != test.newest || len(found.Entries) != test.shown || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %d of %d, %d of them the newest, first %v, %v", test.identity, len(found.Entries), found.Total, found.Newest, got, err)
		}
		if asked.Load() > 40 {
			t.Errorf("%s: %d entries were asked for", test.identity, asked.Load())
		}
	}
	found, err := log.Search(t.Context(), Query{Identity: "alice@example.org"}, 3)
	if err != nil || found.Total != 302 || found.Newest != 3 || found.Entries[2].Index != 299 {
		t.Errorf("all are asked for: %+v, %v", found, err)
	}
}

func TestAnIndexThatAnswersNoWholeListIsAnError(t *testing.T) {
	for _, answer := range []string{`{"code": 200}`, `["a", "b"`, `["a", 1]`, ``, `["a" "b"]`} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		t.Cleanup(server.Close)
		log := V1{url: server.URL}
		if found, err := log.SearchSome(t.Context(), Query{Identity: "a@example.org"}, 3); err == nil {
			t.Errorf("%s passes: %+v", answer, found)
		}
	}
}
