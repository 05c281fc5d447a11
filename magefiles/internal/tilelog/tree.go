package tilelog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/mod/sumdb/tlog"

	"sigstore-local/magefiles/internal/checkpoint"
)

// ErrWrong says that a log's files are not what its tree was made of.
var ErrWrong = errors.New("this is not what the tree was made of")

// Tree is the tree of a checkpoint. All that its methods return leads to the root that is in the checkpoint; if the log's files
// lead to another root, the error is ErrWrong.
type Tree struct {
	tree   tlog.Tree
	reader *reader
}

// Tree is the log's tree at a checkpoint. It reads files for as long as ctx lasts.
func (l Log) Tree(ctx context.Context, c checkpoint.Checkpoint) *Tree {
	return newTree(ctx, l, tlog.Tree{N: int64(c.Size), Hash: tlog.Hash(c.Root)})
}

func newTree(ctx context.Context, log Log, tree tlog.Tree) *Tree {
	return &Tree{tree, &reader{ctx: ctx, log: log, verified: map[tlog.Tile][]byte{}}}
}

// Size is how many entries the tree has.
func (t *Tree) Size() int64 { return t.tree.N }

// ReadHashes returns hashes of the tree, by the indexes that the package tlog gives them.
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	if hashes, ok := t.reader.known(t.tree.N, indexes); ok {
		return hashes, nil
	}
	t.reader.failed = nil
	hashes, err := tlog.TileHashReader(t.tree, t.reader).ReadHashes(indexes)
	if err != nil && t.reader.failed == nil {
		// All tiles have been read, so what is wrong is what they hold.
		err = fmt.Errorf("the tiles of %s do not lead to the root of its tree of %d entries: %w", t.reader.log.Files.Place("tile"), t.tree.N, ErrWrong)
	}
	return hashes, err
}

// RootAt is the root that the tree had when it had size entries.
func (t *Tree) RootAt(size int64) (tlog.Hash, error) { return tlog.TreeHash(size, t) }

// Proof is the inclusion proof of an entry: the hashes from its leaf upwards.
func (t *Tree) Proof(index int64) ([][]byte, error) {
	proof, err := tlog.ProveRecord(t.tree.N, index, t)
	return slicesOf(proof), err
}

// ConsistencyProof is the proof that the tree of newer entries begins with that of older entries (RFC 9162, section 2.1.4): the
// hashes of subtrees, none if older is 0 or the two are the same.
func (t *Tree) ConsistencyProof(older, newer int64) ([][]byte, error) {
	if older < 0 || older > newer || newer > t.tree.N {
		return nil, fmt.Errorf("no proof leads from %d entries to %d: accepted are a number, and one that is as large or larger, up to %d", older, newer, t.tree.N)
	}
	if older == 0 {
		return nil, nil
	}
	proof, err := tlog.ProveTree(newer, older, t)
	return slicesOf(proof), err
}

func slicesOf(proof []tlog.Hash) [][]byte {
	var hashes [][]byte
	for _, hash := range proof {
		hashes = append(hashes, hash[:])
	}
	return hashes
}

// Entries hands the entries of the given indexes to each, with their inclusion proofs.
func (t *Tree) Entries(indexes iter.Seq[uint64], each func(index uint64, entry []byte, proof [][]byte) error) error {
	var bundle [][]byte // that was read last
	var start uint64    // the index of the first entry in it
	for index := range indexes {
		if index >= uint64(t.tree.N) {
			return fmt.Errorf("the log does not show entry %d: it has %d", index, t.tree.N)
		}
		if index < start || index >= start+uint64(len(bundle)) {
			first, read, err := t.Bundle(BundleOf(int64(index)))
			if err != nil {
				return err
			}
			start, bundle = uint64(first), read
		}
		proof, err := t.Proof(int64(index))
		if err != nil {
			return err
		}
		if err := each(index, bundle[index-start], proof); err != nil {
			return err
		}
	}
	return nil
}

// BundleOf is the number of the bundle that holds an entry.
func BundleOf(index int64) int64 { return index / fullWidth }

