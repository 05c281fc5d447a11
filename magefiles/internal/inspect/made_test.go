package inspect

import (
	"bytes"
	"context"
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
	"maps"
	"math/big"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	"github.com/google/certificate-transparency-go/x509util"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	tiles "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	alice  = "alice@example.org"
	issuer = "http://localhost:5556"
)

var artifact = []byte("an artifact")

// sigstore is a Sigstore in this process: sigstore-go's for tests, whose certificates have no SCT and whose log is Rekor v1, with a CA
// and a CT log, and with a log of Rekor v2.
type sigstore struct {
	*ca.VirtualSigstore
	authority   *root.FulcioCertificateAuthority
	caKey       *ecdsa.PrivateKey
	ctKey, log2 *ecdsa.PrivateKey
}

func newSigstore(tb testing.TB) *sigstore {
	tb.Helper()
	virtual, err := ca.NewVirtualSigstore()
	must(tb, err)
	first, rootKey, err := ca.GenerateRootCa()
	must(tb, err)
	intermediate, key, err := ca.GenerateFulcioIntermediate(first, rootKey)
	must(tb, err)
	authority := &root.FulcioCertificateAuthority{
		Root: first, Intermediates: []*x509.Certificate{intermediate}, ValidityPeriodStart: time.Now().Add(-time.Hour), URI: "https://fulcio.localhost",
	}
	return &sigstore{VirtualSigstore: virtual, authority: authority, caKey: key, ctKey: newKey(tb), log2: newKey(tb)}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	return key
}

func (s *sigstore) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{s.authority}
}

func (s *sigstore) CTLogs() map[string]*root.TransparencyLog {
	return map[string]*root.TransparencyLog{hex.EncodeToString(keyID(&s.ctKey.PublicKey)): {PublicKey: &s.ctKey.PublicKey}}
}

func (s *sigstore) RekorLogs() map[string]*root.TransparencyLog {
	logs := map[string]*root.TransparencyLog{hex.EncodeToString(keyID(&s.log2.PublicKey)): {
		BaseURL: "https://tiles.localhost", PublicKey: &s.log2.PublicKey, HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256,
		ValidityPeriodStart: time.Now().Add(-time.Hour),
	}}
	maps.Copy(logs, s.VirtualSigstore.RekorLogs())
	return logs
}

func keyID(public crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err)
	}
	id := sha256.Sum256(der)
	return id[:]
}

func publicPEM(tb testing.TB, key *ecdsa.PrivateKey) []byte {
	tb.Helper()
	text, err := cryptoutils.MarshalPublicKeyToPEM(&key.PublicKey)
	must(tb, err)
	return text
}

// signing says how a signature is made.
type signing struct {
	statement bool              // rather than a message
	key       *ecdsa.PrivateKey // to sign with; a certificate is issued if it is nil
	tiles     bool              // the log is Rekor v2, and a timestamp authority says when; Rekor v1 says it itself
	proof     bool              // Rekor v1 adds an inclusion proof to its promise
	stamp     bool              // a timestamp, with Rekor v1 as well
	logged    time.Duration     // from now, when Rekor v1 took the entry; a second by default
	valid     time.Duration     // from now, when the certificate begins to be valid
	noSCT     bool
	sctKey    *ecdsa.PrivateKey // of another CT log
	curve     elliptic.Curve    // of the certificate's key
	artifact  []byte            // artifact by default
}

