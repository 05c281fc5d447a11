package rekorlog

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/jsonapi"
	"sigstore-local/magefiles/internal/keys"
)

// V1 is the log of a Rekor v1 that is known by its public key.
type V1 struct {
	url string
	key *ecdsa.PublicKey
	der []byte // key as a SubjectPublicKeyInfo
}

// Open returns the log of the Rekor v1 at url, whose public key is in a PEM file.
func Open(url, keyFile string) (V1, error) {
	key, der, err := keys.Public(keyFile)
	if err != nil {
		return V1{}, err
	}
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return V1{}, fmt.Errorf("%s holds a %T; accepted is an ECDSA key", keyFile, key)
	}
	return V1{url: url, key: ec, der: der}, nil
}

// verifier verifies checkpoints as Rekor v1 signs them: ECDSA over SHA-256, under a key hash that is the start of the key's
// digest (https://github.com/sigstore/rekor/blob/main/pkg/util/signed_note.go).
type verifier struct {
	name string
	log  V1
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
func (l V1) Parse(text string) (checkpoint.Checkpoint, error) {
	// The signature's line names the signer; whatever the name, the key decides.
	_, signature, _ := strings.Cut(text, "\n\n— ")
	name, _, _ := strings.Cut(signature, " ")
	return checkpoint.Parse(text, verifier{name, l})
}

// Checkpoint asks the log for its newest checkpoint.
func (l V1) Checkpoint(ctx context.Context) (checkpoint.Checkpoint, error) {
	var info struct{ SignedTreeHead string }
	if err := l.ask(ctx, http.MethodGet, "/api/v1/log", nil, &info); err != nil {
		return checkpoint.Checkpoint{}, err
	}
	return l.Parse(info.SignedTreeHead)
}

// Consistent implements Log.
func (l V1) Consistent(ctx context.Context, older, newer checkpoint.Checkpoint) error {
	return consistent(older, newer, func() (bool, error) {
		hashes, err := l.Consistency(ctx, older.Size, newer.Size)
		if err != nil {
			return false, err
		}
		return proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, hashes, older.Root, newer.Root) == nil, nil
	})
}

// Consistency implements Log.
func (l V1) Consistency(ctx context.Context, older, newer uint64) ([][]byte, error) {
	if older == 0 || older == newer {
		return nil, nil // Rekor refuses to prove this, which needs no proof
	}
	var answer struct{ Hashes []string }
	path := fmt.Sprintf("/api/v1/log/proof?firstSize=%d&lastSize=%d", older, newer)
	if err := l.ask(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return nil, err
	}
	return decode(answer.Hashes)
}

// Check implements Log.
func (l V1) Check(e Entry) (checkpoint.Checkpoint, error) { return check(e, l.Parse) }

// Entry asks the log for the entry of an index, from 0.
func (l V1) Entry(ctx context.Context, index uint64) (Entry, error) {
	return l.get(ctx, fmt.Sprintf("/api/v1/log/entries?logIndex=%d", index))
}

// EntryByUUID asks the log for the entry of a UUID.
func (l V1) EntryByUUID(ctx context.Context, uuid string) (Entry, error) {
	return l.get(ctx, "/api/v1/log/entries/"+uuid)
}

func (l V1) get(ctx context.Context, path string) (Entry, error) {
	var answer map[string]wireEntry
	if err := l.ask(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return Entry{}, err
	}
	for uuid, wire := range answer {
		return wire.entry(uuid)
	}
	return Entry{}, fmt.Errorf("GET %s%s: the answer holds no entry", l.url, path)
}

// atOnce is how many entries Rekor v1 shows at a time.
const atOnce = 10

