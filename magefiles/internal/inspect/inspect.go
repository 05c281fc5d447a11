// Package inspect verifies Sigstore bundles and the signatures of images, and shows each check that a verifier makes. The verdict, and
// the outcome of each check, is that of sigstore-go (https://github.com/sigstore/sigstore-go).
package inspect

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// Check is one thing that a verifier checks.
type Check struct {
	Name     string   // short, and the same in every report
	Title    string   // for people: what holds if it passes
	Compared string   // what was compared with what
	Attacks  []string // the names of the attacks that it is there for (package attack)
	Outcome  Outcome
	Detail   string // what sigstore-go said, or why it was not checked
}

// Outcome is how a check ended.
type Outcome string

// The outcomes of a check.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // the signature has nothing to check here, or the reader has not said what to expect
)

// Subject is what a signature should be about.
type Subject struct {
	Digest string // of the artifact, such as sha256:0123…; empty if it is not known
}

// Expected is who should have signed.
type Expected struct {
	Identity, Issuer string // of a signature with a certificate
	KeyPEM           []byte // of a signature with a key; empty if no key is trusted
}

// Report is what a verifier says of a signature.
type Report struct {
	OK          bool
	Verdict     string // what is verified, or sigstore-go's error
	Checks      []Check
	Certificate *x509.Certificate // nil for a signature with a key
	Entries     []Entry           // in signature logs
	MediaType   string            // of the bundle
}

// Entry is an entry in a signature log that comes with a signature.
type Entry struct {
	Log        string // the log's URL in the trusted root; empty if the trusted root does not have the log
	Index      uint64
	Integrated time.Time // zero in Rekor v2, which keeps no time
}

// MaxBundle is how many bytes a bundle may have.
const MaxBundle = 8 << 20

// Digest is the digest of what r holds, such as sha256:0123….
func Digest(r io.Reader) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// Bundle verifies a bundle (https://docs.sigstore.dev/about/bundle/) in JSON. Its error says that content is none, or that the subject's
// digest or the expected key cannot be read.
func Bundle(trusted root.TrustedMaterial, content []byte, subject Subject, expected Expected) (Report, error) {
	if len(content) > MaxBundle {
		return Report{}, fmt.Errorf("the bundle has %d bytes; accepted are at most %d", len(content), MaxBundle)
	}
	var held bundle.Bundle
	unread := held.UnmarshalJSON(content)
	if unread != nil {
		// sigstore-go reads the log entries with the bundle, and Rekor v1's with the signature in them. Without the entries, what is left is
		// a bundle if they alone are wrong.
		material := held.GetVerificationMaterial()
		if len(material.GetTlogEntries()) == 0 {
			return Report{}, fmt.Errorf("this is no Sigstore bundle: %w", unread)
		}
		material.TlogEntries = nil
		if _, err := bundle.NewBundle(held.Bundle); err != nil {
			return Report{}, fmt.Errorf("this is no Sigstore bundle: %w", unread)
		}
	}
	v := &verifier{unread: unread, trusted: trusted, entity: &held, subject: subject, expected: expected}
	if subject.Digest != "" {
		var hexed string
		var err error
		v.algorithm, hexed, _ = strings.Cut(subject.Digest, ":")
		if v.digest, err = hex.DecodeString(hexed); err != nil || len(v.digest) == 0 {
			return Report{}, fmt.Errorf("the digest is %q; accepted is one such as sha256:0123…", subject.Digest)
		}
	}
	v.report.MediaType = held.GetMediaType()
	return v.run()
}

// verifier makes the checks of one signature.
type verifier struct {
	trusted  root.TrustedMaterial
	entity   *bundle.Bundle
	subject  Subject
	expected Expected

	algorithm string // of the subject's digest; empty if it is not known
	digest    []byte

	report  Report
	leaf    *x509.Certificate
	content verify.VerificationContent
	signed  verify.SignatureContent
	times   []time.Time // of the signature, by a log's or a timestamp authority's word
	unread  error       // says that sigstore-go does not take the log entries
	outside error       // says that a log's time is not one of the certificate's
}

// anyTime is a bundle whose certificate is valid at any time, so that what is wrong with the entry itself and what is wrong with the time
// fail in a check each. The verdict is about the bundle as it is.
type anyTime struct{ *bundle.Bundle }

func (b anyTime) VerificationContent() (verify.VerificationContent, error) {
	content, err := b.Bundle.VerificationContent()
	return validAnyTime{content}, err
}

type validAnyTime struct{ verify.VerificationContent }

