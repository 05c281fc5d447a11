package attack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"time"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/rekorlog"
)

// onCertificates are attacks by certificates that must not be trusted.
func onCertificates() []Attack {
	return []Attack{
		{
			Name: "other-identity", Did: "{attacker} signs in under their own name, and signs an image that {signer} should have signed.", Who: "cosign", Words: cosign.WrongIdentity,
			Because: "The certificate names the person who signed in, and the verifier says which person to expect.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				signed, err := t.signedBy(ctx, Mallory)
				if err != nil {
					return Attempt{}, err
				}
				return t.verify(ctx, signed.image), nil
			},
		},
		{
			Name: "own-ca", Did: "A CA of the attacker's own certifies a key for {signer}, and a signature made with that key is put into the log.", Who: "cosign", Words: cosign.UnknownCA,
			Because: "Anybody can make a CA with Fulcio's name, but only Fulcio has the key of the trusted root.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				own, err := t.forge(time.Now().Add(-time.Minute), time.Now().Add(9*time.Minute))
				if err != nil {
					return Attempt{}, err
				}
				upload := command.New(ctx, t.Config.Home(), t.env, t.Config.Program("rekor-cli"), "upload", "--rekor_server="+t.Config.URL(config.Rekor),
					"--store_tree_state=false", "--type=hashedrekord", "--pki-format=x509",
					"--artifact", own.artifact, "--signature", own.signature, "--public-key", own.certificate)
				if _, err := command.Combined(ctx, upload); err != nil {
					return Attempt{}, err
				}
				return t.verifyBlob(ctx, own.artifact, "--certificate", own.certificate, "--signature", own.signature), nil
			},
		},
		{
			Name: "secret-certificate", Did: "The CA's operator certifies a key without telling the CT log.", Who: "cosign", Words: cosign.NoSCT,
			Because: "A certificate counts only with the CT log's promise (SCT) to publish it: nobody is certified in secret.",
			Try:     func(ctx context.Context, t *Target) (Attempt, error) { return t.byRogueFulcio(ctx, false) },
		},
		{
			Name: "other-ct-log", Did: "The CA's operator tells another CT log, which nobody watches.", Who: "cosign", Words: cosign.WrongSCT,
			Because: "The promise (SCT) has to be signed by the CT log that the verifier trusts.",
			Try:     func(ctx context.Context, t *Target) (Attempt, error) { return t.byRogueFulcio(ctx, true) },
		},
		{
			Name: "stolen-key", Did: "A stolen key signs an hour after its certificate expired, and no entry is made in the log (here the certificate is of a CA made for this attack, and cosign is told to trust that CA).",
			Who: "cosign", Words: cosign.Expired,
			Because: "Nothing shows that the signature was made while the certificate was valid, so the certificate has to be valid now.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				return t.byStolenKey(ctx, "--insecure-ignore-tlog=true")
			},
		},
		{
			Name: "dated-back", Did: "A stolen key signs an hour after its certificate expired, and the signer claims an earlier time, when the certificate was valid.", Who: "cosign", Words: cosign.NotLogged,
			Because: "The log says when a signature was made, not the signer, and nobody can add an entry with a past time to the log.",
			Try:     func(ctx context.Context, t *Target) (Attempt, error) { return t.byStolenKey(ctx) },
		},
	}
}

// verifyBlob verifies that the stack's user has signed a file.
func (t *Target) verifyBlob(ctx context.Context, file string, more ...string) Attempt {
	return t.cosign(ctx, nil, append([]string{"verify-blob", t.signer(), t.issuer(), file}, more...)...)
}

// byRogueFulcio signs a file with a certificate of a Fulcio that has the CA's real key, and no CT log, or another one.
func (t *Target) byRogueFulcio(ctx context.Context, ctLog bool) (Attempt, error) {
	url, end, err := t.rogueFulcio(ctx, ctLog)
	if err != nil {
		return Attempt{}, err
	}
	defer end()
	artifact, err := t.artifact()
	if err != nil {
		return Attempt{}, err
	}
	signIn, err := t.as(ctx, t.Config.Email)
	if err != nil {
		return Attempt{}, err
	}
	bundle := filepath.Join(t.scratch.Dir, "bundle.json")
	if signed := t.cosign(ctx, signIn, "sign-blob", "--fulcio-url="+url, "--insecure-skip-verify", "--bundle", bundle, artifact); signed.Refusal != nil {
		return Attempt{}, signed.Refusal
	}
	return t.verifyBlob(ctx, artifact, "--bundle", bundle), nil
}

// byStolenKey signs a file with a key whose certificate expired an hour ago. The certificate is of a CA that is made for this,
// since a certificate of Fulcio's would first have to expire.
func (t *Target) byStolenKey(ctx context.Context, more ...string) (Attempt, error) {
	old, err := t.forge(time.Now().Add(-70*time.Minute), time.Now().Add(-time.Hour))
	if err != nil {
		return Attempt{}, err
	}
	return t.verifyBlob(ctx, old.artifact, append([]string{
		"--certificate", old.certificate, "--signature", old.signature, "--ca-roots", old.root, "--insecure-ignore-sct=true",
	}, more...)...), nil
}

// forged are the files of a signature with a certificate of a CA of the attacker's own.
type forged struct{ artifact, root, certificate, signature string }

// olderIssuer is where Fulcio keeps the issuer for cosign v2, as plain text
// (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md).
var olderIssuer = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}

// forge signs a file with a key that a CA of its own certifies for the stack's user and issuer.
func (t *Target) forge(from, to time.Time) (f forged, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return forged{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return forged{}, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sigstore", Organization: []string{"Sigstore Local"}},
		NotBefore: from.Add(-time.Hour), NotAfter: to.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return forged{}, err
	}
	issuer, err := asn1.MarshalWithParams(t.Config.Issuer(), "utf8")
	if err != nil {
		return forged{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, EmailAddresses: []string{t.Config.Email},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: olderIssuer, Value: []byte(t.Config.Issuer())}, {Id: rekorlog.IssuerExtension, Value: issuer}},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return forged{}, err
	}
	const content = "An artifact to sign.\n"
	digest := sha256.Sum256([]byte(content))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return forged{}, err
	}
	certificate := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	for _, one := range []struct {
		path          *string
		name, content string
	}{
		{&f.artifact, "artifact", content}, {&f.root, "root.pem", certificate(caDER)},
		{&f.certificate, "certificate.pem", certificate(leafDER)}, {&f.signature, "signature", string(signature)},
	} {
		if *one.path, err = t.file(one.name, one.content); err != nil {
			return forged{}, err
		}
	}
	return f, nil
}
