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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"sigstore-local/magefiles/internal/project"
)

// The times for which metadata is valid. It is renewed when less than half is left, and only when the stack is started.
const (
	lifetime = 365 * 24 * time.Hour
	renewal  = lifetime / 2
)

// roles are TUF's top-level roles, each with a key of its own (https://theupdateframework.github.io/specification/).
var roles = []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}

// repository is a TUF repository with consistent snapshots. The names of metadata files have their versions, but for
// timestamp.json, which names the current snapshot, and with that all that is current.
//
// A root with new keys is written last. By then there is metadata signed with the new keys and with those of the root before.
// So clients can update at any moment, also if this process is killed.
type repository struct {
	description
	now    time.Time
	files  map[string]target // what it holds
	root   *metadata.Metadata[metadata.RootType]
	before *metadata.Metadata[metadata.RootType] // the root that this one is to replace, if its keys are new
}

// open reads the newest root, or makes the first one, and renews one that is about to expire.
func open(d description, files map[string]target, now time.Time) (*repository, error) {
	r := &repository{description: d, files: files, now: now}
	for _, dir := range []string{r.Keys, filepath.Join(r.Repository, "targets")} {
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
		return r, r.newKeys()
	}
	if r.root, err = load[metadata.RootType](r.versioned(version, metadata.ROOT)); err != nil {
		return nil, err
	}
	if err := r.root.VerifyDelegate(metadata.ROOT, r.root); err != nil {
		return nil, damaged(r.versioned(version, metadata.ROOT), err)
	}
	// A key that is lost would otherwise be missed only when something is to be signed, half a year later.
	for _, role := range roles {
		for _, id := range r.root.Signed.Roles[role].KeyIDs {
			if _, err := r.signer(id); err != nil {
				return nil, damaged(r.keyFile(id), err)
			}
		}
	}
	if !r.fresh(r.root.Signed.Expires) {
		r.root.Signed.Version++
		r.root.Signed.Expires = r.expiry()
		return r, sign(r, metadata.ROOT, r.root)
	}
	return r, nil
}

// rotate replaces the root by one with new keys.
func (r *repository) rotate() error {
	r.before, r.root = r.root, metadata.Root(r.expiry())
	r.root.Signed.Version = r.before.Signed.Version + 1
	return r.newKeys()
}

// newKeys gives the root a new key for each role, and signs it.
func (r *repository) newKeys() error {
	for _, role := range roles {
		key, err := r.newKey()
		if err != nil {
			return err
		}
		if err := r.root.Signed.AddKey(key, role); err != nil {
			return err
		}
	}
	return sign(r, metadata.ROOT, r.root)
}

