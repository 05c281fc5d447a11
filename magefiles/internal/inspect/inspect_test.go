package inspect

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	"github.com/google/certificate-transparency-go/x509util"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protojson"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo/attack"
)

const (
	alice      = "alice@example.org"
	issuer     = "http://localhost:5556"
	v2Origin   = "rekor-tiles.localhost"
	oldBundle  = "application/vnd.dev.sigstore.bundle+json;version=0.1"
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

var artifact = []byte("an artifact")

// sigstore is a whole Sigstore in the process. Rekor v1 and the timestamp authority are sigstore-go's; its CA makes certificates without
// SCTs, and its log of tiles has no key for others.
type sigstore struct {
	*ca.VirtualSigstore
	root                *x509.Certificate
	caKey, ctKey, v2Key *ecdsa.PrivateKey
}

func newSigstore(t *testing.T) *sigstore {
	t.Helper()
	virtual, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	s := &sigstore{VirtualSigstore: virtual, caKey: newKey(t), ctKey: newKey(t), v2Key: newKey(t)}
	s.root = issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, nil, s.caKey.Public(), s.caKey)
	return s
}

func (s *sigstore) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{&root.FulcioCertificateAuthority{Root: s.root, ValidityPeriodStart: s.root.NotBefore}}
}

func (s *sigstore) CTLogs() map[string]*root.TransparencyLog {
	return map[string]*root.TransparencyLog{hex.EncodeToString(keyID(s.ctKey)): {
		BaseURL: "http://ct.localhost", PublicKey: s.ctKey.Public(), HashFunc: crypto.SHA256, ValidityPeriodStart: s.root.NotBefore,
	}}
}

func (s *sigstore) RekorLogs() map[string]*root.TransparencyLog {
	logs := s.VirtualSigstore.RekorLogs()
	logs[hex.EncodeToString(keyID(s.v2Key))] = &root.TransparencyLog{
		BaseURL: "http://" + v2Origin, PublicKey: s.v2Key.Public(), HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256, ValidityPeriodStart: s.root.NotBefore,
	}
	return logs
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keyID is the ID of a log with a key.
func keyID(key *ecdsa.PrivateKey) []byte {
	id := sha256.Sum256(public(key))
	return id[:]
}

// public is the public half of a key, in DER.
func public(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	return der
}

func issue(t *testing.T, template, parent *x509.Certificate, of crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, of, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// how is how something is signed. Without anything that is set, it is signed as it should be, with an entry in Rekor v1.
type how struct {
	v2, statement bool
	withKey       *ecdsa.PrivateKey // rather than with a certificate
	ago           time.Duration     // since the certificate was issued, for ten minutes
	ca, ct, tsa   *sigstore         // others than those that are trusted
	noSCT         bool
	username      bool              // is whom the certificate is for, rather than an address
	certified     *ecdsa.PrivateKey // rather than the key that signs
	stamped       bool              // by a timestamp authority, as always with Rekor v2
	content       []byte            // rather than the artifact
}

// certificate is one of Fulcio's, as far as verifiers look.
func (s *sigstore) certificate(t *testing.T, h how, of crypto.PublicKey) *x509.Certificate {
	t.Helper()
	by, log := s, s.ctKey
	if h.ca != nil {
		by = h.ca
	}
	if h.ct != nil {
		log = h.ct.ctKey
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Minute - h.ago), NotAfter: time.Now().Add(9*time.Minute - h.ago), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, EmailAddresses: []string{alice},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)}},
	}
	if h.username {
		name, err := cryptoutils.MarshalOtherNameSAN("alice", true)
		if err != nil {
			t.Fatal(err)
		}
		template.EmailAddresses, template.ExtraExtensions = nil, append(template.ExtraExtensions, *name)
	}
	before := issue(t, template, by.root, of, by.caKey)
	if h.noSCT {
		return before
	}
	sct := ct.SignedCertificateTimestamp{LogID: ct.LogID{KeyID: [32]byte(keyID(log))}, Timestamp: uint64(time.Now().UnixMilli())}
	text, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: ct.MerkleTreeLeaf{TimestampedEntry: &ct.TimestampedEntry{
		EntryType: ct.PrecertLogEntryType, PrecertEntry: &ct.PreCert{IssuerKeyHash: sha256.Sum256(by.root.RawSubjectPublicKeyInfo), TBSCertificate: before.RawTBSCertificate},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := cttls.CreateSignature(*log, cttls.SHA256, text)
	if err != nil {
		t.Fatal(err)
	}
	sct.Signature = ct.DigitallySigned(signed)
	list, err := x509util.MarshalSCTsIntoSCTList([]*ct.SignedCertificateTimestamp{&sct})
	if err != nil {
		t.Fatal(err)
	}
	content, err := cttls.Marshal(*list)
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value})
	return issue(t, template, by.root, of, by.caKey)
}

