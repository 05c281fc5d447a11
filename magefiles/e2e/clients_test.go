package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/protobuf/encoding/protojson"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/oidc"
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
	root, otherRoot := s.config.Trust("trusted_root.json"), other.config.Trust("trusted_root.json")
	artifact := s.file("artifact", "an artifact")
	changed := s.file("changed", "a changed artifact")

	clients := map[string]client{"sigstore-go": sigstoreGo{s}, "cosign": cosign{s}}
	if dir := os.Getenv(npmDir); dir != "" {
		clients["sigstore-js"] = sigstoreJS{s, dir}
	}
	bundles := map[string]string{}
	for name, c := range clients {
		bundles[name] = filepath.Join(s.home, name+".sigstore.json")
		if err := c.sign(artifact, bundles[name]); err != nil {
			t.Fatalf("%s does not sign: %v", name, err)
		}
	}
	bundles["sigstore-go, Rekor v1"] = filepath.Join(s.home, "v1.sigstore.json")
	if err := signGo(s, artifact, bundles["sigstore-go, Rekor v1"], 1); err != nil {
		t.Fatalf("sigstore-go does not sign with Rekor v1: %v", err)
	}
	issuer := s.config.Issuer() // of these bundles, whatever the ports become
	verifyAll := func(t *testing.T) {
		t.Helper()
		for name, c := range clients {
			for signer, bundle := range bundles {
				if err := c.verify(root, artifact, bundle, s.config.Email, issuer); err != nil {
					t.Errorf("%s does not verify what %s signed: %v", name, signer, err)
				}
			}
		}
	}
	t.Run("each verifies what each has signed", verifyAll)
	t.Run("each refuses what is wrong", func(t *testing.T) {
		second := filepath.Join(s.home, "second.sigstore.json")
		if err := clients["sigstore-go"].sign(s.file("second", "a second artifact"), second); err != nil {
			t.Fatal(err)
		}
		for name, c := range clients {
			swapped := s.file("swapped.json", swapEntries(t, bundles[name], second))
			for what, err := range map[string]error{
				"another identity":                       c.verify(root, artifact, bundles[name], "mallory@example.org", issuer),
				"another issuer":                         c.verify(root, artifact, bundles[name], s.config.Email, "http://localhost:1"),
				"a changed artifact":                     c.verify(root, changed, bundles[name], s.config.Email, issuer),
				"the log entry of another bundle":        c.verify(root, artifact, swapped, s.config.Email, issuer),
				"the trusted root of another stack":      c.verify(otherRoot, artifact, bundles[name], s.config.Email, issuer),
				"the bundle of a signature of v1, there": c.verify(otherRoot, artifact, bundles["sigstore-go, Rekor v1"], s.config.Email, issuer),
			} {
				if err == nil {
					t.Errorf("%s accepts %s", name, what)
				} else {
					t.Logf("%s refuses %s: %s", name, what, strings.TrimSpace(err.Error()))
				}
			}
		}
	})
	t.Run("the proofs of Rekor v2 are right", func(t *testing.T) {
		for signer, bundle := range bundles {
			if strings.HasSuffix(signer, "v1") {
				continue
			}
			if err := s.verifyTilesProof(bundle); err != nil {
				t.Errorf("%s: %v", signer, err)
			}
		}
	})
	t.Run("those of Rekor v1 are right", func(t *testing.T) {
		s := s.in(t)
		password, err := os.ReadFile(s.config.SecretFile(config.DexPassword))
		if err != nil {
			t.Fatal(err)
		}
		one, err := s.signOnce(t.Context(), "v1", string(bytes.TrimSpace(password)))
		if err != nil {
			t.Fatal(err)
		}
		s.verifyEach([]signature{one})
	})
	t.Run("cosign needs nothing but the TUF repository", func(t *testing.T) { s.in(t).cosignByTUF(artifact) })
	t.Run("bundles verify after a restart", func(t *testing.T) {
		s.in(t).must("stop", "start")
		verifyAll(t)
	})
	t.Run("clients follow a new root", func(t *testing.T) {
		s := s.in(t)
		first := s.file("first-root.json", s.read(s.config.Trust("root.json")))
		cache := filepath.Join(s.home, "tuf-go")
		knew := func() string {
			t.Helper()
			content, err := s.fetchTrustedRoot(first, cache)
			if err != nil {
				t.Fatal(err)
			}
			return content
		}
		before := knew()
		if r := s.must("tuf:rotate"); r.stdout != "The root has version 2 and new keys.\n" {
			t.Errorf("%s", r)
		}
		if after := knew(); after != before {
			t.Error("the trusted root is another after a rotation")
		}
		// Whoever comes with the first root alone gets there too.
		cache = filepath.Join(s.home, "tuf-new")
		knew()
		if s.read(first) == s.read(s.config.Trust("root.json")) {
			t.Error("the root is the same")
		}
		s.program("cosign", "verify-blob", "--trusted-root", root, "--new-bundle-format", "--use-signed-timestamps",
			"--certificate-identity", s.config.Email, "--certificate-oidc-issuer", issuer, "--bundle", bundles["cosign"], artifact)
		s.cosignByTUF(artifact)
		if _, ok := clients["sigstore-js"]; ok {
			if err := clients["sigstore-js"].(sigstoreJS).run("verify-tuf", s.config.TUFMirror(), first, filepath.Join(s.home, "tuf-js"),
				artifact, bundles["sigstore-js"], s.config.Email, issuer); err != nil {
				t.Errorf("sigstore-js does not follow: %v", err)
			}
		}
		verifyAll(t)
		if _, err := s.fetchTrustedRoot(other.config.Trust("root.json"), filepath.Join(s.home, "tuf-other")); err == nil {
			t.Error("the root of another stack leads to this one's repository")
		}
	})
	t.Run("bundles verify after a change of ports", func(t *testing.T) {
		s := s.in(t)
		s.must("stop")
		moved := *s
		c, err := config.Load(s.config.Root, []string{"SIGLOCAL_STATE=" + s.config.State, "SIGLOCAL_PORT_OFFSET=" + strconv.Itoa(int(offsets.Add(1))*7+10000)})
		if err != nil {
			t.Fatal(err)
		}
		moved.config, moved.env = c, append(s.env, "SIGLOCAL_PORT_OFFSET="+strconv.Itoa(c.Port(config.Rekor)-3000))
		moved.must("start")
		verifyAll(t)
		late := filepath.Join(s.home, "late.sigstore.json")
		if err := (sigstoreGo{&moved}).sign(artifact, late); err != nil {
			t.Fatal(err)
		}
		if err := (sigstoreGo{&moved}).verify(root, artifact, late, c.Email, c.Issuer()); err != nil {
			t.Error(err)
		}
	})
	t.Run("bundles verify with nothing running", func(t *testing.T) {
		s.in(t).must("stop")
		verifyAll(t)
	})
}

