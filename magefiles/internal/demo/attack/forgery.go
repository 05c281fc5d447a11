package attack

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/jsonapi"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/stack"
)

const (
	// What two of the attacks do is the same with cosign v2 and v3.
	didOwnCA     = "A CA of the attacker's own certifies a key for {signer}, and a signature made with that key is put into the log."
	becauseOwnCA = "Anybody can make a CA with Fulcio's name, but only Fulcio has the key of the trusted root."
	didStolenKey = "A stolen key signs an hour after its certificate expired%s (here the certificate is of a CA made for this attack, and cosign is told to trust that CA)."

	lifetime     = 10 * time.Minute // of a certificate, as Fulcio has it
	expiredSince = time.Hour        // how long ago the certificate of a stolen key expired
)

// byForgery are the attacks on cosign v2 by files that the attacker has made.
func byForgery() (ownCA, stolenKey, datedBack Attack) {
	ownCA = Attack{
		Name: "own-ca", Did: didOwnCA, Who: "cosign", Words: cosign.UnknownCA, Because: becauseOwnCA,
		Try: func(ctx context.Context, t *Target) (Attempt, error) {
			own, err := t.forge(-time.Minute, lifetime-time.Minute)
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
	}
	// The CA is made for this, since a certificate of Fulcio's would first have to expire.
	expired := func(ctx context.Context, t *Target, more ...string) (Attempt, error) {
		old, err := t.forge(-expiredSince-lifetime, -expiredSince)
		if err != nil {
			return Attempt{}, err
		}
		return t.verifyBlob(ctx, old.artifact, append([]string{
			"--certificate", old.certificate, "--signature", old.signature, "--ca-roots", old.root, "--insecure-ignore-sct=true",
		}, more...)...), nil
	}
	stolenKey = Attack{
		Name: "stolen-key", Did: fmt.Sprintf(didStolenKey, ", and no entry is made in the log"), Who: "cosign", Words: cosign.Expired,
		Because: "Nothing shows that the signature was made while the certificate was valid, so the certificate has to be valid now.",
		Try: func(ctx context.Context, t *Target) (Attempt, error) {
			return expired(ctx, t, "--insecure-ignore-tlog=true")
		},
	}
	datedBack = Attack{
		Name: "dated-back", Did: "A stolen key signs an hour after its certificate expired, and the signer claims an earlier time, when the certificate was valid.",
		Who: "cosign", Words: cosign.NotLogged,
		Because: "The log says when a signature was made, not the signer, and nobody can add an entry with a past time to the log.",
		Try:     func(ctx context.Context, t *Target) (Attempt, error) { return expired(ctx, t) },
	}
	return ownCA, stolenKey, datedBack
}

// byForgeryInBundles are the attacks on cosign v3, which takes nothing but bundles, and knows the time by a timestamp authority.
func byForgeryInBundles() (ownCA, stolenKey, datedBack Attack) {
	ownCA = Attack{
		Name: "own-ca", Did: didOwnCA, Who: "cosign", Words: cosign.UnknownCA, Because: becauseOwnCA,
		Try: func(ctx context.Context, t *Target) (Attempt, error) {
			artifact, bundle, root, err := t.forgeBundle(ctx, lifetime-time.Minute)
			if err != nil {
				return Attempt{}, err
			}
			if trusted := t.verifyForged(ctx, artifact, bundle, root); trusted.Refusal != nil {
				return Attempt{}, fmt.Errorf("a verifier who trusts that CA: %w", trusted.Refusal)
			}
			return t.verifyBlob(ctx, artifact, "--bundle", bundle), nil
		},
	}
	stolenKey = Attack{
		Name: "stolen-key", Did: fmt.Sprintf(didStolenKey, ""), Who: "cosign", Words: cosign.Expired,
		Because: "The timestamp authority says when the signature was made, and at that time the certificate was not valid any more.",
		Try: func(ctx context.Context, t *Target) (Attempt, error) {
			var attempt Attempt
			// The same with a certificate that is valid has to verify: only then it is the time that is noticed.
			for _, end := range []time.Duration{lifetime - time.Minute, -expiredSince} {
				artifact, bundle, root, err := t.forgeBundle(ctx, end)
				if err != nil {
					return Attempt{}, err
				}
				attempt = t.verifyForged(ctx, artifact, bundle, root)
				if end > 0 && attempt.Refusal != nil {
					return Attempt{}, fmt.Errorf("a signature while the certificate is valid: %w", attempt.Refusal)
				}
			}
			return attempt, nil
		},
	}
	datedBack = Attack{
		Name: "dated-back", Did: "The time of a signature is vouched for by a timestamp authority of the attacker's own, whose clock may say anything.",
		Who: "cosign", Words: cosign.UnknownTimestamp,
		Because: "Only a timestamp of an authority in the trusted root counts, and that authority takes no time from the signer.",
		Try: func(ctx context.Context, t *Target) (Attempt, error) {
			url, chain, end, err := t.otherTSA(ctx)
			if err != nil {
				return Attempt{}, err
			}
			defer end()
			config, err := t.signingConfig(t.Config.URL(config.TSA), url)
			if err != nil {
				return Attempt{}, err
			}
			root, err := t.trusting("timestampAuthorities", chain)
			if err != nil {
				return Attempt{}, err
			}
			artifact, bundle, err := t.signKeyless(ctx, "--signing-config="+config, "--trusted-root="+root)
			if err != nil {
				return Attempt{}, err
			}
			if trusted := t.verifyBlob(ctx, artifact, "--bundle", bundle, "--trusted-root", root); trusted.Refusal != nil {
				return Attempt{}, fmt.Errorf("a verifier who trusts that authority: %w", trusted.Refusal)
			}
			return t.verifyBlob(ctx, artifact, "--bundle", bundle), nil
		},
	}
	return ownCA, stolenKey, datedBack
}

// forged is a signature with a certificate of a CA of the attacker's own: in files, and what a bundle has of it.
type forged struct {
	artifact, root, certificate, signature string
	digest, signed, leaf                   []byte
}

// olderIssuer is where Fulcio keeps the issuer for cosign v2, as plain text
// (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md).
var olderIssuer = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}