func (validAnyTime) ValidAtTime(time.Time, root.TrustedMaterial) bool { return true }

func (v *verifier) run() (Report, error) {
	var err error
	if v.content, err = v.entity.VerificationContent(); err != nil {
		return Report{}, fmt.Errorf("this is no Sigstore bundle: %w", err)
	}
	if v.signed, err = v.entity.SignatureContent(); err != nil {
		return Report{}, fmt.Errorf("this is no Sigstore bundle: %w", err)
	}
	v.leaf = v.content.Certificate()
	v.report.Certificate = v.leaf
	if len(v.expected.KeyPEM) > 0 && v.leaf == nil {
		if v.trusted, err = withKey(v.trusted, v.expected.KeyPEM); err != nil {
			return Report{}, err
		}
	}
	entries, err := v.entity.TlogEntries()
	if err != nil {
		return Report{}, fmt.Errorf("this is no Sigstore bundle: %w", err)
	}
	v.checkEntries(entries)
	v.checkTimestamps()
	if v.leaf != nil {
		v.checkCertificate()
	}
	v.checkSignature()
	v.checkIdentity()
	v.judge()
	return v.report, nil
}

// withKey is trust in a key as well.
func withKey(trusted root.TrustedMaterial, text []byte) (root.TrustedMaterial, error) {
	key, err := cryptoutils.UnmarshalPEMToPublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("the public key: %w; accepted is one in PEM", err)
	}
	verifier, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("the public key: %w", err)
	}
	only := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(verifier, time.Time{}, time.Time{}), nil
	})
	return root.TrustedMaterialCollection{trusted, only}, nil
}

// check adds a check. It has failed if err is not nil.
func (v *verifier) check(c Check, err error) bool {
	c.Outcome = Passed
	if err != nil {
		c.Outcome, c.Detail = Failed, err.Error()
	}
	v.report.Checks = append(v.report.Checks, c)
	return err == nil
}

// skip adds a check that is not made.
func (v *verifier) skip(c Check, why string) {
	c.Outcome, c.Detail = Skipped, why
	v.report.Checks = append(v.report.Checks, c)
}

func (v *verifier) checkEntries(entries []*tlog.Entry) {
	c := Check{
		Name: "entry", Title: "The signature is in a log that the trusted root has",
		Attacks: []string{"rewritten-entry", "rewritten-tile", "dated-back"},
	}
	if v.unread != nil {
		c.Compared = "What the bundle says of its entry, with what an entry of a log may say."
		v.check(c, v.unread)
		return
	}
	if len(entries) == 0 {
		c.Compared = "The bundle holds no entry of a log."
		v.check(c, errors.New("nobody could notice a signature that is in no log: a verifier has to be told to do without, as with cosign's --insecure-ignore-tlog"))
		return
	}
	var words []string
	for _, one := range entries {
		entry := Entry{Index: uint64(max(0, one.LogIndex())), Integrated: one.IntegratedTime()}
		id := hex.EncodeToString([]byte(one.LogKeyID()))
		name := "a log with the key ID " + id + ", which the trusted root does not have"
		if log, ok := v.trusted.RekorLogs()[id]; ok {
			entry.Log, name = log.BaseURL, "the log at "+log.BaseURL
		}
		v.report.Entries = append(v.report.Entries, entry)
		proof := "The log's promise (SET)"
		switch {
		case one.HasInclusionProof() && one.HasInclusionPromise():
			proof = "The log's promise (SET), and the root that the inclusion proof leads to,"
		case one.HasInclusionProof():
			proof = "The root that the inclusion proof leads to"
		}
		words = append(words, fmt.Sprintf("%s for entry %d, with the key of %s; what the entry says, with the signature and its signer.", proof, one.LogIndex(), name))
	}
	c.Compared = strings.Join(words, " ")
	if v.leaf == nil && len(v.expected.KeyPEM) == 0 {
		v.skip(c, "The entry is about a key, and no public key is expected.")
		return
	}
	stamps, err := verify.VerifyTlogEntry(anyTime{v.entity}, v.trusted, 1, true)
	if v.check(c, err) {
		_, v.outside = verify.VerifyTlogEntry(v.entity, v.trusted, 1, true)
	}
	for _, one := range stamps {
		v.times = append(v.times, one.Time)
	}
}

