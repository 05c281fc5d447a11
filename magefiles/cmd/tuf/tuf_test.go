package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"sigstore-local/magefiles/internal/keys"
)

// newDescription describes a stack of a test's own, with keys as the real one has them.
func newDescription(t *testing.T) description {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a [1]* stack")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, kind := range map[string]keys.Kind{"ctfe": keys.ECDSA, "tesseract": keys.SEC1, "rekor": keys.ECDSA, "rekor-tiles": keys.Ed25519} {
		if err := keys.Ensure(kind, at(name+".pem"), at(name+".pub"), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.EnsureTimestamping(at("tsa"), time.Now()); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("ca-root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return description{
		Keys: at("tuf-keys"), Repository: at("tuf"), Trust: dir, Origin: "localhost",
		services: services{
			Issuer:     "http://localhost:5556",
			Fulcio:     endpoint{URL: "http://127.0.0.1:5555", File: at("ca-root.pem")},
			TrillianCT: &endpoint{URL: "http://localhost:6105/sigstore", File: at("ctfe.pub")},
			Tesseract:  &endpoint{URL: "http://localhost:6962/sigstore", File: at("tesseract.pub")},
			Rekor:      &endpoint{URL: "http://localhost:3000", File: at("rekor.pub"), Signs: true},
			RekorV2:    &endpoint{URL: "http://localhost:3003", File: at("rekor-tiles.pub"), Signs: true},
			TSA:        &endpoint{URL: "http://127.0.0.1:3004", File: at("tsa/chain.pem"), Signs: true},
		},
	}
}

// files are the contents of the repository's metadata, by name.
func (d description) files(t *testing.T) map[string]string {
	t.Helper()
	names, err := fs.Glob(os.DirFS(d.Repository), "*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(d.Repository, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(content)
	}
	return all
}

// has checks that the newest metadata of each role is of the given version and signed by the newest root, and that the
// roots lead from the first one to the newest.
func (d description) has(t *testing.T, roots, targets, snapshots, timestamps int64) {
	t.Helper()
	r := &repository{description: d}
	trusted, err := load[metadata.RootType](r.versioned(1, metadata.ROOT))
	if err != nil {
		t.Fatal(err)
	}
	for version := int64(2); version <= roots; version++ {
		next, err := load[metadata.RootType](r.versioned(version, metadata.ROOT))
		if err != nil {
			t.Fatal(err)
		}
		for name, by := range map[string]*metadata.Metadata[metadata.RootType]{"the one before it": trusted, "itself": next} {
			if err := by.VerifyDelegate(metadata.ROOT, next); err != nil {
				t.Errorf("root %d is not signed by %s: %v", version, name, err)
			}
		}
		trusted = next
	}
	for role, want := range map[string]int64{metadata.ROOT: roots, metadata.TARGETS: targets, metadata.SNAPSHOT: snapshots} {
		if newest, err := r.newest(role); err != nil || newest != want {
			t.Errorf("the newest %s has version %d, not %d: %v", role, newest, want, err)
		}
	}
	timestamp, err := load[metadata.TimestampType](filepath.Join(d.Repository, "timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	if timestamp.Signed.Version != timestamps || timestamp.Signed.Meta["snapshot.json"].Version != snapshots {
		t.Errorf("the timestamp is %+v", timestamp.Signed)
	}
	snapshot, err := load[metadata.SnapshotType](r.versioned(snapshots, metadata.SNAPSHOT))
	if err != nil {
		t.Fatal(err)
	}
	if snapshot.Signed.Meta["targets.json"].Version != targets {
		t.Errorf("the snapshot is %+v", snapshot.Signed)
	}
	target, err := load[metadata.TargetsType](r.versioned(targets, metadata.TARGETS))
	if err != nil {
		t.Fatal(err)
	}
	for role, signed := range map[string]any{metadata.TARGETS: target, metadata.SNAPSHOT: snapshot, metadata.TIMESTAMP: timestamp} {
		if err := trusted.VerifyDelegate(role, signed); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}

func TestPublishingTwiceIsAsOnce(t *testing.T) {
	d, now := newDescription(t), time.Now()
	if _, err := publish(d, now); err != nil {
		t.Fatal(err)
	}
	d.has(t, 1, 1, 1, 1)
	before := d.files(t)
	for range 5 { // more than once, since maps have no order
		if _, err := publish(d, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range d.files(t) {
		if before[name] != content {
			t.Errorf("%s is another", name)
		}
	}
	if _, err := root.NewTrustedRootFromPath(filepath.Join(d.Trust, "trusted_root.json")); err != nil {
		t.Error(err)
	}
	if _, err := root.NewSigningConfigFromPath(filepath.Join(d.Trust, "signing_config.json")); err != nil {
		t.Error(err)
	}
}

func TestWhatIsAboutToExpireIsRenewed(t *testing.T) {
	d, now := newDescription(t), time.Now()
	if _, err := publish(d, now); err != nil {
		t.Fatal(err)
	}
	later := now.Add(lifetime - renewal + time.Hour)
	if _, err := publish(d, later); err != nil {
		t.Fatal(err)
	}
	d.has(t, 2, 2, 2, 2)
	if _, err := publish(d, later); err != nil {
		t.Fatal(err)
	}
	d.has(t, 2, 2, 2, 2)
	// Even of one that expired long ago.
	if _, err := publish(d, later.AddDate(5, 0, 0)); err != nil {
		t.Fatal(err)
	}
	d.has(t, 3, 3, 3, 3)
}

// The trusted root is the same wherever the services are: it is part of what verifies signatures of before.
func TestServicesThatHaveMovedAreTrustedAsBefore(t *testing.T) {
	d := newDescription(t)
	before, err := trust(d)
	if err != nil {
		t.Fatal(err)
	}
	for name, moved := range map[string]*endpoint{"fulcio": &d.Fulcio, "rekor": d.Rekor, "rekor2": d.RekorV2, "tsa": d.TSA} {
		moved.At = "https://" + name + ".example.org"
	}
	after, err := trust(d)
	if err != nil {
		t.Fatal(err)
	}
	if string(after[trustedRootTarget].text) != string(before[trustedRootTarget].text) {
		t.Errorf("the trusted root becomes\n%s", after[trustedRootTarget].text)
	}
	signing := string(after[signingConfigTarget].text)
	for _, name := range []string{"fulcio", "rekor", "rekor2", "tsa"} {
		if !strings.Contains(signing, "https://"+name+".example.org") {
			t.Errorf("the signing config does not have %s where it is:\n%s", name, signing)
		}
	}
	if strings.Contains(signing, "127.0.0.1") || strings.Contains(signing, "localhost:300") {
		t.Errorf("the signing config has addresses of before:\n%s", signing)
	}
}

func TestAChangeOfWhatIsTrustedIsPublished(t *testing.T) {
	d, now := newDescription(t), time.Now()
	if _, err := publish(d, now); err != nil {
		t.Fatal(err)
	}
	d.Fulcio.URL = "http://127.0.0.1:15555"
	if _, err := publish(d, now); err != nil {
		t.Fatal(err)
	}
	d.has(t, 1, 2, 2, 2)
}

func TestANewRootHasNewKeysAndIsSignedByTheOldOnes(t *testing.T) {
	d, now := newDescription(t), time.Now()
	r, err := publish(d, now)
	if err != nil {
		t.Fatal(err)
	}
	old, err := load[metadata.TimestampType](filepath.Join(d.Repository, "timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := rotate(d, now); err != nil {
			t.Fatal(err)
		}
	}
	d.has(t, 4, 4, 4, 4)
	seen := map[string]bool{}
	for version := int64(1); version <= 4; version++ {
		root, err := load[metadata.RootType](r.versioned(version, metadata.ROOT))
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range roles {
			id := root.Signed.Roles[role].KeyIDs[0]
			if seen[id] || len(root.Signed.Roles[role].KeyIDs) != 1 {
				t.Errorf("root %d has the keys %v for %s", version, root.Signed.Roles[role].KeyIDs, role)
			}
			seen[id] = true
			if info, err := os.Stat(filepath.Join(d.Keys, id+".pem")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v: %v", info, err)
			}
		}
		if err := root.VerifyDelegate(metadata.TIMESTAMP, old); (err == nil) != (version == 1) {
			t.Errorf("root %d and what the first root's key has signed: %v", version, err)
		}
	}
}

func TestARotationThatIsCutShortLeavesClientsTheirWay(t *testing.T) {
	d, now := newDescription(t), time.Now()
	if _, err := publish(d, now); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(d.Repository)))
	defer server.Close()
	first, err := os.ReadFile(filepath.Join(d.Trust, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	knowing := t.TempDir()
	check := func(when string) {
		t.Helper()
		// A client that has the repository's state from before, and one that has only the first root.
		for _, cache := range []string{knowing, t.TempDir()} {
			client, err := tuf.New(tuf.DefaultOptions().WithRoot(first).WithRepositoryBaseURL(server.URL).WithCachePath(cache))
			if err == nil {
				_, err = client.GetTarget(trustedRootTarget)
			}
			if err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	check("at first")
	for i, role := range []string{metadata.TARGETS, metadata.SNAPSHOT, metadata.ROOT} {
		r, err := publish(d, now)
		if err == nil {
			err = r.rotate()
		}
		if err != nil {
			t.Fatal(err)
		}
		// A folder in the place of a file makes the rotation fail there.
		newest, err := r.newest(role)
		if err != nil {
			t.Fatal(err)
		}
		obstacle := r.versioned(newest+1, role)
		if err := os.Mkdir(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := r.update(); err == nil {
			t.Fatalf("%s did not end it", obstacle)
		}
		if err := os.Remove(obstacle); err != nil {
			t.Fatal(err)
		}
		check("cut short at the " + role)
		if _, err := publish(d, now); err != nil {
			t.Error(err)
		}
		check("and published")
		if err := rotate(d, now); err != nil {
			t.Error(err)
		}
		check("and rotated")
		if newest, err := r.newest(metadata.ROOT); err != nil || newest != int64(i)+2 {
			t.Errorf("the newest root has version %d: %v", newest, err)
		}
	}
}

func TestOlderClientsFindTheSingleFilesByTheirUsage(t *testing.T) {
	d, now := newDescription(t), time.Now()
	if _, err := publish(d, now); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(d.Trust, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rotate(d, now); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(d.Repository)))
	defer server.Close()
	// What cosign v2 does with a repository without a trusted root. Sigstore's own client for that is deprecated.
	settings, err := config.New(server.URL, first)
	if err != nil {
		t.Fatal(err)
	}
	settings.DisableLocalCache = true
	client, err := updater.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Refresh(); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for name, file := range client.GetTopLevelTargets() {
		if file.Custom == nil {
			continue
		}
		var custom struct {
			Sigstore struct{ Usage, Status string }
		}
		if err := json.Unmarshal(*file.Custom, &custom); err != nil || custom.Sigstore.Status != "Active" {
			t.Errorf("%s is described as %s: %v", name, *file.Custom, err)
		}
		_, content, err := client.DownloadTarget(file, filepath.Join(t.TempDir(), name), "")
		if err != nil {
			t.Fatal(err)
		}
		found[custom.Sigstore.Usage] += string(content)
	}
	for usage, files := range map[string][]string{"Fulcio": {d.Fulcio.File}, "CTFE": {d.TrillianCT.File, d.Tesseract.File}, "Rekor": {d.Rekor.File}} {
		all := 0
		for _, file := range files {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(found[usage], string(want)) {
				t.Errorf("for %s there is %q, not %s", usage, found[usage], file)
			}
			all += len(want)
		}
		if len(found[usage]) != all {
			t.Errorf("for %s there is %q", usage, found[usage])
		}
		delete(found, usage)
	}
	if len(found) != 0 {
		t.Errorf("there are files of other usages: %v", found)
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	for _, name := range []string{"tuf/1.root.json", "tuf/1.targets.json", "tuf/1.snapshot.json", "tuf/timestamp.json", "rekor.pub", "tsa/chain.pem", "ca-root.pem"} {
		for kind, damage := range map[string]func(string) string{
			"empty": func(string) string { return "" }, "half": func(whole string) string { return whole[:len(whole)/2] },
		} {
			d, now := newDescription(t), time.Now()
			if _, err := publish(d, now); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(d.Trust, name)
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(damage(string(content))), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := publish(d, now); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
		}
	}
}

// Otherwise a lost key would be missed only when something is to be signed, half a year later.
func TestALostKeyIsNamedThoughNothingIsToBeSigned(t *testing.T) {
	d, now := newDescription(t), time.Now()
	if _, err := publish(d, now); err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(os.DirFS(d.Keys), "*.pem")
	if err != nil || len(names) != len(roles) {
		t.Fatalf("%v: %v", names, err)
	}
	file := filepath.Join(d.Keys, names[0])
	other, err := os.ReadFile(filepath.Join(d.Keys, names[1]))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for kind, content := range map[string][]byte{"lost": nil, "empty": {}, "cut": whole[:len(whole)/2], "another one": other} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := publish(d, now); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "put back a copy") {
			t.Errorf("a key that is %s: %v", kind, err)
		}
		if err := os.WriteFile(file, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := publish(d, now); err != nil {
		t.Error(err)
	}
	d.has(t, 1, 1, 1, 1)
}

func TestTheFilesThatClientsTrustAreServedWithAnIndex(t *testing.T) {
	d := newDescription(t)
	d.Here = &services{Issuer: d.Issuer, Fulcio: endpoint{URL: "http://127.0.0.1:15555"}}
	if _, err := publish(d, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Trust, "index.json"), []byte(`{"A": "b"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler(d))
	defer server.Close()
	for path, want := range map[string]string{
		"/": `{"A": "b"}`, "/timestamp.json": `"timestamp"`, "/1.root.json": `"root"`, "/trust/trusted_root.json": "http://127.0.0.1:5555",
		"/trust/signing_config.json": "http://127.0.0.1:5555", "/trust/signing_config.here.json": "http://127.0.0.1:15555", "/trust/root.json": `"root"`,
		"/trust/rekor.pub": "BEGIN PUBLIC KEY", "/trust/fulcio.crt.pem": "BEGIN CERTIFICATE",
	} {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s %v\n%s", path, answer.Status, err, text)
		}
	}
}
