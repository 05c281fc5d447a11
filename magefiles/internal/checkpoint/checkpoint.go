// Package checkpoint reads checkpoints, in which a log signs the size and the root of its tree
// (https://c2sp.org/tlog-checkpoint).
package checkpoint

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is what a log has signed about itself.
type Checkpoint struct {
	Text   string // with its signatures
	Origin string // its first line, which names the log
	Size   uint64 // entries
	Root   []byte // of the Merkle tree over them

	Signature []byte // the log's, without the key's hash before it
}

// Parse reads a checkpoint and refuses one that verifier does not verify.
func Parse(text string, verifier note.Verifier) (Checkpoint, error) {
	signed, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the log's key has not signed this checkpoint: %w", err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 3 {
		return Checkpoint{}, fmt.Errorf("a checkpoint has at least three lines, this has %d", len(lines))
	}
	// A tree's size is 63 bits at most, so that it fits an int64.
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the checkpoint's size: %w", err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the checkpoint's root: %w", err)
	}
	if len(root) != sha256.Size {
		return Checkpoint{}, fmt.Errorf("the checkpoint's root has %d bytes, not %d", len(root), sha256.Size)
	}
	signature, err := base64.StdEncoding.DecodeString(signed.Sigs[0].Base64)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the checkpoint's signature: %w", err)
	}
	const keyHash = 4 // bytes (https://c2sp.org/signed-note, "Signatures")
	return Checkpoint{Text: text, Origin: lines[0], Size: size, Root: root, Signature: signature[keyHash:]}, nil
}