func (v *verifier) checkTimestamps() {
	c := Check{Name: "timestamp", Title: "A timestamp authority of the trusted root says when", Attacks: []string{"stolen-key", "dated-back"}}
	stamps, err := v.entity.Timestamps()
	if err == nil && len(stamps) == 0 {
		v.skip(c, "The bundle holds no timestamp. A log of Rekor v1 says when the entry came; one of Rekor v2 does not.")
		return
	}
	c.Compared = fmt.Sprintf("%d timestamp (RFC 3161) over the signature, with the certificates of the trusted root's timestamp authorities.", len(stamps))
	verified, problems, err := verify.VerifySignedTimestamp(v.entity, v.trusted)
	if err == nil && len(verified) == 0 {
		err = errors.Join(append([]error{errors.New("no timestamp holds")}, problems...)...)
	}
	if err != nil && len(v.times) > 0 {
		// sigstore-go asks for one time that holds, from whomever.
		err = fmt.Errorf("%w; the log's word for the time is enough for a verifier", err)
	}
	v.check(c, err)
	for _, one := range verified {
		v.times = append(v.times, one.Time)
	}
}

func (v *verifier) checkCertificate() {
	// As in sigstore-go's Verify, which reads a name of the kind OtherName, of which Go knows nothing, by itself.
	v.leaf.UnhandledCriticalExtensions = slices.DeleteFunc(v.leaf.UnhandledCriticalExtensions, cryptoutils.SANOID.Equal)
	// Whether the CA has certified the key does not depend on when the signature was made; the next check is about that.
	ca := Check{
		Name: "certificate", Title: "A CA of the trusted root has issued the certificate",
		Compared: fmt.Sprintf("The certificate's signature, with the keys of the CAs of the trusted root. The certificate names %q as its issuer.", distinguished(v.leaf.Issuer)),
		Attacks:  []string{"own-ca"},
	}
	chains, err := verify.VerifyLeafCertificate(v.leaf.NotBefore.Add(time.Second), v.leaf, v.trusted)
	issued := v.check(ca, err)

	valid := Check{
		Name: "validity", Title: "It was made while the certificate was valid",
		Compared: fmt.Sprintf("The time of the signature, %s, with the certificate's time, from %s to %s.", v.when(), clock(v.leaf.NotBefore), clock(v.leaf.NotAfter)),
		Attacks:  []string{"stolen-key", "dated-back"},
	}
	switch {
	case !issued:
		v.skip(valid, "The certificate counts for nothing.")
	case v.outside != nil:
		v.check(valid, v.outside)
	case len(v.times) == 0 && slices.ContainsFunc(v.report.Checks, func(c Check) bool { return c.Outcome == Failed }):
		v.skip(valid, "What would say when the signature was made counts for nothing.")
	case len(v.times) == 0:
		v.check(valid, errors.New("nobody's word says when the signature was made"))
	default:
		for _, at := range v.times {
			var made [][]*x509.Certificate
			if made, err = verify.VerifyLeafCertificate(at, v.leaf, v.trusted); err != nil {
				break
			}
			chains = made
		}
		v.check(valid, err)
	}

	sct := Check{
		Name: "sct", Title: "A CT log of the trusted root has promised to publish the certificate",
		Compared: "The signed certificate timestamp (SCT) within the certificate, with the keys of the CT logs.",
		Attacks:  []string{"secret-certificate", "other-ct-log"},
	}
	if !issued {
		v.skip(sct, "The SCT is about the certificate and its issuer, and no CA of the trusted root has issued it.")
		return
	}
	v.check(sct, verify.VerifySignedCertificateTimestamp(chains, 1, v.trusted))
}

// distinguished is a distinguished name without attributes that are empty, of which Fulcio's CA has several.
func distinguished(n pkix.Name) string {
	parts := strings.Split(n.String(), ",")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return strings.HasSuffix(part, "=") }), ",")
}

