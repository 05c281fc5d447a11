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
	KeyPEM           []byte // of a signature with a key; empty if no key is trusted. It counts for no signature with a certificate.
}

// Report is what a verifier says of a signature. It is OK if, and only if, no check has failed.
type Report struct {
	OK          bool
	Verdict     string // what is verified, or sigstore-go's error
	Checks      []Check
	Certificate *x509.Certificate // nil for a signature with a key
	Entries     []Entry           // in signature logs
}

// Entry is an entry in a signature log that comes with a signature.
type Entry struct {
	Log        string // the log's URL in the trusted root; empty if the trusted root does not have the log
	Index      uint64
	Integrated time.Time // as the bundle says; zero in Rekor v2, which keeps no time
}

// MaxBundle is how many bytes a bundle may have.
const MaxBundle = 8 << 20

// mostWords is how many characters a text of a report may have: much of it can be an attacker's.
const mostWords = 2000

func bounded(text string) string {
	if characters := []rune(text); len(characters) > mostWords {
		return string(characters[:mostWords]) + "…"
	}
	return text
}

// Digest is the digest of what r holds, such as sha256:0123….
func Digest(r io.Reader) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// Bundle verifies a bundle (https://docs.sigstore.dev/about/bundle/) in JSON. Its error says that content is none, or that the
// subject's digest or the expected key is none.
func Bundle(trusted root.TrustedMaterial, content []byte, subject Subject, expected Expected) (Report, error) {
	read, err := parse(content)
	if err != nil {
		return Report{}, err
	}
	return read.verify(trusted, subject, "", expected)
}

// parsed is a bundle, with what is read from it once.
type parsed struct {
	*bundle.Bundle
	content verify.VerificationContent
	signed  verify.SignatureContent
	entries []*tlog.Entry
	stamps  [][]byte
}

func parse(content []byte) (parsed, error) {
	if len(content) > MaxBundle {
		return parsed{}, fmt.Errorf("the bundle has %d bytes; accepted are at most %d", len(content), MaxBundle)
	}
	read := parsed{Bundle: &bundle.Bundle{}}
	err := read.UnmarshalJSON(content)
	if err == nil {
		read.content, err = read.VerificationContent()
	}
	if err == nil {
		read.signed, err = read.SignatureContent()
	}
	if err == nil {
		read.entries, err = read.TlogEntries()
	}
	if err == nil {
		read.stamps, err = read.Timestamps()
	}
	if err != nil {
		return parsed{}, errors.New(bounded("this is no Sigstore bundle: " + err.Error()))
	}
	return read, nil
}

// verify makes the checks. The verdict says that the signature is about what about says, if it is not empty.
func (read parsed) verify(trusted root.TrustedMaterial, subject Subject, about string, expected Expected) (Report, error) {
	v := &verifier{parsed: read, subject: subject, about: about, expected: expected, leaf: read.content.Certificate()}
	if subject.Digest != "" {
		var err error
		if v.digest, err = parseDigest(subject.Digest); err != nil {
			return Report{}, err
		}
	}
	t := trust{TrustedMaterial: trusted}
	if len(expected.KeyPEM) > 0 && v.leaf == nil {
		var err error
		if t.key, v.fingerprint, err = key(expected.KeyPEM); err != nil {
			return Report{}, err
		}
	}
	v.trusted = t
	v.report.Certificate = v.leaf
	if v.leaf != nil {
		// As in sigstore-go's Verify: Go does not know a SAN of the form otherName, which a certificate of Fulcio's may have.
		v.leaf.UnhandledCriticalExtensions = slices.DeleteFunc(v.leaf.UnhandledCriticalExtensions, cryptoutils.SANOID.Equal)
	}
	v.checkEntries()
	v.checkTimestamps()
	if v.leaf != nil {
		v.checkCertificate()
	}
	v.checkSignature()
	v.checkIdentity()
	v.judge()
	v.report.Verdict = bounded(v.report.Verdict)
	return v.report, nil
}

// parseDigest is the SHA-256 hash that a digest of the form sha256:0123… has.
func parseDigest(text string) ([]byte, error) {
	algorithm, hexed, _ := strings.Cut(text, ":")
	digest, err := hex.DecodeString(hexed)
	if err != nil || algorithm != "sha256" || len(digest) != sha256.Size {
		return nil, fmt.Errorf("the digest is %q; accepted is sha256: with 64 hexadecimal digits after it", bounded(text))
	}
	return digest, nil
}

// verifier makes the checks of one signature.
type verifier struct {
	parsed
	trusted     root.TrustedMaterial
	subject     Subject
	digest      []byte // of the subject; nil if it is not known
	about       string
	expected    Expected
	fingerprint string // of the expected key; empty if there is none, or the signature has a certificate

	report  Report
	leaf    *x509.Certificate // nil for a signature with a key
	logged  []time.Time       // of the signature, by a log's word
	stamped []time.Time       // of the signature, by a timestamp authority's word
	outside bool              // a log entry says that it came while the certificate was not valid
	issued  bool              // a CA of the trusted root has issued the certificate
}

