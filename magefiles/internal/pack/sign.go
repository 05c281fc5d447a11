package pack

import (
	"context"
	"os"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/stack"
)

// Signer is a function that calls the stack's cosign, which trusts the running stack in the given way, as the stack's user, who is signed in.
func Signer(ctx context.Context, s *stack.Stack, trust client.Trust) (cosign func(args ...string) error, err error) {
	env, err := s.ClientProcess(os.Environ(), trust)
	if err != nil {
		return nil, err
	}
	token, err := stack.IDToken(ctx, s.Config, s.Config.Email)
	if err != nil {
		return nil, err
	}
	env = append(env, "COSIGN_IDENTITY_TOKEN="+token)
	return func(args ...string) error {
		_, err := command.Combined(ctx, command.New(ctx, s.Config.Home(), env, s.Config.Program("cosign"), args...))
		return err
	}, nil
}

// Identity are the flags by which cosign verifies that the stack's user has signed.
func Identity(c config.Config) []string {
	return []string{"--certificate-identity=" + c.Email, "--certificate-oidc-issuer=" + c.Issuer()}
}

// InBundle are the flags by which the stack's cosign signs a file, or a statement about one, into a bundle, and by which it verifies that.
func InBundle(c config.Config, bundle string) (sign, verify []string) {
	sign, verify = []string{"--bundle", bundle}, append(Identity(c), "--trusted-root", c.Trust("trusted_root.json"), "--bundle", bundle)
	if c.Stack != config.Tiles {
		// Version 3 of cosign knows no other format.
		sign, verify = append(sign, "--new-bundle-format"), append(verify, "--new-bundle-format")
	}
	if c.Stack.Includes(config.Tiles) {
		verify = append(verify, "--use-signed-timestamps")
	}
	return sign, verify
}

// Sign signs a file keyless, by the running stack as its user, into a bundle beside the file, and returns the command that verifies it.
func Sign(ctx context.Context, s *stack.Stack, file string) (verify string, err error) {
	cosign, err := Signer(ctx, s, client.Root)
	if err != nil {
		return "", err
	}
	sign, check := InBundle(s.Config, file+".sigstore.json")
	if err := cosign(append(append([]string{"sign-blob"}, sign...), file)...); err != nil {
		return "", err
	}
	return shellescape.QuoteCommand(append(append([]string{"cosign", "verify-blob"}, check...), file)), nil
}