// forge signs a file with a key that a CA of its own certifies for the stack's user and issuer, from and to so long after now.
func (t *Target) forge(from, to time.Duration) (f forged, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return forged{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return forged{}, err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sigstore", Organization: []string{"Sigstore Local"}},
		NotBefore: now.Add(from - time.Hour), NotAfter: now.Add(to + 24*time.Hour),
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
		SerialNumber: big.NewInt(2), NotBefore: now.Add(from), NotAfter: now.Add(to), EmailAddresses: []string{t.Config.Email},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: olderIssuer, Value: []byte(t.Config.Issuer())}, {Id: rekorlog.IssuerExtension, Value: issuer}},
	}
	if f.leaf, err = x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey); err != nil {
		return forged{}, err
	}
	const content = "An artifact to sign.\n"
	digest := sha256.Sum256([]byte(content))
	f.digest = digest[:]
	if f.signed, err = ecdsa.SignASN1(rand.Reader, key, f.digest); err != nil {
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
		{&f.certificate, "certificate.pem", certificate(f.leaf)}, {&f.signature, "signature", string(f.signed)},
	} {
		if *one.path, err = t.file(one.name, one.content); err != nil {
			return forged{}, err
		}
	}
	return f, nil
}

// object is a JSON object.
type object = map[string]any