// Bundle returns the entries of a bundle, of which the first has the index first.
func (t *Tree) Bundle(number int64) (first int64, entries [][]byte, err error) {
	first = number * fullWidth
	if number < 0 || first >= t.tree.N {
		return first, nil, fmt.Errorf("a tree of %d entries has no bundle %d", t.tree.N, number)
	}
	bundle := tlog.Tile{H: height, L: -1, N: number, W: int(min(fullWidth, t.tree.N-first))}
	content, place, err := t.reader.log.read(t.reader.ctx, bundle)
	if err != nil {
		return first, nil, err
	}
	var indexes []int64
	for i := range bundle.W {
		indexes = append(indexes, tlog.StoredHashIndex(0, first+int64(i)))
	}
	hashes, err := t.ReadHashes(indexes)
	if err != nil {
		return first, nil, err
	}
	for i, want := range hashes {
		entry, rest, ok := t.reader.log.Layout.Next(content)
		if !ok {
			return first, nil, fmt.Errorf("%s ends before entry %d: %w", place, first+int64(i), ErrWrong)
		}
		if tlog.RecordHash(entry) != want {
			return first, nil, fmt.Errorf("%s has another entry %d than the tree: %w", place, first+int64(i), ErrWrong)
		}
		entries, content = append(entries, entry), rest
	}
	return first, entries, nil
}

// Next is the first of the entries in a bundle of the layout, as it is hashed into the tree, and what comes after it. ok is false
// if the bundle ends before that.
func (l Layout) Next(bundle []byte) (entry, rest []byte, ok bool) {
	if l == StaticCT {
		return nextTileLeaf(bundle)
	}
	// Each entry comes after its length (https://c2sp.org/tlog-tiles, "Log entries").
	entries := cryptobyte.String(bundle)
	var one cryptobyte.String
	ok = entries.ReadUint16LengthPrefixed(&one)
	return one, entries, ok
}

// reader reads tiles for the package tlog, which verifies them, and keeps those that are verified.
type reader struct {
	ctx      context.Context // here because the methods that tlog calls have no parameter for it
	log      Log
	verified map[tlog.Tile][]byte
	failed   error // of the last call of ReadTiles
}

// keptTiles is how many verified tiles are kept: two megabytes of them.
const keptTiles = 256

func (*reader) Height() int { return height }

func (r *reader) SaveTiles(tiles []tlog.Tile, contents [][]byte) {
	if len(r.verified)+len(tiles) > keptTiles {
		clear(r.verified)
	}
	for i, tile := range tiles {
		r.verified[tile] = contents[i]
	}
}

// known returns hashes of a tree of size entries if the tiles that hold them are all verified. Without it each proof would verify
// again what the one before it has verified, which takes most of the time.
func (r *reader) known(size int64, indexes []int64) (hashes []tlog.Hash, ok bool) {
	for _, index := range indexes {
		tile := tlog.TileForIndex(height, index)
		// As wide as the tree has it, in place of as wide as the index needs it.
		tile.W = int(min(fullWidth, size>>(tile.L*height)-tile.N*fullWidth))
		content, ok := r.verified[tile]
		if !ok {
			return nil, false
		}
		hash, err := tlog.HashFromTile(tile, content, index)
		if err != nil {
			return nil, false
		}
		hashes = append(hashes, hash)
	}
	return hashes, true
}

func (r *reader) ReadTiles(tiles []tlog.Tile) (contents [][]byte, err error) {
	defer func() { r.failed = err }()
	for _, tile := range tiles {
		content, ok := r.verified[tile]
		if !ok {
			var place string
			if content, place, err = r.log.read(r.ctx, tile); err != nil {
				return nil, err
			}
			if err := longEnough(content, tile, place); err != nil {
				return nil, err
			}
			content = content[:tile.W*tlog.HashSize]
		}
		contents = append(contents, content)
	}
	return contents, nil
}

// longEnough is an error if content, which was read from place, is shorter than the tile.
func longEnough(content []byte, tile tlog.Tile, place string) error {
	if size := tile.W * tlog.HashSize; len(content) < size {
		return fmt.Errorf("%s has %d bytes, and at least %d are needed: %w", place, len(content), size, ErrWrong)
	}
	return nil
}
