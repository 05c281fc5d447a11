// Package certificate describes X.509 certificates for people, field by field. What is in a certificate is whatever somebody wrote
// into it: values are bounded, and what would change how text is shown is escaped.
package certificate

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Field is something that a certificate says.
type Field struct {
	Name    string // such as Serial number
	Value   string // in printable characters; at most 2,000 of them, or else "…" follows
	OID     string // of the extension, or of the kind of name, that says it; empty for other fields
	Link    string // the URL of its definition; empty if there is none
	Meaning string // in a sentence; empty if there is nothing to add
}

// most are how many characters of a value, and how many fields of a certificate, are shown.
const (
	mostCharacters = 2000
	mostFields     = 300
)

// Describe lists what a certificate says: what each has, then its extensions in the order in which it has them. It verifies nothing.
func Describe(c *x509.Certificate) []Field {
	var fields []Field
	if subject := name(c.RawSubject); subject != "" {
		fields = append(fields, Field{Name: "Subject", Value: subject,
			Link:    rfc5280 + "4.1.2.6",
			Meaning: "Whom the certificate is for. Certificates of Fulcio leave this empty, and have alternative names."})
	}
	spki := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	fields = append(fields,
		Field{Name: "Issuer", Value: name(c.RawIssuer), Link: rfc5280 + "4.1.2.4", Meaning: "The CA that has issued the certificate."},
		Field{Name: "Serial number", Value: fmt.Sprintf("%x", c.SerialNumber),
			Link: rfc5280 + "4.1.2.2", Meaning: "As hex. The CA gives each number once."},
		Field{Name: "Valid from", Value: instant(c.NotBefore), Link: rfc5280 + "4.1.2.5"},
		Field{Name: "Valid until", Value: instant(c.NotAfter),
			Link:    rfc5280 + "4.1.2.5",
			Meaning: "For " + lasting(c.NotBefore, c.NotAfter) + ". A signature counts if it was made within this time."},
		Field{Name: "Public key", Value: kindOfKey(c),
			Link: rfc5280 + "4.1.2.7", Meaning: "Signatures that this key verifies are the subject's."},
		Field{Name: "SHA-256 of the public key", Value: fmt.Sprintf("%x", spki),
			Link: rfc5280 + "4.1.2.7", Meaning: "Of its SubjectPublicKeyInfo in DER."},
		Field{Name: "Signature algorithm", Value: c.SignatureAlgorithm.String(),
			Link: rfc5280 + "4.1.1.2", Meaning: "With which the CA has signed the certificate."},
	)
	for _, extension := range c.Extensions {
		fields = append(fields, describe(c, extension)...)
	}
	if left := len(fields) - mostFields; left > 0 {
		fields = append(fields[:mostFields], Field{Name: "More", Value: fmt.Sprintf("%d fields, which are not shown", left)})
	}
	for i := range fields {
		for _, text := range []*string{&fields[i].Name, &fields[i].Value, &fields[i].OID} {
			*text = printable(*text)
		}
	}
	return fields
}

const rfc5280 = "https://www.rfc-editor.org/rfc/rfc5280#section-"

// name is a distinguished name as RFC 4514 writes it, without the attributes that are empty, such as those that Fulcio gives a CA.
func name(der []byte) string {
	var attributes pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &attributes); err != nil {
		return hexadecimal(der)
	}
	for i, set := range attributes {
		attributes[i] = slices.DeleteFunc(set, func(one pkix.AttributeTypeAndValue) bool { return one.Value == "" })
	}
	return slices.DeleteFunc(attributes, func(set pkix.RelativeDistinguishedNameSET) bool { return len(set) == 0 }).String()
}

// instant is a time, in UTC.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// lasting is how long it is between two times, in the largest unit of which that is more than one.
func lasting(from, to time.Time) string {
	const day = 24 * 60 * 60
	seconds := to.Unix() - from.Unix()
	for _, unit := range []struct {
		name    string
		seconds int64
	}{{"day", day}, {"hour", 60 * 60}, {"minute", 60}} {
		switch n, rest := seconds/unit.seconds, seconds%unit.seconds; {
		case n > 0 && rest == 0:
			return count(n, unit.name)
		case n > 1:
			return "about " + count(n, unit.name)
		}
	}
	return count(seconds, "second")
}

// count is a number of things, such as 1 day.
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func kindOfKey(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA on the curve " + key.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", key.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	if c.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm {
		return "of an unknown kind"
	}
	return c.PublicKeyAlgorithm.String()
}

// printable is a text in characters that are seen: others, such as those that change the direction of writing, are written as Go
// escapes them. A long text is cut.
func printable(text string) string {
	var b strings.Builder
	length := 0 // in characters
	for _, r := range text {
		one := string(r)
		if !unicode.IsPrint(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			one = quoted[1 : len(quoted)-1]
		}
		if length += utf8.RuneCountInString(one); length > mostCharacters {
			b.WriteString("…")
			break
		}
		b.WriteString(one)
	}
	return b.String()
}

// hexadecimal is content as hex, as far as printable shows it.
func hexadecimal(content []byte) string {
	return fmt.Sprintf("%x", content[:min(len(content), mostCharacters/2+1)])
}

// describe describes an extension of a certificate.
func describe(c *x509.Certificate, extension pkix.Extension) []Field {
	id := extension.Id.String()
	fields := []Field{{Name: "Unknown extension", Value: hexadecimal(extension.Value), Meaning: "What the extension holds, as hex."}}
	if known, ok := extensions[id]; ok {
		fields = known(c, extension.Value)
	} else if name, ok := strings.CutPrefix(id, fulcio); ok {
		fields = []Field{fulcioExtension(name, extension.Value)}
	}
	for i := range fields {
		if fields[i].OID == "" {
			fields[i].OID = id
		}
		if extension.Critical {
			fields[i].Meaning = strings.TrimSpace(fields[i].Meaning + " Critical: who does not know this must refuse the certificate.")
		}
	}
	return fields
}