// bundle puts a forged signature into a bundle, with an entry of Rekor v2 and a timestamp of the timestamp authority, neither of
// which asks who has certified a key. cosign, which makes other bundles, would refuse to sign with such a certificate.
func (t *Target) bundle(ctx context.Context, f forged) (string, error) {
	verifier := object{"x509Certificate": object{"rawBytes": f.leaf}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
	entry := object{"hashedRekordRequestV002": object{"digest": f.digest, "signature": object{"content": f.signed, "verifier": verifier}}}
	var logged json.RawMessage
	if err := jsonapi.Ask(ctx, http.DefaultClient, http.MethodPost, t.Config.RekorV2()+"/api/v2/log/entries", entry, &logged); err != nil {
		return "", err
	}
	timestamp, err := t.timestamp(ctx, f.signed)
	if err != nil {
		return "", err
	}
	// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto
	text, err := json.Marshal(object{
		"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": object{
			"certificate": object{"rawBytes": f.leaf}, "tlogEntries": []any{logged},
			"timestampVerificationData": object{"rfc3161Timestamps": []any{object{"signedTimestamp": timestamp}}},
		},
		"messageSignature": object{"messageDigest": object{"algorithm": "SHA2_256", "digest": f.digest}, "signature": f.signed},
	})
	if err != nil {
		return "", err
	}
	return t.file("bundle.json", string(text))
}

// timestamp is a timestamp of the stack's authority (RFC 3161) over a text.
func (t *Target) timestamp(ctx context.Context, text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	// The authority takes a request as JSON too, and answers both kinds with a timestamp in DER.
	asked, err := json.Marshal(object{"artifactHash": digest[:], "hashAlgorithm": "sha256", "certificates": true})
	if err != nil {
		return nil, err
	}
	url := t.Config.URL(config.TSA) + "/api/v1/timestamp"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(asked))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("POST %s: %s: %s", url, response.Status, answer)
	}
	return answer, err
}

// forgeBundle makes a bundle with a certificate of a CA of the attacker's own, which is valid until so long after now, and a trusted
// root with that CA.
func (t *Target) forgeBundle(ctx context.Context, end time.Duration) (artifact, bundle, root string, err error) {
	made, err := t.forge(end-lifetime, end)
	if err != nil {
		return "", "", "", err
	}
	if bundle, err = t.bundle(ctx, made); err != nil {
		return "", "", "", err
	}
	root, err = t.trusting("certificateAuthorities", made.root)
	return made.artifact, bundle, root, err
}

// verifyForged verifies what forgeBundle has made, for somebody who trusts the attacker's CA, which no CT log knows.
func (t *Target) verifyForged(ctx context.Context, artifact, bundle, root string) Attempt {
	return t.verifyBlob(ctx, artifact, "--bundle", bundle, "--trusted-root", root, "--insecure-ignore-sct=true")
}

// trusting is a file with the stack's trusted root, to which an authority with the certificates in a PEM file is added: to the list
// certificateAuthorities or timestampAuthorities
// (https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto).
func (t *Target) trusting(list, certificates string) (string, error) {
	text, err := os.ReadFile(t.Config.Trust("trusted_root.json"))
	if err != nil {
		return "", err
	}
	var root object
	if err := json.Unmarshal(text, &root); err != nil {
		return "", err
	}
	chain, err := keys.Chain(certificates)
	if err != nil {
		return "", err
	}
	var raw []any
	for _, one := range chain {
		raw = append(raw, object{"rawBytes": one.Raw})
	}
	trusted, _ := root[list].([]any)
	root[list] = append(trusted, object{
		"certChain": object{"certificates": raw},
		"validFor":  object{"start": chain[0].NotBefore.UTC().Format(time.RFC3339)},
	})
	if text, err = json.Marshal(root); err != nil {
		return "", err
	}
	return t.file("trusted_root.json", string(text))
}

// otherTSA runs a timestamp authority with a key of its own, and returns its URL, the file of its certificates, and a function that
// ends it.
func (t *Target) otherTSA(ctx context.Context) (url, certificates string, stop func(), err error) {
	own, err := t.beside("tsa")
	if err != nil {
		return "", "", nil, err
	}
	if err := keys.EnsureTimestamping(own.Config.Key("tsa"), time.Now()); err != nil {
		return "", "", nil, err
	}
	tsa := stack.One(own.All(), "tsa")
	if err := starting(own.Engine.Start(ctx, tsa, nil)); err != nil {
		return "", "", nil, err
	}
	chain := own.Config.Key(filepath.Join("tsa", keys.TimestampingChain))
	return own.Config.URL(config.TSA), chain, func() { end(ctx, own, tsa) }, nil
}
