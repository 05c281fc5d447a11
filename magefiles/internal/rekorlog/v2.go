package rekorlog

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/tilelog"
)

// V2 is the log of a Rekor v2 that is known by its public key. Its entries and proofs are read from its tiles.
type V2 struct {
	tiles tilelog.Log

	mu   sync.Mutex
	last checkpoint.Checkpoint // that was parsed
}

// OpenV2 returns the log of the Rekor v2 whose tiles are served at url, whose checkpoints begin with origin, and whose public key
// is in a PEM file.
func OpenV2(url, origin, keyFile string) *V2 {
	return &V2{tiles: tilelog.Log{Files: tilelog.Site(url), Origin: origin, Key: keyFile}}
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

// Check implements Log.
func (l *V2) Check(e Entry) (checkpoint.Checkpoint, error) { return check(e, l.Parse) }

// Entry implements Log.
func (l *V2) Entry(ctx context.Context, index uint64) (Entry, error) {
	var found Entry
	err := l.Entries(ctx, index, index+1, func(entry Entry) error { found = entry; return nil })
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
	tree := l.tiles.Tree(ctx, newest)
	var bodies [][]byte // of the bundle that was read last
	var start uint64    // the index of the first of them
	for index := range indexes {
		if index >= newest.Size {
			return fmt.Errorf("the log does not show entry %d: it has %d", index, newest.Size)
		}
		if index < start || index >= start+uint64(len(bodies)) {
			first, read, err := tree.Bundle(tilelog.BundleOf(int64(index)))
			if err != nil {
				return err
			}
			start, bodies = uint64(first), read
		}
		hashes, err := tree.Proof(int64(index))
		if err != nil {
			return err
		}
		err = each(Entry{Index: index, Body: bodies[index-start], Proof: Proof{Size: newest.Size, Root: newest.Root, Hashes: hashes, Checkpoint: newest.Text}})
		if err != nil {
			return err
		}
	}
	return nil
}
