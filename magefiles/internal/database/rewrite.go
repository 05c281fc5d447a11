package database

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/config"
)

// original is an entry of Rekor's tree as it was before Rewrite, in a file until it is put back.
type original struct {
	Tree, Index int64
	Value       []byte
}

func originalFile(c config.Config) string { return c.Data("rewritten-entry.json") }

// where finds the value of an entry in Trillian's tables (storage/mysql/schema/storage.sql).
const where = "LeafData JOIN SequencedLeafData USING (TreeId, LeafIdentityHash) %s WHERE TreeId = ? AND SequenceNumber = ?"

// Rewrite changes an entry of Rekor's in MariaDB, unnoticed by Rekor and Trillian. PutBack undoes that, also from a later
// process.
func Rewrite(ctx context.Context, c config.Config, index uint64, value []byte) error {
	if err := PutBack(ctx, c); err != nil {
		return err
	}
	tree, err := Tree(ctx, c, "rekor")
	if err != nil {
		return err
	}
	db, err := open(ctx, c, "trillian")
	if err != nil {
		return err
	}
	defer db.Close()
	kept := original{Tree: tree, Index: int64(index)}
	if err := db.QueryRowContext(ctx, "SELECT LeafValue FROM "+fmt.Sprintf(where, ""), tree, index).Scan(&kept.Value); err != nil {
		return fmt.Errorf("read entry %d: %w", index, err)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(originalFile(c), text, 0o600); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "UPDATE "+fmt.Sprintf(where, "SET LeafValue = ?"), value, tree, index)
	return err
}

// PutBack puts back the entry that Rewrite has changed, if there is one.
func PutBack(ctx context.Context, c config.Config) error {
	text, err := os.ReadFile(originalFile(c))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept original
	if err := json.Unmarshal(text, &kept); err != nil {
		return fmt.Errorf("%s: %w", originalFile(c), err)
	}
	db, err := open(ctx, c, "trillian")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "UPDATE "+fmt.Sprintf(where, "SET LeafValue = ?"), kept.Value, kept.Tree, kept.Index); err != nil {
		return fmt.Errorf("put back entry %d: %w", kept.Index, err)
	}
	return os.Remove(originalFile(c))
}
