// Package tilelog reads a log of tiles (https://c2sp.org/tlog-tiles), from the folder in which its server keeps it or by HTTP,
// without trusting it: what it returns leads to a root that the log's key has signed.
package tilelog

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/note"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/keys"
)

// Layout is the form in which a log keeps its entries and signs its checkpoints.
type Layout int

// The layouts.
const (
	TlogTiles Layout = iota // https://c2sp.org/tlog-tiles, with checkpoints signed by an Ed25519 key
	StaticCT                // https://c2sp.org/static-ct-api, with checkpoints signed by an ECDSA key
)

// Log is a log of tiles.
type Log struct {
	Files  Files
	Origin string // what its checkpoints begin with, and the name of the key that signs them
	Key    string // the PEM file of its public key
	Layout Layout
}

// Parse reads a checkpoint, and refuses one that the log has not signed.
func (l Log) Parse(text string) (checkpoint.Checkpoint, error) {
	verifier, err := l.verifier()
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	c, err := checkpoint.Parse(text, verifier)
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	if c.Origin != l.Origin {
		return checkpoint.Checkpoint{}, fmt.Errorf("the checkpoint is of %q, and not of %q", c.Origin, l.Origin)
	}
	return c, nil
}

// ErrEmpty says that a log has not published a checkpoint yet.
var ErrEmpty = errors.New("the log has no checkpoint yet")

// Checkpoint reads the newest checkpoint. If there is none, the error is ErrEmpty.
func (l Log) Checkpoint(ctx context.Context) (checkpoint.Checkpoint, error) {
	content, err := l.Files.Read(ctx, checkpointName)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint.Checkpoint{}, fmt.Errorf("%s: %w", l.Files.Place(checkpointName), ErrEmpty)
	}
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	c, err := l.Parse(string(content))
	if err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("%s: %w", l.Files.Place(checkpointName), err)
	}
	return c, nil
}

const checkpointName = "checkpoint"

// verifier verifies what the log's key has signed.
func (l Log) verifier() (note.Verifier, error) {
	key, der, err := keys.Public(l.Key)
	if err != nil {
		return nil, err
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
			return treeHeadVerifier{l.Origin, key, sha256.Sum256(der)}, nil
		}
	}
	accepted := map[Layout]string{TlogTiles: "an Ed25519", StaticCT: "an ECDSA"}[l.Layout]
	return nil, fmt.Errorf("%s holds a %T; accepted is %s key", l.Key, key, accepted)
}