// Entries asks the log for the entries from first up to, and without, end, and hands them to each in order.
func (l V1) Entries(ctx context.Context, first, end uint64, each func(Entry) error) error {
	for ; first < end; first += atOnce {
		var indexes []uint64
		for i := first; i < min(end, first+atOnce); i++ {
			indexes = append(indexes, i)
		}
		shown, err := l.retrieve(ctx, "logIndexes", indexes)
		if err != nil {
			return err
		}
		found := map[uint64]Entry{}
		for _, entry := range shown {
			found[entry.Index] = entry
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

// retrieve asks the log for entries by their logIndexes or entryUUIDs, at most atOnce.
func (l V1) retrieve(ctx context.Context, by string, names any) ([]Entry, error) {
	var answer []map[string]wireEntry
	if err := l.ask(ctx, http.MethodPost, "/api/v1/log/entries/retrieve", map[string]any{by: names}, &answer); err != nil {
		return nil, err
	}
	var entries []Entry
	for _, one := range answer {
		for uuid, wire := range one {
			entry, err := wire.entry(uuid)
			if err != nil {
				return nil, err
			}
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// Search asks the log's own index. That names all entries that match, in no order, so that all of them are asked for: ten thousand
// take half a minute or more. SearchSome does not.
func (l V1) Search(ctx context.Context, query Query, limit int) (Found, error) {
	uuids, total, err := l.indexed(ctx, query, math.MaxInt)
	if err != nil {
		return Found{}, err
	}
	found := Found{Total: total}
	if found.Entries, err = l.named(ctx, uuids); err != nil {
		return Found{}, err
	}
	found.Entries = newest(found.Entries, limit)
	found.Newest = len(found.Entries)
	return found, nil
}

// SearchSome is Search that asks for 2*limit entries at most, since each takes the log some milliseconds. If more match, it looks through
// the newest limit entries of the log, which may have some that match, and fills up what it returns with others that match, as the index
// happens to name them: Newest of Found says how many of the entries are the newest that match for certain.
func (l V1) SearchSome(ctx context.Context, query Query, limit int) (Found, error) {
	uuids, total, err := l.indexed(ctx, query, 2*limit)
	if err != nil {
		return Found{}, err
	}
	found := Found{Total: total}
	if total <= uint64(2*limit) {
		found.Entries, err = l.named(ctx, uuids)
		found.Entries = newest(found.Entries, limit)
		found.Newest = len(found.Entries)
		return found, err
	}
	signed, err := l.Checkpoint(ctx)
	if err != nil {
		return Found{}, err
	}
	err = l.Entries(ctx, signed.Size-min(uint64(limit), signed.Size), signed.Size, func(e Entry) error {
		if what, err := Describe(e.Body); err == nil && query.Names(what) {
			found.Entries = append(found.Entries, e)
		}
		return nil
	})
	if err != nil {
		return Found{}, err
	}
	found.Newest = len(found.Entries)
	uuids = slices.DeleteFunc(uuids, func(uuid string) bool {
		return slices.ContainsFunc(found.Entries, func(e Entry) bool { return e.UUID == uuid })
	})
	others, err := l.named(ctx, uuids[:min(limit-found.Newest, len(uuids))])
	found.Entries = newest(append(found.Entries, others...), limit)
	return found, err
}

// newest are the newest of entries, limit at most, the newest first.
func newest(entries []Entry, limit int) []Entry {
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(b.Index, a.Index) })
	return entries[:min(limit, len(entries))]
}

// indexed asks the log's index for the UUIDs of entries that match: most of them at most, and how many there are.
func (l V1) indexed(ctx context.Context, query Query, most int) (uuids []string, total uint64, err error) {
	asked := map[string]any{"operator": "and"}
	if query.Identity != "" {
		asked["subject"] = query.Identity
	}
	if query.Digest != "" {
		if strings.HasPrefix(query.Digest, "sha384:") {
			return nil, 0, fmt.Errorf("the digest is %s; the index of Rekor v1 has SHA-256 and SHA-512 alone", query.Digest)
		}
		asked["hash"] = query.Digest
	}
	if query.Key != "" {
		if query.PEM == nil {
			return nil, 0, fmt.Errorf("the key is sha256:%s; the index of Rekor v1 takes none but a PEM file with the whole key", query.Key)
		}
		asked["publicKey"] = map[string]any{"format": "x509", "content": query.PEM}
	}
	const path = "/api/v1/index/retrieve"
	err = jsonapi.Read(ctx, http.DefaultClient, http.MethodPost, l.url+path, asked, func(answer io.Reader) error {
		decoder := json.NewDecoder(answer)
		if start, err := decoder.Token(); err != nil {
			return err
		} else if start != json.Delim('[') {
			return fmt.Errorf("POST %s%s: the answer is no list of UUIDs: it begins with %v", l.url, path, start)
		}
		for ; decoder.More(); total++ {
			var uuid string
			if err := decoder.Decode(&uuid); err != nil {
				return fmt.Errorf("POST %s%s: %w", l.url, path, err)
			}
			if len(uuids) < most {
				uuids = append(uuids, uuid)
			}
		}
		_, err := decoder.Token() // the end of the list
		return err
	})
	return uuids, total, err
}

// named asks the log for the entries of any number of UUIDs.
func (l V1) named(ctx context.Context, uuids []string) ([]Entry, error) {
	var entries []Entry
	for some := range slices.Chunk(uuids, atOnce) {
		shown, err := l.retrieve(ctx, "entryUUIDs", some)
		if err != nil {
			return nil, err
		}
		entries = append(entries, shown...)
	}
	return entries, nil
}

// wireEntry is an entry as Rekor's API has it (https://github.com/sigstore/rekor/blob/main/openapi.yaml, LogEntry).
type wireEntry struct {
	Body           []byte
	LogIndex       uint64
	LogID          string
	IntegratedTime int64 // seconds since 1970
	Verification   struct {
		SignedEntryTimestamp []byte
		InclusionProof       struct {
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
		Promise: w.Verification.SignedEntryTimestamp, LogID: w.LogID,
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

// CheckPromise returns an error unless the log's key has signed the promise that comes with an entry of Rekor v1: the entry's body,
// time, log ID and index as JSON in canonical form (https://github.com/sigstore/rekor/blob/main/pkg/util/signer.go and RFC 8785).
func CheckPromise(log Log, e Entry) error {
	v1, ok := log.(V1)
	if !ok {
		return errors.New("a log of version 2 makes no promises: an entry is in the tree before the client gets its answer")
	}
	id, err := json.Marshal(e.LogID)
	if err != nil {
		return err
	}
	signed := fmt.Appendf(nil, `{"body":%q,"integratedTime":%d,"logID":%s,"logIndex":%d}`,
		base64.StdEncoding.EncodeToString(e.Body), e.Integrated.Unix(), id, e.Index)
	digest := sha256.Sum256(signed)
	if !ecdsa.VerifyASN1(v1.key, digest[:], e.Promise) {
		return errors.New("the log's key has not signed this promise for this entry")
	}
	return nil
}

// ask asks the log's API.
func (l V1) ask(ctx context.Context, method, path string, body, answer any) error {
	return jsonapi.Ask(ctx, http.DefaultClient, method, l.url+path, body, answer)
}
