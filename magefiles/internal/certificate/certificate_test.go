package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
)

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// made makes a certificate that key signs itself.
func made(t *testing.T, template x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(0xabc)
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// oid reads an OID from its text.
func oid(t *testing.T, text string) asn1.ObjectIdentifier {
	t.Helper()
	var id asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		var n int
		if _, err := fmt.Sscan(part, &n); err != nil {
			t.Fatal(err)
		}
		id = append(id, n)
	}
	return id
}

func der(t *testing.T, value any, params string) []byte {
	t.Helper()
	content, err := asn1.MarshalWithParams(value, params)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// having are those of a certificate's fields that have a name.
func having(c *x509.Certificate, name string) []Field {
	var found []Field
	for _, field := range Describe(c) {
		if field.Name == name {
			found = append(found, field)
		}
	}
	return found
}

// want fails the test unless the certificate has exactly one field of the name, with the value and the OID.
func want(t *testing.T, c *x509.Certificate, name, value, id string) Field {
	t.Helper()
	found := having(c, name)
	if len(found) != 1 || found[0].Value != value || found[0].OID != id {
		t.Errorf("%s: %+v, and not %q of %q", name, found, value, id)
		return Field{}
	}
	return found[0]
}

func TestACertificateSaysWhomItIsForAndHowLong(t *testing.T) {
	key := ecKey(t)
	uri, err := url.Parse("https://github.com/a/b/.github/workflows/c.yml@refs/heads/main")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 11, 26, 11, 0, 0, 0, time.UTC)
	c := made(t, x509.Certificate{
		Subject:   pkix.Name{CommonName: "sub", Organization: []string{"ject"}, Locality: []string{""}, Country: []string{""}},
		NotBefore: from, NotAfter: from.Add(10 * time.Minute),
		EmailAddresses: []string{"alice@example.org"}, URIs: []*url.URL{uri}, DNSNames: []string{"example.org"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{{1, 2, 3}},
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: 1, SubjectKeyId: []byte{0xab, 0xcd},
	}, key)
	want(t, c, "Subject", "CN=sub,O=ject", "")
	want(t, c, "Issuer", "CN=sub,O=ject", "")
	want(t, c, "Serial number", "abc", "")
	want(t, c, "Valid from", "2026-11-26T11:00:00Z", "")
	if until := want(t, c, "Valid until", "2026-11-26T11:10:00Z", ""); !strings.HasPrefix(until.Meaning, "For 10 minutes.") {
		t.Error(until.Meaning)
	}
	want(t, c, "Public key", "ECDSA on the curve P-256", "")
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	want(t, c, "SHA-256 of the public key", fmt.Sprintf("%x", sha256.Sum256(spki)), "")
	want(t, c, "Signature algorithm", "ECDSA-SHA256", "")
	want(t, c, "Subject alternative name: email address", "alice@example.org", "2.5.29.17")
	want(t, c, "Subject alternative name: URI", uri.String(), "2.5.29.17")
	want(t, c, "Subject alternative name: DNS name", "example.org", "2.5.29.17")
	want(t, c, "Subject alternative name: IP address", "127.0.0.1", "2.5.29.17")
	if usage := want(t, c, "Key usage", "digitalSignature, keyCertSign", "2.5.29.15"); !strings.Contains(usage.Meaning, "Critical") {
		t.Errorf("a critical extension: %s", usage.Meaning)
	}
	if usage := want(t, c, "Extended key usage", "codeSigning, 1.2.3", "2.5.29.37"); strings.Contains(usage.Meaning, "Critical") {
		t.Errorf("an extension that is not critical: %s", usage.Meaning)
	}
	want(t, c, "Basic constraints", "a CA, with at most 1 CA below it", "2.5.29.19")
	want(t, c, "Subject key identifier", "abcd", "2.5.29.14")
}

func TestTheCertificateOfALeafNamesTheKeyOfItsCA(t *testing.T) {
	key := ecKey(t)
	ca := made(t, x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{1, 2, 3}}, key)
	content, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), BasicConstraintsValid: true}, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(content)
	if err != nil {
		t.Fatal(err)
	}
	want(t, leaf, "Authority key identifier", "010203", "2.5.29.35")
	want(t, leaf, "Basic constraints", "not a CA", "2.5.29.19")
	if found := having(leaf, "Subject"); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestKeysOfEveryKindAreNamed(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	want(t, made(t, x509.Certificate{}, ed), "Public key", "Ed25519", "")
	want(t, made(t, x509.Certificate{}, rsaKey), "Public key", "RSA, 2048 bits", "")
	if got := kindOfKey(&x509.Certificate{}); got != "of an unknown kind" {
		t.Error(got)
	}
}