// statementType is that of an in-toto statement in a DSSE envelope.
const statementType = "application/vnd.in-toto+json"

// sign makes the bundle of a signature.
func (s *sigstore) sign(t *testing.T, h how) *protobundle.Bundle {
	t.Helper()
	key := newKey(t)
	material := &protobundle.VerificationMaterial{}
	var verifier []byte // as it is in an entry, in DER
	kind := "PUBLIC KEY"
	if h.withKey != nil {
		key, verifier = h.withKey, public(h.withKey)
		material.Content = &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: "a key"}}
	} else {
		certified := key
		if h.certified != nil {
			certified = h.certified
		}
		verifier, kind = s.certificate(t, h, certified.Public()).Raw, "CERTIFICATE"
		material.Content = &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: verifier}}
	}
	b := &protobundle.Bundle{MediaType: bundleType, VerificationMaterial: material}
	content := artifact
	if h.content != nil {
		content = h.content
	}
	digest := sha256.Sum256(content)
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.org/p","subject":[{"name":"a","digest":{"sha256":"%x"}}],"predicate":{}}`, digest)
	if h.statement {
		// https://github.com/secure-systems-lab/dsse/blob/master/protocol.md#signature-definition
		digest = sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(statementType), statementType, len(statement), statement))
	}
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if h.statement {
		b.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: statementType, Signatures: []*protodsse.Signature{{Sig: sig}},
		}}
	} else {
		b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest[:]}, Signature: sig,
		}}
	}
	if h.v2 || h.stamped {
		tsa := s
		if h.tsa != nil {
			tsa = h.tsa
		}
		stamp, err := tsa.TimestampResponse(sig)
		if err != nil {
			t.Fatal(err)
		}
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}}}
	}
	entry := s.inV1
	if h.v2 {
		entry = s.inV2
	}
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: verifier})
	material.TlogEntries = []*protorekor.TransparencyLogEntry{entry(t, h, digest[:], statement, sig, text)}
	return b
}

type object = map[string]any

// canonical is canonical JSON (RFC 8785), which encoding/json's is as long as texts are plain.
func canonical(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (s *sigstore) inV1(t *testing.T, h how, digest, statement, sig, verifier []byte) *protorekor.TransparencyLogEntry {
	t.Helper()
	kind, spec := "hashedrekord", object{
		"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest)}},
		"signature": object{"content": sig, "publicKey": object{"content": verifier}},
	}
	if h.statement {
		payload, envelope := sha256.Sum256(statement), sha256.Sum256([]byte("the envelope"))
		kind, spec = "dsse", object{
			"envelopeHash": object{"algorithm": "sha256", "value": hex.EncodeToString(envelope[:])},
			"payloadHash":  object{"algorithm": "sha256", "value": hex.EncodeToString(payload[:])},
			"signatures":   []object{{"signature": base64.StdEncoding.EncodeToString(sig), "verifier": verifier}},
		}
	}
	body := canonical(t, object{"apiVersion": "0.0.1", "kind": kind, "spec": spec})
	logID, err := s.RekorLogID()
	if err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(logID)
	if err != nil {
		t.Fatal(err)
	}
	made := &protorekor.TransparencyLogEntry{
		LogId: &protocommon.LogId{KeyId: id}, KindVersion: &protorekor.KindVersion{Kind: kind, Version: "0.0.1"},
		IntegratedTime: time.Now().Unix(), CanonicalizedBody: body,
	}
	set, err := s.RekorSignPayload(tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(body), IntegratedTime: made.IntegratedTime, LogID: logID})
	if err != nil {
		t.Fatal(err)
	}
	made.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: set}
	proof, err := s.GetInclusionProof(body)
	if err != nil {
		t.Fatal(err)
	}
	hash := rfc6962.DefaultHasher.HashLeaf(body)
	made.InclusionProof = &protorekor.InclusionProof{TreeSize: *proof.TreeSize, RootHash: hash, Checkpoint: &protorekor.Checkpoint{Envelope: *proof.Checkpoint}}
	return made
}

