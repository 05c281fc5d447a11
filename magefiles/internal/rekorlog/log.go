// Package rekorlog reads a Rekor v1 log without trusting it: answers are checked with the log's public key and with the
// proofs of RFC 6962. It also uploads entries.
package rekorlog

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/jsonapi"
)

// Log is a log that is known by its public key.
type Log struct {
	url string
	key *ecdsa.PublicKey
	der []byte // key as a SubjectPublicKeyInfo
}

// Open returns the log at url, whose public key is in a PEM file.
func Open(url, keyFile string) (Log, error) {
	content, err := os.ReadFile(keyFile)
	if err != nil {
		return Log{}, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return Log{}, fmt.Errorf("%s holds no public key as PEM", keyFile)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Log{}, fmt.Errorf("%s: %w", keyFile, err)
	}
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return Log{}, fmt.Errorf("%s holds a %T; accepted is an ECDSA key", keyFile, key)
	}
	return Log{url: url, key: ec, der: block.Bytes}, nil
}

// verifier verifies checkpoints as Rekor signs them: ECDSA over SHA-256, under a key hash that is the start of the key's
// digest (https://github.com/sigstore/rekor/blob/main/pkg/util/signed_note.go).
type verifier struct {
	name string
	log  Log
}

func (v verifier) Name() string { return v.name }
func (v verifier) KeyHash() uint32 {
	sum := sha256.Sum256(v.log.der)
	return binary.BigEndian.Uint32(sum[:])
}
func (v verifier) Verify(message, signature []byte) bool {
	digest := sha256.Sum256(message)
	return ecdsa.VerifyASN1(v.log.key, digest[:], signature)
}

// Parse reads a checkpoint and refuses one that the log has not signed.
func (l Log) Parse(text string) (checkpoint.Checkpoint, error) {
	// The signature's line names the signer; whatever the name, the key decides.
	_, signature, _ := strings.Cut(text, "\n\n— ")
	name, _, _ := strings.Cut(signature, " ")
	return checkpoint.Parse(text, verifier{name, l})
}

// Checkpoint asks the log for its newest checkpoint.
func (l Log) Checkpoint(ctx context.Context) (checkpoint.Checkpoint, error) {
	var info struct{ SignedTreeHead string }
	if err := l.ask(ctx, http.MethodGet, "/api/v1/log", nil, &info); err != nil {
		return checkpoint.Checkpoint{}, err
	}
	return l.Parse(info.SignedTreeHead)
}

// ErrInconsistent says that a log has shown two histories, of which at most one is true.
var ErrInconsistent = errors.New("the log has shown two histories")

// Consistent finds out whether the log at newer holds all that it held at older, in the same order. If not, the error
// wraps ErrInconsistent.
func (l Log) Consistent(ctx context.Context, older, newer checkpoint.Checkpoint) error {
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
	var answer struct{ Hashes []string }
	path := fmt.Sprintf("/api/v1/log/proof?firstSize=%d&lastSize=%d", older.Size, newer.Size)
	if err := l.ask(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return err
	}
	hashes, err := decode(answer.Hashes)
	if err != nil {
		return err
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, hashes, older.Root, newer.Root); err != nil {
		return fmt.Errorf("%w: no proof leads from the %d entries that it had to the %d that it has", ErrInconsistent, older.Size, newer.Size)
	}
	return nil
}

// Entry is an entry with the proof that the log gives of it.
type Entry struct {
	Index      uint64
	UUID       string
	Body       []byte // JSON
	Integrated time.Time
	Proof      Proof
}

// Proof leads from an entry to the root of a checkpoint.
type Proof struct {
	Size       uint64
	Root       []byte
	Hashes     [][]byte // from the leaf upwards
	Checkpoint string
}

// Entry asks the log for the entry of an index, from 0.
func (l Log) Entry(ctx context.Context, index uint64) (Entry, error) {
	return l.get(ctx, fmt.Sprintf("/api/v1/log/entries?logIndex=%d", index))
}