func TestEachExtensionOfFulcioIsNamedAndDecodedAndLinkedToItsDefinition(t *testing.T) {
	var template x509.Certificate
	add := func(number int, value []byte) {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oid(t, fmt.Sprint(fulcio, number)), Value: value})
	}
	for number := 1; number <= len(fulcioExtensions); number++ {
		text := fmt.Sprint("value ", number)
		if number <= 6 {
			add(number, []byte(text))
		} else {
			add(number, der(t, text, "utf8"))
		}
	}
	add(99, der(t, "new", "utf8"))
	c := made(t, template, ecKey(t))
	for i, extension := range fulcioExtensions {
		field := want(t, c, extension.heading, fmt.Sprint("value ", i+1), fmt.Sprint(fulcio, i+1))
		if field.Meaning == "" || !strings.HasPrefix(field.Link, list+"#1361415726") {
			t.Errorf("%+v", field)
		}
	}
	if field := want(t, c, "Extension 99 of Fulcio", "new", fulcio+"99"); field.Link != list {
		t.Errorf("%+v", field)
	}
	// As GitHub makes them of the headings.
	for name, anchor := range map[string]string{
		"Issuer (deprecated)": "1361415726411--issuer-deprecated", "Issuer (V2)": "1361415726418--issuer-v2",
		"Source Repository Visibility At Signing": "13614157264122--source-repository-visibility-at-signing",
	} {
		if got := having(c, name)[0].Link; got != list+"#"+anchor {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAUsernameIsReadFromTheOtherName(t *testing.T) {
	type other struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}
	names := func(id string) []byte {
		return der(t, []asn1.RawValue{{FullBytes: der(t, other{oid(t, id), "alice!example.org"}, "tag:0")}}, "")
	}
	for id, title := range map[string]string{fulcio + "7": "username", "1.2.3": "other name"} {
		c := made(t, x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: oid(t, "2.5.29.17"), Critical: true, Value: names(id)}}}, ecKey(t))
		want(t, c, "Subject alternative name: "+title, "alice!example.org", id)
	}
}

// sctList makes the extension with SCTs that have such extensions of their own.
func sctList(t *testing.T, at time.Time, extensions ...[]byte) []byte {
	t.Helper()
	var scts ctx509.SignedCertificateTimestampList
	for i, extension := range extensions {
		content, err := tls.Marshal(ct.SignedCertificateTimestamp{
			LogID: ct.LogID{KeyID: [32]byte{byte(i + 1)}}, Timestamp: uint64(at.UnixMilli()), Extensions: extension,
			Signature: ct.DigitallySigned{Algorithm: tls.SignatureAndHashAlgorithm{Hash: tls.SHA256, Signature: tls.ECDSA}, Signature: []byte("signature")},
		})
		if err != nil {
			t.Fatal(err)
		}
		scts.SCTList = append(scts.SCTList, ctx509.SerializedSCT{Val: content})
	}
	content, err := tls.Marshal(scts)
	if err != nil {
		t.Fatal(err)
	}
	return der(t, content, "")
}

func TestEachPromiseOfACTLogIsShown(t *testing.T) {
	at := time.Date(2026, 11, 26, 11, 0, 0, 123e6, time.UTC)
	value := sctList(t, at, nil, []byte{7, 0, 1, 9, 0, 0, 5, 0, 0, 0, 1, 2})
	c := made(t, x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: oid(t, timestamps), Value: value}, {Id: oid(t, poison), Critical: true, Value: asn1.NullBytes}}}, ecKey(t))
	found := having(c, "Signed certificate timestamp (SCT)")
	if len(found) != 2 || found[0].Value != "2026-11-26T11:00:00.123Z, by the log 01"+strings.Repeat("00", 31) ||
		found[1].Value != "2026-11-26T11:00:00.123Z, by the log 02"+strings.Repeat("00", 31)+", as its entry 258" {
		t.Errorf("%+v", found)
	}
	want(t, c, "Precertificate poison", "present", poison)
	scts, err := SCTs(c)
	if err != nil || len(scts) != 2 || scts[0].HasIndex || !scts[1].HasIndex || scts[1].Index != 258 || !scts[0].Time.Equal(at) || scts[1].LogID[0] != 2 {
		t.Errorf("%+v, %v", scts, err)
	}
	if scts, err := SCTs(made(t, x509.Certificate{}, ecKey(t))); err != nil || len(scts) != 0 {
		t.Errorf("of none: %+v, %v", scts, err)
	}
	// Whatever is cut off or follows.
	for end := range value {
		if scts, err := readSCTs(value[:end]); err == nil {
			t.Errorf("of the first %d bytes there are %+v", end, scts)
		}
	}
	if scts, err := readSCTs(append(value, 0)); err == nil {
		t.Errorf("with a byte more: %+v", scts)
	}
}

