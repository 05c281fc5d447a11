package keys

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAKeyIsMadeOnceAndItsPublicHalfEachTime(t *testing.T) {
	for _, test := range []struct {
		kind     Kind
		password string
	}{{ECDSA, ""}, {ECDSA, "secret"}, {Ed25519, ""}} {
		dir := t.TempDir()
		private, public := filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub")
		if err := Ensure(test.kind, private, public, test.password); err != nil {
			t.Fatal(err)
		}
		key, half := read(t, private), read(t, public)
		if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v: %v", info.Mode(), err)
		}
		if err := os.Remove(public); err != nil {
			t.Fatal(err)
		}
		if err := Ensure(test.kind, private, public, test.password); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, private), key) || !bytes.Equal(read(t, public), half) {
			t.Errorf("%+v: it is another key", test)
		}
	}
}

func TestALostPrivateKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub")
	if err := Ensure(ECDSA, private, public, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(private); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(ECDSA, private, public, ""); err == nil || !strings.Contains(err.Error(), private) || !strings.Contains(err.Error(), "put back a copy") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(private); err == nil {
		t.Error("another key was made")
	}
}

func TestTheTimestampingChainIsWhatClientsWant(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tsa")
	if err := EnsureTimestamping(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	content := read(t, filepath.Join(dir, TimestampingChain))
	var chain []*x509.Certificate
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) != 3 || chain[0].IsCA || !chain[1].IsCA || !chain[2].IsCA {
		t.Fatalf("the chain has %d certificates", len(chain))
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[2])
	intermediates.AddCert(chain[1])
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}}
	if _, err := chain[0].Verify(options); err != nil {
		t.Error(err)
	}
	critical := false
	for _, extension := range chain[0].Extensions {
		critical = critical || extension.Id.Equal(oidExtKeyUsage) && extension.Critical
	}
	if !critical || len(chain[0].ExtKeyUsage) != 1 {
		t.Errorf("the leaf's usages are %v, critical: %v", chain[0].ExtKeyUsage, critical)
	}
	// A chain that is there stays. The error names a file that is lost, damaged or another chain's.
	if err := EnsureTimestamping(dir, time.Now()); err != nil || !bytes.Equal(read(t, filepath.Join(dir, TimestampingChain)), content) {
		t.Errorf("it is another chain: %v", err)
	}
	other := filepath.Join(t.TempDir(), "tsa")
	if err := EnsureTimestamping(other, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(file string) error{
		"lost": os.Remove,
		"another": func(file string) error {
			return os.WriteFile(file, read(t, filepath.Join(other, filepath.Base(file))), 0o600)
		},
		"empty": func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"half of it": func(file string) error {
			whole := read(t, file)
			return os.WriteFile(file, whole[:len(whole)/3], 0o600)
		},
	} {
		for _, part := range []string{TimestampingKey, TimestampingChain} {
			file := filepath.Join(dir, part)
			whole := read(t, file)
			if err := damage(file); err != nil {
				t.Fatal(err)
			}
			if err := EnsureTimestamping(dir, time.Now()); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s %s: %v", part, name, err)
			}
			if err := os.WriteFile(file, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAClockThatJumpedIsSaid(t *testing.T) {
	made := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "tsa")
	for range 2 { // which makes it, and then checks it
		if err := EnsureTimestamping(dir, made); err != nil {
			t.Fatal(err)
		}
	}
	for _, now := range []time.Time{made.AddDate(0, 0, -1), made.AddDate(11, 0, 0)} {
		err := EnsureTimestamping(dir, now)
		if err == nil || !strings.Contains(err.Error(), "the clock says "+now.Format(time.RFC3339)) || !strings.Contains(err.Error(), "to 2036-03-01") {
			t.Errorf("at %s: %v", now, err)
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestNoKeyIsEverInTheTemporaryFolder(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	before := time.Unix(1, 0)
	if err := os.Chtimes(tmp, before, before); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chtimes(tmp, before, before); err != nil {
		t.Fatal(err)
	}
	content, err := generate(ECDSA, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := writePrivate(filepath.Join(dir, "a.pem"), content); err != nil {
		t.Fatal(err)
	}
	// A temporary file would change the folder's modification time.
	if info, err := os.Stat(tmp); err != nil || !info.ModTime().Equal(before) {
		t.Errorf("something was there at %v: %v", info.ModTime(), err)
	}
}
