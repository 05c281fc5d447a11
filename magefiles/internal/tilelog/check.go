package tilelog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

// state is how far the log has come, in the file in which Tessera's POSIX storage keeps that
// (https://github.com/transparency-dev/tessera/blob/v1.0.2/storage/posix/files.go, treeState).
type state struct {
	Size int64  `json:"size"` // entries
	Root []byte `json:"root"`
}

const stateName = ".state/treeState"

// Check finds damage to a log in a folder that the log's server would not find when it starts: without its state the server
// begins a new log in the place of the old one, and without the tiles at the right edge of the tree it can add nothing. It reads
// as many tiles as the tree has levels, and the newest entries. A folder without a log is no error.
func (l Log) Check() error {
	err := l.check()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: put back a copy of %s, or wipe the stack's data and keys with `go tool mage reset`", err, l.Files.Place(""))
}

func (l Log) check() error {
	ctx := context.Background()
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
	published, err := l.Checkpoint(ctx)
	// If there is no checkpoint, the server publishes one.
	if err != nil && !errors.Is(err, ErrEmpty) {
		return err
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
	_, _, err = tree.Bundle(BundleOf(now.Size - 1))
	return err
}
