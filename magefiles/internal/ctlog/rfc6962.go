package ctlog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	ct "github.com/google/certificate-transparency-go"

	"sigstore-local/magefiles/internal/jsonapi"
	"sigstore-local/magefiles/internal/keys"
)

// RFC6962 is a log of RFC 6962 that is known by its public key.
type RFC6962 struct {
	reader
	url string
}

// OpenRFC6962 returns the log whose API is below url, such as http://localhost:6105/sigstore, and whose public key, ECDSA on P-256
// or RSA, is in a PEM file.
func OpenRFC6962(url, keyFile string) (*RFC6962, error) {
	key, _, err := keys.Public(keyFile)
	if err != nil {
		return nil, err
	}
	verifier, err := ct.NewSignatureVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	parse := func(text string) (Head, error) { return parseTreeHead(text, verifier) }
	return &RFC6962{reader{parse: parse}, url + "/ct/v1/"}, nil
}

// parseTreeHead reads a tree head as JSON (RFC 6962, section 4.3), and refuses one that verifier does not verify.
func parseTreeHead(text string, verifier *ct.SignatureVerifier) (Head, error) {
	var shown ct.GetSTHResponse
	if err := json.Unmarshal([]byte(text), &shown); err != nil {
		return Head{}, fmt.Errorf("the log's tree head: %w", err)
	}
	signed, err := shown.ToSignedTreeHead()
	if err != nil {
		return Head{}, fmt.Errorf("the log's tree head: %w", err)
	}
	if err := verifier.VerifySTHSignature(*signed); err != nil {
		return Head{}, fmt.Errorf("the log's key has not signed this tree head: %w", err)
	}
	return Head{Size: shown.TreeSize, Root: shown.SHA256RootHash, Time: time.UnixMilli(int64(shown.Timestamp)).UTC(), Text: text}, nil
}

// Head implements Log.
func (l *RFC6962) Head(ctx context.Context) (Head, error) {
	var shown ct.GetSTHResponse
	if err := l.ask(ctx, "get-sth", &shown); err != nil {
		return Head{}, err
	}
	text, err := json.Marshal(shown) // without what else the log may have said
	if err != nil {
		return Head{}, err
	}
	return l.head(string(text))
}

// Entry implements Log.
func (l *RFC6962) Entry(ctx context.Context, index uint64) (Entry, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return Entry{}, err
	}
	return l.entryAt(ctx, head, index)
}

// entryAt asks for an entry and its proof in the tree of head.
func (l *RFC6962) entryAt(ctx context.Context, head Head, index uint64) (Entry, error) {
	if err := inTree(index, head); err != nil {
		return Entry{}, err
	}
	var shown ct.GetEntryAndProofResponse
	if err := l.ask(ctx, fmt.Sprintf("get-entry-and-proof?leaf_index=%d&tree_size=%d", index, head.Size), &shown); err != nil {
		return Entry{}, err
	}
	entry := newEntry(index, shown.LeafInput, head)
	entry.Hashes = shown.AuditPath
	return entry, nil
}

// atOnce is how many entries are asked for at a time, and proven together. Upstream's server gives 1,000 at most
// (https://github.com/google/certificate-transparency-go/blob/v1.4.0/trillian/ctfe/handlers.go, MaxGetEntriesAllowed).
const atOnce = 500

// Entries implements Log. Besides the tree head, it takes three requests for each atOnce entries, since the log's proofs of the first
// and the last of them prove those between. If these do not lead to the root, each entry comes with the log's own proof of it
// instead, a request each, so that Check tells which is wrong.
func (l *RFC6962) Entries(ctx context.Context, first, end uint64, each func(Entry) error) error {
	if first >= end {
		return nil
	}
	head, err := l.Head(ctx)
	if err != nil {
		return err
	}
	if err := inTree(end-1, head); err != nil {
		return err
	}
	for ; first < end; first += min(atOnce, end-first) {
		entries, err := l.proven(ctx, head, first, min(first+atOnce, end))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := each(entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// proven asks for the entries from first up to, and without, end, with their proofs in the tree of head.
func (l *RFC6962) proven(ctx context.Context, head Head, first, end uint64) ([]Entry, error) {
	var entries []Entry
	var leaves [][]byte
	for next := first; next < end; next = first + uint64(len(entries)) {
		var shown ct.GetEntriesResponse
		if err := l.ask(ctx, fmt.Sprintf("get-entries?start=%d&end=%d", next, end-1), &shown); err != nil {
			return nil, err
		}
		// A log may show fewer than it was asked for (RFC 6962, section 4.6), and never none.
		if len(shown.Entries) == 0 || uint64(len(shown.Entries)) > end-next {
			return nil, fmt.Errorf("the log shows %d entries from %d on; accepted are 1 to %d", len(shown.Entries), next, end-next)
		}
		for i, one := range shown.Entries {
			entry := newEntry(next+uint64(i), one.LeafInput, head)
			entries, leaves = append(entries, entry), append(leaves, entry.Leaf())
		}
	}
	known := newSubtrees(head.Size, first, leaves)
	complete := true
	for _, index := range outermost(first, end, head.Size) {
		entry, err := l.entryAt(ctx, head, index)
		if err != nil {
			return nil, err
		}
		complete = known.learn(index, entry.Hashes) && complete
	}
	if complete && bytes.Equal(known.root(), head.Root) {
		for i := range entries {
			entries[i].Hashes = known.proof(entries[i].Index)
		}
		return entries, nil
	}
	for i := range entries {
		own, err := l.entryAt(ctx, head, entries[i].Index)
		if err != nil {
			return nil, err
		}
		entries[i].Hashes = own.Hashes
	}
	return entries, nil
}

// outermost are those of the entries from first up to, and without, end whose proofs have all that is beside them in a tree of size
// entries. Those that begin or end the tree have nothing there.
func outermost(first, end, size uint64) []uint64 {
	var indexes []uint64
	if first > 0 {
		indexes = append(indexes, first)
	}
	if end < size {
		indexes = append(indexes, end-1)
	}
	return slices.Compact(indexes)
}

// Consistency implements Log.
func (l *RFC6962) Consistency(ctx context.Context, older, newer uint64) ([][]byte, error) {
	if older == 0 || older == newer {
		return nil, nil // the proof is empty (RFC 9162, section 2.1.4), so that there is nothing to ask
	}
	var shown ct.GetSTHConsistencyResponse
	err := l.ask(ctx, fmt.Sprintf("get-sth-consistency?first=%d&second=%d", older, newer), &shown)
	return shown.Consistency, err
}

func (l *RFC6962) ask(ctx context.Context, path string, answer any) error {
	return jsonapi.Ask(ctx, http.DefaultClient, http.MethodGet, l.url+path, nil, answer)
}
