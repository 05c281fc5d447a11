package proof

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

// tree is a log in memory.
type tree struct {
	hashes []tlog.Hash
	leaves [][]byte
}

func (l *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = l.hashes[index]
	}
	return found, nil
}

func newTree(t testing.TB, size int) *tree {
	t.Helper()
	l := &tree{}
	for i := range size {
		l.leaves = append(l.leaves, fmt.Appendf(nil, `{"kind": "hashedrekord", "number": %d}`, i))
		hashes, err := tlog.StoredHashes(int64(i), l.leaves[i], l)
		if err != nil {
			t.Fatal(err)
		}
		l.hashes = append(l.hashes, hashes...)
	}
	return l
}

// withLast is the log with another last entry.
func (l *tree) withLast(t testing.TB, leaf []byte) *tree {
	t.Helper()
	last := len(l.leaves) - 1
	other := &tree{hashes: l.hashes[:tlog.StoredHashCount(int64(last))], leaves: append(l.leaves[:last:last], leaf)}
	hashes, err := tlog.StoredHashes(int64(last), leaf, other)
	if err != nil {
		t.Fatal(err)
	}
	other.hashes = append(other.hashes[:len(other.hashes):len(other.hashes)], hashes...)
	return other
}

func (l *tree) root(t testing.TB, size uint64) []byte {
	t.Helper()
	root, err := tlog.TreeHash(int64(size), l)
	if err != nil {
		t.Fatal(err)
	}
	return root[:]
}

func raw(hashes []tlog.Hash) [][]byte {
	var list [][]byte
	for _, hash := range hashes {
		list = append(list, hash[:])
	}
	return list
}

func (l *tree) inclusion(t testing.TB, index, size uint64) Inclusion {
	t.Helper()
	hashes, err := tlog.ProveRecord(int64(size), int64(index), l)
	if err != nil {
		t.Fatal(err)
	}
	root := l.root(t, size)
	return Inclusion{index, size, l.leaves[index], raw(hashes), root, fmt.Sprintf("rekor.localhost\n%d\n%x\n\n— rekor.localhost 1a2b3c4d\n", size, root)}
}

func (l *tree) consistency(t testing.TB, older, newer uint64) Consistency {
	t.Helper()
	hashes, err := tlog.ProveTree(int64(newer), int64(older), l)
	if err != nil {
		t.Fatal(err)
	}
	return Consistency{older, newer, l.root(t, older), l.root(t, newer), raw(hashes), fmt.Sprintf("log\n%d\n", older), fmt.Sprintf("log\n%d\n", newer)}
}

func TestInclusionOfEveryEntryOfEverySize(t *testing.T) {
	l := newTree(t, 41)
	for size := uint64(1); size <= 41; size++ {
		for index := range size {
			p := l.inclusion(t, index, size)
			v, err := p.view()
			if err != nil {
				t.Fatalf("entry %d of %d: %v", index, size, err)
			}
			root := v.Checks[0].Node
			if !v.Good() || !bytes.Equal(root.Hash, p.Root) || root.first != 0 || root.end != size {
				t.Errorf("entry %d of %d: root %x of %s, want %x", index, size, root.Hash, root.Name(), p.Root)
			}
			for _, s := range v.Steps {
				// What stands beside the path is the hash of the entries that it is said to be of.
				if want := subtree(l, s.Given.first, s.Given.end); !bytes.Equal(s.Given.Hash, want) {
					t.Errorf("entry %d of %d: %s have the hash %x, and it is drawn as %x", index, size, s.Given.Name(), want, s.Given.Hash)
				}
				if up := s.Results[0]; !bytes.Equal(up.Hash, subtree(l, up.first, up.end)) || up.Beside() != s.Given || (s.Side == "left") != (up.Left == s.Given) {
					t.Errorf("entry %d of %d: %s combined wrongly", index, size, up.Name())
				}
			}
			for i := range p.Hashes {
				changed := p
				changed.Hashes = append([][]byte{}, p.Hashes...)
				changed.Hashes[i] = bytes.Clone(p.Hashes[i])
				changed.Hashes[i][7] ^= 1
				v, err := changed.view()
				if err != nil || v.Good() || v.Steps[i].Results[0].Start() == "" || !strings.HasPrefix(v.Verdict(), "✗ It does not fit. The root that comes out is") {
					t.Errorf("entry %d of %d with another hash %d: %v, %q", index, size, i, err, v.Verdict())
				}
			}
		}
	}
}