// withoutNetwork runs the tests that pattern names where there is no interface but loopback.
func withoutNetwork(t *testing.T, pattern string, env ...string) {
	t.Helper()
	args := []string{os.Args[0], "-test.run=" + pattern, "-test.v", "-test.timeout=20m"}
	if out, err := exec.Command("unshare", "-rn", "true").CombinedOutput(); err != nil {
		t.Logf("no network namespace can be made here, so this runs with the network: %v: %s", err, out)
	} else {
		args = append([]string{"unshare", "-rn", "sh", "-c", `ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"`, "sh"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v:\n%s", err, out)
		return
	}
	t.Logf("%s", out)
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
	// npm waits minutes for a connection that went silent, and does not try again.
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-timeout=20000", "--maxsockets=4")
		cmd.Dir, cmd.WaitDelay = dir, time.Second
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil {
			return dir
		}
		t.Logf("npm ci, attempt %d: %v: %s", attempt, err, out)
		if attempt == 4 {
			t.Fatal("npm does not install sigstore-js")
		}
	}
}

// client is a client of Sigstore. Its methods take the names of files.
type client interface {
	// sign signs artifact as the stack's user.
	sign(artifact, bundle string) error
	verify(trustedRoot, artifact, bundle, identity, issuer string) error
}

// token signs in as the stack's user.
func (s *stack) token() (string, error) {
	password, err := os.ReadFile(s.config.SecretFile(config.DexPassword))
	if err != nil {
		return "", err
	}
	return oidc.Token(context.Background(), s.config.Issuer(), s.config.Email, strings.TrimSpace(string(password)))
}

// file writes a file of the test's.
func (s *stack) file(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.home, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *stack) read(file string) string {
	s.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

// sigstoreGo is sigstore-go, used as a library.
type sigstoreGo struct{ *stack }

func (c sigstoreGo) sign(artifact, bundle string) error { return signGo(c.stack, artifact, bundle, 2) }

// signGo signs with the newest log whose API has at most the given version.
func signGo(s *stack, artifact, bundle string, version uint32) error {
	data, err := os.ReadFile(artifact)
	if err != nil {
		return err
	}
	token, err := s.token()
	if err != nil {
		return err
	}
	signing, err := root.NewSigningConfigFromPath(s.config.Trust("signing_config.json"))
	if err != nil {
		return err
	}
	trusted, err := root.NewTrustedRootFromPath(s.config.Trust("trusted_root.json"))
	if err != nil {
		return err
	}
	fulcio, err := root.SelectService(signing.FulcioCertificateAuthorityURLs(), sign.FulcioAPIVersions, time.Now())
	if err != nil {
		return err
	}
	options := sign.BundleOptions{
		CertificateProvider:        sign.NewFulcio(&sign.FulcioOptions{BaseURL: fulcio.URL}),
		CertificateProviderOptions: &sign.CertificateProviderOptions{IDToken: token},
		TrustedRoot:                trusted,
	}
	versions := []uint32{1, 2}[:version]
	logs, err := root.SelectServices(signing.RekorLogURLs(), signing.RekorLogURLsConfig(), versions, time.Now())
	if err != nil {
		return err
	}
	for _, log := range logs {
		if log.MajorAPIVersion != version {
			return fmt.Errorf("the signing config gives the log %+v", log)
		}
		options.TransparencyLogs = append(options.TransparencyLogs, sign.NewRekor(&sign.RekorOptions{BaseURL: log.URL, Version: log.MajorAPIVersion}))
	}
	authorities, err := root.SelectServices(signing.TimestampAuthorityURLs(), signing.TimestampAuthorityURLsConfig(), sign.TimestampAuthorityAPIVersions, time.Now())
	if err != nil {
		return err
	}
	for _, authority := range authorities {
		options.TimestampAuthorities = append(options.TimestampAuthorities, sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: authority.URL}))
	}
	key, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		return err
	}
	made, err := sign.Bundle(&sign.PlainData{Data: data}, key, options)
	if err != nil {
		return err
	}
	text, err := protojson.Marshal(made)
	if err != nil {
		return err
	}
	return os.WriteFile(bundle, text, 0o600)
}