func (s *sigstore) inV2(t *testing.T, _ how, digest, _, sig, verifier []byte) *protorekor.TransparencyLogEntry {
	t.Helper()
	block, _ := pem.Decode(verifier)
	by := object{"keyDetails": "PKIX_ECDSA_P256_SHA_256"}
	if block.Type == "CERTIFICATE" {
		by["x509Certificate"] = object{"rawBytes": block.Bytes}
	} else {
		by["publicKey"] = object{"rawBytes": block.Bytes}
	}
	body := canonical(t, object{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": object{"hashedRekordV002": object{
		"data": object{"algorithm": "SHA2_256", "digest": digest}, "signature": object{"content": sig, "verifier": by},
	}}})
	hash := rfc6962.DefaultHasher.HashLeaf(body)
	signer, err := signature.LoadECDSASignerVerifier(s.v2Key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	by2, err := rekornote.NewNoteSigner(t.Context(), v2Origin, signer)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n1\n%s\n", v2Origin, base64.StdEncoding.EncodeToString(hash))}, by2)
	if err != nil {
		t.Fatal(err)
	}
	return &protorekor.TransparencyLogEntry{
		LogId: &protocommon.LogId{KeyId: keyID(s.v2Key)}, KindVersion: &protorekor.KindVersion{Kind: "hashedrekord", Version: "0.0.2"}, CanonicalizedBody: body,
		InclusionProof: &protorekor.InclusionProof{TreeSize: 1, RootHash: hash, Checkpoint: &protorekor.Checkpoint{Envelope: string(checkpoint)}},
	}
}

// pemOf is the public half of a key as a file has it.
func pemOf(key *ecdsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public(key)})
}

