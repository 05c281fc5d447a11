package ctlog

import (
	"math/bits"
	"slices"

	"github.com/transparency-dev/merkle/rfc6962"
)

// span are the leaves of a subtree: those from from up to, and without, to.
type span struct{ from, to uint64 }

// halves are the spans of a subtree's two children. The left one has the largest power of two leaves that is less than all (RFC
// 9162, section 2.1.1).
func (s span) halves() (left, right span) {
	middle := s.from + 1<<(bits.Len64(s.to-s.from-1)-1)
	return span{s.from, middle}, span{middle, s.to}
}

// towards tells the child that has the leaf of an index from the other one.
func (s span) towards(index uint64) (next, sibling span) {
	left, right := s.halves()
	if index < right.from {
		return left, right
	}
	return right, left
}

func (s span) overlaps(other span) bool { return s.from < other.to && other.from < s.to }

// subtrees are the hashes of a tree's subtrees, from which the inclusion proofs of neighbouring entries are made: from the leaves of
// all of them, and from the log's own proofs of the first and the last, which have all that is on the left and on the right.
type subtrees struct {
	whole   span
	entries span // whose leaves are known
	hashes  map[span][]byte
}

func newSubtrees(size, first uint64, leaves [][]byte) subtrees {
	t := subtrees{span{0, size}, span{first, first + uint64(len(leaves))}, map[span][]byte{}}
	for i, leaf := range leaves {
		t.hashes[span{first + uint64(i), first + uint64(i) + 1}] = leaf
	}
	return t
}

// learn takes from the inclusion proof of a leaf what is outside the known entries. ok is false if the proof is too long or short.
func (t subtrees) learn(index uint64, proof [][]byte) (ok bool) {
	for at := t.whole; at.to-at.from > 1; {
		if len(proof) == 0 {
			return false
		}
		next, sibling := at.towards(index)
		if !sibling.overlaps(t.entries) {
			t.hashes[sibling] = proof[len(proof)-1]
		}
		at, proof = next, proof[:len(proof)-1]
	}
	return len(proof) == 0
}

// hash is the hash of a subtree; nil if too little is known.
func (t subtrees) hash(of span) []byte {
	hash, ok := t.hashes[of]
	if !ok && of.to-of.from > 1 {
		left, right := of.halves()
		hash = rfc6962.DefaultHasher.HashChildren(t.hash(left), t.hash(right))
		t.hashes[of] = hash
	}
	return hash
}

// root is the root that all of it leads to.
func (t subtrees) root() []byte { return t.hash(t.whole) }

// proof is the inclusion proof of a leaf.
func (t subtrees) proof(index uint64) [][]byte {
	var hashes [][]byte
	for at := t.whole; at.to-at.from > 1; {
		next, sibling := at.towards(index)
		hashes = append(hashes, t.hash(sibling))
		at = next
	}
	slices.Reverse(hashes)
	return hashes
}