// subtree is the hash of the entries from first up to end by its definition (RFC 9162, section 2.1.1).
func subtree(l *tree, first, end uint64) []byte {
	if end-first == 1 {
		return rfc6962.DefaultHasher.HashLeaf(l.leaves[first])
	}
	split := uint64(1)
	for split*2 < end-first {
		split *= 2
	}
	return rfc6962.DefaultHasher.HashChildren(subtree(l, first, first+split), subtree(l, first+split, end))
}

func TestConsistencyOfAllSizes(t *testing.T) {
	l := newTree(t, 41)
	for newer := uint64(1); newer <= 41; newer++ {
		for older := uint64(1); older <= newer; older++ {
			p := l.consistency(t, older, newer)
			v, err := p.view()
			if err != nil {
				t.Fatalf("%d to %d: %v", older, newer, err)
			}
			if !v.Good() || !strings.HasPrefix(v.Verdict(), "✓ It fits: ") {
				t.Errorf("%d to %d: %s", older, newer, v.Verdict())
			}
			computesOlder := older&(older-1) != 0 && older != newer
			if (len(v.Checks) == 2) != computesOlder {
				t.Errorf("%d to %d: %d roots are compared", older, newer, len(v.Checks))
			}
			for _, s := range v.Steps {
				for _, n := range append([]*node{s.Given}, s.Results...) {
					if !bytes.Equal(n.Hash, subtree(l, n.first, n.end)) {
						t.Errorf("%d to %d: the hash of %s is drawn as %x", older, newer, n.Name(), n.Hash)
					}
					if want := map[bool]string{true: "older, both", false: "newer, both"}[n.end <= older]; !strings.Contains(want, n.Tree) || n.Tree == "" {
						t.Errorf("%d to %d: %s are said to build %q", older, newer, n.Name(), n.Tree)
					}
				}
			}
			// Whatever is changed, the verdict is that of the library.
			for i := range len(p.Hashes) + 2 {
				changed := p
				changed.Hashes = append([][]byte{}, p.Hashes...)
				switch {
				case i < len(p.Hashes):
					changed.Hashes[i] = bytes.Repeat([]byte{byte(i)}, 32)
				case i == len(p.Hashes):
					changed.OlderRoot = make([]byte, 32)
				default:
					changed.NewerRoot = make([]byte, 32)
				}
				v, err := changed.view()
				library := proof.VerifyConsistency(rfc6962.DefaultHasher, older, newer, changed.Hashes, changed.OlderRoot, changed.NewerRoot)
				if err != nil || library == nil || v.Good() {
					t.Errorf("%d to %d with change %d: %v, good: %v; the library says %v", older, newer, i, err, v.Good(), library)
				}
			}
		}
	}
	p := Consistency{Newer: 3, NewerRoot: l.root(t, 3)}
	if html, err := p.HTML(); err != nil || !strings.Contains(string(html), "The older tree is empty.") {
		t.Errorf("from the empty tree: %v\n%s", err, html)
	}
}

func TestOfLargeTrees(t *testing.T) {
	for _, size := range []uint64{1 << 40, 1<<63 + 12345, 1<<64 - 1} {
		for _, index := range []uint64{0, 1, size / 3, size - 2, size - 1} {
			nodes, err := proof.Inclusion(index, size)
			if err != nil {
				t.Fatal(err)
			}
			hashes := make([][]byte, len(nodes.IDs))
			for i := range hashes {
				hashes[i] = bytes.Repeat([]byte{byte(i)}, 32)
			}
			hashes, err = nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
			if err != nil {
				t.Fatal(err)
			}
			want, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, index, size, rfc6962.DefaultHasher.HashLeaf([]byte("x")), hashes)
			if err != nil {
				t.Fatal(err)
			}
			v, err := Inclusion{index, size, []byte("x"), hashes, want, ""}.view()
			if err != nil || !v.Good() {
				t.Errorf("entry %d of %d: %v", index, size, err)
			}
		}
	}
}