// EntryByUUID asks the log for the entry of a UUID.
func (l Log) EntryByUUID(ctx context.Context, uuid string) (Entry, error) {
	return l.get(ctx, "/api/v1/log/entries/"+uuid)
}

func (l Log) get(ctx context.Context, path string) (Entry, error) {
	var answer map[string]wireEntry
	if err := l.ask(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return Entry{}, err
	}
	for uuid, wire := range answer {
		return wire.entry(uuid)
	}
	return Entry{}, fmt.Errorf("GET %s%s: the answer holds no entry", l.url, path)
}

// Entries asks the log for the entries from first up to, and without, end, and hands them to each in order.
func (l Log) Entries(ctx context.Context, first, end uint64, each func(Entry) error) error {
	const atOnce = 10 // upstream's limit
	for ; first < end; first += atOnce {
		var indexes []uint64
		for i := first; i < min(end, first+atOnce); i++ {
			indexes = append(indexes, i)
		}
		var answer []map[string]wireEntry
		if err := l.ask(ctx, http.MethodPost, "/api/v1/log/entries/retrieve", map[string]any{"logIndexes": indexes}, &answer); err != nil {
			return err
		}
		found := map[uint64]Entry{}
		for _, one := range answer {
			for uuid, wire := range one {
				entry, err := wire.entry(uuid)
				if err != nil {
					return err
				}
				found[entry.Index] = entry
			}
		}
		for _, index := range indexes {
			entry, ok := found[index]
			if !ok {
				return fmt.Errorf("the log does not show entry %d", index)
			}
			if err := each(entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// wireEntry is an entry as Rekor's API has it (https://github.com/sigstore/rekor/blob/main/openapi.yaml, LogEntry).
type wireEntry struct {
	Body           []byte
	LogIndex       uint64
	IntegratedTime int64 // seconds since 1970
	Verification   struct {
		InclusionProof struct {
			TreeSize             uint64
			RootHash, Checkpoint string
			Hashes               []string
		}
	}
}

func (w wireEntry) entry(uuid string) (Entry, error) {
	shown := w.Verification.InclusionProof
	hashes, err := decode(append([]string{shown.RootHash}, shown.Hashes...))
	if err != nil {
		return Entry{}, err
	}
	return Entry{
		Index: w.LogIndex, UUID: uuid, Body: w.Body, Integrated: time.Unix(w.IntegratedTime, 0).UTC(),
		Proof: Proof{Size: shown.TreeSize, Root: hashes[0], Hashes: hashes[1:], Checkpoint: shown.Checkpoint},
	}, nil
}

func decode(texts []string) ([][]byte, error) {
	var hashes [][]byte
	for _, text := range texts {
		hash, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("a hash in the log's answer: %w", err)
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// Leaf is the entry's hash in the tree.
func (e Entry) Leaf() []byte { return rfc6962.DefaultHasher.HashLeaf(e.Body) }

// ErrNotInTree says that an entry that the log shows is not in the log's tree.
var ErrNotInTree = errors.New("this is not what the tree was made of")

// Check finds out whether the entry's inclusion proof leads to a root that the log has signed, and returns the checkpoint
// in which it has. If it does not, the error wraps ErrNotInTree.
func (l Log) Check(e Entry) (checkpoint.Checkpoint, error) {
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, e.Index, e.Proof.Size, e.Leaf(), e.Proof.Hashes, e.Proof.Root); err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("entry %d: %w: its inclusion proof does not lead to the root %x", e.Index, ErrNotInTree, e.Proof.Root)
	}
	signed, err := l.Parse(e.Proof.Checkpoint)
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

// ask asks the log's API.
func (l Log) ask(ctx context.Context, method, path string, body, answer any) error {
	return jsonapi.Ask(ctx, http.DefaultClient, method, l.url+path, body, answer)
}
