package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
)

// The variables by which TestClients knows that it runs where there is no network, and where sigstore-js is.
const (
	offline = "CLIENTS_OFFLINE"
	npmDir  = "CLIENTS_NPM"
)

// TestClients has clients of the public Sigstore sign and verify against the stack. It runs where nothing but loopback
// can be reached, so that none of them gets anything from elsewhere.
func TestClients(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real stack")
	}
	if os.Getenv(offline) == "" {
		t.Parallel()
		withoutNetwork(t, "^TestClients$", offline+"=1", npmDir+"="+installSigstoreJS(t))
		return
	}
	s := newStack(t)
	s.must("start")
	s.only(names...)
	other := newStack(t)
	other.must("tuf:start")
	other.only("tuf")
	root := s.config.Trust("trusted_root.json")

	clients := map[string]client{"sigstore-go": sigstoreGo{s}, "cosign": cosign{s}}
	if dir := os.Getenv(npmDir); dir != "" {
		clients["sigstore-js"] = sigstoreJS{s, dir}
	} else {
		t.Run("sigstore-js", func(t *testing.T) { t.Skip("it is left out: there is no Node.js here") })
	}
	issuer := s.config.Issuer() // of these signatures, whatever the ports become
	signed := func(name string, by func(artifact, bundle string) error) claim {
		t.Helper()
		c := claim{s.file(name, "an artifact for "+name), filepath.Join(s.home, name+".sigstore.json"), s.config.Email, issuer}
		if err := by(c.artifact, c.bundle); err != nil {
			t.Fatalf("%s does not sign: %v", name, err)
		}
		return c
	}
	byV1 := func(artifact, bundle string) error { return signGo(s, artifact, bundle, 1) }
	const v1 = "sigstore-go by Rekor v1"
	claims := map[string]claim{v1: signed(v1, byV1)}
	for name, c := range clients {
		claims[name] = signed(name, c.sign)
	}
	verifyAll := func(t *testing.T) {
		t.Helper()
		for name, c := range clients {
			for signer, claim := range claims {
				if err := c.verify(claim, root); err != nil {
					t.Errorf("%s does not verify what %s signed: %v", name, signer, err)
				}
			}
		}
	}
	// byTUF has each client verify with what the repository has for clients that begin with the first root.
	first := s.file("first-root.json", s.read(s.config.Trust("root.json")))
	byTUF := func(t *testing.T, cache string) {
		t.Helper()
		for name, c := range clients {
			if err := c.verifyByTUF(claims[name], first, filepath.Join(s.home, cache, name)); err != nil {
				t.Errorf("%s does not verify by TUF: %v", name, err)
			}
		}
	}

	t.Run("each verifies what each has signed", verifyAll)
	t.Run("each refuses what is wrong", func(t *testing.T) {
		second, secondV1 := signed("second", clients["sigstore-go"].sign), signed("second by Rekor v1", byV1)
		otherRoot := other.config.Trust("trusted_root.json")
		grafted := func(into, from string, path ...string) string {
			return s.in(t).file("grafted-"+path[len(path)-1]+"-"+filepath.Base(into), graft(t, into, from, path...))
		}
		for name, c := range clients {
			right := claims[name]
			entry := func(into, from claim) string {
				return grafted(into.bundle, from.bundle, "verificationMaterial", "tlogEntries")
			}
			for what, wrong := range map[string]struct {
				claim  claim
				root   string
				reason string // a pattern of what sigstore-go and cosign say, and of what sigstore-js says
			}{
				"another identity": {claim{right.artifact, right.bundle, "mallory@example.org", issuer}, root,
					`expected SAN value "mallory@example\.org", got|expected \^mallory@example\\\.org\$, got`},
				"another issuer": {claim{right.artifact, right.bundle, right.identity, "http://localhost:1"}, root,
					`expected issuer value "http://localhost:1", got|expected issuer=http://localhost:1, got`},
				"a changed artifact": {claim{second.artifact, right.bundle, right.identity, issuer}, root,
					`could not verify message: invalid signature|SIGNATURE_ERROR: signature verification failed`},
				"the log entry of another bundle": {claim{right.artifact, entry(right, second), right.identity, issuer}, root,
					`verifying log entry: verifying inclusion: calculated root|TLOG_BODY_ERROR: signature mismatch`},
				"that of another bundle of Rekor v1": {claim{claims[v1].artifact, entry(claims[v1], secondV1), right.identity, issuer}, root,
					`transparency log signature does not match|TLOG_BODY_ERROR: signature mismatch`},
				"the trusted root of another stack": {right, otherRoot,
					`not enough verified log entries from transparency log: 0 < 1|TIMESTAMP_ERROR: timestamp could not be verified`},
				"the same, of an entry in Rekor v1": {claims[v1], otherRoot,
					`not enough verified log entries from transparency log: 0 < 1|TIMESTAMP_ERROR: timestamp could not be verified`},
				"the CA of another stack": {right, grafted(root, otherRoot, "certificateAuthorities"),
					`leaf certificate verification failed|CERTIFICATE_ERROR: Failed to verify certificate chain`},
				"the CT log of another stack": {right, grafted(root, otherRoot, "ctlogs"),
					`only able to verify 0 SCT entries|CERTIFICATE_ERROR: SCT verification failed`},
				"the signature logs of another stack": {right, grafted(root, otherRoot, "tlogs"),
					`not enough verified log entries from transparency log: 0 < 1|TLOG_INCLUSION_PROOF_ERROR: invalid checkpoint signature`},
				"the timestamp authority of another stack": {right, grafted(root, otherRoot, "timestampAuthorities"),
					`unable to verify signed timestamps|TIMESTAMP_ERROR: timestamp could not be verified`},
			} {
				err := c.verify(wrong.claim, wrong.root)
				switch {
				case err == nil:
					t.Errorf("%s accepts %s", name, what)
				case !regexp.MustCompile(wrong.reason).MatchString(err.Error()):
					t.Errorf("%s refuses %s for another reason: %v", name, what, err)
				}
			}
		}
	})
	t.Run("the proofs of both logs are right", func(t *testing.T) {
		for signer, claim := range claims {
			key := "rekor-tiles.pub"
			if signer == v1 {
				key = "rekor.pub"
			}
			if err := verifyProof(claim.bundle, s.config.Key(key)); err != nil {
				t.Errorf("%s: %v", signer, err)
			}
			if err := verifyProof(claim.bundle, other.config.Key(key)); err == nil {
				t.Errorf("%s: the key of another stack has signed the checkpoint", signer)
			}
		}
	})
	t.Run("they need nothing but the TUF repository", func(t *testing.T) {
		byTUF(t, "tuf")
		s.in(t).cosignByTUF(first)
	})
	t.Run("bundles verify after a restart, and the logs go on", func(t *testing.T) {
		s.in(t).must("stop", "start")
		verifyAll(t)
		for signer, by := range map[string]func(artifact, bundle string) error{"sigstore-go": clients["sigstore-go"].sign, v1: byV1} {
			before, err := logged(claims[signer].bundle)
			after, unread := logged(signed("late "+signer, by).bundle)
			if err != nil || unread != nil {
				t.Fatal(err, unread)
			}
			if size, index := before.GetInclusionProof().GetTreeSize(), after.GetInclusionProof().GetLogIndex(); index < size {
				t.Errorf("%s: the log had %d entries before the restart, and a new one has index %d", signer, size, index)
			}
		}
	})
	t.Run("clients follow new roots", func(t *testing.T) {
		s := s.in(t)
		content := s.read(root)
		for _, version := range []string{"2", "3"} {
			if r := s.must("tuf:rotate"); r.stdout != "The root has version "+version+" and new keys.\n" {
				t.Errorf("%s", r)
			}
		}
		byTUF(t, "tuf")
		byTUF(t, "tuf of one who comes late")
		s.cosignByTUF(first)
		verifyAll(t)
		if s.read(root) != content {
			t.Error("the trusted root is another after a rotation")
		}
		for name, c := range clients {
			err := c.verifyByTUF(claims[name], other.config.Trust("root.json"), filepath.Join(s.home, "tuf of another stack", name))
			if err == nil || !regexp.MustCompile(`Verifying root failed, not enough signatures|root was signed by 0/1 keys`).MatchString(err.Error()) {
				t.Errorf("the root of another stack, and %s: %v", name, err)
			}
		}
	})
	t.Run("bundles verify after a change of ports", func(t *testing.T) {
		s := s.in(t)
		s.must("stop")
		content := s.read(root)
		// All but the repository's, so that clients come back to it and find other addresses there.
		settings := []string{"SIGLOCAL_STATE=" + s.config.State, "SIGLOCAL_PORT_OFFSET=" + strconv.Itoa(10000+7*int(offsets.Add(1))),
			config.TUF.Variable() + "=" + strconv.Itoa(s.config.Port(config.TUF))}
		c, err := config.Load(s.config.Root, settings, parts...)
		if err != nil {
			t.Fatal(err)
		}
		moved := *s
		moved.config, moved.env = c, append(s.env, settings...)
		moved.must("start")
		verifyAll(t)
		byTUF(t, "tuf")
		moved.cosignByTUF(first)
		if s.read(root) == content {
			t.Error("the trusted root has the same addresses")
		}
		late := claim{claims[v1].artifact, filepath.Join(s.home, "moved.sigstore.json"), c.Email, c.Issuer()}
		if err := (sigstoreGo{&moved}).sign(late.artifact, late.bundle); err != nil {
			t.Fatal(err)
		}
		if err := (sigstoreGo{&moved}).verify(late, root); err != nil {
			t.Error(err)
		}
	})
	t.Run("bundles verify with nothing running", func(t *testing.T) {
		s.in(t).must("stop")
		verifyAll(t)
	})
}