func TestWhatCannotBeFollowed(t *testing.T) {
	l := newTree(t, 9)
	in, con := l.inclusion(t, 5, 9), l.consistency(t, 6, 9)
	for name, p := range map[string]interface{ view() (view, error) }{
		"index 9 in a tree of 9":                          Inclusion{9, 9, nil, in.Hashes, in.Root, ""},
		"index 0 in a tree of 0":                          Inclusion{0, 0, nil, nil, in.Root, ""},
		"the entry 5 in a tree of 9: 3 hashes":            Inclusion{5, 9, nil, in.Hashes[1:], in.Root, ""},
		"hash 0 has 2 bytes, and a SHA-256 has 32":        Inclusion{5, 9, nil, append([][]byte{{1, 2}}, in.Hashes[1:]...), in.Root, ""},
		"a root of 0 bytes":                               Inclusion{5, 9, nil, in.Hashes, nil, ""},
		"between trees of 9 and 6 entries: the older":     Consistency{9, 6, con.OlderRoot, con.NewerRoot, con.Hashes, "", ""},
		"between trees of 6 and 9 entries: 3 hashes, and": Consistency{6, 9, con.OlderRoot, con.NewerRoot, con.Hashes[1:], "", ""},
		"between trees of 0 and 9 entries: 4 hashes":      Consistency{0, 9, nil, con.NewerRoot, con.Hashes, "", ""},
		"between trees of 9 and 9 entries: 4 hashes":      Consistency{9, 9, con.NewerRoot, con.NewerRoot, con.Hashes, "", ""},
	} {
		if _, err := p.view(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
}

func TestAnAttackersTextIsNeverMarkup(t *testing.T) {
	const evil = `</textarea></pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp;` + "\u202e"
	p := Inclusion{Size: 1, Leaf: []byte(evil), Root: rfc6962.DefaultHasher.HashLeaf([]byte(evil)), Signed: evil + "\xff"}
	got, err := p.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"<script", "<img", "</textarea></pre>", "style=", "\xff"} {
		if strings.Contains(string(got), no) {
			t.Errorf("the fragment has %q:\n%s", no, got)
		}
	}
	if strings.Count(string(got), "&lt;script&gt;") != 2 {
		t.Errorf("the entry and the signed text are not both there:\n%s", got)
	}
	// What is long is cut, and what a text field would change is there in hex.
	for _, one := range []struct {
		leaf []byte
		want string
	}{
		{bytes.Repeat([]byte("x"), MaxLeaf+1), "131073 bytes, too many to show here"},
		{[]byte("a\r\nb"), "in hex</span>"},
		{[]byte("a\x00b\x80cd"), "61006280 6364"},
		{[]byte("abc\xff"), "616263ff</textarea>"},
		{nil, "The entry 0, 0 bytes</span>"},
	} {
		p := Inclusion{Size: 1, Leaf: one.leaf, Root: rfc6962.DefaultHasher.HashLeaf(one.leaf), Signed: strings.Repeat("y", 100_000)}
		got, err := p.HTML()
		text := string(got)
		if err != nil || !strings.Contains(text, one.want) || !strings.Contains(text, "✓ It fits") || len(text) > 16_000 {
			t.Errorf("%.20q: %v, %d bytes without %q", one.leaf, err, len(text), one.want)
		}
	}
}

func TestFiles(t *testing.T) {
	for _, name := range []string{"proof.js", "proof.css"} {
		if text, err := fs.ReadFile(Files(), name); err != nil || len(text) < 1000 || strings.Contains(string(text), "innerHTML") {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}
