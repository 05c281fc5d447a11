package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/oidc"
)

// claim is what a client has to verify: that the file bundle is a signature of the file artifact by identity, for which
// issuer vouches.
type claim struct{ artifact, bundle, identity, issuer string }

// client is a client of Sigstore. Its methods take the names of files.
type client interface {
	// sign signs artifact as the stack's user.
	sign(artifact, bundle string) error
	// verify verifies with a trusted root and nothing else.
	verify(c claim, trustedRoot string) error
	// verifyByTUF verifies with the trusted root of the stack's TUF repository, beginning with root, with the folder cache.
	verifyByTUF(c claim, root, cache string) error
}

// token signs in as the stack's user.
func (s *stack) token() (string, error) {
	password, err := os.ReadFile(s.config.SecretFile(config.DexPassword))
	if err != nil {
		return "", err
	}
	return oidc.Token(context.Background(), s.config.Issuer(), s.config.Email, strings.TrimSpace(string(password)))
}

// sigstoreGo is sigstore-go, used as a library.
type sigstoreGo struct{ *stack }

func (c sigstoreGo) sign(artifact, bundle string) error { return signGo(c.stack, artifact, bundle, 2) }

// signGo signs in, and signs with the newest log whose API has at most the given version.
func signGo(s *stack, artifact, bundle string, version uint32) error {
	token, err := s.token()
	if err != nil {
		return err
	}
	return signGoAs(s, token, artifact, bundle, version)
}

// signGoAs signs as whom the token is for. It repeats a request that failed as cosign v3 does, which has the same library.
func signGoAs(s *stack, token, artifact, bundle string, version uint32) error {
	data, err := os.ReadFile(artifact)
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
		CertificateProvider:        sign.NewFulcio(&sign.FulcioOptions{BaseURL: fulcio.URL, Retries: 1}),
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
		options.TransparencyLogs = append(options.TransparencyLogs, sign.NewRekor(&sign.RekorOptions{BaseURL: log.URL, Version: log.MajorAPIVersion, Retries: 1}))
	}
	authorities, err := root.SelectServices(signing.TimestampAuthorityURLs(), signing.TimestampAuthorityURLsConfig(), sign.TimestampAuthorityAPIVersions, time.Now())
	if err != nil {
		return err
	}
	for _, authority := range authorities {
		options.TimestampAuthorities = append(options.TimestampAuthorities, sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: authority.URL, Retries: 1}))
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

func (sigstoreGo) verify(c claim, trustedRoot string) error {
	trusted, err := root.NewTrustedRootFromPath(trustedRoot)
	if err != nil {
		return err
	}
	return verifyGo(c, trusted)
}

func (g sigstoreGo) verifyByTUF(c claim, rootFile, cache string) error {
	content, err := os.ReadFile(rootFile)
	if err != nil {
		return err
	}
	trusted, err := root.FetchTrustedRootWithOptions(tuf.DefaultOptions().WithRoot(content).WithRepositoryBaseURL(g.config.TUFMirror()).WithCachePath(cache))
	if err != nil {
		return err
	}
	return verifyGo(c, trusted)
}

func verifyGo(c claim, trusted root.TrustedMaterial) error {
	verifier, err := verify.NewVerifier(trusted, verify.WithSignedCertificateTimestamps(1), verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	if err != nil {
		return err
	}
	signer, err := verify.NewShortCertificateIdentity(c.issuer, "", c.identity, "")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(c.artifact)
	if err != nil {
		return err
	}
	entity, err := bundle.LoadJSONFromPath(c.bundle)
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

func (c cosign) verify(of claim, trustedRoot string) error {
	return c.run(nil, append(verifyBlob(of), "--trusted-root", trustedRoot)...)
}

func (c cosign) verifyByTUF(of claim, root, cache string) error {
	env := []string{"TUF_ROOT=" + cache}
	if _, err := os.Stat(cache); err != nil {
		if err := c.run(env, "initialize", "--mirror", c.config.TUFMirror(), "--root", root); err != nil {
			return err
		}
	}
	return c.run(env, verifyBlob(of)...)
}

func verifyBlob(c claim) []string {
	return []string{"verify-blob", "--new-bundle-format", "--use-signed-timestamps",
		"--certificate-identity", c.identity, "--certificate-oidc-issuer", c.issuer, "--bundle", c.bundle, c.artifact}
}

// sigstoreJS is sigstore-js, whose packages are in dir.
type sigstoreJS struct {
	*stack
	dir string
}

func (c sigstoreJS) run(env []string, args ...string) error {
	cmd := exec.Command("node", append([]string{"client.mjs"}, args...)...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (c sigstoreJS) sign(artifact, bundle string) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	return c.run([]string{"SIGSTORE_ID_TOKEN=" + token}, "sign", c.config.Trust("signing_config.json"), artifact, bundle)
}

func (c sigstoreJS) verify(of claim, trustedRoot string) error {
	return c.run(nil, "verify", trustedRoot, of.artifact, of.bundle, of.identity, of.issuer)
}

func (c sigstoreJS) verifyByTUF(of claim, root, cache string) error {
	return c.run(nil, "verify-tuf", c.config.TUFMirror(), root, cache, of.artifact, of.bundle, of.identity, of.issuer)
}

// cosignByTUF has cosign v2 sign and verify keyless, a file and an image, with what its TUF cache holds: no variable names
// a key.
func (s *stack) cosignByTUF(root string) {
	s.t.Helper()
	token, err := s.token()
	if err != nil {
		s.t.Fatal(err)
	}
	env := []string{"TUF_ROOT=" + filepath.Join(s.home, "tuf-cosign"), "COSIGN_IDENTITY_TOKEN=" + token}
	artifact, bundle := s.file("by-tuf", "an artifact"), filepath.Join(s.home, "by-tuf.json")
	for _, args := range [][]string{
		{"initialize", "--mirror", s.config.TUFMirror(), "--root", root},
		{"sign-blob", "--yes", "--fulcio-url", s.config.URL(config.Fulcio), "--rekor-url", s.config.URL(config.Rekor), "--bundle", bundle, artifact},
		{"verify-blob", "--certificate-identity", s.config.Email, "--certificate-oidc-issuer", s.config.Issuer(), "--bundle", bundle, artifact},
		{"sign", "--yes", "--fulcio-url", s.config.URL(config.Fulcio), "--rekor-url", s.config.URL(config.Rekor), s.config.Image("base")},
		{"verify", "--certificate-identity", s.config.Email, "--certificate-oidc-issuer", s.config.Issuer(), s.config.Image("base")},
	} {
		if err := (cosign{s}).run(env, args...); err != nil {
			s.t.Errorf("cosign %q: %v", args, err)
		}
	}
}
