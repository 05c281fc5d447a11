package attack

import (
	"context"
	"fmt"
	"os"

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
	flags := []string{"--fulcio-url=" + url, "--insecure-skip-verify"}
	if t.tiles() {
		config, err := t.signingConfig(t.Config.URL(config.Fulcio), url)
		if err != nil {
			return Attempt{}, err
		}
		flags = []string{"--signing-config=" + config}
	}
	artifact, bundle, err := t.signKeyless(ctx, flags...)
	if err != nil {
		return Attempt{}, err
	}
	// Only then it is the SCT that is noticed.
	if unasked := t.verifyBlob(ctx, artifact, "--bundle", bundle, "--insecure-ignore-sct=true"); unasked.Refusal != nil {
		return Attempt{}, fmt.Errorf("a verifier who asks for no SCT: %w", unasked.Refusal)
	}
	return t.verifyBlob(ctx, artifact, "--bundle", bundle), nil
}

// signKeyless signs a file as the stack's user, into a bundle.
func (t *Target) signKeyless(ctx context.Context, flags ...string) (artifact, bundle string, err error) {
	if artifact, err = t.artifact(); err != nil {
		return "", "", err
	}
	signIn, err := t.as(ctx, t.Config.Email)
	if err != nil {
		return "", "", err
	}
	bundle = t.scratch.Path("bundle.json")
	sign := append(append([]string{"sign-blob"}, flags...), "--bundle", bundle, artifact)
	return artifact, bundle, t.cosign(ctx, signIn, sign...).Refusal
}

// signingConfig is a file with the stack's signing config, in which a service of the attacker's takes the place of the one at the
// URL stacks.
func (t *Target) signingConfig(stacks, attackers string) (string, error) {
	text, err := os.ReadFile(t.Config.SigningConfig())
	if err != nil {
		return "", err
	}
	if text, err = edited(text, stacks, attackers); err != nil {
		return "", err
	}
	return t.file("signing_config.json", string(text))
}
