package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/service"
)

// What cosign says of a certificate that it does not take.
var (
	unknownCA = regexp.MustCompile(`certificate signed by unknown authority`)
	noSCT     = regexp.MustCompile(`does not include required embedded SCT`)
	wrongSCT  = regexp.MustCompile(`ctfe public key not found`)
	expired   = regexp.MustCompile(`expected a signed timestamp to verify an expired certificate`)
	notLogged = regexp.MustCompile(`signature not found in transparency log`)
)

// certificates are attacks by certificates that must not be trusted.
func (t *tamper) certificates() error {
	mine, err := t.push("another identity")
	if err != nil {
		return err
	}
	if t.other, err = t.sign(mallory, mine); err != nil {
		return err
	}
	said, err := t.cosign(nil, "verify", "--certificate-identity="+t.config.Email, t.issuer, mine)
	if err := t.noticed(attack{
		did: mallory + " signs in truly, and signs an image that should be " + t.config.Email + "'s.", who: "cosign", reason: wrongIdentity,
		because: "The certificate names who signed in, and who verifies says whom to expect.",
	}, said, err); err != nil {
		return err
	}

	artifact := filepath.Join(t.dir, "artifact")
	if err := os.WriteFile(artifact, []byte("An artifact to sign.\n"), 0o600); err != nil {
		return err
	}
	verify := func(more ...string) (string, error) {
		return t.cosign(nil, append([]string{"verify-blob", "--certificate-identity=" + t.config.Email, t.issuer, artifact}, more...)...)
	}
	now := time.Now()
	own, err := t.forge(artifact, now.Add(-time.Minute), now.Add(9*time.Minute))
	if err != nil {
		return err
	}
	if _, err := t.run([]string{"rekor-cli", "upload", "--rekor_server=" + t.config.URL(config.Rekor), "--store_tree_state=false", "--type=hashedrekord",
		"--pki-format=x509", "--artifact", artifact, "--signature", own.signature, "--public-key", own.certificate}); err != nil {
		return err
	}
	said, err = verify("--certificate", own.certificate, "--signature", own.signature)
	if err := t.noticed(attack{
		did: "A CA of the attacker's own certifies a key for " + t.config.Email + ", and what that signs is put into the log.", who: "cosign", reason: unknownCA,
		because: "Anybody can make a CA that has Fulcio's name; only Fulcio has the key of the root that is trusted.",
	}, said, err); err != nil {
		return err
	}

	for _, rogue := range []struct {
		ctLog bool
		attack
	}{
		{false, attack{
			did: "The CA's operator certifies a key without telling the CT log.", who: "cosign", reason: noSCT,
			because: "A certificate counts only with the CT log's promise (SCT) to publish it: nobody is certified in secret.",
		}},
		{true, attack{
			did: "The CA's operator tells another CT log, which nobody watches.", who: "cosign", reason: wrongSCT,
			because: "The promise has to be signed by the log that is trusted.",
		}},
	} {
		url, err := t.rogueFulcio(rogue.ctLog)
		if err != nil {
			return err
		}
		signIn, err := t.as(t.config.Email)
		if err != nil {
			return err
		}
		bundle := filepath.Join(t.dir, "bundle.json")
		if _, err := t.cosign(signIn, "sign-blob", "--fulcio-url="+url, "--insecure-skip-verify", "--bundle", bundle, artifact); err != nil {
			return err
		}
		said, err := verify("--bundle", bundle)
		if err := t.noticed(rogue.attack, said, err); err != nil {
			return err
		}
	}
	t.end(t.ctx)

	// With Fulcio's own CA one would have to wait until a certificate has run out.
	old, err := t.forge(artifact, now.Add(-70*time.Minute), now.Add(-time.Hour))
	if err != nil {
		return err
	}
	trust := []string{"--certificate", old.certificate, "--signature", old.signature, "--ca-roots", old.root, "--insecure-ignore-sct=true"}
	said, err = verify(append(trust, "--insecure-ignore-tlog=true")...)
	if err := t.noticed(attack{
		did: "A stolen key signs an hour after its certificate ran out (by a CA made for this, which is trusted here), with no entry in the log.",
		who: "cosign", reason: expired,
		because: "Nothing shows that it was signed while the certificate was valid, so now counts.",
	}, said, err); err != nil {
		return err
	}
	said, err = verify(trust...)
	return t.noticed(attack{
		did: "The same, dated back to when the certificate was valid.", who: "cosign", reason: notLogged,
		because: "When it was signed is what the log says, not what the signer does; an entry of back then cannot be made now.",
	}, said, err)
}

// forged are the files of a signature with a certificate of a CA of the attacker's own.
type forged struct{ root, certificate, signature string }

// olderIssuer is where Fulcio keeps the issuer for cosign v2, as plain text
// (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md).
var olderIssuer = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}

// forge signs a file with a key that a CA of its own certifies for the stack's user and issuer.
func (t *tamper) forge(file string, from, to time.Time) (forged, error) {
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
	issuer, err := asn1.MarshalWithParams(t.config.Issuer(), "utf8")
	if err != nil {
		return forged{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, EmailAddresses: []string{t.config.Email},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: olderIssuer, Value: []byte(t.config.Issuer())}, {Id: rekorlog.IssuerExtension, Value: issuer}},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return forged{}, err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return forged{}, err
	}
	digest := sha256.Sum256(content)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return forged{}, err
	}
	f := forged{filepath.Join(t.dir, "root.pem"), filepath.Join(t.dir, "certificate.pem"), filepath.Join(t.dir, "signature")}
	return f, errors.Join(
		os.WriteFile(f.root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600),
		os.WriteFile(f.certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}), 0o600),
		os.WriteFile(f.signature, signature, 0o600),
	)
}

// rogueFulcio runs Fulcio with the CA's real key, and with no CT log, or with one that has a key of its own.
func (t *tamper) rogueFulcio(ctLog bool) (url string, err error) {
	t.end(t.ctx)
	c, err := t.elsewhere()
	if err != nil {
		return "", err
	}
	log := ""
	if ctLog {
		key := filepath.Join(t.dir, "ctfe.pem")
		password, err := service.Secret(t.config, config.CTKeyPassword)
		if err != nil {
			return "", err
		}
		if err := keys.Ensure(keys.ECDSA, key, filepath.Join(t.dir, "ctfe.pub"), password); err != nil {
			return "", err
		}
		file, err := t.edited("ct.cfg", t.config.Key("ctfe.pem"), key)
		if err != nil {
			return "", err
		}
		one := ct(c)
		one.Args[0] = "--log_config=" + file
		if err := t.serve(one); err != nil {
			return "", err
		}
		log = c.CTLog()
	}
	one := fulcio(c)
	socket := filepath.Join(t.dir, "fulcio.sock")
	for i, arg := range one.Args {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--ct-log-url":
			one.Args[i] = "--ct-log-url=" + log
		case "--ct-log-public-key-path":
			one.Args[i] = "--ct-log-public-key-path="
		case "--legacy-unix-domain-socket":
			one.Args[i] = "--legacy-unix-domain-socket=" + socket
		}
	}
	one.Sockets = []string{socket}
	return c.URL(config.Fulcio), t.serve(one)
}