// times are all the times of the signature that somebody who is trusted says.
func (v *verifier) times() []time.Time { return slices.Concat(v.logged, v.stamped) }

// trust is the trusted root, with the key that is expected and no other.
type trust struct {
	root.TrustedMaterial
	key root.TimeConstrainedVerifier
}

// PublicKeyVerifier is the key that is expected, whatever key the bundle names.
func (t trust) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) {
	if t.key == nil {
		return nil, errors.New("it was made with a key, and no public key is expected")
	}
	return t.key, nil
}

// key is a public key in PEM, with the SHA-256 hash of its DER form.
func key(text []byte) (root.TimeConstrainedVerifier, string, error) {
	public, err := cryptoutils.UnmarshalPEMToPublicKey(text)
	if err != nil {
		return nil, "", fmt.Errorf("the public key: %w; accepted is one in PEM", err)
	}
	loaded, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, "", fmt.Errorf("the public key: %w", err)
	}
	der, err := cryptoutils.MarshalPublicKeyToDER(public)
	if err != nil {
		return nil, "", fmt.Errorf("the public key: %w", err)
	}
	return root.NewExpiringKey(loaded, time.Time{}, time.Time{}), fmt.Sprintf("sha256:%x", sha256.Sum256(der)), nil
}

// check adds a check. It has failed if err is not nil.
func (v *verifier) check(c Check, err error) bool {
	c.Outcome = Passed
	if err != nil {
		c.Outcome, c.Detail = Failed, err.Error()
	}
	v.add(c)
	return err == nil
}

// skip adds a check that is not made: nothing was compared that would count.
func (v *verifier) skip(c Check, why string) {
	c.Outcome, c.Compared, c.Detail = Skipped, "", why
	v.add(c)
}

func (v *verifier) add(c Check) {
	c.Compared, c.Detail = bounded(c.Compared), bounded(c.Detail)
	v.report.Checks = append(v.report.Checks, c)
}

// undated is a bundle whose certificate counts at any time: whether it was valid when the log took the entry is not a question of
// the log's, but a check of its own.
type undated struct {
	*bundle.Bundle
	outside *bool // set if the certificate was not valid
}

// VerificationContent is that of the bundle, at any time.
func (u undated) VerificationContent() (verify.VerificationContent, error) {
	content, err := u.Bundle.VerificationContent()
	return undatedContent{content, u.outside}, err
}

type undatedContent struct {
	verify.VerificationContent
	outside *bool
}

// ValidAtTime is always true, and remembers whether it should be.
func (u undatedContent) ValidAtTime(at time.Time, trusted root.TrustedMaterial) bool {
	*u.outside = *u.outside || !u.VerificationContent.ValidAtTime(at, trusted)
	return true
}

func (v *verifier) checkEntries() {
	c := Check{Name: "entry", Title: "The signature is in a log that the trusted root has", Attacks: []string{"dated-back"}}
	if len(v.entries) == 0 {
		c.Compared = "The bundle holds no entry of a log."
		v.check(c, errors.New("nobody could notice a signature that is in no log: a verifier has to be told to do without, as with cosign's --insecure-ignore-tlog"))
		return
	}
	var words []string
	logs := v.trusted.RekorLogs()
	for _, one := range v.entries {
		entry := Entry{Index: uint64(max(0, one.LogIndex())), Integrated: one.IntegratedTime()}
		if one.IsRekorV2() {
			entry.Integrated = time.Time{}
		}
		log, known := logs[hex.EncodeToString([]byte(one.LogKeyID()))]
		if known {
			entry.Log = log.BaseURL
		}
		v.report.Entries = append(v.report.Entries, entry)
		words = append(words, compared(one, log, known))
	}
	c.Compared = strings.Join(words, " ")
	stamps, err := verify.VerifyTlogEntry(undated{v.Bundle, &v.outside}, v.trusted, 1, true)
	v.check(c, err)
	for _, one := range stamps {
		v.logged = append(v.logged, one.Time)
	}
}