func clock(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// when is the time of the signature in words.
func (v *verifier) when() string {
	if len(v.times) == 0 {
		return "which nobody says"
	}
	var words []string
	for _, one := range v.times {
		words = append(words, clock(one))
	}
	return strings.Join(words, " and ")
}

// own is the digest that the bundle itself says that it is about; nil for a statement, which names its subjects.
func (v *verifier) own() []byte {
	if message := v.signed.MessageSignatureContent(); message != nil {
		return message.Digest()
	}
	return nil
}

func (v *verifier) checkSignature() {
	signer := "the key in the certificate"
	if v.leaf == nil {
		signer = "the public key that is expected"
	}
	c := Check{
		Name: "signature", Title: "The signature is by that key", Attacks: []string{"own-key"},
		Compared: fmt.Sprintf("The signature over the artifact's digest sha256:%x, with %s.", v.own(), signer),
	}
	digest := Check{
		Name: "digest", Title: "It is about this artifact", Attacks: []string{"changed-image", "moved-signature"},
	}
	var err error
	if own := v.own(); own != nil {
		err = verify.VerifySignatureWithArtifactDigests(v.signed, v.content, v.trusted, []verify.ArtifactDigest{{Algorithm: "sha256", Digest: own}})
		digest.Compared = fmt.Sprintf("The digest that was signed, sha256:%x, with that of the artifact, %s.", own, v.subject.Digest)
	} else {
		c.Compared = fmt.Sprintf("The signature over the statement, with %s.", signer)
		err = verify.VerifySignature(v.signed, v.content, v.trusted)
		digest.Compared = fmt.Sprintf("The digests of the statement's subjects, with that of the artifact, %s.", v.subject.Digest)
	}
	if v.leaf == nil && len(v.expected.KeyPEM) == 0 {
		err = errors.New("it was made with a key, and no public key is expected")
	}
	fits := v.check(c, err)
	switch {
	case v.digest == nil:
		digest.Compared = ""
		v.skip(digest, "What was signed was not named.")
	case !fits:
		v.skip(digest, "The signature counts for nothing.")
	default:
		v.check(digest, verify.VerifySignatureWithArtifactDigests(v.signed, v.content, v.trusted,
			[]verify.ArtifactDigest{{Algorithm: v.algorithm, Digest: v.digest}}))
	}
}

func (v *verifier) checkIdentity() {
	if v.leaf == nil {
		return
	}
	c := Check{Name: "identity", Title: "It is whom one expects", Attacks: []string{"other-identity"}}
	summary, err := certificate.SummarizeCertificate(v.leaf)
	if err == nil {
		c.Compared = fmt.Sprintf("Whom the certificate names, %s, and who vouches for them, %s, with %s and %s.",
			summary.SubjectAlternativeName, summary.Issuer, v.expected.Identity, v.expected.Issuer)
		var identity verify.CertificateIdentity
		if identity, err = verify.NewShortCertificateIdentity(v.expected.Issuer, "", v.expected.Identity, ""); err == nil {
			err = identity.Verify(summary)
		}
	}
	v.check(c, err)
}

// judge has sigstore-go verify the whole.
func (v *verifier) judge() {
	if v.unread != nil {
		v.report.Verdict = v.unread.Error()
		return
	}
	options := []verify.VerifierOption{verify.WithTransparencyLog(1)}
	var policy []verify.PolicyOption
	stamps, _ := v.entity.Timestamps()
	switch {
	case v.leaf != nil:
		options = append(options, verify.WithSignedCertificateTimestamps(1), verify.WithObserverTimestamps(1))
		identity, err := verify.NewShortCertificateIdentity(v.expected.Issuer, "", v.expected.Identity, "")
		if err != nil {
			v.report.Verdict = err.Error()
			return
		}
		policy = append(policy, verify.WithCertificateIdentity(identity))
	case len(stamps) > 0 || len(v.times) > 0:
		options, policy = append(options, verify.WithObserverTimestamps(1)), append(policy, verify.WithKey())
	default:
		options, policy = append(options, verify.WithNoObserverTimestamps()), append(policy, verify.WithKey())
	}
	judge, err := verify.NewVerifier(v.trusted, options...)
	if err != nil {
		v.report.Verdict = err.Error()
		return
	}
	artifact, about := verify.WithoutArtifactUnsafe(), "whatever it is about"
	if v.digest != nil {
		artifact, about = verify.WithArtifactDigest(v.algorithm, v.digest), v.subject.Digest
	} else if own := v.own(); own != nil {
		artifact, about = verify.WithArtifactDigest("sha256", own), fmt.Sprintf("whatever has the digest sha256:%x", own)
	}
	result, err := judge.Verify(v.entity, verify.NewPolicy(artifact, policy...))
	if err != nil {
		v.report.Verdict = err.Error()
		return
	}
	v.report.OK = true
	who := "The key that is expected"
	if result.Signature != nil && result.Signature.Certificate != nil {
		who = fmt.Sprintf("%s, as %s says,", result.Signature.Certificate.SubjectAlternativeName, result.Signature.Certificate.Issuer)
	}
	v.report.Verdict = fmt.Sprintf("%s has signed %s.", who, about)
	if len(v.times) > 0 {
		v.report.Verdict = strings.TrimSuffix(v.report.Verdict, ".") + ", at " + v.when() + "."
	}
}
