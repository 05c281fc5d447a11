package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The times for which metadata is valid. It is renewed when less than half is left, and only when the stack is started.
const (
	lifetime = 365 * 24 * time.Hour
	renewal  = lifetime / 2
)

// roles are TUF's top-level roles, each with a key of its own (https://theupdateframework.github.io/specification/).
var roles = []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}

// repository is a TUF repository with consistent snapshots. Metadata has its version in its file's name, but for
// timestamp.json, which is written last and makes what it leads to the repository's state.
type repository struct {
	dir, keys, trust string
	now              time.Time
	root             *metadata.Metadata[metadata.RootType]
}

// open reads the newest root, or makes the first one, and renews one that is about to expire.
func open(d description, now time.Time) (*repository, error) {
	r := &repository{dir: d.Repository, keys: d.Keys, trust: d.Trust, now: now}
	for _, dir := range []string{r.keys, filepath.Join(r.dir, "targets")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	version, err := r.newest(metadata.ROOT)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		r.root = metadata.Root(r.expiry())
		return r, r.newRoot(nil)
	}
	if r.root, err = load[metadata.RootType](r.versioned(version, metadata.ROOT)); err != nil {
		return nil, err
	}
	if err := r.root.VerifyDelegate(metadata.ROOT, r.root); err != nil {
		return nil, damaged(r.versioned(version, metadata.ROOT), err)
	}
	if !r.fresh(r.root.Signed.Expires) {
		r.root.Signed.Version++
		r.root.Signed.Expires = r.expiry()
		return r, r.writeRoot(r.root.Signed.Roles[metadata.ROOT].KeyIDs)
	}
	return r, nil
}

// rotate replaces every key by a new root, which the old root's key signs too, so that clients follow it.
func (r *repository) rotate() error {
	old := r.root.Signed.Roles[metadata.ROOT].KeyIDs
	version := r.root.Signed.Version
	r.root = metadata.Root(r.expiry())
	r.root.Signed.Version = version + 1
	return r.newRoot(old)
}

// newRoot gives the root a new key for each role, and signs it with that and those of the IDs others.
func (r *repository) newRoot(others []string) error {
	for _, role := range roles {
		key, err := r.newKey()
		if err != nil {
			return err
		}
		if err := r.root.Signed.AddKey(key, role); err != nil {
			return err
		}
	}
	return r.writeRoot(append(r.root.Signed.Roles[metadata.ROOT].KeyIDs, others...))
}

func (r *repository) writeRoot(keyIDs []string) error {
	if err := sign(r, r.root, keyIDs); err != nil {
		return err
	}
	text, err := r.root.ToBytes(true)
	if err != nil {
		return err
	}
	return replace(r.versioned(r.root.Signed.Version, metadata.ROOT), text)
}

// update brings targets, snapshot and timestamp up to files and to the root's keys, and renews what is about to expire.
func (r *repository) update(files map[string]target) error {
	targets := metadata.Targets()
	for name, file := range files {
		info, err := metadata.TargetFile().FromBytes(name, file.text, "sha256")
		if err != nil {
			return err
		}
		if file.usage != "" {
			custom, err := json.Marshal(map[string]any{"sigstore": map[string]string{"status": "Active", "usage": file.usage, "uri": file.uri}})
			if err != nil {
				return err
			}
			info.Custom = (*json.RawMessage)(&custom)
		}
		targets.Signed.Targets[name] = info
		prefixed := fmt.Sprintf("%s.%s", info.Hashes["sha256"], name)
		if err := replace(filepath.Join(r.dir, "targets", prefixed), file.text); err != nil {
			return err
		}
	}
	version, err := upToDate(r, metadata.TARGETS, targets, func(m *metadata.TargetsType) state { return state{&m.Version, &m.Expires} })
	if err != nil {
		return err
	}
	snapshot := metadata.Snapshot()
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(version)
	version, err = upToDate(r, metadata.SNAPSHOT, snapshot, func(m *metadata.SnapshotType) state { return state{&m.Version, &m.Expires} })
	if err != nil {
		return err
	}
	timestamp := metadata.Timestamp()
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(version)
	if _, err := upToDate(r, metadata.TIMESTAMP, timestamp, func(m *metadata.TimestampType) state { return state{&m.Version, &m.Expires} }); err != nil {
		return err
	}
	// A client may begin with any root, and saves the way to the newest with that.
	text, err := os.ReadFile(r.versioned(r.root.Signed.Version, metadata.ROOT))
	if err != nil {
		return err
	}
	return replace(filepath.Join(r.trust, "root.json"), text)
}

