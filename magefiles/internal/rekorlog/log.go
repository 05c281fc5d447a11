// Package rekorlog reads the log of a Rekor, of version 1 or 2, without trusting it: answers are checked with the log's public key
// and with the proofs of RFC 6962. It also uploads entries.
package rekorlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/tilelog"
)

// Log is a log of either version.
type Log interface {
	// Checkpoint asks the log for its newest checkpoint.
	Checkpoint(ctx context.Context) (checkpoint.Checkpoint, error)
	// Parse reads a checkpoint and refuses one that the log has not signed.
	Parse(text string) (checkpoint.Checkpoint, error)
	// Consistent finds out whether the log at newer holds all that it held at older, in the same order. If not, the error wraps
	// ErrInconsistent.
	Consistent(ctx context.Context, older, newer checkpoint.Checkpoint) error
	// Consistency is the proof that the tree of newer entries begins with that of older entries (RFC 9162, section 2.1.4): the
	// hashes of subtrees, none if older is 0 or the two are the same. It is not checked.
	Consistency(ctx context.Context, older, newer uint64) ([][]byte, error)
	// Entry asks the log for the entry of an index, from 0.
	Entry(ctx context.Context, index uint64) (Entry, error)
	// Entries asks the log for the entries from first up to, and without, end, and hands them to each in order.
	Entries(ctx context.Context, first, end uint64, each func(Entry) error) error
	// Check finds out whether the entry's inclusion proof leads to a root that the log has signed, and returns the checkpoint in
	// which it has. If it does not, the error wraps ErrNotInTree.
	Check(e Entry) (checkpoint.Checkpoint, error)
	// Search asks for the newest entries, limit at most, that have all that a query asks for. What it returns is not checked.
	Search(ctx context.Context, query Query, limit int) (Found, error)
}

// Errors about a log that has not kept its promise to show every entry, unchanged, to everybody.
var (
	// ErrInconsistent says that a log has shown two histories, of which at most one is true.
	ErrInconsistent = errors.New("the log has shown two histories")
	// ErrNotInTree says that an entry that the log shows is not in the log's tree.
	ErrNotInTree = tilelog.ErrWrong
)

// consistent is Consistent for a log that has no more to say than proven, which finds out whether the tree of newer begins with
// that of older. proven is asked only if older has entries, and newer more.
func consistent(older, newer checkpoint.Checkpoint, proven func() (bool, error)) error {
	switch {
	case newer.Size < older.Size:
		return fmt.Errorf("%w: it had %d entries and now has %d", ErrInconsistent, older.Size, newer.Size)
	case older.Size == 0:
		return nil // every log has begun with nothing
	case newer.Size == older.Size && !bytes.Equal(older.Root, newer.Root):
		return fmt.Errorf("%w: with %d entries the tree's root was %x and now is %x", ErrInconsistent, newer.Size, older.Root, newer.Root)
	case newer.Size == older.Size:
		return nil
	}
	ok, err := proven()
	if err == nil && !ok {
		err = fmt.Errorf("%w: no proof leads from the %d entries that it had to the %d that it has", ErrInconsistent, older.Size, newer.Size)
	}
	return err
}

// Entry is an entry with the proof that the log gives of it.
type Entry struct {
	Index      uint64
	UUID       string    // empty in Rekor v2, which gives none
	Body       []byte    // JSON
	Integrated time.Time // zero in Rekor v2, which keeps no time
	Promise    []byte    // the signed entry timestamp, by which the log promises to have the entry; empty in Rekor v2
	LogID      string    // that the promise names, as hex; empty in Rekor v2
	Proof      Proof
}

// Proof leads from an entry to the root of a checkpoint.
type Proof struct {
	Size       uint64
	Root       []byte
	Hashes     [][]byte // from the leaf upwards
	Checkpoint string
}

// Leaf is the entry's hash in the tree.
func (e Entry) Leaf() []byte { return rfc6962.DefaultHasher.HashLeaf(e.Body) }

// check is Check for a log that parses checkpoints by parse.
func check(e Entry, parse func(string) (checkpoint.Checkpoint, error)) (checkpoint.Checkpoint, error) {
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, e.Index, e.Proof.Size, e.Leaf(), e.Proof.Hashes, e.Proof.Root); err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("entry %d: %w: its inclusion proof does not lead to the root %x", e.Index, ErrNotInTree, e.Proof.Root)
	}
	signed, err := parse(e.Proof.Checkpoint)
	if err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("entry %d: %w: %w", e.Index, ErrNotInTree, err)
	}
	if signed.Size != e.Proof.Size || !bytes.Equal(signed.Root, e.Proof.Root) {
		return checkpoint.Checkpoint{}, fmt.Errorf("entry %d: %w: its inclusion proof leads to another root than the one that the log has signed", e.Index, ErrNotInTree)
	}
	return signed, nil
}

// Step is one step of the way from a leaf to the root.
type Step struct {
	Sibling []byte
	Left    bool   // the sibling is on the left
	Parent  []byte // of the two
}

// Path is the way of an inclusion proof (RFC 9162, section 2.1.3.2).
func (e Entry) Path() []Step {
	var steps []Step
	node, last, hash := e.Index, e.Proof.Size-1, e.Leaf()
	for _, sibling := range e.Proof.Hashes {
		step := Step{Sibling: sibling, Left: node&1 == 1 || node == last}
		if step.Left {
			hash = rfc6962.DefaultHasher.HashChildren(sibling, hash)
			for node&1 == 0 && node != 0 {
				node, last = node>>1, last>>1
			}
		} else {
			hash = rfc6962.DefaultHasher.HashChildren(hash, sibling)
		}
		step.Parent = hash
		steps = append(steps, step)
		node, last = node>>1, last>>1
	}
	return steps
}