func TestWhatSomebodyWroteIntoACertificateIsBoundedAndPlain(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	template := x509.Certificate{
		Subject: pkix.Name{CommonName: long},
		ExtraExtensions: []pkix.Extension{
			{Id: oid(t, fulcio+"1"), Value: []byte("\xff<b>\u202e\n" + long)},
			{Id: oid(t, fulcio+"8"), Value: der(t, strings.Repeat("\u202e", 100_000), "utf8")},
			{Id: oid(t, fulcio+"9"), Value: []byte("no DER")},
			{Id: oid(t, "1.2.3.4"), Critical: true, Value: []byte(long)},
			{Id: oid(t, timestamps), Value: []byte("none")},
		},
	}
	arcs := oid(t, fulcio+"1")
	for range 3000 {
		arcs = append(arcs, 1)
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: arcs, Value: []byte{1}})
	for i := range 400 {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: append(oid(t, "1.2.3.5"), i), Value: []byte{1}})
	}
	c := made(t, template, ecKey(t))
	fields := Describe(c)
	if len(fields) != mostFields+1 || !strings.HasSuffix(fields[mostFields].Value, "fields, which are not shown") {
		t.Errorf("%d fields, the last %+v", len(fields), fields[len(fields)-1])
	}
	for _, field := range fields {
		if n := max(utf8.RuneCountInString(field.Value), len(field.Name), len(field.OID)); n > mostCharacters+len("…") || !utf8.ValidString(field.Value) || strings.ContainsAny(field.Value, "\u202e\n") {
			t.Errorf("%s has %d characters: %.60q", field.Name, n, field.Value)
		}
	}
	first := having(c, "Issuer (deprecated)")[0].Value
	if !strings.HasPrefix(first, "\ufffd<b>\\u202e\\nxxx") || !strings.HasSuffix(first, "x…") || utf8.RuneCountInString(first) != mostCharacters+1 {
		t.Errorf("%.60q", first)
	}
	want(t, c, "Build Signer URI", fmt.Sprintf("%x", "no DER"), fulcio+"9")
	want(t, c, "Signed certificate timestamp (SCT)", fmt.Sprintf("%x", "none"), timestamps)
	for _, field := range fields {
		if field.OID == "1.2.3.4" && (field.Name != "Unknown extension" || !strings.HasPrefix(field.Value, "7878") || !strings.HasSuffix(field.Value, "…") || !strings.Contains(field.Meaning, "Critical")) {
			t.Errorf("%+v", field)
		}
	}
}

func TestNamesThatCannotBeReadAreShownAsHex(t *testing.T) {
	for _, value := range [][]byte{nil, {0x30, 5, 1}, {0x30, 2, 0x81, 9}, {0x30, 2, 0xa0, 0}, {0x30, 2, 0xa3, 0}, {0x30, 0, 0}} {
		fields := alternativeNames(value)
		if len(fields) != 1 || fields[0].Name != "Subject alternative name" || !strings.Contains(fields[0].Meaning, "as hex") {
			t.Errorf("%x: %+v", value, fields)
		}
	}
}

func TestHowLongACertificateIsValidIsSaidInOneUnit(t *testing.T) {
	for seconds, text := range map[int64]string{
		600: "10 minutes", 60: "1 minute", 90: "90 seconds", 700: "about 11 minutes", 3600: "1 hour", 86400: "1 day", 3652 * 86400: "3652 days", -5: "-5 seconds",
	} {
		if got := lasting(time.Unix(0, 0), time.Unix(seconds, 0)); got != text {
			t.Errorf("%d seconds are %s", seconds, got)
		}
	}
}
