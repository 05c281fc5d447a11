package tilelog

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"sigstore-local/magefiles/internal/checkpoint"
)

// treeHeadVerifier verifies the checkpoints of a static CT log: the signature is that of a signed tree head by RFC 6962, section
// 3.5, after its timestamp (https://c2sp.org/static-ct-api, "Checkpoints").
type treeHeadVerifier struct {
	origin string
	key    *ecdsa.PublicKey
	logID  [sha256.Size]byte // the digest of the key as a SubjectPublicKeyInfo
}

// SignedAt is when a static CT log has signed a checkpoint of it that Parse has returned. The time is part of what is signed.
func SignedAt(c checkpoint.Checkpoint) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(c.Signature))).UTC()
}

// treeHeadSignature is the kind of signature (https://c2sp.org/signed-note, "Signature types").
const treeHeadSignature = "\x05"

func (v treeHeadVerifier) Name() string { return v.origin }

func (v treeHeadVerifier) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(v.origin+"\n"+treeHeadSignature), v.logID[:]...))
	return binary.BigEndian.Uint32(sum[:])
}

func (v treeHeadVerifier) Verify(message, signature []byte) bool {
	lines := strings.Split(string(message), "\n")
	if len(lines) < 3 {
		return false
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return false
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return false
	}
	// SHA-256 and ECDSA, by their numbers in TLS 1.2 (RFC 5246, section 7.4.1.4.1).
	const sha256Hash, ecdsaSignature = 4, 3
	given := cryptobyte.String(signature)
	var (
		milliseconds uint64
		hash, kind   uint8
		der          cryptobyte.String
	)
	if !given.ReadUint64(&milliseconds) || !given.ReadUint8(&hash) || !given.ReadUint8(&kind) || !given.ReadUint16LengthPrefixed(&der) ||
		!given.Empty() || hash != sha256Hash || kind != ecdsaSignature {
		return false
	}
	var signed cryptobyte.Builder
	signed.AddUint8(0) // version 1
	signed.AddUint8(1) // a tree head
	signed.AddUint64(milliseconds)
	signed.AddUint64(size)
	signed.AddBytes(root)
	digest := sha256.Sum256(signed.BytesOrPanic())
	return ecdsa.VerifyASN1(v.key, digest[:], der)
}

// nextTileLeaf is the first of the entries of a data tile, as a MerkleTreeLeaf of RFC 6962, section 3.4, and the others. In a
// tile, each is a TileLeaf (https://c2sp.org/static-ct-api, "Log entries").
func nextTileLeaf(tile []byte) (record, rest []byte, ok bool) {
	entries := cryptobyte.String(tile)
	var (
		timestamp                     uint64
		kind                          uint16
		certificate, extensions, list cryptobyte.String
	)
	const precertificate, issuerKeyHash = 1, sha256.Size
	if !entries.ReadUint64(&timestamp) || !entries.ReadUint16(&kind) || kind > precertificate ||
		kind == precertificate && !entries.Skip(issuerKeyHash) || !entries.ReadUint24LengthPrefixed(&certificate) ||
		!entries.ReadUint16LengthPrefixed(&extensions) {
		return nil, nil, false
	}
	record = append([]byte{0, 0}, tile[:len(tile)-len(entries)]...) // after version 1 and a timestamped entry
	if kind == precertificate && !entries.ReadUint24LengthPrefixed(&certificate) || !entries.ReadUint16LengthPrefixed(&list) {
		return nil, nil, false
	}
	return record, entries, true
}
