package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/oidc"
)

// signature is a keyless signature that cosign has acknowledged: it ended with exit code 0.
type signature struct {
	blob   []byte
	bundle cosignBundle
}

// cosignBundle is what `cosign sign-blob --bundle` writes.
type cosignBundle struct {
	Signature []byte `json:"base64Signature"`
	Cert      []byte `json:"cert"` // PEM
	Rekor     struct {
		Payload struct {
			Body     string `json:"body"`
			LogIndex int64  `json:"logIndex"`
		}
	} `json:"rekorBundle"`
}

// signers are clients that sign one thing after another until they are told to end.
type signers[T any] struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	signed []T
	failed []string // when, and why
}

// signing lets count clients sign, by a function that signs something of the given name.
func signing[T any](t *testing.T, count int, sign func(ctx context.Context, name string) (T, error)) *signers[T] {
	ctx, cancel := context.WithCancel(t.Context())
	c := &signers[T]{cancel: cancel}
	for client := range count {
		c.wg.Go(func() {
			for number := 0; ctx.Err() == nil; number++ {
				one, err := sign(ctx, fmt.Sprintf("%d-%d", client, number))
				if err != nil && ctx.Err() != nil {
					return // it was told to end
				}
				c.mu.Lock()
				if err == nil {
					c.signed = append(c.signed, one)
				} else {
					c.failed = append(c.failed, time.Now().UTC().Format(time.TimeOnly)+" "+err.Error())
				}
				c.mu.Unlock()
				if err != nil {
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	return c
}

// sign lets count clients sign blobs.
func (s *stack) sign(count int) *signers[signature] {
	s.t.Helper()
	password := strings.TrimSpace(s.read(s.config.SecretFile(config.DexPassword)))
	return signing(s.t, count, func(ctx context.Context, name string) (signature, error) { return s.signOnce(ctx, name, password) })
}

// signOnce signs a blob of its own as the stack's user.
func (s *stack) signOnce(ctx context.Context, name, password string) (signature, error) {
	token, err := oidc.Token(ctx, s.config.Issuer(), s.config.Email, password)
	if err != nil {
		return signature{}, err
	}
	blob, bundle := filepath.Join(s.home, name), filepath.Join(s.home, name+".json")
	content := []byte("signed by " + name + " at " + time.Now().String())
	if err := os.WriteFile(blob, content, 0o600); err != nil {
		return signature{}, err
	}
	defer os.Remove(blob)
	defer os.Remove(bundle)
	// A client that is killed has acknowledged nothing, so it need not end in good order.
	cmd := s.command(ctx, s.home, s.config.Program("cosign"), "sign-blob", "--yes", "--bundle", bundle, blob)
	cmd.Env = append(cmd.Env,
		"COSIGN_FULCIO_URL="+s.config.URL(config.Fulcio), "COSIGN_REKOR_URL="+s.config.URL(config.Rekor), "COSIGN_IDENTITY_TOKEN="+token,
		"TUF_ROOT="+filepath.Join(s.home, "tuf"), "SIGSTORE_ROOT_FILE="+s.config.Key("ca-root.pem"),
		"SIGSTORE_CT_LOG_PUBLIC_KEY_FILE="+s.config.Key("ctfe.pub"), "SIGSTORE_REKOR_PUBLIC_KEY="+s.config.Key("rekor.pub"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return signature{}, fmt.Errorf("%w: %s", err, out[max(0, len(out)-300):])
	}
	written, err := os.ReadFile(bundle)
	if err != nil {
		return signature{}, err
	}
	one := signature{blob: content}
	return one, json.Unmarshal(written, &one.bundle)
}

// end stops the clients and returns what they signed.
func (c *signers[T]) end() []T {
	c.cancel()
	c.wg.Wait()
	return c.signed
}

// verify checks a signature without any of the programs that made it: that the certificate's key signed the blob, that
// the CA signed the certificate, and that the entry is in the log, by its inclusion proof and the log's own signature.
func (s *stack) verify(one signature) error {
	block, _ := pem.Decode(one.bundle.Cert)
	if block == nil {
		return errors.New("the bundle has no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	root, err := os.ReadFile(s.config.Key("ca-root.pem"))
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(root)
	// Fulcio's identities are in a critical extension that Go knows, and its SCT in one that is not critical.
	chain := x509.VerifyOptions{Roots: roots, CurrentTime: certificate.NotBefore.Add(time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	if _, err := certificate.Verify(chain); err != nil {
		return err
	}
	if len(certificate.EmailAddresses) != 1 || certificate.EmailAddresses[0] != s.config.Email {
		return fmt.Errorf("the certificate is for %v", certificate.EmailAddresses)
	}
	digest := sha256.Sum256(one.blob)
	if key, ok := certificate.PublicKey.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(key, digest[:], one.bundle.Signature) {
		return errors.New("the signature is not the certificate's key's")
	}
	return s.verifyInclusion(one)
}

// verifyInclusion asks the log for the signature's entry and checks its inclusion proof (RFC 6962) and the checkpoint
// (https://c2sp.org/signed-note).
func (s *stack) verifyInclusion(one signature) error {
	response, err := http.Get(fmt.Sprintf("%s/api/v1/log/entries?logIndex=%d", s.config.URL(config.Rekor), one.bundle.Rekor.Payload.LogIndex))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("entry %d: %s", one.bundle.Rekor.Payload.LogIndex, response.Status)
	}
	var entries map[string]struct {
		Body         string `json:"body"`
		Verification struct {
			InclusionProof struct {
				Checkpoint string   `json:"checkpoint"`
				Hashes     []string `json:"hashes"`
				LogIndex   uint64   `json:"logIndex"`
				RootHash   string   `json:"rootHash"`
				TreeSize   uint64   `json:"treeSize"`
			} `json:"inclusionProof"`
		} `json:"verification"`
	}
	if err := json.NewDecoder(response.Body).Decode(&entries); err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("%d entries", len(entries))
	}
	for _, entry := range entries {
		if entry.Body != one.bundle.Rekor.Payload.Body {
			return errors.New("the log has another entry there")
		}
		body, err := base64.StdEncoding.DecodeString(entry.Body)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(one.blob)
		if !bytes.Contains(body, []byte(hex.EncodeToString(digest[:]))) {
			return errors.New("the entry is about something else")
		}
		p := entry.Verification.InclusionProof
		hashes := make([][]byte, len(p.Hashes))
		for i, text := range p.Hashes {
			if hashes[i], err = hex.DecodeString(text); err != nil {
				return err
			}
		}
		root, err := hex.DecodeString(p.RootHash)
		if err != nil {
			return err
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.LogIndex, p.TreeSize, rfc6962.DefaultHasher.HashLeaf(body), hashes, root); err != nil {
			return err
		}
		if err := verifyCheckpoint(s.config.Key("rekor.pub"), p.Checkpoint, p.TreeSize, root); err != nil {
			return err
		}
	}
	return nil
}

// verifyCheckpoint checks that the key in a file has signed a checkpoint, which is a signed note, and that it says size and
// root.
func verifyCheckpoint(keyFile, checkpoint string, size uint64, root []byte) error {
	text, signed, ok := strings.Cut(checkpoint, "\n\n— ")
	lines, fields := strings.Split(text, "\n"), strings.Fields(signed)
	if !ok || len(lines) < 3 || len(fields) < 2 || fields[0] != "localhost" || strings.Fields(lines[0])[0] != "localhost" {
		return fmt.Errorf("not a checkpoint of this stack's: %q", checkpoint)
	}
	if lines[1] != fmt.Sprint(size) || lines[2] != base64.StdEncoding.EncodeToString(root) {
		return fmt.Errorf("the checkpoint is of another tree: %q", checkpoint)
	}
	content, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(content)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(raw) < 4 {
		return fmt.Errorf("the checkpoint's signature is %q: %v", fields[1], err)
	}
	// The first four bytes are the key hash, which only hints at the key.
	hint, message, right := raw[:4], []byte(text+"\n"), false
	switch key := public.(type) {
	case *ecdsa.PublicKey: // of Rekor v1, whose hint is of a kind of its own
		digest := sha256.Sum256(message)
		right = ecdsa.VerifyASN1(key, digest[:], raw[4:])
	case ed25519.PublicKey: // of Rekor v2
		id := sha256.Sum256(append([]byte("localhost\n\x01"), key...))
		right = bytes.Equal(hint, id[:4]) && ed25519.Verify(key, message, raw[4:])
	}
	if !right {
		return fmt.Errorf("the checkpoint is not signed by the key in %s", keyFile)
	}
	return nil
}

// logged is the one log entry in a Sigstore bundle.
func logged(file string) (*rekor.TransparencyLogEntry, error) {
	entity, err := bundle.LoadJSONFromPath(file)
	if err != nil {
		return nil, err
	}
	entries := entity.GetVerificationMaterial().GetTlogEntries()
	if len(entries) != 1 {
		return nil, fmt.Errorf("%s has %d log entries", file, len(entries))
	}
	return entries[0], nil
}

// verifyProof checks the inclusion proof in a Sigstore bundle and the checkpoint that it leads to, without Rekor's own code.
func verifyProof(file, keyFile string) error {
	entry, err := logged(file)
	if err != nil {
		return err
	}
	p, leaf := entry.GetInclusionProof(), rfc6962.DefaultHasher.HashLeaf(entry.GetCanonicalizedBody())
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.GetLogIndex()), uint64(p.GetTreeSize()), leaf, p.GetHashes(), p.GetRootHash()); err != nil {
		return err
	}
	return verifyCheckpoint(keyFile, p.GetCheckpoint().GetEnvelope(), uint64(p.GetTreeSize()), p.GetRootHash())
}

// verifyTiles reads Rekor v2's log from its files (https://c2sp.org/tlog-tiles). It checks that the entries have the root of
// the newest checkpoint, and that the entries of the given bundles are at the indices that the bundles name.
func (s *stack) verifyTiles(bundles []string) error {
	checkpoint := s.read(filepath.Join(s.config.Data("rekor-tiles"), "checkpoint"))
	_, text, _ := strings.Cut(checkpoint, "\n")
	size, err := strconv.ParseUint(strings.SplitN(text, "\n", 2)[0], 10, 64)
	if err != nil {
		return err
	}
	var entries [][]byte
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for tile := uint64(0); uint64(len(entries)) < size; tile++ {
		// Enough for a thousand tiles: further ones are in folders of thousands.
		name := filepath.Join(s.config.Data("rekor-tiles"), "tile", "entries", fmt.Sprintf("%03d", tile))
		if width := size - uint64(len(entries)); width < 256 {
			name = filepath.Join(name+".p", fmt.Sprint(width))
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for len(content) >= 2 {
			length := 2 + int(binary.BigEndian.Uint16(content))
			if len(content) < length {
				return fmt.Errorf("%s ends within an entry", name)
			}
			entries = append(entries, content[2:length])
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(content[2:length]), nil); err != nil {
				return err
			}
			content = content[length:]
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return err
	}
	if err := verifyCheckpoint(s.config.Key("rekor-tiles.pub"), checkpoint, uint64(len(entries)), root); err != nil {
		return err
	}
	for _, file := range bundles {
		entry, err := logged(file)
		if err != nil {
			return err
		}
		if index := entry.GetInclusionProof().GetLogIndex(); index >= int64(len(entries)) || !bytes.Equal(entries[index], entry.GetCanonicalizedBody()) {
			return fmt.Errorf("the log has another entry, or none, at %d, where %s says its own is", index, file)
		}
	}
	return nil
}

// verifyEach checks every signature.
func (s *stack) verifyEach(signed []signature) {
	s.t.Helper()
	for i, one := range signed {
		if err := s.verify(one); err != nil {
			s.t.Errorf("signature %d of %d, entry %d of the log: %v", i, len(signed), one.bundle.Rekor.Payload.LogIndex, err)
		}
	}
}
