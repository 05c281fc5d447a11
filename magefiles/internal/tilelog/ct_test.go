package tilelog

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/cryptobyte"
)

const ctOrigin = "localhost/sigstore"

// signTreeHead makes a checkpoint as a static CT log signs it.
func signTreeHead(t *testing.T, key *ecdsa.PrivateKey, size uint64, root []byte) string {
	t.Helper()
	const milliseconds = 1_700_000_000_000
	var head cryptobyte.Builder
	head.AddBytes([]byte{0, 1})
	head.AddUint64(milliseconds)
	head.AddUint64(size)
	head.AddBytes(root)
	digest := sha256.Sum256(head.BytesOrPanic())
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	logID := sha256.Sum256(der)
	keyID := sha256.Sum256(append([]byte(ctOrigin+"\n\x05"), logID[:]...))
	var signed cryptobyte.Builder
	signed.AddBytes(keyID[:4])
	signed.AddUint64(milliseconds)
	signed.AddBytes([]byte{4, 3})
	signed.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(signature) })
	return fmt.Sprintf("%s\n%d\n%s\n\n— %s %s\n", ctOrigin, size, base64.StdEncoding.EncodeToString(root), ctOrigin,
		base64.StdEncoding.EncodeToString(signed.BytesOrPanic()))
}

func TestACheckpointOfACTLogIsWhatItsKeyHasSigned(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	log := Log{Origin: ctOrigin, Key: filepath.Join(t.TempDir(), "log.pub"), Layout: StaticCT}
	if err := os.WriteFile(log.Key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	root := bytes.Repeat([]byte{7}, sha256.Size)
	good := signTreeHead(t, key, 42, root)
	if got, err := log.Parse(good); err != nil || got.Size != 42 || !bytes.Equal(got.Root, root) || SignedAt(got).UnixMilli() != 1_700_000_000_000 {
		t.Errorf("%+v, %v", got, err)
	}
	for what, text := range map[string]string{
		"another key":  signTreeHead(t, other, 42, root),
		"another size": string(bytes.Replace([]byte(good), []byte("\n42\n"), []byte("\n43\n"), 1)),
		"another root": string(bytes.Replace([]byte(good), []byte(base64.StdEncoding.EncodeToString(root)), []byte(base64.StdEncoding.EncodeToString(make([]byte, sha256.Size))), 1)),
		"nothing":      "",
	} {
		if got, err := log.Parse(text); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
	log.Layout = TlogTiles
	if got, err := log.Parse(good); err == nil {
		t.Errorf("a key of another kind: %+v", got)
	}
}

// tileLeaf is an entry as a data tile has it, and as it is hashed.
func tileLeaf(precertificate bool) (leaf, hashed []byte) {
	var b cryptobyte.Builder
	text := func(add func(cryptobyte.BuilderContinuation), content string) {
		add(func(b *cryptobyte.Builder) { b.AddBytes([]byte(content)) })
	}
	b.AddUint64(1_700_000_000_000)
	if precertificate {
		b.AddUint16(1)
		b.AddBytes(make([]byte, sha256.Size))
	} else {
		b.AddUint16(0)
	}
	text(b.AddUint24LengthPrefixed, "a certificate")
	text(b.AddUint16LengthPrefixed, "extensions")
	timestamped := bytes.Clone(b.BytesOrPanic())
	if precertificate {
		text(b.AddUint24LengthPrefixed, "the precertificate")
	}
	text(b.AddUint16LengthPrefixed, "fingerprints")
	return b.BytesOrPanic(), append([]byte{0, 0}, timestamped...)
}

func TestEntriesOfACTLogAreReadOneAfterAnother(t *testing.T) {
	var tile []byte
	var want [][]byte
	for _, precertificate := range []bool{false, true, false} {
		leaf, hashed := tileLeaf(precertificate)
		tile, want = append(tile, leaf...), append(want, hashed)
	}
	rest := tile
	for i, hashed := range want {
		entry, after, ok := StaticCT.Next(rest)
		if !ok || !bytes.Equal(entry, hashed) {
			t.Fatalf("entry %d is %q, %v", i, entry, ok)
		}
		rest = after
	}
	if len(rest) != 0 {
		t.Errorf("left is %q", rest)
	}
	first, _ := tileLeaf(true)
	for end := range first {
		if entry, _, ok := StaticCT.Next(first[:end]); ok {
			t.Fatalf("of the first %d bytes there is an entry %q", end, entry)
		}
	}
	unknown := bytes.Clone(first)
	binary.BigEndian.PutUint16(unknown[8:], 2)
	if _, _, ok := StaticCT.Next(unknown); ok {
		t.Error("an entry of a kind that there is not is taken")
	}
}
