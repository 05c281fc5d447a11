package rekorlog

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/jsonapi"
	"sigstore-local/magefiles/internal/tilelog"
)

// V2 is the log of a Rekor v2 that is known by its public key. Its entries and proofs are read from its tiles.
type V2 struct {
	url   string
	tiles tilelog.Log

	mu   sync.Mutex
	last checkpoint.Checkpoint // that was parsed
}

// OpenV2 returns the log of the Rekor v2 whose tiles are served at url, whose checkpoints begin with origin, and whose public key
// is in a PEM file.
func OpenV2(url, origin, keyFile string) *V2 {
	return &V2{url: url, tiles: tilelog.Log{Files: tilelog.Site(url), Origin: origin, Key: keyFile}}
}

// Parse implements Log. All entries that are read at a time come with the same checkpoint, whose signature is verified once.
func (l *V2) Parse(text string) (checkpoint.Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.Text != "" && l.last.Text == text {
		return l.last, nil
	}
	parsed, err := l.tiles.Parse(text)
	if err == nil {
		l.last = parsed
	}
	return parsed, err
}

// Checkpoint implements Log.
func (l *V2) Checkpoint(ctx context.Context) (checkpoint.Checkpoint, error) {
	return l.tiles.Checkpoint(ctx)
}

// Consistent implements Log.
func (l *V2) Consistent(ctx context.Context, older, newer checkpoint.Checkpoint) error {
	return consistent(older, newer, func() (bool, error) {
		root, err := l.tiles.Tree(ctx, newer).RootAt(int64(older.Size))
		return root == tlog.Hash(older.Root), err
	})
}

// Consistency implements Log.
func (l *V2) Consistency(ctx context.Context, older, newer uint64) ([][]byte, error) {
	newest, err := l.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return l.tiles.Tree(ctx, newest).ConsistencyProof(int64(older), int64(newer))
}

// Check implements Log.
func (l *V2) Check(e Entry) (checkpoint.Checkpoint, error) { return check(e, l.Parse) }

// Entry implements Log.
func (l *V2) Entry(ctx context.Context, index uint64) (Entry, error) {
	newest, err := l.Checkpoint(ctx)
	if err != nil {
		return Entry{}, err
	}
	var found Entry
	err = l.entriesAt(ctx, newest, slices.Values([]uint64{index}), func(entry Entry) error { found = entry; return nil })
	return found, err
}

// Entries implements Log.
func (l *V2) Entries(ctx context.Context, first, end uint64, each func(Entry) error) error {
	newest, err := l.Checkpoint(ctx)
	if err != nil {
		return err
	}
	return l.entriesAt(ctx, newest, func(yield func(uint64) bool) {
		for index := first; index < end && yield(index); index++ {
		}
	}, each)
}

// entriesAt hands the entries of the given indexes to each, with their proofs in the tree of newest.
func (l *V2) entriesAt(ctx context.Context, newest checkpoint.Checkpoint, indexes iter.Seq[uint64], each func(Entry) error) error {
	return l.tiles.Tree(ctx, newest).Entries(indexes, func(index uint64, body []byte, hashes [][]byte) error {
		return each(Entry{Index: index, Body: body, Proof: Proof{Size: newest.Size, Root: newest.Root, Hashes: hashes, Checkpoint: newest.Text}})
	})
}

// Search asks the index that is kept beside the tiles.
func (l *V2) Search(ctx context.Context, query Query, limit int) (Found, error) {
	asked := url.Values{"limit": {strconv.Itoa(limit)}}
	for name, value := range map[string]string{"identity": query.Identity, "digest": query.Digest, "key": query.Key} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	var answer Answer
	if err := jsonapi.Ask(ctx, http.DefaultClient, http.MethodGet, l.url+SearchPath+"?"+asked.Encode(), nil, &answer); err != nil {
		return Found{}, err
	}
	found := Found{Total: answer.Total, Behind: max(answer.Size, answer.Indexed) - answer.Indexed, Problem: answer.Problem}
	if len(answer.Entries) == 0 {
		return found, nil
	}
	// This is newer than what is indexed, so that its tree has all that the index knows.
	newest, err := l.Checkpoint(ctx)
	if err != nil {
		return Found{}, err
	}
	err = l.entriesAt(ctx, newest, slices.Values(answer.Entries), func(entry Entry) error {
		found.Entries = append(found.Entries, entry)
		return nil
	})
	found.Newest = len(found.Entries)
	return found, err
}

// SearchPath is where the index of a log of tiles answers, below the URL of the log. It takes GET requests with the parameters
// identity, digest, key and limit, and answers with an Answer as JSON.
const SearchPath = "/search"

// Answer is what the index of a log of tiles knows of a query.
type Answer struct {
	Size    uint64   `json:"size"`    // entries in the log
	Indexed uint64   `json:"indexed"` // entries that are in the index, at most Size
	Total   uint64   `json:"total"`   // entries that match, among those that are indexed
	Entries []uint64 `json:"entries"` // the indexes of the newest of them, the newest first
	Problem string   `json:"problem"` // why the index does not go on; empty if it does
}
