package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/mod/sumdb/tlog"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/tilelog"
)

// index finds the entries of a log by who signed, by digest and by key. It follows the log: it reads each bundle of entries in
// order, and takes in no entry that does not lead to a root that the log has signed.
//
// The index is in files, each about shardEntries entries. A file is written once, when the log has all of these entries; what
// comes after the last full file is in memory. All of it can be deleted at any time: what is missing, or is not what was
// written, is made anew from the log.
type index struct {
	log    tilelog.Log
	folder string

	updating chan struct{} // holds one token, which update takes

	mu      sync.RWMutex
	seen    checkpoint.Checkpoint // the newest that the index was compared with
	ready   []tlog.Hash           // the hashes of the shards' subtrees; zero for a shard that has no file yet
	newest  part                  // of the shard after those in files
	problem string                // why the last update failed
}

// shardEntries is how many entries a file is about: the leaves of a subtree of the log's tree.
const (
	shardLevel   = 13
	shardEntries = 1 << shardLevel
)

// row says that an entry has a term.
type row struct {
	term  uint64
	entry uint16 // counted from the beginning of the shard
}

func order(a, b row) int { return cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.entry, b.entry)) }

// part is a shard as far as it has been read.
type part struct {
	shard int64
	end   int64 // the entries before this one have been read
	rows  []row // in the order of the entries
}

func newPart(shard int64) part { return part{shard: shard, end: shard * shardEntries} }

// The kinds of terms.
const (
	byIdentity = "identity"
	byDigest   = "digest"
	byKey      = "key"
)

// term is what an entry is found by: the start of a hash of it, so that all terms have one size.
func term(kind, value string) uint64 {
	sum := sha256.Sum256([]byte(kind + " " + value))
	return binary.BigEndian.Uint64(sum[:])
}

// identityTerm is the term of an identity. Who searches for an email address may write it in capitals.
func identityTerm(identity string) uint64 { return term(byIdentity, strings.ToLower(identity)) }

