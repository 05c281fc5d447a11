package rekorlog

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sigstore-local/magefiles/internal/tilelog/tilelogtest"
)

// served serves a log of tiles until the test ends, beside an index that gives one answer, and is the log as clients know it.
func served(t *testing.T, log *tilelogtest.Log, answer string) *V2 {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(log.Dir)))
	mux.HandleFunc(SearchPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return OpenV2(server.URL, tilelogtest.Origin, log.Key)
}

func TestEntriesOfTilesComeWithProofsThatLeadToTheRoot(t *testing.T) {
	log := tilelogtest.OfSize(t, 600)
	v2 := served(t, log, "")
	next := uint64(200)
	err := v2.Entries(t.Context(), 200, 600, func(e Entry) error {
		if e.Index != next || string(e.Body) != string(log.Entries[next]) {
			t.Errorf("entry %d is %d: %s", next, e.Index, e.Body)
		}
		next++
		if c, err := v2.Check(e); err != nil || c.Size != 600 {
			t.Errorf("entry %d: %v", e.Index, err)
		}
		end := e.Leaf()
		for _, step := range e.Path() {
			end = step.Parent
		}
		if string(end) != string(e.Proof.Root) {
			t.Errorf("entry %d: its path ends at %x", e.Index, end)
		}
		return nil
	})
	if err != nil || next != 600 {
		t.Errorf("%d, %v", next, err)
	}
	one, err := v2.Entry(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	one.Body = []byte("another")
	if _, err := v2.Check(one); !errors.Is(err, ErrNotInTree) {
		t.Errorf("a changed entry: %v", err)
	}
	if _, err := v2.Entry(t.Context(), 600); err == nil || errors.Is(err, ErrNotInTree) {
		t.Errorf("an entry that is not there yet: %v", err)
	}
	if e, err := v2.Entry(t.Context(), math.MaxUint64); err == nil {
		t.Errorf("there is an entry with the largest index of all: %+v", e)
	}
	// An operator rewrites an entry.
	file := log.Files.Place("tile/entries/000")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tilelogtest.Write(t, file, []byte(strings.Replace(string(content), "entry 3", "entry 4", 1)))
	if _, err := v2.Entry(t.Context(), 3); !errors.Is(err, ErrNotInTree) {
		t.Errorf("a rewritten entry: %v", err)
	}
}

func TestALogOfTilesThatOnlyGrewIsConsistentAndAnyOtherIsNot(t *testing.T) {
	log := tilelogtest.OfSize(t, 300)
	v2 := served(t, log, "")
	older, err := v2.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fork, shorter := log.Forked(290), log.Forked(290)
	same := log.Forked(299)
	same.Append([]byte("other"))
	for range 300 {
		log.Append([]byte("more"))
		fork.Append([]byte("other"))
	}
	for name, test := range map[string]struct {
		log  *tilelogtest.Log
		good bool
	}{"grown": {log, true}, "forked": {fork, false}, "cut off": {shorter, false}, "another of that size": {same, false}} {
		shown := served(t, test.log, "")
		newer, err := shown.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := shown.Consistent(t.Context(), older, newer); test.good != (err == nil) || err != nil && !errors.Is(err, ErrInconsistent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAProofLeadsFromEachTreeOfTilesToEachLaterOne(t *testing.T) {
	log := tilelogtest.New(t)
	var roots [][]byte
	for i := range 10 {
		log.Append(fmt.Append(nil, "entry ", i))
		c, err := log.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, c.Root)
	}
	v2 := served(t, log, "")
	for newer := range uint64(11) {
		for older := range newer + 1 {
			hashes, err := v2.Consistency(t.Context(), older, newer)
			if err != nil || (older == 0 || older == newer) != (len(hashes) == 0) {
				t.Fatalf("from %d to %d: %x, %v", older, newer, hashes, err)
			}
			if older == 0 {
				continue
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older, newer, hashes, roots[older-1], roots[newer-1]); err != nil {
				t.Errorf("from %d to %d: %v", older, newer, err)
			}
		}
	}
	for _, sizes := range [][2]uint64{{3, 2}, {2, 11}, {2, math.MaxUint64}, {math.MaxUint64, math.MaxUint64}} {
		if hashes, err := v2.Consistency(t.Context(), sizes[0], sizes[1]); err == nil {
			t.Errorf("from %d to %d: %x", sizes[0], sizes[1], hashes)
		}
	}
}

func TestWhatAnIndexNamesIsFetchedWithItsProof(t *testing.T) {
	log := tilelogtest.OfSize(t, 600)
	found, err := served(t, log, `{"size": 600, "indexed": 590, "total": 77, "entries": [599, 300, 3], "problem": "odd"}`).Search(t.Context(), Query{Identity: "a"}, 3)
	if err != nil || found.Total != 77 || found.Behind != 10 || found.Problem != "odd" || len(found.Entries) != 3 {
		t.Fatalf("%+v, %v", found, err)
	}
	for i, want := range []uint64{599, 300, 3} {
		if e := found.Entries[i]; e.Index != want || string(e.Body) != string(log.Entries[want]) {
			t.Errorf("%+v", e)
		}
	}
	// An index that lies about how much there is.
	for _, answer := range []string{`{"size": 1, "indexed": 2, "total": 1, "entries": [600]}`, `{"size": 1, "total": 1, "entries": [18446744073709551615]}`} {
		if found, err := served(t, log, answer).Search(t.Context(), Query{Identity: "a"}, 3); err == nil {
			t.Errorf("%s passes: %+v", answer, found)
		}
	}
}

func TestWhoSignedWhatIsFoundInEntriesOfRekorV2(t *testing.T) {
	leaf, ca := certificate(t, "alice@example.org", "https://issuer.example.org")
	block, _ := pem.Decode(leaf)
	encoded := base64.StdEncoding.EncodeToString
	certified := `{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":"` + encoded(block.Bytes) + `"}}`
	key := `{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"` + encoded(newOperator(t).public(t)) + `"}}`
	const who = "alice@example.org, as https://issuer.example.org says"
	for _, test := range []struct{ kind, spec, digests, signer string }{
		{"hashedrekord", `{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"AAEC"},"signature":{"content":"c2ln","verifier":` + certified + `}}}`, "[sha256:000102]", who},
		{"hashedrekord", `{"hashedRekordV002":{"data":{"algorithm":"SHA2_512","digest":"AAEC"},"signature":{"content":"c2ln","verifier":` + key + `}}}`, "[sha512:000102]", "the key sha256:"},
		{"hashedrekord", `{"hashedRekordV002":{"data":{"algorithm":"SHA3_384","digest":"AAEC"},"signature":{"content":"c2ln","verifier":` + key + `}}}`, "[sha3-384:000102]", "the key sha256:"},
		{"dsse", `{"dsseV002":{"payloadHash":{"algorithm":"SHA2_384","digest":"AAEC"},"signatures":[{"content":"c2ln","verifier":` + certified + `}]}}`, "[sha384:000102]", who},
	} {
		d, err := Describe([]byte(`{"kind":"` + test.kind + `","apiVersion":"0.0.2","spec":` + test.spec + `}`))
		if err != nil || d.Kind != test.kind || d.Version != "0.0.2" || fmt.Sprint(d.Digests) != test.digests || len(d.Signers) != 1 || !strings.HasPrefix(d.Signers[0].String(), test.signer) {
			t.Errorf("%s: %+v, %v", test.spec, d, err)
			continue
		}
		if certified := test.signer == who; d.Signers[0].CertifiedBy(ca) != certified {
			t.Errorf("%s: certified by its CA %t", test.spec, !certified)
		}
	}
}

func TestAQueryIsReadFromWhatPeopleHave(t *testing.T) {
	folder := t.TempDir()
	write := func(name string, content []byte) string {
		file := filepath.Join(folder, name)
		tilelogtest.Write(t, file, content)
		return file
	}
	leaf, _ := certificate(t, "alice@example.org", "https://issuer.example.org")
	described, err := Describe([]byte(`{"spec":{"publicKey":"` + base64.StdEncoding.EncodeToString(leaf) + `"}}`))
	if err != nil {
		t.Fatal(err)
	}
	signer := described.Signers[0]
	sha256, sha512 := strings.Repeat("ab", 32), strings.Repeat("cd", 64)
	public := write("key.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: newOperator(t).public(t)}))
	for _, test := range []struct{ identity, digest, key, want string }{
		{"a@example.org", "", "", "a@example.org"},
		{"", strings.ToUpper(sha256), "", "sha256:" + sha256},
		{"", "sha512:" + sha512, "", "sha512:" + sha512},
		{"", "", "sha256:" + sha256, "the key sha256:" + sha256},
		{"a@example.org", sha512, write("leaf.pem", leaf), "a@example.org and sha512:" + sha512 + " and the key sha256:" + signer.Key},
	} {
		query, err := NewQuery(test.identity, test.digest, test.key)
		if err != nil || query.String() != test.want || (query.PEM != nil) != strings.HasPrefix(test.key, folder) {
			t.Errorf("%v: %s, %v", test, query, err)
		}
	}
	private := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}))
	for _, test := range []struct{ identity, digest, key, want string }{
		{"", "", "", "at least one of"},
		{"", "sha256:" + sha512, "", "the digest is"},
		{"", "md5:" + sha256[:32], "", "the digest is"},
		{"", "", "sha512:" + sha512, "there is no such file"},
		{"", "", private, private + " holds a PRIVATE KEY; accepted is"},
		{"", "", write("none", []byte("text")), "holds no PEM"},
	} {
		if query, err := NewQuery(test.identity, test.digest, test.key); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %s, %v", test, query, err)
		}
	}

	described.Digests = []string{"sha256:" + sha256}
	for query, want := range map[*Query]bool{
		{Identity: "Alice@example.org"}:                             true,
		{Identity: "bob@example.org"}:                               false,
		{Digest: "sha256:" + sha256, Key: signer.Key}:               true,
		{Digest: "sha512:" + sha512, Key: signer.Key}:               false,
		{Identity: "alice@example.org", Key: sha256}:                false,
		{Identity: "alice@example.org", Digest: "sha256:" + sha256}: true,
	} {
		if query.Names(described) != want {
			t.Errorf("%s: %t", query, !want)
		}
	}
	if query, err := NewQuery("", "", public); err != nil || !slices.Equal(query.PEM, mustRead(t, public)) {
		t.Errorf("%+v, %v", query, err)
	}
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
