package certificate

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// extensions describe those that are defined elsewhere than by Sigstore, by their OIDs.
var extensions = map[string]func(c *x509.Certificate, value []byte) []Field{
	"2.5.29.14": func(c *x509.Certificate, _ []byte) []Field {
		return []Field{{Name: "Subject key identifier", Value: hexadecimal(c.SubjectKeyId),
			Link: rfc5280 + "4.2.1.2", Meaning: "A name that the CA has given the public key, as hex."}}
	},
	"2.5.29.15": func(c *x509.Certificate, _ []byte) []Field {
		return []Field{{Name: "Key usage", Value: keyUsage(c.KeyUsage),
			Link: rfc5280 + "4.2.1.3", Meaning: "What the key may be used for."}}
	},
	"2.5.29.17": func(_ *x509.Certificate, value []byte) []Field { return alternativeNames(value) },
	"2.5.29.19": func(c *x509.Certificate, _ []byte) []Field {
		value := "not a CA"
		if c.IsCA {
			value = "a CA"
			if c.MaxPathLen > 0 || c.MaxPathLenZero {
				value += ", with at most " + count(int64(c.MaxPathLen), "CA") + " below it"
			}
		}
		return []Field{{Name: "Basic constraints", Value: value,
			Link: rfc5280 + "4.2.1.9", Meaning: "Whether the subject may issue certificates."}}
	},
	"2.5.29.35": func(c *x509.Certificate, _ []byte) []Field {
		return []Field{{Name: "Authority key identifier", Value: hexadecimal(c.AuthorityKeyId),
			Link: rfc5280 + "4.2.1.1", Meaning: "The subject key identifier of the CA that has issued the certificate, as hex."}}
	},
	"2.5.29.37": func(c *x509.Certificate, _ []byte) []Field {
		return []Field{{Name: "Extended key usage", Value: extendedKeyUsage(c),
			Link: rfc5280 + "4.2.1.12", Meaning: "For which purposes the key may be used; those of Fulcio sign code."}}
	},
	poison: func(*x509.Certificate, []byte) []Field {
		return []Field{{Name: "Precertificate poison", Value: "present",
			Link: rfc6962 + "3.1", Meaning: "This is a precertificate, made to be shown to a CT log. No client may accept it."}}
	},
	timestamps: func(_ *x509.Certificate, value []byte) []Field { return signedTimestamps(value) },
}

const (
	rfc6962    = "https://www.rfc-editor.org/rfc/rfc6962#section-"
	poison     = "1.3.6.1.4.1.11129.2.4.3"
	timestamps = "1.3.6.1.4.1.11129.2.4.2"
)

// keyUsages are the names of the bits (RFC 5280, section 4.2.1.3), from bit 0 on.
var keyUsages = []string{
	"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly",
	"decipherOnly",
}