// digestOf is the digest of a text.
func digestOf(t *testing.T, content []byte) string {
	t.Helper()
	digest, err := Digest(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// expectedOfAlice is what is expected of what sign makes.
var expectedOfAlice = Expected{Identity: alice, Issuer: issuer}

func inspected(t *testing.T, trusted root.TrustedMaterial, b *protobundle.Bundle, subject string, expected Expected) Report {
	t.Helper()
	content, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Bundle(trusted, content, Subject{subject}, expected)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// ended are the names of the checks that ended in a way.
func ended(r Report, outcome Outcome) (names []string) {
	for _, c := range r.Checks {
		if c.Outcome == outcome {
			names = append(names, c.Name)
		}
	}
	return names
}

// shown is a report for a person who reads a failed test.
func shown(r Report) string {
	text := fmt.Sprintf("OK %t: %s", r.OK, r.Verdict)
	for _, c := range r.Checks {
		text += fmt.Sprintf("\n%s %s: %s %s", c.Outcome, c.Name, c.Compared, c.Detail)
	}
	return text
}

func TestWhatIsSignedRightPassesEachCheck(t *testing.T) {
	s, key := newSigstore(t), newKey(t)
	withKey := Expected{KeyPEM: pemOf(key)}
	for name, test := range map[string]struct {
		how      how
		expected Expected
		checks   string
	}{
		"in Rekor v1":                       {how{}, expectedOfAlice, "entry certificate validity sct signature digest identity"},
		"in Rekor v1 with a timestamp":      {how{stamped: true}, expectedOfAlice, "entry timestamp certificate validity sct signature digest identity"},
		"in Rekor v2":                       {how{v2: true}, expectedOfAlice, "entry timestamp certificate validity sct signature digest identity"},
		"a statement in Rekor v1":           {how{statement: true}, expectedOfAlice, "entry certificate validity sct signature digest identity"},
		"a statement in Rekor v2":           {how{v2: true, statement: true}, expectedOfAlice, "entry timestamp certificate validity sct signature digest identity"},
		"with a key, in Rekor v1":           {how{withKey: key}, withKey, "entry signature digest"},
		"with a key, in Rekor v2":           {how{v2: true, withKey: key}, withKey, "entry timestamp signature digest"},
		"a statement with a key, Rekor v1":  {how{statement: true, withKey: key}, withKey, "entry signature digest"},
		"by someone with a username":        {how{username: true}, Expected{Identity: "alice", Issuer: issuer}, "entry certificate validity sct signature digest identity"},
		"by someone with a username, in v2": {how{v2: true, username: true}, Expected{Identity: "alice", Issuer: issuer}, "entry timestamp certificate validity sct signature digest identity"},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.sign(t, test.how)
			r := inspected(t, s, b, digestOf(t, artifact), test.expected)
			if got := strings.Join(ended(r, Passed), " "); !r.OK || got != test.checks || ended(r, Failed) != nil {
				t.Fatalf("passed: %s; want %s:\n%s", got, test.checks, shown(r))
			}
			if len(r.Entries) != 1 || r.Entries[0].Log == "" || r.Entries[0].Integrated.IsZero() != test.how.v2 {
				t.Errorf("the entries are %+v", r.Entries)
			}
			if (r.Certificate == nil) != (test.how.withKey != nil) || r.MediaType != bundleType || !strings.Contains(r.Verdict, digestOf(t, artifact)) {
				t.Errorf("certificate %v, media type %q, verdict %q", r.Certificate, r.MediaType, r.Verdict)
			}
		})
	}
}

func TestWhatIsWrongFailsInTheCheckThatIsThereForIt(t *testing.T) {
	s, other, key := newSigstore(t), newSigstore(t), newKey(t)
	withKey := Expected{KeyPEM: pemOf(key)}
	entry := func(b *protobundle.Bundle) *protorekor.TransparencyLogEntry {
		return b.VerificationMaterial.TlogEntries[0]
	}
	flip := func(b []byte) { b[len(b)-1] ^= 1 }
	for name, test := range map[string]struct {
		how      how
		change   func(b *protobundle.Bundle)
		artifact string   // rather than the artifact
		expected Expected // of alice, if not set
		failed   string
		skipped  string
		verdict  string // a part of it
	}{
		"another CA":        {how: how{ca: other}, failed: "certificate", skipped: "timestamp validity sct", verdict: "leaf certificate verification failed"},
		"another CA, in v2": {how: how{v2: true, ca: other}, failed: "certificate", skipped: "validity sct", verdict: "leaf certificate verification failed"},
		"no SCT":            {how: how{noSCT: true}, failed: "sct", skipped: "timestamp", verdict: "SCT"},
		"another CT log":    {how: how{v2: true, ct: other}, failed: "sct", verdict: "only able to verify 0 SCT entries"},
		"a changed entry": {
			change: func(b *protobundle.Bundle) {
				entry(b).CanonicalizedBody = bytes.Replace(entry(b).CanonicalizedBody, []byte(`"value":"`), []byte(`"value": "`), 1)
			},
			failed: "entry", skipped: "timestamp validity", verdict: "not enough verified log entries",
		},
		"a changed proof": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) {
				entry(b).InclusionProof.Hashes = [][]byte{make([]byte, 32)}
			},
			failed: "entry", verdict: "verifying inclusion",
		},
		"an entry of another's": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) {
				b.VerificationMaterial.TlogEntries = s.sign(t, how{v2: true}).VerificationMaterial.TlogEntries
			},
			failed: "entry", verdict: "verifying inclusion",
		},
		"a log that the trusted root does not have": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) { flip(entry(b).LogId.KeyId) }, failed: "entry", verdict: "not enough verified log entries",
		},
		"dated back": {
			change: func(b *protobundle.Bundle) { entry(b).IntegratedTime -= 30 }, failed: "entry", skipped: "timestamp validity", verdict: "not enough verified log entries",
		},
		"no entry": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil }, failed: "entry", verdict: "not enough verified log entries",
		},
		"a stolen key":        {how: how{ago: 2 * time.Hour}, failed: "validity", skipped: "timestamp", verdict: "integrated time outside certificate validity"},
		"a stolen key, in v2": {how: how{v2: true, ago: 2 * time.Hour}, failed: "validity", verdict: "leaf certificate verification failed"},
		"no time": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil },
			failed: "validity", skipped: "timestamp", verdict: "threshold not met",
		},
		// The log of tiles signs no time, and sigstore-go compares it all the same.
		"a time beside an entry in v2": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) { entry(b).IntegratedTime = 1 }, failed: "validity", verdict: "integrated time outside certificate validity",
		},
		"another timestamp authority": {how: how{v2: true, tsa: other}, failed: "timestamp", skipped: "validity", verdict: "unable to verify signed timestamps"},
		"a changed artifact":          {artifact: "another", failed: "digest", skipped: "timestamp", verdict: "artifact does not match digest"},
		"a statement about another":   {how: how{v2: true, statement: true}, artifact: "another", failed: "digest", verdict: "does not match any digest in statement"},
		"another key":                 {how: how{v2: true, certified: key}, failed: "signature", skipped: "digest", verdict: "invalid signature"},
		// sigstore-go verifies the signature in an entry of Rekor v1 as it reads it.
		"another key, in v1": {how: how{certified: key}, failed: "entry signature", skipped: "timestamp validity digest", verdict: "invalid signature"},
		"an entry that cannot be read": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) { entry(b).CanonicalizedBody = []byte("<script>") }, failed: "entry", verdict: "not a recognizable Rekor",
		},
		"no proof": {
			change: func(b *protobundle.Bundle) { entry(b).InclusionProof = nil }, failed: "entry", skipped: "timestamp validity", verdict: "inclusion proof missing",
		},
		"another key, of a statement": {how: how{v2: true, statement: true, certified: key}, failed: "signature", skipped: "digest", verdict: "could not verify envelope"},
		// The entry and the timestamp are about the signature as it was.
		"a changed signature": {
			how: how{v2: true}, change: func(b *protobundle.Bundle) { flip(b.GetMessageSignature().Signature) },
			failed: "entry timestamp signature", skipped: "validity digest", verdict: "verifying inclusion",
		},
		"another identity": {expected: Expected{Identity: "mallory@example.org", Issuer: issuer}, failed: "identity", skipped: "timestamp", verdict: "mallory@example.org"},
		"another issuer":   {how: how{v2: true}, expected: Expected{Identity: alice, Issuer: "http://localhost:1"}, failed: "identity", verdict: "http://localhost:1"},
		"nobody expected":  {how: how{v2: true}, expected: Expected{KeyPEM: pemOf(key)}, failed: "identity", verdict: "must be subject alternative name criteria"},
		"no key expected":  {how: how{v2: true, withKey: key}, expected: expectedOfAlice, failed: "signature", skipped: "entry digest", verdict: "public key"},
		"a key of another's": {
			how: how{v2: true, withKey: newKey(t)}, expected: withKey, failed: "entry signature", skipped: "digest", verdict: "verifying inclusion",
		},
		"a key of another's, in v1": {
			how: how{withKey: newKey(t)}, expected: withKey, failed: "entry signature", skipped: "timestamp digest", verdict: "certificate does not match",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.sign(t, test.how)
			if test.change != nil {
				test.change(b)
			}
			about, expected := artifact, test.expected
			if test.artifact != "" {
				about = []byte(test.artifact)
			}
			if expected.Identity == "" && expected.KeyPEM == nil {
				expected = expectedOfAlice
			}
			r := inspected(t, s, b, digestOf(t, about), expected)
			failed, skipped := strings.Join(ended(r, Failed), " "), strings.Join(ended(r, Skipped), " ")
			if r.OK || failed != test.failed || skipped != test.skipped || !strings.Contains(r.Verdict, test.verdict) {
				t.Fatalf("failed: %q; skipped: %q; want %q, %q and %q:\n%s", failed, skipped, test.failed, test.skipped, test.verdict, shown(r))
			}
			for _, c := range r.Checks {
				if c.Outcome != Passed && c.Detail == "" {
					t.Errorf("%s does not say why it ended so", c.Name)
				}
			}
		})
	}
}