func (sigstoreGo) verify(trustedRoot, artifact, file, identity, issuer string) error {
	trusted, err := root.NewTrustedRootFromPath(trustedRoot)
	if err != nil {
		return err
	}
	verifier, err := verify.NewVerifier(trusted, verify.WithSignedCertificateTimestamps(1), verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	if err != nil {
		return err
	}
	signer, err := verify.NewShortCertificateIdentity(issuer, "", identity, "")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(artifact)
	if err != nil {
		return err
	}
	entity, err := bundle.LoadJSONFromPath(file)
	if err != nil {
		return err
	}
	_, err = verifier.Verify(entity, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(data)), verify.WithCertificateIdentity(signer)))
	return err
}

// cosign is cosign v2 with a signing config and a trusted root.
type cosign struct{ *stack }

func (c cosign) run(env []string, args ...string) error {
	cmd := c.command(context.Background(), c.home, c.config.Program("cosign"), args...)
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (c cosign) sign(artifact, bundle string) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	return c.run([]string{"COSIGN_IDENTITY_TOKEN=" + token}, "sign-blob", "--yes", "--new-bundle-format",
		"--signing-config", c.config.Trust("signing_config.json"), "--trusted-root", c.config.Trust("trusted_root.json"), "--bundle", bundle, artifact)
}

func (c cosign) verify(trustedRoot, artifact, bundle, identity, issuer string) error {
	return c.run(nil, "verify-blob", "--new-bundle-format", "--use-signed-timestamps", "--trusted-root", trustedRoot,
		"--certificate-identity", identity, "--certificate-oidc-issuer", issuer, "--bundle", bundle, artifact)
}

// sigstoreJS is sigstore-js, whose packages are in dir.
type sigstoreJS struct {
	*stack
	dir string
}

func (c sigstoreJS) run(args ...string) error {
	cmd := exec.Command("node", append([]string{"client.mjs"}, args...)...)
	token, err := c.token()
	if err != nil && args[0] == "sign" {
		return err
	}
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), "SIGSTORE_ID_TOKEN="+token)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (c sigstoreJS) sign(artifact, bundle string) error {
	return c.run("sign", c.config.Trust("signing_config.json"), artifact, bundle)
}

func (c sigstoreJS) verify(trustedRoot, artifact, bundle, identity, issuer string) error {
	return c.run("verify", trustedRoot, artifact, bundle, identity, issuer)
}

