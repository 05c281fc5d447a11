package rekorlog

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
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"

	"sigstore-local/magefiles/internal/checkpoint"
)

// operator is the operator of a log, who can show what no Rekor would.
type operator struct {
	key  *ecdsa.PrivateKey
	tree *testonly.Tree
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &operator{key, testonly.New(rfc6962.DefaultHasher)}
}

func (o *operator) public(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(o.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sign signs a checkpoint as Rekor does.
func (o *operator) sign(t *testing.T, size uint64, root []byte) string {
	t.Helper()
	text := fmt.Sprintf("rekor.local - 42\n%d\n%s\n", size, base64.StdEncoding.EncodeToString(root))
	digest := sha256.Sum256([]byte(text))
	signature, err := ecdsa.SignASN1(rand.Reader, o.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(o.public(t))
	signed := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(id[:]))
	return text + "\n— rekor.local " + base64.StdEncoding.EncodeToString(append(signed, signature...)) + "\n"
}

// log serves the operator's tree until the test ends, and is the log as clients know it.
func (o *operator) log(t *testing.T) V1 {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _ := strconv.ParseUint(r.FormValue("firstSize"), 10, 64)
		last, _ := strconv.ParseUint(r.FormValue("lastSize"), 10, 64)
		hashes, err := o.tree.ConsistencyProof(first, last)
		if err != nil {
			t.Error(err)
		}
		texts := []string{}
		for _, hash := range hashes {
			texts = append(texts, hex.EncodeToString(hash))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"hashes": texts})
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "log.pub")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: o.public(t)}), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := Open(server.URL, file)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func (o *operator) add(texts ...string) {
	for _, text := range texts {
		o.tree.AppendData([]byte(text))
	}
}

func (o *operator) checkpoint(t *testing.T, log Log) checkpoint.Checkpoint {
	t.Helper()
	c, err := log.Parse(o.sign(t, o.tree.Size(), o.tree.Hash()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACheckpointCountsOnlyWithTheLogsSignature(t *testing.T) {
	honest, other := newOperator(t), newOperator(t)
	honest.add("a", "b")
	log := honest.log(t)
	text := honest.sign(t, 2, honest.tree.Hash())
	if c, err := log.Parse(text); err != nil || c.Size != 2 || !bytes.Equal(c.Root, honest.tree.Hash()) {
		t.Errorf("%+v, %v", c, err)
	}
	for name, forged := range map[string]string{
		"another key":   other.sign(t, 2, honest.tree.Hash()),
		"another size":  strings.Replace(text, "\n2\n", "\n3\n", 1),
		"no signature":  strings.SplitAfter(text, "\n\n")[0],
		"nothing":       "",
		"another root":  strings.Replace(text, base64.StdEncoding.EncodeToString(honest.tree.Hash()), base64.StdEncoding.EncodeToString(other.public(t)[:32]), 1),
		"another's too": strings.Replace(other.sign(t, 2, honest.tree.Hash()), "rekor.local ", "rekor.other ", 1),
	} {
		if c, err := log.Parse(forged); err == nil {
			t.Errorf("%s: it passes for %+v", name, c)
		}
	}
}

func TestALogThatOnlyGrewIsConsistentAndAnyOtherIsNot(t *testing.T) {
	honest := newOperator(t)
	log := honest.log(t)
	var seen []checkpoint.Checkpoint
	for i := range 20 {
		seen = append(seen, honest.checkpoint(t, log))
		honest.add(fmt.Sprint("entry ", i))
	}
	for i, older := range seen {
		for _, newer := range seen[i:] {
			if err := log.Consistent(t.Context(), older, newer); err != nil {
				t.Errorf("from %d to %d: %v", older.Size, newer.Size, err)
			}
		}
	}
	// The same key, and another history.
	forked := &operator{honest.key, testonly.New(rfc6962.DefaultHasher)}
	forkedLog := forked.log(t)
	for i := range 20 {
		text := fmt.Sprint("entry ", i)
		if i == 7 {
			text = "another entry"
		}
		forked.add(text)
	}
	end := forked.checkpoint(t, forkedLog)
	for _, older := range seen {
		err := forkedLog.Consistent(t.Context(), older, end)
		if shared := older.Size <= 7; shared != (err == nil) || err != nil && !errors.Is(err, ErrInconsistent) {
			t.Errorf("from %d entries: %v", older.Size, err)
		}
	}
	if err := log.Consistent(t.Context(), seen[19], seen[18]); !errors.Is(err, ErrInconsistent) {
		t.Errorf("a log that shrank: %v", err)
	}
	if err := forkedLog.Consistent(t.Context(), honest.checkpoint(t, log), end); !errors.Is(err, ErrInconsistent) {
		t.Errorf("two roots for one size: %v", err)
	}
}

func TestAnEntrysPathLeadsToTheRootAndOnlyWhatTheTreeIsMadeOfPasses(t *testing.T) {
	honest := newOperator(t)
	log := honest.log(t)
	for size := uint64(1); size <= 33; size++ {
		honest.add(fmt.Sprint("entry ", size-1))
		signed := honest.sign(t, size, honest.tree.Hash())
		for index := range size {
			hashes, err := honest.tree.InclusionProof(index, size)
			if err != nil {
				t.Fatal(err)
			}
			e := Entry{Index: index, Body: fmt.Append(nil, "entry ", index), Proof: Proof{Size: size, Root: honest.tree.Hash(), Hashes: hashes, Checkpoint: signed}}
			end := e.Leaf()
			for _, step := range e.Path() {
				end = step.Parent
			}
			if !bytes.Equal(end, honest.tree.Hash()) {
				t.Errorf("entry %d of %d: its path ends at %x", index, size, end)
			}
			if c, err := log.Check(e); err != nil || c.Size != size {
				t.Errorf("entry %d of %d: %v", index, size, err)
			}
			changed := e
			changed.Body = []byte("another")
			if _, err := log.Check(changed); !errors.Is(err, ErrNotInTree) {
				t.Errorf("entry %d of %d, changed: %v", index, size, err)
			}
			elsewhere := e
			elsewhere.Proof.Checkpoint = honest.sign(t, size, honest.tree.LeafHash(0)[:31])
			if _, err := log.Check(elsewhere); !errors.Is(err, ErrNotInTree) {
				t.Errorf("entry %d of %d, with another checkpoint: %v", index, size, err)
			}
		}
	}
}

// certificate makes a certificate for email, and a CA for it alone.
func certificate(t *testing.T, email, issuer string) (leaf []byte, ca *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	value, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), EmailAddresses: []string{email}, NotBefore: time.Unix(0, 0),
		ExtraExtensions: []pkix.Extension{{Id: IssuerExtension, Value: value}},
	}, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), ca
}

