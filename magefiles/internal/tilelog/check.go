package tilelog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"sigstore-local/magefiles/internal/project"
)

// state is how far the log has come, in the file in which Tessera's POSIX storage keeps that
// (https://github.com/transparency-dev/tessera/blob/v1.0.2/storage/posix/files.go, treeState).
type state struct {
	Size int64  `json:"size"` // entries
	Root []byte `json:"root"`
}

const stateName = ".state/treeState"

// Check finds damage to a log in a folder that the log's server would not find when it starts: without its state the server
// begins a new log in the place of the old one, and to what is wrong at the right edge of the tree it adds, and signs what comes of
// that. It reads the tiles at the right edge, those that they were made of (256 at most for each level of tiles) and the newest
// entries. What is older is read by clients only, who notice what is wrong with it. A folder without a log is no error.
func (l Log) Check() error {
	err := l.check()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: put back a copy of %s, or wipe the stack's data and keys with `"+project.Command+" reset`", err, l.Files.Place(""))
}

func (l Log) check() error {
	ctx := context.Background()
	// The checkpoint is read before the state: while the server runs, the log may grow in between.
	published, unpublished := l.Checkpoint(ctx)
	stateFile := l.Files.Place(stateName)
	content, err := l.Files.Read(ctx, stateName)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(l.Files.Place(checkpointName)); err == nil {
			return fmt.Errorf("%s is gone, and %s holds a log", stateFile, l.Files.Place(""))
		}
		return nil
	}
	if err != nil {
		return err
	}
	var now state
	if err := json.Unmarshal(content, &now); err != nil || now.Size < 0 || len(now.Root) != tlog.HashSize {
		return fmt.Errorf("%s does not hold the size and the root of a tree", stateFile)
	}
	// If there is no checkpoint, the server publishes one.
	if unpublished != nil && !errors.Is(unpublished, ErrEmpty) {
		return unpublished
	}
	if int64(published.Size) > now.Size {
		return fmt.Errorf("%s is of %d entries, and the checkpoint of %d", stateFile, now.Size, published.Size)
	}
	if now.Size == 0 {
		return nil
	}
	tree := newTree(ctx, l, tlog.Tree{N: now.Size, Hash: tlog.Hash(now.Root)})
	if _, err := tree.RootAt(now.Size); err != nil {
		return err
	}
	if _, _, err := tree.Bundle(BundleOf(now.Size - 1)); err != nil {
		return err
	}
	return l.checkEdge(ctx, now.Size)
}

// checkEdge checks that the last tile of each level is what the full tiles below it make. The server computes the next root from
// the last tiles without looking below them.
func (l Log) checkEdge(ctx context.Context, size int64) error {
	for level := 1; size>>(level*height) > 0; level++ {
		count := size >> (level * height) // hashes of this level, each of a full tile below
		first := (count - 1) / fullWidth * fullWidth
		made, place, err := l.readHashes(ctx, tlog.Tile{H: height, L: level, N: first / fullWidth, W: int(count - first)})
		if err != nil {
			return err
		}
		for i, hash := range made {
			below, from, err := l.readHashes(ctx, tlog.Tile{H: height, L: level - 1, N: first + int64(i), W: fullWidth})
			if err != nil {
				return err
			}
			if rootOf(below) != hash {
				return fmt.Errorf("%s is not what %s was made of: %w", from, place, ErrWrong)
			}
		}
	}
	return nil
}

// readHashes reads the hashes of a tile.
func (l Log) readHashes(ctx context.Context, tile tlog.Tile) (hashes []tlog.Hash, place string, err error) {
	content, place, err := l.read(ctx, tile)
	if err != nil {
		return nil, place, err
	}
	if err := longEnough(content, tile, place); err != nil {
		return nil, place, err
	}
	hashes = make([]tlog.Hash, tile.W)
	for i := range hashes {
		hashes[i] = tlog.Hash(content[i*tlog.HashSize:])
	}
	return hashes, place, nil
}

// rootOf is the root of the tree over the hashes of a full tile, which it overwrites.
func rootOf(hashes []tlog.Hash) tlog.Hash {
	for ; len(hashes) > 1; hashes = hashes[:len(hashes)/2] {
		for i := range len(hashes) / 2 {
			hashes[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
		}
	}
	return hashes[0]
}