// withoutNetwork runs the tests that pattern names in a network namespace with loopback alone. Where none can be made, the
// tests run with the network and count as skipped, since they then do not show that the network is not needed.
func withoutNetwork(t *testing.T, pattern string, env ...string) {
	t.Helper()
	args := []string{os.Args[0], "-test.run=" + pattern, "-test.v", "-test.timeout=20m"}
	unable := canIsolate()
	if unable == nil {
		args = append(isolated(), args...)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v:\n%s", err, out)
	}
	t.Logf("%s", out)
	if unable != nil {
		t.Skipf("all of it holds, but was tried within reach of the network: %v", unable)
	}
}

// isolated is a command that runs the command that is appended to it in a network namespace with loopback alone.
func isolated() []string {
	return []string{"unshare", "-rn", "sh", "-c", `ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"`, "sh"}
}

// canIsolate says why isolated does not work here, if it does not.
func canIsolate() error {
	if out, err := exec.Command("unshare", "-rn", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("no network namespace can be made here: %w: %s", err, out)
	}
	return nil
}

// installSigstoreJS makes a folder with sigstore-js in it, as npm has it.
func installSigstoreJS(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("sigstore-js is left out: there is no %s here", program)
			return ""
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "sigstore-js"))); err != nil {
		t.Fatal(err)
	}
	if err := npmCI(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// graft is the JSON in the file into with the value at path from that in the file from.
func graft(t *testing.T, into, from string, path ...string) string {
	t.Helper()
	read := func(file string) (whole map[string]any) {
		content, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(content, &whole)
		}
		if err != nil {
			t.Fatal(err)
		}
		return whole
	}
	whole := read(into)
	at, other := whole, read(from)
	for _, name := range path[:len(path)-1] {
		at, other = at[name].(map[string]any), other[name].(map[string]any)
	}
	last := path[len(path)-1]
	if at[last] == nil || other[last] == nil {
		t.Fatalf("%s and %s have no %q", into, from, path)
	}
	at[last] = other[last]
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
