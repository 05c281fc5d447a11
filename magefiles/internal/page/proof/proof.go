// Package proof shows the proofs of a transparency log so that a reader can follow them: each hash with what it is made of,
// up to the root that the log signed.
//
// HTML gives a fragment that can be read as it is. The script proof.js takes over where it runs: it draws the tree, computes
// each hash in the browser, and computes all of them again when the reader changes a field. The page includes it with
//
//	<link rel="stylesheet" href="…/proof.css"> <script type="module" src="…/proof.js"></script>
//
// and is served as UTF-8. Any number of fragments can be on a page; for one that is added later, call the script's start.
// The fragments need no inline script and no inline style, so a strict Content-Security-Policy can forbid both.
package proof

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/transparency-dev/merkle/rfc6962"
)

// Inclusion is a proof that an entry is in a tree (RFC 9162, section 2.1.3).
type Inclusion struct {
	Index, Size uint64
	Leaf        []byte   // what is hashed: the entry's body
	Hashes      [][]byte // of the subtrees beside the entry's path, from the entry up
	Root        []byte   // as signed
	Signed      string   // the checkpoint or tree head as text, as its signer wrote it
}

// Consistency is a proof that a tree continues an older one (RFC 9162, section 2.1.4).
type Consistency struct {
	Older, Newer             uint64 // sizes in entries
	OlderRoot, NewerRoot     []byte // as signed; OlderRoot is not read if Older is 0
	Hashes                   [][]byte
	OlderSigned, NewerSigned string // as Inclusion's Signed
}

// Bounds of what is shown, in bytes. Entries and what is signed are a stranger's.
const (
	// MaxLeaf is the longest entry that can be read and changed on the page. Of a longer one there is only the hash.
	MaxLeaf = 128 << 10
	// MaxSigned is how much of a signed text is shown.
	MaxSigned = 8 << 10
)

//go:embed proof.js proof.css
var files embed.FS

// Files are proof.js and proof.css, which a page with such fragments includes.
func Files() fs.FS { return files }

//go:embed proof.html
var source string

var fragment = template.Must(template.New("proof").Parse(source))

// Kinds of nodes.
const (
	entry    = "entry"    // the hash of an entry that the page has
	given    = "given"    // a hash that the proof has
	combined = "combined" // the hash of two nodes' hashes
)

// node is a node of a Merkle tree: the hash of the entries from first up to, and not with, end.
type node struct {
	ID          string // in its fragment
	Kind        string
	Left, Right *node // of a combined one
	Below       *node // of these two, the one on the path
	Hash        []byte
	Tree        string // in a consistency proof: which roots it builds, "older", "newer" or "both"
	IsOlderRoot bool   // it is what was signed as the older root, and not computed
	first, end  uint64
}

// Name names the entries below n in a sentence.
func (n *node) Name() string {
	if n.end-n.first == 1 {
		return fmt.Sprintf("the entry %d", n.first)
	}
	return fmt.Sprintf("the entries %d to %d", n.first, n.end-1)
}

// Short names the entries below n in a drawing.
func (n *node) Short() string {
	if n.end-n.first == 1 {
		return strconv.FormatUint(n.first, 10)
	}
	return fmt.Sprintf("%d–%d", n.first, n.end-1)
}

// Entries says how many are below n in the words of the script's drawing: one, a whole subtree, or one at the tree's uneven
// right edge, which is no power of two.
func (n *node) Entries() string {
	switch count := n.end - n.first; {
	case count == 1:
		return "one"
	case count&(count-1) == 0:
		return "whole"
	default:
		return "uneven"
	}
}

// Beside is the child of n that is not on the path.
func (n *node) Beside() *node {
	if n.Below == n.Left {
		return n.Right
	}
	return n.Left
}

// Full is the hash in hex.
func (n *node) Full() string { return hex.EncodeToString(n.Hash) }

// Start is the beginning of the hash, as in the drawing.
func (n *node) Start() string { return start(n.Hash) }

func start(hash []byte) string { return hex.EncodeToString(hash)[:8] }

// step is an item of the list: the hash that the proof gives for it, if any, and what is computed with it.
type step struct {
	Given   *node
	Side    string // where Given is: "left" or "right"
	Results []*node
}

// check is the comparison of a root that was computed with the one that was signed.
type check struct {
	Name string // "root", "older root" or "newer root"
	Size uint64
	Node *node
	Root []byte
	text string
}

// Entries is the size of the root's tree in words.
func (c check) Entries() string { return entries(c.Size) }

// Full is the root as signed, in hex.
func (c check) Full() string { return hex.EncodeToString(c.Root) }

// Fits says whether the root as signed is the one that was computed.
func (c check) Fits() bool { return bytes.Equal(c.Root, c.Node.Hash) }

// Signed is the text that was signed, as far as it is shown.
func (c check) Signed() string { return shown(c.text) }

func entries(count uint64) string {
	if count == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", count)
}

