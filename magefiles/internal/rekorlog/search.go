package rekorlog

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Query says what an entry has to have: all of its fields that are not empty.
type Query struct {
	Identity string // an email address or URI that a certificate names
	Digest   string // of what was signed, such as sha256:0123…
	Key      string // SHA-256 of a public key, as a SubjectPublicKeyInfo, as hex
	PEM      []byte // the key itself, or a certificate of it; nil if only its digest is known
}

// Found is what a search finds.
type Found struct {
	Entries []Entry // the newest first
	Total   uint64  // how many match, of which Entries may have fewer
	Newest  int     // how many of Entries are the newest that match; the others, if there are any, are just some that match
	Behind  uint64  // how many entries the index lacks: it is still being made
	Problem string  // why the index does not go on; empty if it does
}

var (
	plainDigest = regexp.MustCompile(`^(?:(sha256|sha384|sha512):)?([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$`)
	// algorithms are those of a digest, by how many digits it has.
	algorithms = map[int]string{64: "sha256", 96: "sha384", 128: "sha512"}
)

// ParseDigest reads a digest, with or without its algorithm.
func ParseDigest(text string) (string, error) {
	parts := plainDigest.FindStringSubmatch(strings.ToLower(text))
	if parts == nil || parts[1] != "" && parts[1] != algorithms[len(parts[2])] {
		return "", fmt.Errorf("the digest is %q; accepted are sha256: and 64 hex digits, sha384: and 96, or sha512: and 128, or the digits alone", text)
	}
	return algorithms[len(parts[2])] + ":" + parts[2], nil
}

// ParseKeyDigest reads the SHA-256 of a key, with or without sha256: before it.
func ParseKeyDigest(text string) (string, error) {
	digest, err := ParseDigest(text)
	key, ok := strings.CutPrefix(digest, "sha256:")
	if err != nil || !ok {
		return "", fmt.Errorf("the key is %q; accepted is the SHA-256 of a public key, 64 hex digits", text)
	}
	return key, nil
}

// NewQuery is a query for what is not empty of an identity, a digest, and a key. The key is the path of a PEM file with a public
// key or a certificate, or the SHA-256 of a public key.
func NewQuery(identity, digest, key string) (Query, error) {
	if identity+digest+key == "" {
		return Query{}, errors.New("what to search for is not said; accepted is at least one of -identity, -digest and -key")
	}
	query := Query{Identity: identity}
	var err error
	if digest != "" {
		if query.Digest, err = ParseDigest(digest); err != nil {
			return Query{}, err
		}
	}
	if key == "" {
		return query, nil
	}
	if query.Key, err = ParseKeyDigest(key); err == nil {
		return query, nil
	}
	const accepted = "accepted is a PEM file with a public key or a certificate, or the SHA-256 of a public key, 64 hex digits"
	content, err := os.ReadFile(key)
	if errors.Is(err, fs.ErrNotExist) {
		return Query{}, fmt.Errorf("the key is %q, and there is no such file; %s", key, accepted)
	}
	if err != nil {
		return Query{}, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return Query{}, fmt.Errorf("the file %s holds no PEM; %s", key, accepted)
	}
	public := block.Bytes
	if block.Type == "CERTIFICATE" {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Query{}, fmt.Errorf("%s: %w", key, err)
		}
		public = certificate.RawSubjectPublicKeyInfo
	} else if _, err := x509.ParsePKIXPublicKey(public); err != nil {
		return Query{}, fmt.Errorf("the file %s holds a %s; %s", key, block.Type, accepted)
	}
	sum := sha256.Sum256(public)
	query.Key, query.PEM = hex.EncodeToString(sum[:]), pem.EncodeToMemory(block)
	return query, nil
}

// String says what the query asks for.
func (q Query) String() string {
	var parts []string
	if q.Identity != "" {
		parts = append(parts, q.Identity)
	}
	if q.Digest != "" {
		parts = append(parts, q.Digest)
	}
	if q.Key != "" {
		parts = append(parts, "the key sha256:"+q.Key)
	}
	return strings.Join(parts, " and ")
}

// Names says whether an entry itself says all that the query asks for. An index may know more of it than the entry says, such as
// the images that a statement is about, and it may be wrong.
func (q Query) Names(d Description) bool {
	return (q.Identity == "" || slices.ContainsFunc(d.Signers, func(s Signer) bool { return strings.EqualFold(s.Identity, q.Identity) })) &&
		(q.Digest == "" || slices.Contains(d.Digests, q.Digest)) &&
		(q.Key == "" || slices.ContainsFunc(d.Signers, func(s Signer) bool { return s.Key == q.Key }))
}