func TestWhoSignedWhatIsFoundInEveryKindOfEntry(t *testing.T) {
	leaf, ca := certificate(t, "alice@example.org", "https://issuer.example.org")
	_, other := certificate(t, "alice@example.org", "https://issuer.example.org")
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: newOperator(t).public(t)})
	encoded := base64.StdEncoding.EncodeToString
	const who = "alice@example.org, as https://issuer.example.org says"
	for _, test := range []struct{ kind, spec, digests, signer string }{
		{"hashedrekord", `{"data":{"hash":{"algorithm":"sha256","value":"ab"}},"signature":{"content":"c2ln","publicKey":{"content":"` + encoded(leaf) + `"}}}`, "[sha256:ab]", who},
		{"rekord", `{"data":{"hash":{"algorithm":"sha256","value":"cd"}},"signature":{"content":"c2ln","format":"x509","publicKey":{"content":"` + encoded(key) + `"}}}`, "[sha256:cd]", "the key sha256:"},
		{"dsse", `{"envelopeHash":{"algorithm":"sha256","value":"01"},"payloadHash":{"algorithm":"sha256","value":"02"},"signatures":[{"signature":"c2ln","verifier":"` + encoded(leaf) + `"}]}`, "[sha256:01 sha256:02]", who},
		{"intoto", `{"content":{"hash":{"algorithm":"sha256","value":"03"}},"publicKey":"` + encoded(leaf) + `"}`, "[sha256:03]", who},
	} {
		d, err := Describe([]byte(`{"kind":"` + test.kind + `","apiVersion":"0.0.1","spec":` + test.spec + `}`))
		if err != nil || d.Kind != test.kind || d.Version != "0.0.1" || fmt.Sprint(d.Digests) != test.digests || len(d.Signers) != 1 {
			t.Errorf("%s: %+v, %v", test.kind, d, err)
			continue
		}
		signer := d.Signers[0]
		if !strings.HasPrefix(signer.String(), test.signer) {
			t.Errorf("%s: signed by %s", test.kind, signer)
		}
		if certified := test.signer == who; signer.CertifiedBy(ca) != certified || signer.CertifiedBy(other) {
			t.Errorf("%s: certified by its CA %t, by another %t", test.kind, signer.CertifiedBy(ca), signer.CertifiedBy(other))
		}
	}
	if d, err := Describe([]byte("no JSON")); err == nil {
		t.Errorf("what is no entry passes for %+v", d)
	}
}

func TestAnEntryThatIsMadeAsRekorV2DoesSaysWhatWasSignedAndByWhichKey(t *testing.T) {
	u, err := NewUploaderV2("http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	first, err := u.EntryV2()
	if err != nil {
		t.Fatal(err)
	}
	second, err := u.EntryV2()
	if err != nil {
		t.Fatal(err)
	}
	one, err := Describe(first)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Describe(second)
	if err != nil {
		t.Fatal(err)
	}
	if one.Kind != "hashedrekord" || len(one.Digests) != 1 || len(one.Signers) != 1 || one.Signers[0].Key == "" {
		t.Errorf("%+v", one)
	}
	if len(other.Digests) != 1 || other.Digests[0] == one.Digests[0] || other.Signers[0].Key != one.Signers[0].Key {
		t.Errorf("%+v after %+v", other, one)
	}
}
