package ctlog

import (
	"context"
	"iter"
	"slices"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/tilelog"
)

// StaticCT is a log of the static CT API (https://c2sp.org/static-ct-api) that is known by its public key. Its entries and proofs
// are read from its tiles.
type StaticCT struct {
	reader
	tiles tilelog.Log
}

// OpenStaticCT returns the log whose tiles are served below url, such as http://localhost:6962/sigstore, whose checkpoints begin
// with origin, and whose public key, ECDSA, is in a PEM file, which is read when it is needed.
func OpenStaticCT(url, origin, keyFile string) *StaticCT {
	l := &StaticCT{tiles: tilelog.Log{Files: tilelog.Site(url), Origin: origin, Key: keyFile, Layout: tilelog.StaticCT}}
	l.parse = func(text string) (Head, error) {
		c, err := l.tiles.Parse(text)
		if err != nil {
			return Head{}, err
		}
		return headOf(c), nil
	}
	return l
}

func headOf(c checkpoint.Checkpoint) Head {
	return Head{Size: c.Size, Root: c.Root, Time: tilelog.SignedAt(c), Text: c.Text}
}

// Head implements Log.
func (l *StaticCT) Head(ctx context.Context) (Head, error) {
	c, err := l.tiles.Checkpoint(ctx)
	if err != nil {
		return Head{}, err
	}
	return headOf(c), nil
}

// Entry implements Log.
func (l *StaticCT) Entry(ctx context.Context, index uint64) (Entry, error) {
	var found Entry
	err := l.entriesAt(ctx, slices.Values([]uint64{index}), func(entry Entry) error { found = entry; return nil })
	return found, err
}

// Entries implements Log. It reads a tile of entries for each 256 of them, and the tiles of their hashes. If a tile is not what the
// tree was made of, the error wraps ErrNotInTree.
func (l *StaticCT) Entries(ctx context.Context, first, end uint64, each func(Entry) error) error {
	return l.entriesAt(ctx, func(yield func(uint64) bool) {
		for index := first; index < end && yield(index); index++ {
		}
	}, each)
}

// entriesAt hands the entries of the given indexes to each, with their proofs in the newest tree.
func (l *StaticCT) entriesAt(ctx context.Context, indexes iter.Seq[uint64], each func(Entry) error) error {
	newest, err := l.tiles.Checkpoint(ctx)
	if err != nil {
		return err
	}
	head := headOf(newest)
	return l.tiles.Tree(ctx, newest).Entries(indexes, func(index uint64, leaf []byte, hashes [][]byte) error {
		entry := newEntry(index, leaf, head)
		entry.Hashes = hashes
		return each(entry)
	})
}

// Consistency implements Log.
func (l *StaticCT) Consistency(ctx context.Context, older, newer uint64) ([][]byte, error) {
	newest, err := l.tiles.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return l.tiles.Tree(ctx, newest).ConsistencyProof(int64(older), int64(newer))
}
