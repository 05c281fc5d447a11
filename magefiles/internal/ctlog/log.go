// Package ctlog reads a certificate transparency log, of RFC 6962 or of the static CT API, without trusting it: answers are checked
// with the log's public key and with proofs.
package ctlog

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sigstore-local/magefiles/internal/tilelog"
)

// Log is a log of either kind.
type Log interface {
	// Head asks the log for its newest signed tree head, and refuses one that the log has not signed. If the log has none yet, the
	// error wraps ErrEmpty.
	Head(ctx context.Context) (Head, error)
	// Entry asks the log for the entry of an index, from 0.
	Entry(ctx context.Context, index uint64) (Entry, error)
	// Entries asks the log for the entries from first up to, and without, end, and hands them to each in order, with their proofs.
	// It takes a few requests for hundreds of entries, not one for each.
	Entries(ctx context.Context, first, end uint64, each func(Entry) error) error
	// Check finds out whether the entry's inclusion proof leads to a root that the log has signed. If not, the error wraps
	// ErrNotInTree.
	Check(e Entry) error
	// Consistency is the proof that the tree of newer entries begins with that of older entries (RFC 9162, section 2.1.4): the
	// hashes of subtrees, none if older is 0 or the two are the same. It is not checked.
	Consistency(ctx context.Context, older, newer uint64) ([][]byte, error)
}

// Errors that both kinds of logs return.
var (
	// ErrNotInTree says that an entry that the log shows is not in the log's tree. It is rekorlog.ErrNotInTree.
	ErrNotInTree = tilelog.ErrWrong
	// ErrEmpty says that a log of the static CT API has not signed a tree head yet. A log of RFC 6962 signs one of no entries.
	ErrEmpty = tilelog.ErrEmpty
)

// Head is a signed tree head.
type Head struct {
	Size uint64    // entries
	Root []byte    // of the Merkle tree over them
	Time time.Time // when the log has signed it, as the log says
	Text string    // as the log shows it: a checkpoint, or the JSON of RFC 6962, section 4.3
}

// Entry is an entry with the proof that the log gives of it.
type Entry struct {
	Index          uint64
	Time           time.Time // when the log has taken the entry, as the log says: that of its SCT
	Precertificate bool      // the log was shown the certificate before it was issued

	// Certificate is what the entry is about; nil if the entry cannot be read. That of a precertificate lacks the CA's signature,
	// which the tree does not hold (RFC 6962, section 3.2): its Signature is empty, and its Raw is no certificate that was issued.
	Certificate   *x509.Certificate
	Unreadable    error  // why Certificate is nil
	IssuerKeyHash []byte // of a precertificate: SHA-256 of its issuer's SubjectPublicKeyInfo

	LeafInput []byte // the MerkleTreeLeaf (RFC 6962, section 3.4), over which the tree is made

	// The inclusion proof: Hashes lead, from the leaf upwards, to Root, the root of a tree of Size entries, which the log has signed
	// in Head, the text of a tree head.
	Size   uint64
	Root   []byte
	Hashes [][]byte
	Head   string
}

// Leaf is the entry's hash in the tree.
func (e Entry) Leaf() []byte { return rfc6962.DefaultHasher.HashLeaf(e.LeafInput) }

// newEntry is an entry without a proof in the tree of head.
func newEntry(index uint64, leafInput []byte, head Head) Entry {
	e := Entry{Index: index, LeafInput: leafInput, Size: head.Size, Root: head.Root, Head: head.Text}
	e.Unreadable = e.read()
	return e
}

// reader reads the tree heads of a log. All entries that are read at a time come with the same head, whose signature is verified
// once.
type reader struct {
	parse func(text string) (Head, error) // refuses what the log has not signed

	mu   sync.Mutex
	last Head // that was parsed
}

func (r *reader) head(text string) (Head, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.Text != "" && r.last.Text == text {
		return r.last, nil
	}
	head, err := r.parse(text)
	if err == nil {
		r.last = head
	}
	return head, err
}

// Check implements Log.
func (r *reader) Check(e Entry) error {
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, e.Index, e.Size, e.Leaf(), e.Hashes, e.Root); err != nil {
		return fmt.Errorf("entry %d: %w: its inclusion proof does not lead to the root %x", e.Index, ErrNotInTree, e.Root)
	}
	head, err := r.head(e.Head)
	if err != nil {
		return fmt.Errorf("entry %d: %w: %w", e.Index, ErrNotInTree, err)
	}
	if head.Size != e.Size || !bytes.Equal(head.Root, e.Root) {
		return fmt.Errorf("entry %d: %w: its inclusion proof leads to another root than the one that the log has signed", e.Index, ErrNotInTree)
	}
	return nil
}

// inTree is an error unless the tree of head has an entry of the index.
func inTree(index uint64, head Head) error {
	if index >= head.Size {
		return fmt.Errorf("the log does not show entry %d: it has %d", index, head.Size)
	}
	return nil
}