func TestATimestampThatDoesNotHoldIsShownThoughTheLogsWordIsEnough(t *testing.T) {
	s := newSigstore(t)
	r := inspected(t, s, s.sign(t, how{stamped: true, tsa: newSigstore(t)}), digestOf(t, artifact), expectedOfAlice)
	if got := ended(r, Failed); !r.OK || !slices.Equal(got, []string{"timestamp"}) {
		t.Fatal(shown(r))
	}
	if i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == "timestamp" }); !strings.Contains(r.Checks[i].Detail, "the log's word") {
		t.Errorf("it does not say why this is no harm: %s", r.Checks[i].Detail)
	}
}

func TestASignatureHoldsWhateverItIsAboutIfThatIsNotKnown(t *testing.T) {
	s := newSigstore(t)
	for _, h := range []how{{}, {v2: true, statement: true}} {
		r := inspected(t, s, s.sign(t, h), "", expectedOfAlice)
		if got := ended(r, Skipped); !r.OK || !slices.Contains(got, "digest") || !strings.Contains(r.Verdict, "whatever") {
			t.Error(shown(r))
		}
	}
}

func TestWhatIsNoBundleOrNoDigestOrNoKeyIsAnError(t *testing.T) {
	s, key := newSigstore(t), newKey(t)
	good, err := protojson.Marshal(s.sign(t, how{}))
	if err != nil {
		t.Fatal(err)
	}
	withKey, err := protojson.Marshal(s.sign(t, how{withKey: key}))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		content  []byte
		digest   string
		expected Expected
		words    string
	}{
		"nothing":                    {nil, "", expectedOfAlice, "this is no Sigstore bundle"},
		"other JSON":                 {[]byte(`{"a":1}`), "", expectedOfAlice, "this is no Sigstore bundle"},
		"too much":                   {make([]byte, MaxBundle+1), "", expectedOfAlice, fmt.Sprint("accepted are at most ", MaxBundle)},
		"a digest that is none":      {good, "sha256:xyz", expectedOfAlice, `"sha256:xyz"; accepted is`},
		"a digest without a content": {good, "sha256:", expectedOfAlice, `"sha256:"; accepted is`},
		"a digest without a colon":   {good, "0123", expectedOfAlice, `"0123"; accepted is`},
		"a key that is none":         {withKey, "", Expected{KeyPEM: []byte("a key")}, "accepted is one in PEM"},
	} {
		if r, err := Bundle(s, test.content, Subject{test.digest}, test.expected); err == nil || !strings.Contains(err.Error(), test.words) || r.OK {
			t.Errorf("%s: %v; want %q", name, err, test.words)
		}
	}
}

func TestEachAttackThatACheckNamesIsOneOfTheDemos(t *testing.T) {
	attacks := map[string]bool{}
	for _, name := range []string{"tutorial", "tiles", "all"} {
		c, err := config.Load("/checkout", []string{"SIGLOCAL_STACK=" + name})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range attack.All(c) {
			attacks[a.Name] = true
		}
	}
	s := newSigstore(t)
	payload := payloadOf(digestOf(t, artifact))
	b, err := protojson.Marshal(s.sign(t, how{v2: true, content: payload}))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Image(s, Signature{Bundle: b, Payload: payload}, digestOf(t, artifact), expectedOfAlice)
	if err != nil || !r.OK || len(r.Checks) != 9 {
		t.Fatal(err, shown(r))
	}
	for _, c := range append(r.Checks, inspected(t, s, s.sign(t, how{}), "", expectedOfAlice).Checks...) {
		for _, name := range c.Attacks {
			if !attacks[name] {
				t.Errorf("%s is there for %q, and the demos have no such attack", c.Name, name)
			}
		}
	}
}