func shown(text string) string {
	if len(text) > MaxSigned {
		text = text[:MaxSigned] + "\n… (cut)"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// view is what the template shows.
type view struct {
	Claim  string
	Leaf   *leaf
	Steps  []step
	Checks []check
	Tree   bool   // nodes have a Tree
	Older  string // what was signed of an older tree whose root is not compared but built on
}

// leaf is an entry and its hash.
type leaf struct {
	Node  *node
	Count int // bytes
	Text  string
	Hex   bool // Text is hex
	Long  bool // too long to be shown
}

// newLeaf makes the text of an entry one that a browser's text field keeps as it is, byte for byte: a field makes U+FFFD of
// NUL and a line feed of a carriage return (HTML Standard, sections 13.2.5 and 4.10.11).
func newLeaf(n *node, body []byte) *leaf {
	l := &leaf{Node: n, Count: len(body)}
	switch {
	case len(body) > MaxLeaf:
		l.Long = true
		n.Kind = given
	case utf8.Valid(body) && !bytes.ContainsAny(body, "\x00\r"):
		l.Text = string(body)
	default:
		l.Hex = true
		var text strings.Builder
		for at := 0; at < len(body); at += 4 {
			if at > 0 {
				text.WriteByte(' ')
			}
			text.WriteString(hex.EncodeToString(body[at:min(at+4, len(body))]))
		}
		l.Text = text.String()
	}
	return l
}

// Verdict says whether the proof fits, in the script's words.
func (v view) Verdict() string {
	var fits, not []string
	for _, c := range v.Checks {
		if c.Fits() {
			fits = append(fits, fmt.Sprintf("the %s that comes out, %s, is the one that the log has signed", c.Name, c.Node.Start()))
		} else {
			not = append(not, fmt.Sprintf("The %s that comes out is %s, and the log has signed %s.", c.Name, c.Node.Start(), start(c.Root)))
		}
	}
	switch {
	case len(v.Checks) == 0:
		return "✓ The older tree is empty. Every tree continues it, and no hash is needed."
	case len(not) > 0:
		return "✗ It does not fit. " + strings.Join(not, " ")
	default:
		return "✓ It fits: " + strings.Join(fits, ", and ") + "."
	}
}

// Good says whether the proof fits.
func (v view) Good() bool {
	for _, c := range v.Checks {
		if !c.Fits() {
			return false
		}
	}
	return true
}

func (v view) html() (template.HTML, error) {
	var out strings.Builder
	if err := fragment.Execute(&out, v); err != nil {
		return "", fmt.Errorf("write the proof as HTML: %w", err)
	}
	return template.HTML(out.String()), nil // what the template has escaped
}

// shape is the path through a tree of size entries (RFC 9162, section 2.1.1) from the root down to a node that ends with the
// entry last: to the entry itself or, if whole, to the largest such node. It returns that node and, from below up, those
// beside the path, without hashes.
func shape(last, size uint64, whole bool) (*node, []*node) {
	first, end := uint64(0), size
	var beside []*node
	for end-first > 1 && !(whole && end == last+1) {
		// The left child has the largest power of two entries that is less than all.
		split := first + 1<<(bits.Len64(end-first-1)-1)
		if last < split {
			beside = append(beside, &node{Kind: given, first: split, end: end})
			end = split
		} else {
			beside = append(beside, &node{Kind: given, first: first, end: split})
			first = split
		}
	}
	slices.Reverse(beside)
	return &node{Kind: given, first: first, end: end}, beside
}

// combine is the parent of a node of the path and the one beside it.
func combine(below, beside *node) *node {
	parent := &node{Kind: combined, Left: below, Right: beside, Below: below}
	if beside.first < below.first {
		parent.Left, parent.Right = beside, below
	}
	parent.first, parent.end = parent.Left.first, parent.Right.end
	parent.Hash = rfc6962.DefaultHasher.HashChildren(parent.Left.Hash, parent.Right.Hash)
	return parent
}

// side is the side of its parent on which a node beside the path is.
func side(below, beside *node) string {
	if beside.first < below.first {
		return "left"
	}
	return "right"
}

// number gives all nodes their IDs, in the order in which they are computed.
func (v view) number() {
	count := 0
	name := func(n *node) {
		n.ID = "n" + strconv.Itoa(count)
		count++
	}
	if v.Leaf != nil {
		name(v.Leaf.Node)
	}
	for _, s := range v.Steps {
		if s.Given != nil {
			name(s.Given)
		}
		for _, n := range s.Results {
			name(n)
		}
	}
}

// HTML is the proof as a fragment of a page. A proof whose root is not the signed one is shown as such. It is an error if
// the proof cannot be followed at all: another number of hashes than the tree's shape needs, or one that is not a SHA-256.
func (p Inclusion) HTML() (template.HTML, error) {
	v, err := p.view()
	if err != nil {
		return "", err
	}
	return v.html()
}

func (p Inclusion) view() (view, error) {
	if p.Index >= p.Size {
		return view{}, fmt.Errorf("inclusion proof: index %d in a tree of %d entries, and indices start at 0", p.Index, p.Size)
	}
	at, beside := shape(p.Index, p.Size, false)
	what := fmt.Sprintf("inclusion proof of the entry %d in a tree of %d", p.Index, p.Size)
	if err := checkHashes(what, p.Hashes, len(beside), p.Root); err != nil {
		return view{}, err
	}
	at.Kind = entry
	at.Hash = rfc6962.DefaultHasher.HashLeaf(p.Leaf)
	v := view{
		Claim: fmt.Sprintf("The entry %d is in the tree of %s that the log has signed.", p.Index, entries(p.Size)),
		Leaf:  newLeaf(at, p.Leaf),
	}
	for i, n := range beside {
		n.Hash = p.Hashes[i]
		up := combine(at, n)
		v.Steps = append(v.Steps, step{Given: n, Side: side(at, n), Results: []*node{up}})
		at = up
	}
	v.Checks = []check{{Name: "root", Size: p.Size, Node: at, Root: p.Root, text: p.Signed}}
	v.number()
	return v, nil
}

// HTML is the proof as a fragment of a page. Both roots are computed with the steps of RFC 9162, section 2.1.4.2. A proof
// whose roots are not the signed ones is shown as such. It is an error if the proof cannot be followed at all: another number
// of hashes than the trees' shapes need, or one that is not a SHA-256.
func (p Consistency) HTML() (template.HTML, error) {
	v, err := p.view()
	if err != nil {
		return "", err
	}
	return v.html()
}

func (p Consistency) view() (view, error) {
	what := fmt.Sprintf("consistency proof between trees of %d and %d entries", p.Older, p.Newer)
	if p.Older > p.Newer {
		return view{}, fmt.Errorf("%s: the older tree is the larger one, and a log never gets smaller", what)
	}
	claim := fmt.Sprintf("The tree of %s begins with the %d of the older tree, in their order and unchanged.", entries(p.Newer), p.Older)
	v := view{Tree: true, Claim: claim}
	if p.Older == 0 {
		if len(p.Hashes) != 0 {
			return view{}, fmt.Errorf("%s: %d hashes, and it takes 0", what, len(p.Hashes))
		}
		v.Claim = fmt.Sprintf("The tree of %s continues the empty one.", entries(p.Newer))
		return v, nil
	}
	if p.Older == p.Newer {
		v.Claim = fmt.Sprintf("The two trees of %s are the same.", entries(p.Newer))
	}
	at, beside := shape(p.Older-1, p.Newer, true)
	at.Tree = "both"
	hashes := p.Hashes
	if at.first == 0 {
		// The older tree is a node of the newer one as it is. Its root is known, and no part of the proof.
		if err := checkHashes(what, hashes, len(beside), p.OlderRoot, p.NewerRoot); err != nil {
			return view{}, err
		}
		at.Hash, at.IsOlderRoot = p.OlderRoot, true
		v.Older = shown(p.OlderSigned)
	} else {
		if err := checkHashes(what, hashes, len(beside)+1, p.OlderRoot, p.NewerRoot); err != nil {
			return view{}, err
		}
		at.Hash, hashes = hashes[0], hashes[1:]
	}
	v.Steps = []step{{Given: at}}
	older, newer := at, at
	for i, n := range beside {
		n.Hash = hashes[i]
		s := step{Given: n, Side: side(newer, n)}
		switch {
		case s.Side == "right": // newer entries: the older tree has none of them
			n.Tree = "newer"
			newer = combine(newer, n)
			newer.Tree = "newer"
		case older == newer:
			n.Tree = "both"
			newer = combine(newer, n)
			newer.Tree = "both"
			older = newer
		default:
			n.Tree = "both"
			older, newer = combine(older, n), combine(newer, n)
			older.Tree, newer.Tree = "older", "newer"
			s.Results = []*node{older}
		}
		s.Results = append(s.Results, newer)
		v.Steps = append(v.Steps, s)
	}
	if !at.IsOlderRoot {
		v.Checks = []check{{Name: "older root", Size: p.Older, Node: older, Root: p.OlderRoot, text: p.OlderSigned}}
	}
	v.Checks = append(v.Checks, check{Name: "newer root", Size: p.Newer, Node: newer, Root: p.NewerRoot, text: p.NewerSigned})
	v.number()
	return v, nil
}

// checkHashes says what is wrong with the form of a proof's hashes, of which there are to be want, or of its roots.
func checkHashes(what string, hashes [][]byte, want int, roots ...[]byte) error {
	if len(hashes) != want {
		return fmt.Errorf("%s: %d hashes, and it takes %d", what, len(hashes), want)
	}
	for i, hash := range hashes {
		if len(hash) != sha256.Size {
			return fmt.Errorf("%s: its hash %d has %d bytes, and a SHA-256 has %d", what, i, len(hash), sha256.Size)
		}
	}
	for _, root := range roots {
		if len(root) != sha256.Size {
			return fmt.Errorf("%s: a root of %d bytes, and a SHA-256 has %d", what, len(root), sha256.Size)
		}
	}
	return nil
}