// update writes the metadata of targets, snapshot and timestamp for the files and the root's keys, unless it is up to date
// and does not expire soon. Then it writes the root, and the files from which clients take their trust without TUF.
func (r *repository) update() error {
	targets, err := r.targets()
	if err != nil {
		return err
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
	root, err := r.root.ToBytes(true)
	if err != nil {
		return err
	}
	if err := replace(r.versioned(r.root.Signed.Version, metadata.ROOT), root); err != nil {
		return err
	}
	public := map[string][]byte{
		"trusted_root.json":        r.files[trustedRootTarget].text,
		"signing_config.json":      r.files[signingConfigTarget].text,
		"client_trust_config.json": r.files[clientTrustConfigTarget].text,
		// A client may begin with any root; the newest saves it the updates from root to root.
		"root.json": root,
	}
	if r.Here != nil {
		here, err := signingConfig(*r.Here)
		if err != nil {
			return err
		}
		if public["signing_config.here.json"], err = text(here); err != nil {
			return err
		}
	}
	for name, target := range r.files {
		if target.usage != "" {
			public[name] = target.text
		}
	}
	for name, content := range public {
		if err := replace(filepath.Join(r.Trust, name), content); err != nil {
			return err
		}
	}
	return nil
}

// targets writes the files, and lists them.
func (r *repository) targets() (*metadata.Metadata[metadata.TargetsType], error) {
	targets := metadata.Targets()
	for name, file := range r.files {
		info, err := metadata.TargetFile().FromBytes(name, file.text, "sha256")
		if err != nil {
			return nil, err
		}
		if file.usage != "" {
			custom, err := json.Marshal(map[string]any{"sigstore": map[string]string{"status": "Active", "usage": file.usage, "uri": file.uri}})
			if err != nil {
				return nil, err
			}
			info.Custom = (*json.RawMessage)(&custom)
		}
		targets.Signed.Targets[name] = info
		prefixed := fmt.Sprintf("%s.%s", info.Hashes["sha256"], name)
		if err := replace(filepath.Join(r.Repository, "targets", prefixed), file.text); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// state holds the fields of metadata that differ between versions with the same content.
type state struct {
	version *int64
	expires *time.Time
}

// upToDate writes wanted as the next version of role's metadata, unless the newest one says the same, has the root's
// signatures and does not expire soon. It returns the newest version.
func upToDate[T metadata.Roles](r *repository, role string, wanted *metadata.Metadata[T], parts func(*T) state) (int64, error) {
	name := filepath.Join(r.Repository, role+".json")
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
	if err := sign(r, role, wanted); err != nil {
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
func (r *repository) keyFile(id string) string     { return filepath.Join(r.Keys, id+".pem") }
func (r *repository) versioned(version int64, role string) string {
	return filepath.Join(r.Repository, fmt.Sprintf("%d.%s.json", version, role))
}

// newest is the highest version of role's metadata, 0 if there is none.
func (r *repository) newest(role string) (int64, error) {
	names, err := fs.Glob(os.DirFS(r.Repository), "*."+role+".json")
	if err != nil {
		return 0, err
	}
	highest := int64(0)
	for _, name := range names {
		number, _, _ := strings.Cut(name, ".")
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
	return key, renameio.WriteFile(r.keyFile(id), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600, renameio.WithTempDir(r.Keys))
}

// sign replaces the signatures of m, which is role's metadata, by those of the root's keys and of the root before it.
func sign[T metadata.Roles](r *repository, role string, m *metadata.Metadata[T]) error {
	ids := r.root.Signed.Roles[role].KeyIDs
	if r.before != nil {
		ids = slices.Concat(ids, r.before.Signed.Roles[role].KeyIDs)
	}
	m.ClearSignatures()
	for _, id := range ids {
		signer, err := r.signer(id)
		if err == nil {
			_, err = m.Sign(signer)
		}
		if err != nil {
			return damaged(r.keyFile(id), err)
		}
	}
	return nil
}

// signer signs with the private half of the key id.
func (r *repository) signer(id string) (signature.Signer, error) {
	content, err := os.ReadFile(r.keyFile(id))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("it does not hold a private key in PEM")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, err := signature.LoadSigner(private, crypto.Hash(0))
	if err != nil {
		return nil, err
	}
	public, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	key, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return nil, err
	}
	if held, err := key.ID(); err != nil || held != id {
		return nil, errors.Join(errors.New("it holds another key"), err)
	}
	return signer, nil
}

// load reads metadata.
func load[T metadata.Roles](name string) (*metadata.Metadata[T], error) {
	m, err := new(metadata.Metadata[T]).FromFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(name, err)
	}
	return m, err
}

// damaged is the error about a file that is not as it was made. It says how to go on.
func damaged(name string, err error) error {
	return fmt.Errorf("the TUF repository cannot use %s: %w: put back a copy of it, or wipe the stack's data and keys with `"+project.Command+" reset`", name, err)
}

// replace writes a public file, unless it is there.
func replace(name string, content []byte) error {
	if present, err := os.ReadFile(name); err == nil && string(present) == string(content) {
		return nil
	}
	return renameio.WriteFile(name, content, 0o644)
}
