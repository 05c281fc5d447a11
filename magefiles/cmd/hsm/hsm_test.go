package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/platform"
)

// The test binary is the program too: a PKCS#11 module is initialised once in a process.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_HSM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// token is a folder of SoftHSM's for one test.
type token struct {
	t           *testing.T
	module, dir string
	pin, soPIN  string
}

func newToken(t *testing.T) *token {
	module := platform.FindPKCS11Module()
	if module == "" {
		t.Skip("SoftHSM is not installed")
	}
	k := &token{t: t, module: module, dir: t.TempDir()}
	k.pin, k.soPIN = filepath.Join(k.dir, "pin"), filepath.Join(k.dir, "so-pin")
	k.write("pin", "1234\n")
	k.write("so-pin", "5678\n")
	k.write("softhsm2.conf", "directories.tokendir = "+filepath.Join(k.dir, "tokens")+"\nobjectstore.backend = file\n")
	if err := os.Mkdir(filepath.Join(k.dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *token) write(name, content string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte(content), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k *token) run(action string, more ...string) (string, error) {
	k.t.Helper()
	program, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	args := append([]string{action, "-module", k.module, "-token", "test", "-pin-file", k.pin, "-so-pin-file", k.soPIN}, more...)
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "RUN_HSM=1", "SOFTHSM2_CONF="+filepath.Join(k.dir, "softhsm2.conf"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (k *token) must(action string, more ...string) string {
	k.t.Helper()
	out, err := k.run(action, more...)
	if err != nil {
		k.t.Fatalf("%s: %v: %s", action, err, out)
	}
	return out
}

func TestInitMakesTheTokenAndItsKeyOnce(t *testing.T) {
	k := newToken(t)
	if out := k.must("init"); !strings.Contains(out, "new key") {
		t.Errorf("got %q", out)
	}
	before := k.must("list")
	if strings.Count(before, "PKCS11CA") != 2 || !strings.Contains(before, "private key") || !strings.Contains(before, "public key") {
		t.Errorf("got %s", before)
	}
	if out := k.must("init"); strings.Contains(out, "new key") {
		t.Errorf("a second init: %q", out)
	}
	if after := k.must("list"); after != before {
		t.Errorf("listed\n%s\nthen\n%s", before, after)
	}
	if out := k.must("certificate"); out != "" {
		t.Errorf("a token without a certificate: %q", out)
	}
}

func TestAnotherTokenIsLeftAlone(t *testing.T) {
	k := newToken(t)
	k.must("init")
	k.must("init", "-token", "second")
	out := k.must("list", "-token", "second")
	if !strings.Contains(out, " test ") || !strings.Contains(out, " second ") {
		t.Errorf("got %s", out)
	}
}

func TestTokensAreFoundByLabelsOfAnyForm(t *testing.T) {
	k := newToken(t)
	labels := []string{"My Token", "SmartCard-HSM (UserPIN)", `a"b\c`, "ключ", " -x", strings.Repeat("x", 32), strings.Repeat("x", 31), strings.Repeat("ю", 16)}
	for _, label := range labels {
		if out := k.must("init", "-token", label); !strings.Contains(out, "new key") {
			t.Errorf("%q: %s", label, out)
		}
		if out := k.must("init", "-token", label); strings.Contains(out, "new key") {
			t.Errorf("%q was not found again: %s", label, out)
		}
		if out := k.must("list", "-token", label); !strings.Contains(out, label) || !strings.Contains(out, "PKCS11CA") {
			t.Errorf("%q: %s", label, out)
		}
	}
	// Only the beginning of a label that is too long would become the token's label.
	if out, err := k.run("init", "-token", strings.Repeat("y", 33)); err == nil || !strings.Contains(out, "33 bytes") {
		t.Errorf("33 bytes: %v: %s", err, out)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	k := newToken(t)
	k.must("init")
	k.write("wrong", "9999\n")
	k.write("garbage.so", "not a library")
	for _, test := range []struct {
		action string
		more   []string
		want   []string
	}{
		{"list", []string{"-pin-file", filepath.Join(k.dir, "wrong")}, []string{"does not take the PIN", filepath.Join(k.dir, "wrong"), "SIGLOCAL_HSM_PIN"}},
		{"init", []string{"-pin-file", filepath.Join(k.dir, "wrong")}, []string{"does not take the PIN", "SIGLOCAL_HSM_PIN"}},
		{"list", []string{"-token", "elsewhere"}, []string{`no token labelled "elsewhere"`, "SIGLOCAL_PKCS11_TOKEN"}},
		{"list", []string{"-module", filepath.Join(k.dir, "garbage.so")}, []string{"garbage.so is not a PKCS#11 module", "SIGLOCAL_PKCS11_MODULE"}},
		{"list", []string{"-module", filepath.Join(k.dir, "missing.so")}, []string{"missing.so is not a PKCS#11 module"}},
		{"list", []string{"-pin-file", filepath.Join(k.dir, "missing")}, []string{filepath.Join(k.dir, "missing")}},
	} {
		out, err := k.run(test.action, test.more...)
		for _, want := range test.want {
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("%s %q: the message does not say %q: %v: %s", test.action, test.more, want, err, out)
			}
		}
	}
}
