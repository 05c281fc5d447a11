package rekorlog

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Signer is who has signed what an entry is about: an identity, if a certificate says so, or else a key.
type Signer struct {
	Identity string    // an email address or URI; empty for a key
	Issuer   string    // who vouches for the identity
	From, To time.Time // when the certificate is valid
	Key      string    // SHA-256 of the public key, as a SubjectPublicKeyInfo, as hex

	certificate *x509.Certificate
}

// Certificate is what certifies the identity; nil for a key.
func (s Signer) Certificate() *x509.Certificate { return s.certificate }

// CertifiedBy says whether the CA with the certificate ca has certified the identity. Rekor accepts certificates of any CA.
func (s Signer) CertifiedBy(ca *x509.Certificate) bool {
	return s.certificate != nil && s.certificate.CheckSignatureFrom(ca) == nil
}

// String is the identity and its issuer, or the key.
func (s Signer) String() string {
	if s.Identity == "" {
		return "the key sha256:" + s.Key
	}
	return s.Identity + ", as " + s.Issuer + " says"
}

// Description is what an entry of any kind says.
type Description struct {
	Kind, Version string
	Digests       []string // of the artifact, such as sha256:0123…
	Signers       []Signer
}

// Describe reads an entry's body. Kinds differ in where they keep hashes, keys and certificates, not in what these look like: in
// Rekor v1 (https://github.com/sigstore/rekor/tree/main/pkg/types) keys and certificates are PEM in base64, and hashes are hex; in
// Rekor v2 (https://github.com/sigstore/rekor-tiles/tree/main/api/proto/rekor/v2) all of them are base64 of the bytes themselves.
func Describe(body []byte) (Description, error) {
	var entry struct {
		Kind       string
		APIVersion string
		Spec       any
	}
	if err := json.Unmarshal(body, &entry); err != nil {
		return Description{}, fmt.Errorf("the entry's body: %w", err)
	}
	d := Description{Kind: entry.Kind, Version: entry.APIVersion}
	d.collect("", entry.Spec)
	return d, nil
}

// collect collects from a value, which has a name if it is in an object.
func (d *Description) collect(name string, value any) {
	switch value := value.(type) {
	case []any:
		for _, one := range value {
			d.collect(name, one)
		}
	case map[string]any:
		d.addDigest(value)
		if raw, ok := value["rawBytes"].(string); ok {
			if content, err := base64.StdEncoding.DecodeString(raw); err == nil {
				d.addSigner(name == "x509Certificate", content)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			d.collect(key, value[key])
		}
	case string:
		content, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return
		}
		if block, _ := pem.Decode(content); block != nil {
			d.addSigner(block.Type != "PUBLIC KEY", block.Bytes)
		}
	}
}

// addDigest adds the digest that an object is, if it is one.
func (d *Description) addDigest(object map[string]any) {
	algorithm, ok := object["algorithm"].(string)
	if !ok {
		return
	}
	text, ok := object["value"].(string) // of Rekor v1
	if !ok {
		encoded, isText := object["digest"].(string) // of Rekor v2
		content, err := base64.StdEncoding.DecodeString(encoded)
		if !isText || err != nil {
			return
		}
		text = hex.EncodeToString(content)
		algorithm = strings.ReplaceAll(strings.Replace(strings.ToLower(algorithm), "sha2_", "sha", 1), "_", "-")
	}
	if digest := algorithm + ":" + text; !slices.Contains(d.Digests, digest) {
		d.Digests = append(d.Digests, digest)
	}
}

// addSigner adds the signer whose certificate, or else public key, is der, if it is one.
func (d *Description) addSigner(certificate bool, der []byte) {
	signer, ok := signerOf(certificate, der)
	same := func(other Signer) bool { return other.String() == signer.String() }
	if ok && !slices.ContainsFunc(d.Signers, same) {
		d.Signers = append(d.Signers, signer)
	}
}

func signerOf(certified bool, der []byte) (Signer, bool) {
	if !certified {
		return Signer{Key: fmt.Sprintf("%x", sha256.Sum256(der))}, true
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Signer{}, false
	}
	signer := Signer{
		From: certificate.NotBefore, To: certificate.NotAfter, certificate: certificate,
		Key: fmt.Sprintf("%x", sha256.Sum256(certificate.RawSubjectPublicKeyInfo)),
	}
	if len(certificate.EmailAddresses) > 0 {
		signer.Identity = certificate.EmailAddresses[0]
	} else if len(certificate.URIs) > 0 {
		signer.Identity = certificate.URIs[0].String()
	}
	if signer.Issuer, err = issuerOf(certificate); err != nil {
		return Signer{}, false
	}
	return signer, true
}

// Issuer is who vouches for the identity that Fulcio has certified; empty if the certificate does not say so.
func Issuer(certificate *x509.Certificate) string {
	issuer, _ := issuerOf(certificate)
	return issuer
}

func issuerOf(certificate *x509.Certificate) (issuer string, err error) {
	for _, extension := range certificate.Extensions {
		if extension.Id.Equal(IssuerExtension) {
			if _, err := asn1.Unmarshal(extension.Value, &issuer); err != nil {
				return "", err
			}
		}
	}
	return issuer, nil
}

// IssuerExtension is where Fulcio keeps the issuer, as a UTF8String
// (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md).
var IssuerExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