// compared says what is compared with what for an entry of a log.
func compared(entry *tlog.Entry, log *root.TransparencyLog, known bool) string {
	if !known {
		id := entry.LogKeyID()
		return fmt.Sprintf("Entry %d is in a log with the key ID %x, which the trusted root does not have, so it counts for nothing.",
			entry.LogIndex(), id[:min(sha256.Size, len(id))])
	}
	if entry.IsRekorV2() {
		return fmt.Sprintf("The entry that the signature and its signer make, at place %d of the tree, and the root that the inclusion proof leads to from it, "+
			"with the key of the log at %s.", entry.LogIndex(), log.BaseURL)
	}
	proof := "the log's promise (SET),"
	switch {
	case entry.HasInclusionProof() && entry.HasInclusionPromise():
		proof = "the log's promise (SET), and the root that the inclusion proof leads to,"
	case entry.HasInclusionProof():
		proof = "the root that the inclusion proof leads to,"
	case !entry.HasInclusionPromise():
		return fmt.Sprintf("Entry %d brings neither a promise nor a proof of the log at %s.", entry.LogIndex(), log.BaseURL)
	}
	return fmt.Sprintf("For entry %d: %s with the key of the log at %s; what the entry says, with the signature and its signer.", entry.LogIndex(), proof, log.BaseURL)
}

func (v *verifier) checkTimestamps() {
	c := Check{Name: "timestamp", Title: "A timestamp authority of the trusted root says when", Attacks: []string{"stolen-key", "dated-back"}}
	if len(v.stamps) == 0 {
		v.skip(c, "The bundle holds no timestamp. A log of Rekor v1 says when the entry came; one of Rekor v2 does not.")
		return
	}
	number := "One timestamp"
	if len(v.stamps) > 1 {
		number = fmt.Sprintf("%d timestamps", len(v.stamps))
	}
	c.Compared = number + " (RFC 3161) over the signature, with the certificates of the trusted root's timestamp authorities."
	verified, problems, err := verify.VerifySignedTimestamp(v.Bundle, v.trusted)
	for _, one := range verified {
		v.stamped = append(v.stamped, one.Time)
	}
	problem := errors.Join(problems...)
	switch {
	case err != nil:
		v.check(c, err)
	case len(verified) == 0 && len(v.logged) > 0:
		v.skip(c, "No timestamp counts, and a verifier does without, as the log says when: "+problem.Error())
	case len(verified) == 0:
		v.check(c, problem)
	default:
		if problem != nil {
			c.Detail = fmt.Sprintf("%d of them counts: %s", len(verified), problem)
		}
		v.check(c, nil)
	}
}