// cosignByTUF has cosign v2 sign and verify keyless with what its TUF cache holds: no variable names a key.
func (s *stack) cosignByTUF(artifact string) {
	s.t.Helper()
	token, err := s.token()
	if err != nil {
		s.t.Fatal(err)
	}
	cosign := cosign{s}
	env := []string{"TUF_ROOT=" + filepath.Join(s.home, "tuf-cosign"), "COSIGN_IDENTITY_TOKEN=" + token}
	bundle := filepath.Join(s.home, "tuf.json")
	for _, args := range [][]string{
		{"initialize", "--mirror", s.config.TUFMirror(), "--root", s.config.Trust("root.json")},
		{"sign-blob", "--yes", "--fulcio-url", s.config.URL(config.Fulcio), "--rekor-url", s.config.URL(config.Rekor), "--bundle", bundle, artifact},
		{"verify-blob", "--certificate-identity", s.config.Email, "--certificate-oidc-issuer", s.config.Issuer(), "--bundle", bundle, artifact},
		{"sign", "--yes", "--fulcio-url", s.config.URL(config.Fulcio), "--rekor-url", s.config.URL(config.Rekor), s.config.Image("base")},
		{"verify", "--certificate-identity", s.config.Email, "--certificate-oidc-issuer", s.config.Issuer(), s.config.Image("base")},
	} {
		if err := cosign.run(env, args...); err != nil {
			s.t.Errorf("cosign %q: %v", args, err)
		}
	}
}

// fetchTrustedRoot gets the trusted root as sigstore-go does, from the repository and by the root in a file.
func (s *stack) fetchTrustedRoot(rootFile, cache string) (string, error) {
	content, err := os.ReadFile(rootFile)
	if err != nil {
		return "", err
	}
	options := tuf.DefaultOptions().WithRoot(content).WithRepositoryBaseURL(s.config.TUFMirror()).WithCachePath(cache)
	client, err := tuf.New(options)
	if err != nil {
		return "", err
	}
	target, err := client.GetTarget("trusted_root.json")
	return string(target), err
}

// swapEntries is the bundle in file with the log entry of the one in other.
func swapEntries(t *testing.T, file, other string) string {
	t.Helper()
	var into, from struct {
		MediaType            string                     `json:"mediaType"`
		VerificationMaterial map[string]json.RawMessage `json:"verificationMaterial"`
		MessageSignature     json.RawMessage            `json:"messageSignature"`
	}
	for name, value := range map[string]any{file: &into, other: &from} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(content, value); err != nil {
			t.Fatal(err)
		}
	}
	into.VerificationMaterial["tlogEntries"] = from.VerificationMaterial["tlogEntries"]
	text, err := json.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// verifyTilesProof checks the inclusion proof in a bundle and the checkpoint that it leads to, with nothing of Rekor's.
func (s *stack) verifyTilesProof(file string) error {
	entity, err := bundle.LoadJSONFromPath(file)
	if err != nil {
		return err
	}
	entries := entity.GetVerificationMaterial().GetTlogEntries()
	if len(entries) != 1 {
		return fmt.Errorf("%d entries", len(entries))
	}
	p := entries[0].GetInclusionProof()
	leaf := rfc6962.DefaultHasher.HashLeaf(entries[0].GetCanonicalizedBody())
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.GetLogIndex()), uint64(p.GetTreeSize()), leaf, p.GetHashes(), p.GetRootHash()); err != nil {
		return err
	}
	// A signed note (https://c2sp.org/signed-note) whose text is origin, size and root.
	text, signed, ok := strings.Cut(p.GetCheckpoint().GetEnvelope(), "\n\n— ")
	want := fmt.Sprintf("localhost\n%d\n%s", p.GetTreeSize(), base64.StdEncoding.EncodeToString(p.GetRootHash()))
	if fields := strings.Fields(signed); !ok || text != want || len(fields) < 2 || fields[0] != "localhost" {
		return fmt.Errorf("the checkpoint is %q", p.GetCheckpoint().GetEnvelope())
	}
	block, _ := pem.Decode([]byte(s.read(s.config.Key("rekor-tiles.pub"))))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	public := key.(ed25519.PublicKey)
	raw, err := base64.StdEncoding.DecodeString(strings.Fields(signed)[1])
	if err != nil {
		return err
	}
	hint := sha256.Sum256(append([]byte("localhost\n\x01"), public...))
	if !bytes.Equal(raw[:4], hint[:4]) || !ed25519.Verify(public, []byte(text+"\n"), raw[4:]) {
		return errors.New("the checkpoint is not signed by Rekor v2's key")
	}
	return nil
}