// state is what changes of metadata although it says the same.
type state struct {
	version *int64
	expires *time.Time
}

// upToDate writes wanted as the next version of role's metadata, unless the newest one says the same, has the root's
// signatures and does not expire soon. It returns the version that then holds.
func upToDate[T metadata.Roles](r *repository, role string, wanted *metadata.Metadata[T], parts func(*T) state) (int64, error) {
	name := filepath.Join(r.dir, role+".json")
	if role != metadata.TIMESTAMP {
		version, err := r.newest(role)
		if err != nil {
			return 0, err
		}
		name = r.versioned(version, role)
	}
	next := parts(&wanted.Signed)
	present, err := load[T](name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		*next.version = 1
	case err != nil:
		return 0, err
	default:
		last := parts(&present.Signed)
		*next.version, *next.expires = *last.version, *last.expires
		same, err := equal(present.Signed, wanted.Signed)
		if err != nil {
			return 0, err
		}
		if same && r.fresh(*last.expires) && r.root.VerifyDelegate(role, present) == nil {
			return *last.version, nil
		}
		*next.version++
	}
	*next.expires = r.expiry()
	if err := sign(r, wanted, r.root.Signed.Roles[role].KeyIDs); err != nil {
		return 0, err
	}
	text, err := wanted.ToBytes(true)
	if err != nil {
		return 0, err
	}
	if role != metadata.TIMESTAMP {
		name = r.versioned(*next.version, role)
	}
	return *next.version, replace(name, text)
}

func equal(a, b any) (bool, error) {
	left, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	right, err := json.Marshal(b)
	return string(left) == string(right), err
}

func (r *repository) expiry() time.Time            { return r.now.Add(lifetime).UTC().Truncate(time.Second) }
func (r *repository) fresh(expires time.Time) bool { return expires.Sub(r.now) > renewal }
func (r *repository) keyFile(id string) string     { return filepath.Join(r.keys, id+".pem") }
func (r *repository) versioned(version int64, role string) string {
	return filepath.Join(r.dir, fmt.Sprintf("%d.%s.json", version, role))
}

// newest is the highest version of role's metadata, 0 if there is none.
func (r *repository) newest(role string) (int64, error) {
	names, err := filepath.Glob(filepath.Join(r.dir, "*."+role+".json"))
	if err != nil {
		return 0, err
	}
	highest := int64(0)
	for _, name := range names {
		number, _, _ := strings.Cut(filepath.Base(name), ".")
		if version, err := strconv.ParseInt(number, 10, 64); err == nil {
			highest = max(highest, version)
		}
	}
	return highest, nil
}

// newKey makes a key pair, whose private half is in a file named after its ID.
func (r *repository) newKey() (*metadata.Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return nil, err
	}
	id, err := key.ID()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return key, renameio.WriteFile(r.keyFile(id), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// sign replaces the signatures of m by those of the keys with the given IDs.
func sign[T metadata.Roles](r *repository, m *metadata.Metadata[T], keyIDs []string) error {
	m.ClearSignatures()
	for _, id := range keyIDs {
		content, err := os.ReadFile(r.keyFile(id))
		if err != nil {
			return damaged(r.keyFile(id), err)
		}
		block, _ := pem.Decode(content)
		if block == nil {
			return damaged(r.keyFile(id), errors.New("it does not hold a private key in PEM"))
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return damaged(r.keyFile(id), err)
		}
		signer, err := signature.LoadSigner(key, crypto.Hash(0))
		if err != nil {
			return damaged(r.keyFile(id), err)
		}
		made, err := m.Sign(signer)
		if err != nil {
			return damaged(r.keyFile(id), err)
		}
		if made.KeyID != id {
			return damaged(r.keyFile(id), errors.New("it holds another key"))
		}
	}
	return nil
}

// load reads metadata.
func load[T metadata.Roles](name string) (*metadata.Metadata[T], error) {
	m, err := new(metadata.Metadata[T]).FromFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(name, err)
	}
	return m, err
}

// damaged says how to go on without a file that is not as it was made.
func damaged(name string, err error) error {
	return fmt.Errorf("the TUF repository cannot use %s: %w: put back a copy of it, or wipe the stack's data and keys with `go tool mage reset`", name, err)
}

// replace writes a public file, unless it is there.
func replace(name string, content []byte) error {
	if present, err := os.ReadFile(name); err == nil && string(present) == string(content) {
		return nil
	}
	return renameio.WriteFile(name, content, 0o644)
}