// terms are those of an entry. An entry that cannot be read has none.
func terms(body []byte) []uint64 {
	what, err := rekorlog.Describe(body)
	if err != nil {
		return nil
	}
	var all []uint64
	for _, digest := range what.Digests {
		all = append(all, term(byDigest, digest))
	}
	for _, signer := range what.Signers {
		all = append(all, term(byKey, signer.Key))
		if signer.Identity != "" {
			all = append(all, identityTerm(signer.Identity))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// openIndex returns the index of a log in a folder, which is made if need be.
func openIndex(log tilelog.Log, folder string) (*index, error) {
	x := &index{log: log, folder: folder, updating: make(chan struct{}, 1)}
	x.updating <- struct{}{}
	return x, os.MkdirAll(folder, 0o700)
}

// follow brings the index up to date again and again, until ctx ends.
func (x *index) follow(ctx context.Context) {
	const every, afterFailure = time.Second, 10 * time.Second
	for said := ""; ctx.Err() == nil; {
		err := x.update(ctx)
		pause := every
		if err != nil && ctx.Err() == nil {
			pause = afterFailure
			if err.Error() != said {
				said = err.Error()
				log.Printf("index: %s", said)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// update brings the index up to date with the log. What was done before ctx ends is kept.
func (x *index) update(ctx context.Context) (err error) {
	select {
	case <-x.updating:
		defer func() { x.updating <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		if ctx.Err() != nil {
			return
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.problem = ""
		if err != nil {
			x.problem = err.Error()
		}
	}()
	signed, err := x.log.Checkpoint(ctx)
	if errors.Is(err, tilelog.ErrEmpty) {
		x.compare(checkpoint.Checkpoint{}, false)
		return nil
	}
	if err != nil {
		return err
	}
	tree := x.log.Tree(ctx, signed)
	same := signed.Size >= x.seen.Size
	if same && signed.Size > x.seen.Size && x.seen.Size > 0 {
		root, err := tree.RootAt(int64(x.seen.Size))
		if err != nil {
			return err
		}
		same = bytes.Equal(root[:], x.seen.Root)
	} else if same && x.seen.Size > 0 {
		same = bytes.Equal(signed.Root, x.seen.Root)
	}
	x.compare(signed, same)
	full := int64(signed.Size) / shardEntries
	for shard := range full {
		if x.ready[shard] != (tlog.Hash{}) {
			continue
		}
		if err := x.fill(ctx, tree, shard); err != nil {
			return err
		}
	}
	// Only this function changes newest, so that it can be read without the lock.
	newest := x.newest
	if newest.shard != full {
		newest = newPart(full)
	}
	return x.extend(ctx, tree, newest, int64(signed.Size), func(p part) {
		x.mu.Lock()
		x.newest = p
		x.mu.Unlock()
	})
}

// compare notes the checkpoint that the index is brought up to date with. If the log's history is another than the one that was
// indexed, nothing of the index counts.
func (x *index) compare(signed checkpoint.Checkpoint, same bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !same {
		x.ready, x.newest = nil, part{}
	}
	for range int64(signed.Size)/shardEntries - int64(len(x.ready)) {
		x.ready = append(x.ready, tlog.Hash{})
	}
	x.seen = signed
}

// fill makes a shard ready, whose entries are all in the tree: from its file, or else from the log.
func (x *index) fill(ctx context.Context, tree *tilelog.Tree, shard int64) error {
	hashes, err := tree.ReadHashes([]int64{tlog.StoredHashIndex(shardLevel, shard)})
	if err != nil {
		return err
	}
	if _, err := x.read(shard, hashes[0], nil); err != nil {
		whole := newPart(shard)
		if x.newest.shard == shard && x.newest.end > whole.end {
			whole = x.newest
		}
		err := x.extend(ctx, tree, whole, (shard+1)*shardEntries, func(p part) { whole = p })
		if err != nil {
			return err
		}
		if err := renameio.WriteFile(x.file(shard), pack(hashes[0], whole.rows), 0o600); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ready[shard] = hashes[0]
	return nil
}

// extend reads the entries from p's end up to, and without, end. It hands p to keep each time that it has read some.
func (x *index) extend(ctx context.Context, tree *tilelog.Tree, p part, end int64, keep func(part)) error {
	for p.end < end {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		first, bodies, err := tree.Bundle(tilelog.BundleOf(p.end))
		if err != nil {
			return err
		}
		for i, body := range bodies {
			entry := first + int64(i)
			if entry < p.end || entry >= end {
				continue
			}
			for _, term := range terms(body) {
				p.rows = append(p.rows, row{term, uint16(entry - p.shard*shardEntries)})
			}
		}
		p.end = min(end, first+int64(len(bodies)))
		keep(p)
	}
	return nil
}

// A shard's file has a line that says what it is, the hash of the shard's subtree in the log, the rows in order, and a checksum of
// all of these.
const (
	firstLine    = "index of a log of tiles, 1\n"
	rowSize      = 8 + 2
	headSize     = len(firstLine) + tlog.HashSize
	checksumSize = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// file is the path of a shard's file.
func (x *index) file(shard int64) string {
	return filepath.Join(x.folder, fmt.Sprintf("%06d", shard))
}

func head(subtree tlog.Hash) []byte { return append([]byte(firstLine), subtree[:]...) }

func pack(subtree tlog.Hash, rows []row) []byte {
	rows = slices.SortedFunc(slices.Values(rows), order)
	content := head(subtree)
	for _, r := range rows {
		content = binary.BigEndian.AppendUint64(content, r.term)
		content = binary.BigEndian.AppendUint16(content, r.entry)
	}
	return binary.BigEndian.AppendUint32(content, crc32.Checksum(content, castagnoli))
}

// read reads the file of the shard with the given subtree, into buffer if there is room, and returns it without its checksum. It
// refuses a file that is not as it was written, or is about something else.
func (x *index) read(shard int64, subtree tlog.Hash, buffer []byte) ([]byte, error) {
	file, err := os.Open(x.file(shard))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() < int64(headSize+checksumSize) {
		return nil, fmt.Errorf("%s is no file of an index", x.file(shard))
	}
	content := slices.Grow(buffer[:0], int(info.Size()))[:info.Size()]
	if _, err := io.ReadFull(file, content); err != nil {
		return nil, err
	}
	end := len(content) - checksumSize
	if crc32.Checksum(content[:end], castagnoli) != binary.BigEndian.Uint32(content[end:]) || !bytes.HasPrefix(content, head(subtree)) {
		return nil, fmt.Errorf("%s is damaged, or is about other entries", x.file(shard))
	}
	return content[:end], nil
}

// inFile are the entries that have a term in a shard's file, in order.
func inFile(content []byte, term uint64) (entries []uint16) {
	rows := content[headSize:]
	at := func(i int) []byte { return rows[i*rowSize : (i+1)*rowSize] }
	count := len(rows) / rowSize
	low, high := 0, count
	for low < high {
		middle := int(uint(low+high) >> 1)
		if binary.BigEndian.Uint64(at(middle)) < term {
			low = middle + 1
		} else {
			high = middle
		}
	}
	for ; low < count && binary.BigEndian.Uint64(at(low)) == term; low++ {
		entries = append(entries, binary.BigEndian.Uint16(at(low)[8:]))
	}
	return entries
}

// inMemory are the entries that have a term in rows, in order.
func inMemory(rows []row, term uint64) (entries []uint16) {
	for _, r := range rows {
		if r.term == term {
			entries = append(entries, r.entry)
		}
	}
	return entries
}

// search finds the entries that have all terms, and returns the newest of them, limit at most.
func (x *index) search(terms []uint64, limit int) (answer rekorlog.Answer) {
	x.mu.RLock()
	ready, newest := slices.Clone(x.ready), x.newest
	answer.Size, answer.Problem = x.seen.Size, x.problem
	x.mu.RUnlock()

	answer.Entries = []uint64{}
	add := func(shard int64, entriesOf func(term uint64) []uint16) {
		var all []uint16
		for i, term := range terms {
			found := entriesOf(term)
			if i > 0 {
				found = slices.DeleteFunc(found, func(entry uint16) bool { _, ok := slices.BinarySearch(all, entry); return !ok })
			}
			all = found
		}
		answer.Total += uint64(len(all))
		for _, entry := range slices.Backward(all) {
			if len(answer.Entries) == limit {
				return
			}
			answer.Entries = append(answer.Entries, uint64(shard*shardEntries)+uint64(entry))
		}
	}
	var content []byte
	for shard := max(newest.shard, int64(len(ready))-1); shard >= 0; shard-- {
		switch {
		case shard < int64(len(ready)) && ready[shard] != (tlog.Hash{}):
			var err error
			if content, err = x.read(shard, ready[shard], content); err != nil {
				log.Printf("index: %v: it is made anew", err)
				x.lost(shard)
				continue
			}
			add(shard, func(term uint64) []uint16 { return inFile(content, term) })
			answer.Indexed += shardEntries
		case shard == newest.shard:
			add(shard, func(term uint64) []uint16 { return inMemory(newest.rows, term) })
			answer.Indexed += uint64(newest.end - newest.shard*shardEntries)
		}
	}
	return answer
}

// lost notes that a shard's file is gone or damaged. The next update makes it anew.
func (x *index) lost(shard int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if shard < int64(len(x.ready)) {
		x.ready[shard] = tlog.Hash{}
	}
}
