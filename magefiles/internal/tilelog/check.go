// Package tilelog reads a log of tiles (https://c2sp.org/tlog-tiles) from the folder in which its server keeps it.
package tilelog

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Layout is the form in which a log keeps its entries and signs its checkpoints.
type Layout int

// The layouts.
const (
	TlogTiles Layout = iota // https://c2sp.org/tlog-tiles, with checkpoints signed by an Ed25519 key
	StaticCT                // https://c2sp.org/static-ct-api, with checkpoints signed by an ECDSA key
)

// Log is a log in a folder.
type Log struct {
	Dir    string
	Origin string // the first line of its checkpoints, and the name of the key that signs them
	Key    string // the PEM file of its public key
	Layout Layout
}

// state is how far the log has come, in the file in which Tessera's POSIX storage keeps that
// (https://github.com/transparency-dev/tessera/blob/v1.0.2/storage/posix/files.go, treeState).
type state struct {
	Size int64  `json:"size"` // entries
	Root []byte `json:"root"`
}

func (l Log) stateFile() string { return filepath.Join(l.Dir, ".state", "treeState") }

// Check finds damage that the log's server would not find when it starts: without its state the server begins a new log in the
// place of the old one, and without the tiles at the right edge of the tree it can add nothing. It reads as many tiles as the
// tree has levels, and the newest entries. A folder without a log is no error.
func (l Log) Check() error {
	err := l.check()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: put back a copy of %s, or wipe the stack's data and keys with `go tool mage reset`", err, l.Dir)
}

func (l Log) check() error {
	content, err := os.ReadFile(l.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(l.Dir, "checkpoint")); err == nil {
			return fmt.Errorf("%s is gone, and %s holds a log", l.stateFile(), l.Dir)
		}
		return nil
	}
	if err != nil {
		return err
	}
	var now state
	if err := json.Unmarshal(content, &now); err != nil || now.Size < 0 || len(now.Root) != tlog.HashSize {
		return fmt.Errorf("%s does not hold the size and the root of a tree", l.stateFile())
	}
	published, err := l.checkpoint()
	if err != nil {
		return err
	}
	if published > now.Size {
		return fmt.Errorf("%s is of %d entries, and the checkpoint of %d", l.stateFile(), now.Size, published)
	}
	if now.Size == 0 {
		return nil
	}
	tree := tlog.Tree{N: now.Size, Hash: tlog.Hash(now.Root)}
	tiles := tlog.TileHashReader(tree, reader{l.Dir, l.Layout})
	if _, err := tlog.TreeHash(now.Size, tiles); err != nil {
		return fmt.Errorf("the tiles in %s are not those of its tree of %d entries: %w", l.Dir, now.Size, err)
	}
	return l.newestEntries(tree, tiles)
}

// checkpoint is the size of the newest checkpoint, 0 if none has been published.
func (l Log) checkpoint() (int64, error) {
	file := filepath.Join(l.Dir, "checkpoint")
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // the server publishes another
	}
	if err != nil {
		return 0, err
	}
	verifier, err := l.verifier()
	if err != nil {
		return 0, err
	}
	signed, err := note.Open(content, note.VerifierList(verifier))
	if err != nil {
		return 0, fmt.Errorf("%s is no checkpoint that the log's key has signed: %w", file, err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 3 {
		return 0, fmt.Errorf("%s is no checkpoint: it has %d lines, and at least 3 are needed", file, len(lines))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no checkpoint: its size: %w", file, err)
	}
	return size, nil
}

// verifier verifies what the log's key has signed.
func (l Log) verifier() (note.Verifier, error) {
	content, err := os.ReadFile(l.Key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no public key as PEM", l.Key)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Key, err)
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		if l.Layout == TlogTiles {
			text, err := note.NewEd25519VerifierKey(l.Origin, key)
			if err != nil {
				return nil, err
			}
			return note.NewVerifier(text)
		}
	case *ecdsa.PublicKey:
		if l.Layout == StaticCT {
			return treeHeadVerifier{l.Origin, key, sha256.Sum256(block.Bytes)}, nil
		}
	}
	accepted := map[Layout]string{TlogTiles: "an Ed25519", StaticCT: "an ECDSA"}[l.Layout]
	return nil, fmt.Errorf("%s holds a %T; accepted is %s key", l.Key, key, accepted)
}

// newestEntries checks that the bundle of the newest entries holds what its tile was made of.
func (l Log) newestEntries(tree tlog.Tree, tiles tlog.HashReader) error {
	newest := tlog.TileForIndex(height, tlog.StoredHashIndex(0, tree.N-1))
	newest.W = int(tree.N - newest.N<<height)
	first := tree.N - int64(newest.W)
	newest.L = -1
	content, file, err := read(l.Dir, newest, l.Layout)
	if err != nil {
		return err
	}
	var indexes []int64
	for i := range newest.W {
		indexes = append(indexes, tlog.StoredHashIndex(0, first+int64(i)))
	}
	hashes, err := tiles.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i, want := range hashes {
		record, rest, ok := l.next(content)
		if !ok {
			return fmt.Errorf("%s ends before entry %d", file, first+int64(i))
		}
		if got := tlog.RecordHash(record); !bytes.Equal(got[:], want[:]) {
			return fmt.Errorf("%s has another entry %d than the tree", file, first+int64(i))
		}
		content = rest
	}
	return nil
}

// next is the first of the entries in a bundle, as it is hashed into the tree, and the others.
func (l Log) next(bundle []byte) (record, rest []byte, ok bool) {
	if l.Layout == StaticCT {
		return nextTileLeaf(bundle)
	}
	// Each entry comes after its length (https://c2sp.org/tlog-tiles, "Log entries").
	entries := cryptobyte.String(bundle)
	var entry cryptobyte.String
	ok = entries.ReadUint16LengthPrefixed(&entry)
	return entry, entries, ok
}

// height is how many levels of the tree are in a tile.
const height = 8

// reader reads tiles below a folder, for the package tlog.
type reader struct {
	dir    string
	layout Layout
}

func (reader) Height() int                     { return height }
func (reader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		content, file, err := read(r.dir, tile, r.layout)
		if err != nil {
			return nil, err
		}
		size := tile.W * tlog.HashSize
		if len(content) < size {
			return nil, fmt.Errorf("%s has %d bytes, and at least %d are needed", file, len(content), size)
		}
		all = append(all, content[:size])
	}
	return all, nil
}

// read reads a tile, or for the level -1 a bundle of entries: a partial one, or the whole one that has taken its place.
func read(dir string, tile tlog.Tile, layout Layout) (content []byte, file string, err error) {
	// The package tlog names tiles as the Go checksum database does, with their height.
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
	if layout == TlogTiles {
		path = strings.Replace(path, "tile/data/", "tile/entries/", 1)
	}
	file = filepath.Join(dir, filepath.FromSlash(path))
	content, err = os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && tile.W < 1<<height {
		whole, _, _ := strings.Cut(file, ".p"+string(filepath.Separator))
		if content, wholeErr := os.ReadFile(whole); wholeErr == nil {
			return content, whole, nil
		}
	}
	return content, file, err
}
