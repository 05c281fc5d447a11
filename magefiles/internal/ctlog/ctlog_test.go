package ctlog

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/mod/sumdb/tlog"

	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/tilelog/tilelogtest"
)

var (
	taken  = time.UnixMilli(1_700_000_000_123).UTC() // when the entries of the tests were taken
	signed = time.UnixMilli(1_700_000_500_456).UTC() // when their tree heads were signed
)

const origin = "localhost/sigstore"

// operator is the operator of a log, who can show what no honest one would.
type operator struct {
	t      testing.TB
	key    *ecdsa.PrivateKey
	tree   *testonly.Tree
	leaves [][]byte // as they are shown

	last     string // that was signed: size and root
	lastSign []byte // with which signature
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newOperator(t testing.TB, leaves ...[]byte) *operator {
	t.Helper()
	o := &operator{t: t, key: newKey(t), tree: testonly.New(rfc6962.DefaultHasher)}
	o.add(leaves...)
	return o
}

func (o *operator) add(leaves ...[]byte) {
	o.leaves = append(o.leaves, leaves...)
	o.tree.AppendData(leaves...)
}

// public is the log's public key, and the file that holds it.
func (o *operator) public() (der []byte, file string) {
	o.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(o.key.Public())
	if err != nil {
		o.t.Fatal(err)
	}
	file = filepath.Join(o.t.TempDir(), "log.pub")
	tilelogtest.Write(o.t, file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return der, file
}

// sign signs a tree head (RFC 6962, section 3.5), the same one once.
func (o *operator) sign(size uint64, root []byte) []byte {
	o.t.Helper()
	if o.last == fmt.Sprint(size, root) {
		return slices.Clone(o.lastSign)
	}
	head := ct.SignedTreeHead{TreeSize: size, Timestamp: uint64(signed.UnixMilli()), SHA256RootHash: ct.SHA256Hash(root)}
	input, err := ct.SerializeSTHSignatureInput(head)
	if err != nil {
		o.t.Fatal(err)
	}
	digest := sha256.Sum256(input)
	signature, err := ecdsa.SignASN1(rand.Reader, o.key, digest[:])
	if err != nil {
		o.t.Fatal(err)
	}
	content, err := tls.Marshal(ct.DigitallySigned{Algorithm: tls.SignatureAndHashAlgorithm{Hash: tls.SHA256, Signature: tls.ECDSA}, Signature: signature})
	if err != nil {
		o.t.Fatal(err)
	}
	o.last, o.lastSign = fmt.Sprint(size, root), content
	return slices.Clone(content)
}

// answer is what the API of RFC 6962 answers.
func (o *operator) answer(r *http.Request) (any, error) {
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(r.FormValue(name), 10, 64)
		if err != nil {
			o.t.Errorf("%s: %v", r.URL, err)
		}
		return n
	}
	size := o.tree.Size()
	switch r.URL.Path {
	case "/sigstore/ct/v1/get-sth":
		return ct.GetSTHResponse{TreeSize: size, Timestamp: uint64(signed.UnixMilli()), SHA256RootHash: o.tree.Hash(), TreeHeadSignature: o.sign(size, o.tree.Hash())}, nil
	case "/sigstore/ct/v1/get-entries":
		start, end := number("start"), number("end")
		var answer ct.GetEntriesResponse
		const most = 200 // the log gives no more
		for i := start; i <= min(end, size-1, start+most-1); i++ {
			answer.Entries = append(answer.Entries, ct.LeafEntry{LeafInput: o.leaves[i]})
		}
		return answer, nil
	case "/sigstore/ct/v1/get-entry-and-proof":
		index := number("leaf_index")
		hashes, err := o.tree.InclusionProof(index, number("tree_size"))
		return ct.GetEntryAndProofResponse{LeafInput: o.leaves[index], AuditPath: hashes}, err
	case "/sigstore/ct/v1/get-sth-consistency":
		if number("first") > number("second") || number("second") > size {
			return nil, errors.New("there is no such proof")
		}
		hashes, err := o.tree.ConsistencyProof(number("first"), number("second"))
		return ct.GetSTHConsistencyResponse{Consistency: hashes}, err
	}
	return nil, fmt.Errorf("there is no %s", r.URL.Path)
}

// rfc6962 is the log as clients know it. change may change answers; requests counts them.
func (o *operator) rfc6962(change func(path string, answer any) any, requests *int) *RFC6962 {
	o.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests != nil {
			*requests++
		}
		answer, err := o.answer(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if change != nil {
			answer = change(filepath.Base(r.URL.Path), answer)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	o.t.Cleanup(server.Close)
	_, key := o.public()
	log, err := OpenRFC6962(server.URL+"/sigstore", key)
	if err != nil {
		o.t.Fatal(err)
	}
	return log
}

// publish writes the log's files as the static CT API has them, and returns their folder.
func (o *operator) publish() string {
	o.t.Helper()
	dir := o.t.TempDir()
	var stored hashes
	for i := range o.tree.Size() {
		more, err := tlog.StoredHashesForRecordHash(int64(i), tlog.Hash(o.tree.LeafHash(i)), stored)
		if err != nil {
			o.t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	const height, width = 8, 256
	write := func(tile tlog.Tile, content []byte) {
		tilelogtest.Write(o.t, filepath.Join(dir, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)), content)
	}
	for _, tile := range tlog.NewTiles(height, 0, int64(o.tree.Size())) {
		content, err := tlog.ReadTileData(tile, stored)
		if err != nil {
			o.t.Fatal(err)
		}
		write(tile, content)
		if tile.L != 0 {
			continue
		}
		var data []byte
		for i := range tile.W {
			data = append(data, tileLeaf(o.leaves[tile.N*width+int64(i)])...)
		}
		tile.L = -1
		write(tile, data)
	}
	der, _ := o.public()
	logID := sha256.Sum256(der)
	keyHash := sha256.Sum256(append([]byte(origin+"\n\x05"), logID[:]...))
	signature := binary.BigEndian.AppendUint64(keyHash[:4:4], uint64(signed.UnixMilli()))
	signature = append(signature, o.sign(o.tree.Size(), o.tree.Hash())...)
	encoded := base64.StdEncoding.EncodeToString
	tilelogtest.Write(o.t, filepath.Join(dir, "checkpoint"),
		fmt.Appendf(nil, "%s\n%d\n%s\n\n— %s %s\n", origin, o.tree.Size(), encoded(o.tree.Hash()), origin, encoded(signature)))
	return dir
}

// tileLeaf is an entry as a data tile has it: what is in the leaf, the precertificate, and no fingerprints.
func tileLeaf(leaf []byte) []byte {
	entry := slices.Clone(leaf[2:])
	if binary.BigEndian.Uint16(entry[8:]) == uint16(ct.PrecertLogEntryType) {
		entry = append(entry, 0, 0, 1, 'p')
	}
	return append(entry, 0, 0)
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		found = append(found, h[index])
	}
	return found, nil
}

// static is the log, which has the files in a folder, as clients know it.
func (o *operator) static(dir string) *StaticCT {
	o.t.Helper()
	server := httptest.NewServer(http.StripPrefix("/sigstore", http.FileServer(http.Dir(dir))))
	o.t.Cleanup(server.Close)
	_, key := o.public()
	return OpenStaticCT(server.URL+"/sigstore", origin, key)
}

// both are the log in both kinds.
func (o *operator) both() map[string]Log {
	o.t.Helper()
	return map[string]Log{"RFC 6962": o.rfc6962(nil, nil), "static CT": o.static(o.publish())}
}

// plain are leaves that are about no certificate.
func plain(n int) [][]byte {
	var leaves [][]byte
	for i := range n {
		leaves = append(leaves, leafOf(ct.TimestampedEntry{EntryType: ct.X509LogEntryType, X509Entry: &ct.ASN1Cert{Data: fmt.Append(nil, "entry ", i)}}))
	}
	return leaves
}

func leafOf(entry ct.TimestampedEntry) []byte {
	entry.Timestamp = uint64(taken.UnixMilli())
	leaf, err := tls.Marshal(ct.MerkleTreeLeaf{Version: ct.V1, LeafType: ct.TimestampedEntryLeafType, TimestampedEntry: &entry})
	if err != nil {
		panic(err)
	}
	return leaf
}

func TestEveryEntryOfAnHonestLogIsInItsTree(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 8, 255, 256, 257, 700} {
		o := newOperator(t, plain(size)...)
		for kind, log := range o.both() {
			head, err := log.Head(t.Context())
			if err != nil || head.Size != uint64(size) || !bytes.Equal(head.Root, o.tree.Hash()) || !head.Time.Equal(signed) || head.Text == "" {
				t.Fatalf("%s of %d: %+v, %v", kind, size, head, err)
			}
			check := func(e Entry, index uint64) {
				t.Helper()
				if e.Index != index || !bytes.Equal(e.LeafInput, o.leaves[index]) || !e.Time.Equal(taken) || e.Size != head.Size || e.Head != head.Text {
					t.Fatalf("%s, entry %d of %d: %+v", kind, index, size, e)
				}
				if err := log.Check(e); err != nil {
					t.Fatalf("%s of %d: %v", kind, size, err)
				}
			}
			for index := 0; index < size; index += 1 + index/3 {
				e, err := log.Entry(t.Context(), uint64(index))
				if err != nil {
					t.Fatalf("%s, entry %d of %d: %v", kind, index, size, err)
				}
				check(e, uint64(index))
				first, end := uint64(index), uint64(min(size, index+50))
				next := first
				err = log.Entries(t.Context(), first, end, func(e Entry) error { check(e, next); next++; return nil })
				if err != nil || next != end {
					t.Errorf("%s, from %d to %d of %d: %d, %v", kind, first, end, size, next, err)
				}
			}
			all := 0
			if err := log.Entries(t.Context(), 0, uint64(size), func(e Entry) error { check(e, uint64(all)); all++; return nil }); err != nil || all != size {
				t.Errorf("%s: %d of %d, %v", kind, all, size, err)
			}
			for _, index := range []uint64{uint64(size), math.MaxInt64, math.MaxUint64} {
				if e, err := log.Entry(t.Context(), index); err == nil || errors.Is(err, ErrNotInTree) {
					t.Errorf("%s: there is an entry %d of %d: %+v, %v", kind, index, size, e, err)
				}
			}
			if err := log.Entries(t.Context(), 0, uint64(size)+1, func(Entry) error { return nil }); err == nil {
				t.Errorf("%s: there are %d entries of %d", kind, size+1, size)
			}
			stop := errors.New("stop")
			if err := log.Entries(t.Context(), 0, uint64(size), func(Entry) error { return stop }); !errors.Is(err, stop) {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
}

func TestAPageOfEntriesTakesFewRequests(t *testing.T) {
	requests := 0
	log := newOperator(t, plain(150)...).rfc6962(nil, &requests)
	for _, page := range []struct {
		first, end uint64
		requests   int
	}{{100, 150, 3}, {50, 100, 4}, {0, 50, 3}, {0, 150, 2}, {77, 78, 3}, {149, 150, 3}, {9, 9, 0}} {
		requests = 0
		if err := log.Entries(t.Context(), page.first, page.end, log.Check); err != nil || requests != page.requests {
			t.Errorf("%+v: %d requests, %v", page, requests, err)
		}
	}
}

func BenchmarkTheNewestPageOf100000Entries(b *testing.B) {
	_, _, leaf := issued(b)
	for kind, log := range newOperator(b, slices.Repeat([][]byte{leaf}, 100_000)...).both() {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				if err := log.Entries(b.Context(), 100_000-50, 100_000, log.Check); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestAProofLeadsFromEachTreeToEachLaterOne(t *testing.T) {
	o := newOperator(t)
	roots := [][]byte{o.tree.Hash()}
	for _, leaf := range plain(40) {
		o.add(leaf)
		roots = append(roots, o.tree.Hash())
	}
	for kind, log := range o.both() {
		for newer := range uint64(41) {
			for older := range newer + 1 {
				hashes, err := log.Consistency(t.Context(), older, newer)
				if err != nil {
					t.Fatalf("%s, from %d to %d: %v", kind, older, newer, err)
				}
				if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older, newer, hashes, roots[older], roots[newer]); err != nil {
					t.Errorf("%s, from %d to %d: %v", kind, older, newer, err)
				}
			}
		}
		for _, sizes := range [][2]uint64{{3, 2}, {2, 41}, {2, math.MaxUint64}} {
			if hashes, err := log.Consistency(t.Context(), sizes[0], sizes[1]); err == nil {
				t.Errorf("%s: from %d to %d: %x", kind, sizes[0], sizes[1], hashes)
			}
		}
	}
}

func TestALogWithoutEntriesHasNone(t *testing.T) {
	o := newOperator(t)
	log := o.rfc6962(nil, nil)
	if head, err := log.Head(t.Context()); err != nil || head.Size != 0 || !bytes.Equal(head.Root, rfc6962.DefaultHasher.EmptyRoot()) {
		t.Errorf("%+v, %v", head, err)
	}
	if e, err := log.Entry(t.Context(), 0); err == nil {
		t.Errorf("%+v", e)
	}
	if head, err := o.static(t.TempDir()).Head(t.Context()); !errors.Is(err, ErrEmpty) {
		t.Errorf("%+v, %v", head, err)
	}
}

func TestATreeHeadCountsOnlyWithTheLogsSignature(t *testing.T) {
	o, other := newOperator(t, plain(3)...), newOperator(t, plain(3)...)
	for name, change := range map[string]func(*ct.GetSTHResponse){
		"another size":      func(h *ct.GetSTHResponse) { h.TreeSize++ },
		"another root":      func(h *ct.GetSTHResponse) { h.SHA256RootHash[0] ^= 1 },
		"a shorter root":    func(h *ct.GetSTHResponse) { h.SHA256RootHash = h.SHA256RootHash[1:] },
		"another time":      func(h *ct.GetSTHResponse) { h.Timestamp++ },
		"another signature": func(h *ct.GetSTHResponse) { h.TreeHeadSignature = other.sign(h.TreeSize, h.SHA256RootHash) },
		"none":              func(h *ct.GetSTHResponse) { h.TreeHeadSignature = nil },
	} {
		log := o.rfc6962(func(path string, answer any) any {
			if head, ok := answer.(ct.GetSTHResponse); ok {
				change(&head)
				return head
			}
			return answer
		}, nil)
		if head, err := log.Head(t.Context()); err == nil {
			t.Errorf("%s: %+v", name, head)
		}
		if e, err := log.Entry(t.Context(), 0); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if head, err := o.static(other.publish()).Head(t.Context()); err == nil {
		t.Errorf("of another log's tiles: %+v", head)
	}
	// A log that signs a second root for a size, which its proofs do not lead to.
	log := o.rfc6962(func(path string, answer any) any {
		if head, ok := answer.(ct.GetSTHResponse); ok {
			head.SHA256RootHash = bytes.Repeat([]byte{1}, 32)
			head.TreeHeadSignature = o.sign(head.TreeSize, head.SHA256RootHash)
			return head
		}
		return answer
	}, nil)
	e, err := log.Entry(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Check(e); !errors.Is(err, ErrNotInTree) {
		t.Errorf("with another root: %v", err)
	}
}

func TestAChangedEntryIsFoundAndTheOthersStayInTheTree(t *testing.T) {
	o := newOperator(t, plain(300)...)
	o.leaves[270] = plain(1)[0]
	log := o.rfc6962(nil, nil)
	n := 0
	err := log.Entries(t.Context(), 250, 300, func(e Entry) error {
		n++
		if err := log.Check(e); (e.Index == 270) != errors.Is(err, ErrNotInTree) || e.Index != 270 && err != nil {
			t.Errorf("entry %d: %v", e.Index, err)
		}
		return nil
	})
	if err != nil || n != 50 {
		t.Errorf("%d, %v", n, err)
	}
	e, err := log.Entry(t.Context(), 270)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Check(e); !errors.Is(err, ErrNotInTree) || !errors.Is(err, rekorlog.ErrNotInTree) {
		t.Errorf("%v", err)
	}
	if _, err := o.static(o.publish()).Entry(t.Context(), 270); !errors.Is(err, rekorlog.ErrNotInTree) {
		t.Errorf("static CT: %v", err)
	}
}

func TestAnEntryIsInTheTreeOnlyAsTheLogHasShownIt(t *testing.T) {
	o := newOperator(t, plain(20)...)
	for kind, log := range o.both() {
		good, err := log.Entry(t.Context(), 5)
		if err != nil {
			t.Fatal(err)
		}
		head, err := log.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// What leads to a root that the log has not signed.
		tree := testonly.New(rfc6962.DefaultHasher)
		tree.AppendData(plain(6)...)
		path, err := tree.InclusionProof(5, 6)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*Entry){
			"another leaf":    func(e *Entry) { e.LeafInput = plain(1)[0] },
			"another index":   func(e *Entry) { e.Index++ },
			"another hash":    func(e *Entry) { e.Hashes = append([][]byte{make([]byte, 32)}, e.Hashes[1:]...) },
			"a hash less":     func(e *Entry) { e.Hashes = e.Hashes[1:] },
			"another root":    func(e *Entry) { e.Root = make([]byte, 32) },
			"another size":    func(e *Entry) { e.Size++ },
			"no head":         func(e *Entry) { e.Head = "" },
			"a changed head":  func(e *Entry) { e.Head = strings.Replace(e.Head, "20", "21", 1) },
			"its own tree":    func(e *Entry) { e.Size, e.Root, e.Hashes = 6, tree.Hash(), path },
			"a negative size": func(e *Entry) { e.Size = math.MaxUint64 },
		} {
			e := good
			change(&e)
			if err := log.Check(e); !errors.Is(err, ErrNotInTree) {
				t.Errorf("%s with %s: %v", kind, name, err)
			}
		}
		if err := log.Check(good); err != nil || good.Head != head.Text {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestALogThatShowsMoreOrLessThanItWasAskedForIsRefused(t *testing.T) {
	o := newOperator(t, plain(30)...)
	for name, change := range map[string]func(path string, answer any) any{
		"none": func(path string, answer any) any {
			if path == "get-entries" {
				return ct.GetEntriesResponse{}
			}
			return answer
		},
		"more": func(path string, answer any) any {
			if shown, ok := answer.(ct.GetEntriesResponse); ok {
				return ct.GetEntriesResponse{Entries: append(shown.Entries, shown.Entries...)}
			}
			return answer
		},
	} {
		if err := o.rfc6962(change, nil).Entries(t.Context(), 3, 9, func(Entry) error { return nil }); err == nil || !strings.Contains(err.Error(), "accepted are 1 to 6") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func([][]byte) [][]byte{
		"no proof":         func([][]byte) [][]byte { return nil },
		"a proof too long": func(path [][]byte) [][]byte { return append(path, path...) },
		"no hashes":        func(path [][]byte) [][]byte { return make([][]byte, len(path)) },
	} {
		log := o.rfc6962(func(path string, answer any) any {
			if shown, ok := answer.(ct.GetEntryAndProofResponse); ok {
				shown.AuditPath = change(shown.AuditPath)
				return shown
			}
			return answer
		}, nil)
		n := 0
		err := log.Entries(t.Context(), 3, 9, func(e Entry) error {
			n++
			if err := log.Check(e); !errors.Is(err, ErrNotInTree) {
				t.Errorf("%s: %v", name, err)
			}
			return nil
		})
		if err != nil || n != 6 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// issued makes a certificate that a CA has issued, and the leaf by which Fulcio has it logged before it is issued: that of its
// precertificate.
func issued(t testing.TB) (certificate, ca *x509.Certificate, leaf []byte) {
	t.Helper()
	key := newKey(t)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{1}}
	make := func(template, parent *x509.Certificate) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca = make(root, root)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), EmailAddresses: []string{"alice@example.org"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(600, 0),
		ExtraExtensions: []pkix.Extension{{Id: rekorlog.IssuerExtension, Value: []byte("\x0c\x01i")}},
	}
	certificate = make(template, ca)
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: asn1.NullBytes})
	tbs, err := ctx509.BuildPrecertTBS(make(template, ca).RawTBSCertificate, nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, ca, leafOf(ct.TimestampedEntry{
		EntryType:    ct.PrecertLogEntryType,
		PrecertEntry: &ct.PreCert{IssuerKeyHash: sha256.Sum256(ca.RawSubjectPublicKeyInfo), TBSCertificate: tbs},
	})
}

func TestTheCertificateOfAnEntryIsReadFromWhatTheTreeHolds(t *testing.T) {
	certificate, ca, precertificate := issued(t)
	whole := leafOf(ct.TimestampedEntry{EntryType: ct.X509LogEntryType, X509Entry: &ct.ASN1Cert{Data: certificate.Raw}})
	for kind, log := range newOperator(t, precertificate, whole).both() {
		pre, err := log.Entry(t.Context(), 0)
		if err != nil || pre.Unreadable != nil {
			t.Fatalf("%s: %v, %v", kind, err, pre.Unreadable)
		}
		spki := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
		if c := pre.Certificate; !pre.Precertificate || !bytes.Equal(c.RawTBSCertificate, certificate.RawTBSCertificate) || len(c.Signature) != 0 ||
			!slices.Equal(c.EmailAddresses, certificate.EmailAddresses) || !bytes.Equal(pre.IssuerKeyHash, spki[:]) {
			t.Errorf("%s: %+v", kind, pre)
		}
		full, err := log.Entry(t.Context(), 1)
		if err != nil || full.Unreadable != nil || full.Precertificate || full.IssuerKeyHash != nil || !full.Certificate.Equal(certificate) {
			t.Errorf("%s: %+v, %v", kind, full, err)
		}
	}
}

func TestALeafThatCannotBeReadIsShownAsItIs(t *testing.T) {
	_, _, leaf := issued(t)
	pre := func(tbs []byte) []byte {
		return leafOf(ct.TimestampedEntry{EntryType: ct.PrecertLogEntryType, PrecertEntry: &ct.PreCert{TBSCertificate: tbs}})
	}
	var headOnly cryptobyte.Builder
	headOnly.AddASN1(0x30, func(b *cryptobyte.Builder) { b.AddASN1Int64(1); b.AddASN1(0x30, func(*cryptobyte.Builder) {}) })
	cases := map[string][]byte{
		"nothing": {}, "a byte more": append(slices.Clone(leaf), 0), "another version": append([]byte{1}, leaf[1:]...), "another type": append([]byte{0, 1}, leaf[2:]...),
		"JSON":           leafOf(ct.TimestampedEntry{EntryType: 0x8000, JSONEntry: &ct.JSONDataEntry{Data: []byte("{}")}}),
		"no certificate": plain(1)[0], "no TBSCertificate": pre([]byte("none")), "the start of one": pre(headOnly.BytesOrPanic()),
	}
	for end := range leaf {
		cases[fmt.Sprintf("its first %d bytes", end)] = leaf[:end]
	}
	for name, content := range cases {
		if e := newEntry(0, content, Head{}); e.Unreadable == nil || e.Certificate != nil || !bytes.Equal(e.LeafInput, content) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	log := newOperator(t, cases["no certificate"]).rfc6962(nil, nil)
	if e, err := log.Entry(t.Context(), 0); err != nil || e.Unreadable == nil || log.Check(e) != nil {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestALogIsOpenedWithAKeyThatItMayHave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log.pub")
	if _, err := OpenRFC6962("http://localhost", file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := OpenRFC6962("http://localhost", tilelogtest.New(t).Key); err == nil || !strings.Contains(err.Error(), "log.pub") {
		t.Errorf("with a key of Ed25519: %v", err)
	}
}
