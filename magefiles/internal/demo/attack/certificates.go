package attack

import (
	"context"
	"os"
	"path/filepath"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/cosign"
)

// onCertificates are attacks by certificates that must not be trusted.
func onCertificates(c config.Config) []Attack {
	ownCA, stolenKey, datedBack := byForgery()
	if c.Stack == config.Tiles {
		ownCA, stolenKey, datedBack = byForgeryInBundles()
	}
	return []Attack{
		{
			Name: "other-identity", Did: "{attacker} signs in under their own name, and signs an image that {signer} should have signed.", Who: "cosign", Words: cosign.WrongIdentity,
			Because: "The certificate names the person who signed in, and the verifier says which person to expect.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				signed, err := t.signedBy(ctx, Mallory)
				if err != nil {
					return Attempt{}, err
				}
				return t.verify(ctx, signed.image), nil
			},
		},
		ownCA,
		{
			Name: "secret-certificate", Did: "The CA's operator certifies a key without telling the CT log.", Who: "cosign", Words: cosign.NoSCT,
			Because: "A certificate counts only with the CT log's promise (SCT) to publish it: nobody is certified in secret.",
			Try:     func(ctx context.Context, t *Target) (Attempt, error) { return t.byRogueFulcio(ctx, false) },
		},
		{
			Name: "other-ct-log", Did: "The CA's operator tells another CT log, which nobody watches.", Who: "cosign", Words: cosign.WrongSCT,
			Because: "The promise (SCT) has to be signed by the CT log that the verifier trusts.",
			Try:     func(ctx context.Context, t *Target) (Attempt, error) { return t.byRogueFulcio(ctx, true) },
		},
		stolenKey, datedBack,
	}
}

// verifyBlob verifies that the stack's user has signed a file.
func (t *Target) verifyBlob(ctx context.Context, file string, more ...string) Attempt {
	return t.cosign(ctx, nil, append([]string{"verify-blob", t.signer(), t.issuer(), file}, more...)...)
}

// byRogueFulcio signs a file with a certificate of a Fulcio that has the CA's real key, and no CT log, or another one.
func (t *Target) byRogueFulcio(ctx context.Context, ctLog bool) (Attempt, error) {
	url, end, err := t.rogueFulcio(ctx, ctLog)
	if err != nil {
		return Attempt{}, err
	}
	defer end()
	artifact, err := t.artifact()
	if err != nil {
		return Attempt{}, err
	}
	signIn, err := t.as(ctx, t.Config.Email)
	if err != nil {
		return Attempt{}, err
	}
	bundle := filepath.Join(t.scratch.Dir, "bundle.json")
	sign := []string{"sign-blob", "--fulcio-url=" + url, "--insecure-skip-verify"}
	if t.tiles() {
		config, err := t.signingConfig(t.Config.URL(config.Fulcio), url)
		if err != nil {
			return Attempt{}, err
		}
		sign = []string{"sign-blob", "--signing-config=" + config}
	}
	if signed := t.cosign(ctx, signIn, append(sign, "--bundle", bundle, artifact)...); signed.Refusal != nil {
		return Attempt{}, signed.Refusal
	}
	return t.verifyBlob(ctx, artifact, "--bundle", bundle), nil
}

// signingConfig is a file with the stack's signing config, in which a service of the attacker's takes the place of the one at the
// URL stacks.
func (t *Target) signingConfig(stacks, attackers string) (string, error) {
	text, err := os.ReadFile(t.Config.Trust("signing_config.json"))
	if err != nil {
		return "", err
	}
	if text, err = edited(text, stacks, attackers); err != nil {
		return "", err
	}
	return t.file("signing_config.json", string(text))
}