// certificate issues a certificate.
func (s *sigstore) certificate(tb testing.TB, how signing, public *ecdsa.PublicKey) *x509.Certificate {
	tb.Helper()
	from, parent := time.Now().Add(how.valid), s.authority.Intermediates[0]
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), EmailAddresses: []string{alice}, NotBefore: from, NotAfter: from.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)}},
	}
	issue := func() *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, s.caKey)
		must(tb, err)
		made, err := x509.ParseCertificate(der)
		must(tb, err)
		return made
	}
	made := issue()
	if how.noSCT {
		return made
	}
	ctKey := s.ctKey
	if how.sctKey != nil {
		ctKey = how.sctKey
	}
	// RFC 6962, section 3.2: what is signed is the certificate without the SCTs.
	sct := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, Timestamp: uint64(time.Now().UnixMilli()), LogID: ct.LogID{KeyID: [32]byte(keyID(&ctKey.PublicKey))}}
	input, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: ct.MerkleTreeLeaf{LeafType: ct.TimestampedEntryLeafType, TimestampedEntry: &ct.TimestampedEntry{
		Timestamp: sct.Timestamp, EntryType: ct.PrecertLogEntryType,
		PrecertEntry: &ct.PreCert{IssuerKeyHash: sha256.Sum256(parent.RawSubjectPublicKeyInfo), TBSCertificate: made.RawTBSCertificate},
	}}})
	must(tb, err)
	sct.Signature = ct.DigitallySigned{Algorithm: cttls.SignatureAndHashAlgorithm{Hash: cttls.SHA256, Signature: cttls.ECDSA}, Signature: sign(tb, ctKey, input)}
	list, err := x509util.MarshalSCTsIntoSCTList([]*ct.SignedCertificateTimestamp{&sct})
	must(tb, err)
	encoded, err := cttls.Marshal(*list)
	must(tb, err)
	value, err := asn1.Marshal(encoded)
	must(tb, err)
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value})
	return issue()
}

func sign(tb testing.TB, key *ecdsa.PrivateKey, text []byte) []byte {
	tb.Helper()
	digest := sha256.Sum256(text)
	made, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	must(tb, err)
	return made
}