func keyUsage(usage x509.KeyUsage) string {
	var names []string
	for i, name := range keyUsages {
		if usage&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// extendedKeyUsages are the names of purposes (RFC 5280, section 4.2.1.12).
var extendedKeyUsages = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny: "anyExtendedKeyUsage", x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth",
	x509.ExtKeyUsageCodeSigning: "codeSigning", x509.ExtKeyUsageEmailProtection: "emailProtection",
	x509.ExtKeyUsageTimeStamping: "timeStamping", x509.ExtKeyUsageOCSPSigning: "OCSPSigning",
}

func extendedKeyUsage(c *x509.Certificate) string {
	var names []string
	for _, usage := range c.ExtKeyUsage {
		name, ok := extendedKeyUsages[usage]
		if !ok {
			name = fmt.Sprintf("another (number %d of Go's package x509)", usage)
		}
		names = append(names, name)
	}
	for _, usage := range c.UnknownExtKeyUsage {
		names = append(names, usage.String())
	}
	return strings.Join(names, ", ")
}

// unreadable describes what is not as its definition says.
func unreadable(name string, value []byte, link string) Field {
	return Field{Name: name, Value: hexadecimal(value),
		Link: link, Meaning: "What it holds, as hex: it is not in the form in which it should be."}
}

// alternativeNames describes the names of a GeneralNames (RFC 5280, section 4.2.1.6), each as it is written in it.
func alternativeNames(value []byte) []Field {
	const title, link = "Subject alternative name", rfc5280 + "4.2.1.6"
	whole := cryptobyte.String(value)
	var names cryptobyte.String
	if !whole.ReadASN1(&names, casn1.SEQUENCE) || !whole.Empty() {
		return []Field{unreadable(title, value, link)}
	}
	var fields []Field
	for !names.Empty() {
		var content cryptobyte.String
		var tag casn1.Tag
		if !names.ReadAnyASN1(&content, &tag) {
			return append(fields, unreadable(title, names, link))
		}
		field := Field{Link: link, Meaning: "Whom the certificate is for."}
		switch tag {
		case casn1.Tag(1).ContextSpecific():
			field.Name, field.Value = title+": email address", string(content)
		case casn1.Tag(2).ContextSpecific():
			field.Name, field.Value = title+": DNS name", string(content)
		case casn1.Tag(6).ContextSpecific():
			field.Name, field.Value = title+": URI", string(content)
		case casn1.Tag(7).ContextSpecific():
			field.Name, field.Value = title+": IP address", net.IP(content).String()
		case casn1.Tag(0).ContextSpecific().Constructed():
			field = otherName(title, content)
		default:
			field = unreadable(title, content, link)
			field.Meaning = "What it holds, as hex: it is a name of a kind that is not known here."
		}
		fields = append(fields, field)
	}
	return fields
}

// otherName describes an OtherName (RFC 5280, section 4.2.1.6): an OID, and a value, which is a UTF8String if Fulcio made it.
func otherName(title string, content cryptobyte.String) Field {
	const link = rfc5280 + "4.2.1.6"
	left := content
	var id asn1.ObjectIdentifier
	var explicit, text cryptobyte.String
	if !left.ReadASN1ObjectIdentifier(&id) || !left.ReadASN1(&explicit, casn1.Tag(0).ContextSpecific().Constructed()) ||
		!explicit.ReadASN1(&text, casn1.UTF8String) {
		return unreadable(title, content, link)
	}
	field := Field{Name: title + ": other name", Value: string(text), OID: id.String(), Link: link, Meaning: "Whom the certificate is for."}
	if id.String() == fulcio+"7" {
		field.Name, field.Link = title+": username", definition("7")
		field.Meaning = "Whom the certificate is for: a username, with the domain of its issuer."
	}
	return field
}

// SCT is a signed certificate timestamp (RFC 6962, section 3.2): the promise of a CT log that it has, or will have, the certificate.
type SCT struct {
	LogID    [32]byte // SHA-256 of the log's public key, as a SubjectPublicKeyInfo
	Time     time.Time
	Index    uint64 // of the entry in the log, if HasIndex
	HasIndex bool   // the log is one of the static CT API, which says the index
}

// SCTs are those that a certificate holds; none, if it holds no list of them. They are not verified.
func SCTs(c *x509.Certificate) ([]SCT, error) {
	for _, extension := range c.Extensions {
		if extension.Id.String() == timestamps {
			return readSCTs(extension.Value)
		}
	}
	return nil, nil
}

// readSCTs reads the list that is in an extension, as an OCTET STRING (RFC 6962, section 3.3).
func readSCTs(value []byte) ([]SCT, error) {
	var content []byte
	if rest, err := asn1.Unmarshal(value, &content); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the list of SCTs is not an OCTET STRING alone: %d bytes follow, %v", len(rest), err)
	}
	var list ctx509.SignedCertificateTimestampList
	if rest, err := tls.Unmarshal(content, &list); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the list of SCTs: %d bytes follow it, %v", len(rest), err)
	}
	var found []SCT
	for i, one := range list.SCTList {
		var sct ct.SignedCertificateTimestamp
		if rest, err := tls.Unmarshal(one.Val, &sct); err != nil || len(rest) > 0 {
			return nil, fmt.Errorf("SCT %d: %d bytes follow it, %v", i, len(rest), err)
		}
		read := SCT{LogID: sct.LogID.KeyID, Time: time.UnixMilli(int64(sct.Timestamp)).UTC()}
		read.Index, read.HasIndex = leafIndex(sct.Extensions)
		found = append(found, read)
	}
	return found, nil
}

// leafIndex is the index that the extensions of an SCT name (https://c2sp.org/static-ct-api, "SCT Extension").
func leafIndex(extensions []byte) (index uint64, ok bool) {
	const isLeafIndex, size = 0, 5
	for left := cryptobyte.String(extensions); !left.Empty(); {
		var kind uint8
		var data cryptobyte.String
		if !left.ReadUint8(&kind) || !left.ReadUint16LengthPrefixed(&data) {
			return 0, false
		}
		if kind == isLeafIndex && len(data) == size {
			return binary.BigEndian.Uint64(append(make([]byte, 8-size), data...)), true
		}
	}
	return 0, false
}

func signedTimestamps(value []byte) []Field {
	const title, link = "Signed certificate timestamp (SCT)", rfc6962 + "3.3"
	scts, err := readSCTs(value)
	if err != nil {
		return []Field{unreadable(title, value, link)}
	}
	var fields []Field
	for _, sct := range scts {
		text := fmt.Sprintf("%s, by the log %x", sct.Time.Format("2006-01-02T15:04:05.000Z07:00"), sct.LogID)
		if sct.HasIndex {
			text += fmt.Sprintf(", as its entry %d", sct.Index)
		}
		fields = append(fields, Field{Name: title, Value: text,
			Link:    link,
			Meaning: "When a CT log has promised to show the certificate to everybody. The log's ID is the SHA-256 of its public key."})
	}
	return fields
}
