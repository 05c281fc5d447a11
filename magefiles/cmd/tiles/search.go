package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"sigstore-local/magefiles/internal/rekorlog"
)

// The most entries that an answer has, and how many it has if a request does not say.
const (
	mostFound    = 10_000
	usuallyFound = 20
)

// catchUp is how long a search waits until the newest entries are in the index.
const catchUp = 500 * time.Millisecond

// serveSearch answers what rekorlog.SearchPath says.
func (x *index) serveSearch(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", never)
	header.Set("Content-Type", "application/json")
	answer := func(status int, value any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value) // fails only if the client has gone
	}
	if r.Method != http.MethodGet {
		header.Set("Allow", "GET")
		answer(http.StatusMethodNotAllowed, map[string]string{"message": fmt.Sprintf("the method is %s; accepted is GET", r.Method)})
		return
	}
	terms, limit, err := parseSearch(r)
	if err != nil {
		answer(http.StatusBadRequest, map[string]string{"message": err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), catchUp)
	defer cancel()
	_ = x.update(ctx) // why it failed is in the answer
	answer(http.StatusOK, x.search(terms, limit))
}

func parseSearch(r *http.Request) (terms []uint64, limit int, err error) {
	accepted := []string{"identity", "digest", "key", "limit"}
	limit = usuallyFound
	for name, values := range r.URL.Query() {
		if !slices.Contains(accepted, name) {
			return nil, 0, fmt.Errorf("the parameter %q is not known; accepted are %q", name, accepted)
		}
		for _, value := range values {
			switch name {
			case "identity":
				terms = append(terms, identityTerm(value))
			case "digest":
				digest, err := rekorlog.ParseDigest(value)
				if err != nil {
					return nil, 0, err
				}
				terms = append(terms, term(byDigest, digest))
			case "key":
				key, err := rekorlog.ParseKeyDigest(value)
				if err != nil {
					return nil, 0, err
				}
				terms = append(terms, term(byKey, key))
			case "limit":
				if limit, err = strconv.Atoi(value); err != nil || limit < 1 || limit > mostFound {
					return nil, 0, fmt.Errorf("the limit is %q; accepted is a number from 1 to %d", value, mostFound)
				}
			}
		}
	}
	if len(terms) == 0 {
		return nil, 0, fmt.Errorf("what to search for is not said; accepted is at least one of %q", accepted[:3])
	}
	return terms, limit, nil
}