// sign makes a signature, and a bundle of it.
func (s *sigstore) sign(tb testing.TB, how signing) *protobundle.Bundle {
	tb.Helper()
	what := artifact
	if how.artifact != nil {
		what = how.artifact
	}
	key, material := how.key, &protobundle.VerificationMaterial{}
	var public []byte // of the signer, in PEM, as Rekor v1 keeps it
	verifier := &tiles.Verifier{KeyDetails: protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256}
	if key == nil {
		curve := elliptic.P256()
		if how.curve != nil {
			curve = how.curve
		}
		var err error
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
		must(tb, err)
		leaf := s.certificate(tb, how, &key.PublicKey)
		public = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
		raw := &protocommon.X509Certificate{RawBytes: leaf.Raw}
		material.Content = &protobundle.VerificationMaterial_Certificate{Certificate: raw}
		verifier.Verifier = &tiles.Verifier_X509Certificate{X509Certificate: raw}
	} else {
		public = publicPEM(tb, key)
		material.Content = &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: "a hint"}}
		block, _ := pem.Decode(public)
		verifier.Verifier = &tiles.Verifier_PublicKey{PublicKey: &tiles.PublicKey{RawBytes: block.Bytes}}
	}
	made := &protobundle.Bundle{MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", VerificationMaterial: material}
	digest := sha256.Sum256(what)
	text := what
	if how.statement {
		statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"it","digest":{"sha256":"%x"}}],`+
			`"predicateType":"https://example.org/p","predicate":{}}`, digest)
		// https://github.com/secure-systems-lab/dsse/blob/master/protocol.md#signature-definition
		text = fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(statement), statement)
		made.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: "application/vnd.in-toto+json", Signatures: []*protodsse.Signature{{Sig: sign(tb, key, text)}},
		}}
	} else {
		made.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest[:]}, Signature: sign(tb, key, text),
		}}
	}
	signed := signatureOf(made)
	if how.tiles {
		material.TlogEntries = []*protorekor.TransparencyLogEntry{s.entry2(tb, sha256.Sum256(text), &tiles.Signature{Content: *signed, Verifier: verifier})}
	} else {
		body := fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},`+
			`"signature":{"content":"%s","publicKey":{"content":"%s"}}}}`,
			digest, base64.StdEncoding.EncodeToString(*signed), base64.StdEncoding.EncodeToString(public))
		kind := "hashedrekord"
		if how.statement {
			kind, body = "dsse", fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"dsse","spec":{"envelopeHash":{"algorithm":"sha256","value":"%x"},`+
				`"payloadHash":{"algorithm":"sha256","value":"%x"},"signatures":[{"signature":"%s","verifier":"%s"}]}}`,
				digest, sha256.Sum256(made.GetDsseEnvelope().Payload), base64.StdEncoding.EncodeToString(*signed), base64.StdEncoding.EncodeToString(public))
		}
		logged := time.Second
		if how.logged != 0 {
			logged = how.logged
		}
		material.TlogEntries = []*protorekor.TransparencyLogEntry{s.entry1(tb, kind, body, time.Now().Add(logged), how.proof)}
		if !how.proof {
			made.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1"
		}
	}
	if how.tiles || how.stamp {
		stamp, err := s.TimestampResponse(*signed)
		must(tb, err)
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}}}
	}
	return made
}

// signatureOf is where a bundle keeps its signature.
func signatureOf(b *protobundle.Bundle) *[]byte {
	if envelope := b.GetDsseEnvelope(); envelope != nil {
		return &envelope.Signatures[0].Sig
	}
	return &b.GetMessageSignature().Signature
}

// entry1 is an entry of Rekor v1.
func (s *sigstore) entry1(tb testing.TB, kind string, body []byte, at time.Time, proof bool) *protorekor.TransparencyLogEntry {
	tb.Helper()
	id, err := s.RekorLogID()
	must(tb, err)
	set, err := s.RekorSignPayload(tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(body), IntegratedTime: at.Unix(), LogIndex: 5, LogID: id})
	must(tb, err)
	raw, err := hex.DecodeString(id)
	must(tb, err)
	entry := &protorekor.TransparencyLogEntry{
		LogIndex: 5, LogId: &protocommon.LogId{KeyId: raw}, KindVersion: &protorekor.KindVersion{Kind: kind, Version: "0.0.1"},
		IntegratedTime: at.Unix(), InclusionPromise: &protorekor.InclusionPromise{SignedEntryTimestamp: set}, CanonicalizedBody: body,
	}
	if proof {
		made, err := s.GetInclusionProof(body)
		must(tb, err)
		hash, err := hex.DecodeString(*made.RootHash)
		must(tb, err)
		entry.InclusionProof = &protorekor.InclusionProof{
			LogIndex: *made.LogIndex, TreeSize: *made.TreeSize, RootHash: hash, Checkpoint: &protorekor.Checkpoint{Envelope: *made.Checkpoint},
		}
	}
	return entry
}

// entry2 is an entry of Rekor v2, the only one of its log.
func (s *sigstore) entry2(tb testing.TB, digest [32]byte, signed *tiles.Signature) *protorekor.TransparencyLogEntry {
	tb.Helper()
	body, err := protojson.Marshal(&tiles.Entry{Kind: "hashedrekord", ApiVersion: "0.0.2", Spec: &tiles.Spec{Spec: &tiles.Spec_HashedRekordV002{
		HashedRekordV002: &tiles.HashedRekordLogEntryV002{
			Data: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest[:]}, Signature: signed,
		},
	}}})
	must(tb, err)
	leaf, err := hashedrekord.ToEntryHash(digest[:], signed)
	must(tb, err)
	signer, err := signature.LoadECDSASignerVerifier(s.log2, crypto.SHA256)
	must(tb, err)
	by, err := rekornote.NewNoteSigner(context.Background(), "tiles.localhost", signer)
	must(tb, err)
	checkpoint, err := note.Sign(&note.Note{Text: fmt.Sprintf("tiles.localhost\n1\n%s\n", base64.StdEncoding.EncodeToString(leaf))}, by)
	must(tb, err)
	return &protorekor.TransparencyLogEntry{
		LogId: &protocommon.LogId{KeyId: keyID(&s.log2.PublicKey)}, KindVersion: &protorekor.KindVersion{Kind: "hashedrekord", Version: "0.0.2"},
		InclusionProof:    &protorekor.InclusionProof{TreeSize: 1, RootHash: leaf, Checkpoint: &protorekor.Checkpoint{Envelope: string(checkpoint)}},
		CanonicalizedBody: body,
	}
}

func marshal(tb testing.TB, made *protobundle.Bundle) []byte {
	tb.Helper()
	text, err := protojson.Marshal(made)
	must(tb, err)
	var compact bytes.Buffer // protojson puts spaces where it likes
	must(tb, json.Compact(&compact, text))
	return compact.Bytes()
}
