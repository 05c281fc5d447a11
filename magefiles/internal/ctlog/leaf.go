package ctlog

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// read reads what the entry's leaf says. What else a log shows of an entry, such as the precertificate with its signature, is not
// part of the tree, so that a log may show what it likes.
func (e *Entry) read() error {
	var leaf ct.MerkleTreeLeaf
	rest, err := tls.Unmarshal(e.LeafInput, &leaf)
	if err != nil {
		return fmt.Errorf("the leaf of entry %d: %w", e.Index, err)
	}
	if len(rest) > 0 || leaf.Version != ct.V1 || leaf.TimestampedEntry == nil {
		return fmt.Errorf("the leaf of entry %d is of version %d and type %d, and %d bytes follow; accepted is version 0, type 0, and no more",
			e.Index, leaf.Version, leaf.LeafType, len(rest))
	}
	entry := leaf.TimestampedEntry
	e.Time = time.UnixMilli(int64(entry.Timestamp)).UTC()
	var der []byte
	switch entry.EntryType {
	case ct.X509LogEntryType:
		der = entry.X509Entry.Data
	case ct.PrecertLogEntryType:
		e.Precertificate, e.IssuerKeyHash = true, entry.PrecertEntry.IssuerKeyHash[:]
		if der, err = unsigned(entry.PrecertEntry.TBSCertificate); err != nil {
			return fmt.Errorf("the precertificate of entry %d: %w", e.Index, err)
		}
	default:
		return fmt.Errorf("entry %d is of type %d; accepted are 0, a certificate, and 1, a precertificate", e.Index, entry.EntryType)
	}
	if e.Certificate, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("the certificate of entry %d: %w", e.Index, err)
	}
	return nil
}

// unsigned is a certificate around a TBSCertificate (RFC 5280, section 4.1), with an empty signature, so that the package x509
// reads it.
func unsigned(tbs []byte) ([]byte, error) {
	whole := cryptobyte.String(tbs)
	var fields, algorithm cryptobyte.String
	version := asn1.Tag(0).ContextSpecific().Constructed()
	if !whole.ReadASN1(&fields, asn1.SEQUENCE) || !whole.Empty() || !fields.SkipOptionalASN1(version) || !fields.SkipASN1(asn1.INTEGER) ||
		!fields.ReadASN1Element(&algorithm, asn1.SEQUENCE) {
		return nil, errors.New("this is no TBSCertificate")
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(nil)
	})
	return b.Bytes()
}
