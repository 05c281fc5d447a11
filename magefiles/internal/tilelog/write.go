package tilelog

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Writer makes the files of a log of the layout TlogTiles, from its first entry on, as Tessera's POSIX storage does. It is for
// tests and measurements, which want large logs at once: a server acknowledges some hundred entries a second. No server of the log
// may run meanwhile.
type Writer struct {
	log    Log
	signer note.Signer

	size, published int64       // entries that were added, and that the checkpoint has
	hashes          []tlog.Hash // as the package tlog stores them
	bundle          []byte      // the entries after the last full bundle
}

// NewWriter returns a writer of the log in a folder, which is made if need be, whose checkpoints begin with origin.
func NewWriter(folder Folder, origin string, key ed25519.PrivateKey) (*Writer, error) {
	public, _ := key.Public().(ed25519.PublicKey)
	verifier, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, err
	}
	// A signer's key in the package note is a verifier's key with another beginning and the private half.
	const ed25519Signature = 1
	parts := strings.SplitN(verifier, "+", 3)
	private := base64.StdEncoding.EncodeToString(append([]byte{ed25519Signature}, key.Seed()...))
	signer, err := note.NewSigner("PRIVATE+KEY+" + origin + "+" + parts[1] + "+" + private)
	return &Writer{log: Log{Files: folder, Origin: origin}, signer: signer}, err
}

// ReadHashes implements tlog.HashReader.
func (w *Writer) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = w.hashes[index]
	}
	return found, nil
}

// Add adds an entry, which the log has once it is published.
func (w *Writer) Add(entry []byte) error {
	more, err := tlog.StoredHashes(w.size, entry, w)
	if err != nil {
		return err
	}
	w.hashes = append(w.hashes, more...)
	w.bundle = append(binary.BigEndian.AppendUint16(w.bundle, uint16(len(entry))), entry...)
	if w.size++; w.size%fullWidth != 0 {
		return nil
	}
	err = w.write(tlog.Tile{H: height, L: -1, N: w.size/fullWidth - 1, W: fullWidth}, w.bundle)
	w.bundle = w.bundle[:0]
	return err
}

// Publish writes what is left to write of the entries that were added, and a checkpoint. Partial tiles and bundles of smaller trees
// stay.
func (w *Writer) Publish() error {
	if rest := w.size % fullWidth; rest > 0 {
		if err := w.write(tlog.Tile{H: height, L: -1, N: w.size / fullWidth, W: int(rest)}, w.bundle); err != nil {
			return err
		}
	}
	for _, tile := range tlog.NewTiles(height, w.published, w.size) {
		content, err := tlog.ReadTileData(tile, w)
		if err != nil {
			return err
		}
		if err := w.write(tile, content); err != nil {
			return err
		}
	}
	root, err := tlog.TreeHash(w.size, w)
	if err != nil {
		return err
	}
	now, err := json.Marshal(state{Size: w.size, Root: root[:]})
	if err != nil {
		return err
	}
	if err := w.file(stateName, now); err != nil {
		return err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", w.log.Origin, w.size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, w.signer)
	if err != nil {
		return err
	}
	w.published = w.size
	return w.file(checkpointName, signed)
}

func (w *Writer) write(tile tlog.Tile, content []byte) error {
	return w.file(w.log.fileName(tile), content)
}

func (w *Writer) file(name string, content []byte) error {
	path := w.log.Files.Place(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}