func (v *verifier) checkCertificate() {
	// Whether a CA has certified the key does not depend on when the signature was made; the next check is about that.
	ca := Check{
		Name: "certificate", Title: "A CA of the trusted root has issued the certificate",
		Compared: fmt.Sprintf("The certificate's signature, with the keys of the CAs of the trusted root. The certificate names %q as its issuer.", distinguished(v.leaf.Issuer)),
		Attacks:  []string{"own-ca"},
	}
	var chains [][]*x509.Certificate
	var err error
	for _, at := range append(v.times(), v.leaf.NotBefore.Add(time.Second), v.leaf.NotBefore) {
		if chains, err = verify.VerifyLeafCertificate(at, v.leaf, v.trusted); err == nil {
			break
		}
	}
	v.issued = v.check(ca, err)

	valid := Check{
		Name: "validity", Title: "It was made while the certificate was valid",
		Compared: fmt.Sprintf("The time of the signature, %s, with the certificate's time, from %s to %s.", v.when(), clock(v.leaf.NotBefore), clock(v.leaf.NotAfter)),
		Attacks:  []string{"stolen-key", "dated-back"},
	}
	switch {
	case !v.issued:
		v.skip(valid, "The certificate counts for nothing.")
	case v.outside:
		v.check(valid, errors.New("integrated time outside certificate validity")) // sigstore-go's words
	case len(v.times()) == 0:
		v.check(valid, errors.New("nobody's word says when the signature was made"))
	default:
		for _, at := range v.times() {
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
	if !v.issued {
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
	if len(v.times()) == 0 {
		return "which nobody says"
	}
	var words []string
	for _, one := range v.times() {
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

// artifact is what the signature has to be about, for sigstore-go: without a digest, whatever the bundle says.
func (v *verifier) artifact(digest []byte) verify.ArtifactPolicyOption {
	if digest == nil && v.signed.EnvelopeContent() != nil {
		return verify.WithoutArtifactUnsafe()
	}
	if digest == nil {
		digest = v.own()
	}
	return verify.WithArtifactDigest("sha256", digest)
}

// anyone trusts every certificate at any time. It is for checks of the signature alone.
type anyone struct{ root.TrustedMaterial }

// FulcioCertificateAuthorities is one that has issued every certificate.
func (anyone) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{everyCA{}}
}

type everyCA struct{}

// Verify never fails.
func (everyCA) Verify(leaf *x509.Certificate, _ time.Time) ([][]*x509.Certificate, error) {
	return [][]*x509.Certificate{{leaf}}, nil
}

// verifySignature has sigstore-go verify the signature and nothing else, in the way in which it does for the whole.
func (v *verifier) verifySignature(digest []byte) error {
	option, policy := verify.WithCurrentTime(), verify.WithoutIdentitiesUnsafe()
	if v.leaf == nil {
		option, policy = verify.WithNoObserverTimestamps(), verify.WithKey()
	}
	alone, err := verify.NewVerifier(anyone{v.trusted}, option, verify.WithoutStatementPredicate())
	if err == nil {
		_, err = alone.Verify(v.Bundle, verify.NewPolicy(v.artifact(digest), policy))
	}
	return err
}

func (v *verifier) checkSignature() {
	c := Check{Name: "signature", Title: "The signature is by that key", Attacks: []string{"own-key"}}
	by := "the key in the certificate"
	switch {
	case v.leaf == nil && v.fingerprint != "":
		c.Title, by = "The signature is by the public key that is expected", "the public key that is expected, "+v.fingerprint
	case v.leaf == nil:
		c.Title, by = "The signature is by a public key that is expected", "no key, as none is expected"
	}
	digest := Check{Name: "digest", Title: "It is about this artifact", Attacks: []string{"changed-image", "moved-signature"}}
	if v.signed.EnvelopeContent() != nil {
		c.Compared = fmt.Sprintf("The signature over the statement, with %s.", by)
		digest.Compared = fmt.Sprintf("The digests of the statement's subjects, with that of the artifact, %s.", v.subject.Digest)
	} else {
		c.Compared = fmt.Sprintf("The signature over the digest in the bundle, %x, with %s.", v.own(), by)
		digest.Compared = fmt.Sprintf("The digest that was signed, %x, with that of the artifact, %s.", v.own(), v.subject.Digest)
	}
	fits := v.check(c, v.verifySignature(nil))
	switch {
	case v.digest == nil:
		v.skip(digest, "What was signed was not named.")
	case !fits:
		v.skip(digest, "The signature counts for nothing.")
	default:
		v.check(digest, v.verifySignature(v.digest))
	}
}

func (v *verifier) checkIdentity() {
	c := Check{Name: "identity", Title: "It is whom one expects", Attacks: []string{"other-identity"}}
	if v.leaf == nil {
		c.Attacks = nil
		v.skip(c, "The signature was made with a key, and a key names nobody: whoever has the private key can sign.")
		return
	}
	if !v.issued {
		v.skip(c, "The certificate counts for nothing: anybody can write a name into one of their own.")
		return
	}
	summary, err := certificate.SummarizeCertificate(v.leaf)
	if err == nil {
		c.Compared = fmt.Sprintf("Whom the certificate names, %s, and who vouches for them, %s, with %s and %s.",
			summary.SubjectAlternativeName, summary.Issuer, v.expected.Identity, v.expected.Issuer)
		var identity verify.CertificateIdentity
		if identity, err = v.identity(); err == nil {
			err = identity.Verify(summary)
		}
	}
	v.check(c, err)
}

// identity is who has to have signed, for sigstore-go.
func (v *verifier) identity() (verify.CertificateIdentity, error) {
	return verify.NewShortCertificateIdentity(v.expected.Issuer, "", v.expected.Identity, "")
}

// judge has sigstore-go verify the whole.
func (v *verifier) judge() {
	result, err := v.verifyWhole()
	if err != nil {
		v.report.Verdict = err.Error()
		return
	}
	v.report.OK = true
	who := "The public key that is expected, " + v.fingerprint + ","
	if result.Signature != nil && result.Signature.Certificate != nil {
		who = fmt.Sprintf("%s, as %s says,", result.Signature.Certificate.SubjectAlternativeName, result.Signature.Certificate.Issuer)
	}
	about := v.about
	switch {
	case about != "":
	case v.digest != nil:
		about = v.subject.Digest
	case v.signed.EnvelopeContent() != nil:
		about = "a statement, whatever it is about"
	default:
		about = fmt.Sprintf("whatever has the digest %x", v.own())
	}
	at := ""
	if len(v.times()) > 0 {
		at = ", at " + v.when()
	}
	v.report.Verdict = fmt.Sprintf("%s has signed %s%s.", who, about, at)
}

func (v *verifier) verifyWhole() (*verify.VerificationResult, error) {
	options := []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithoutStatementPredicate()}
	policy := verify.WithKey()
	switch {
	case v.leaf != nil:
		options = append(options, verify.WithSignedCertificateTimestamps(1), verify.WithObserverTimestamps(1))
		identity, err := v.identity()
		if err != nil {
			return nil, err
		}
		policy = verify.WithCertificateIdentity(identity)
	case len(v.stamps) > 0 || len(v.logged) > 0:
		options = append(options, verify.WithObserverTimestamps(1))
	default:
		options = append(options, verify.WithNoObserverTimestamps())
	}
	judge, err := verify.NewVerifier(v.trusted, options...)
	if err != nil {
		return nil, err
	}
	return judge.Verify(v.Bundle, verify.NewPolicy(v.artifact(v.digest), policy))
}
