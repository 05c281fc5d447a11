package attack

import (
	"context"
	"fmt"
	"strings"

	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/registryclient"
)

// onImages are attacks on signed images.
func onImages() []Attack {
	return []Attack{
		{
			Name: "changed-image", Did: "An image is changed after it was signed.", Who: "cosign", Words: cosign.NoSignature,
			Because: "A signature is looked up by the image's digest, and a changed image has another digest.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				signed, err := t.signedBy(ctx, t.Config.Email)
				if err != nil {
					return Attempt{}, err
				}
				if untouched := t.verify(ctx, signed.image); untouched.Refusal != nil {
					return Attempt{}, fmt.Errorf("the image that nobody has touched: %w", untouched.Refusal)
				}
				changed, err := t.image(ctx, "changed")
				if err != nil {
					return Attempt{}, err
				}
				return t.verify(ctx, changed), nil
			},
		},
		{
			Name: "moved-signature", Did: "The signature of an image is put beside a changed one.", Who: "cosign", Words: cosign.WrongDigest,
			Because: "The text that was signed holds the image's digest, so a signature is about that image, wherever it is stored.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				signed, err := t.signedBy(ctx, t.Config.Email)
				if err != nil {
					return Attempt{}, err
				}
				changed, err := t.image(ctx, "changed")
				if err != nil {
					return Attempt{}, err
				}
				if err := t.moveSignature(ctx, digest(signed.image), digest(changed)); err != nil {
					return Attempt{}, err
				}
				return t.verify(ctx, changed), nil
			},
		},
		{
			Name: "own-key", Did: "An image is signed with a key of the attacker's own.", Who: "cosign", Words: cosign.WrongKey,
			Because: "Only the private half of the trusted key makes signatures that its public half verifies.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				image, err := t.image(ctx, "other key")
				if err != nil {
					return Attempt{}, err
				}
				trusted, own := t.Config.Key("cosign"), t.scratch.Path("own")
				for _, pair := range []string{trusted, own} {
					if err := cosign.KeyPair(ctx, t.Config, t.env, pair); err != nil {
						return Attempt{}, err
					}
				}
				sign := []string{"sign", "--key", own + ".key"}
				if !t.tiles() {
					sign = append(sign, "--tlog-upload=false")
				}
				if signed := t.cosign(ctx, nil, append(sign, image)...); signed.Refusal != nil {
					return Attempt{}, signed.Refusal
				}
				return t.cosign(ctx, nil, "verify", "--key", trusted+".pub", "--insecure-ignore-tlog=true", image), nil
			},
		},
	}
}

// digest is the digest in an image's reference, such as sha256:0123….
func digest(image string) string {
	_, digest, _ := strings.Cut(image, "@")
	return digest
}

// moveSignature stores the signature of an image beside another one.
func (t *Target) moveSignature(ctx context.Context, from, to string) error {
	if t.tiles() {
		return registryclient.MoveReferrers(ctx, t.Config, repository, from, to)
	}
	// The tag under which cosign v2 keeps an image's signatures.
	tag := func(digest string) string { return strings.Replace(digest, ":", "-", 1) + ".sig" }
	signature, err := registryclient.Manifest(ctx, t.Config, repository, tag(from))
	if err != nil {
		return err
	}
	return registryclient.PutManifest(ctx, t.Config, repository, tag(to), signature)
}
