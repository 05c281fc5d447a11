package attack

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/fulcioclient"
	"sigstore-local/magefiles/internal/oidc"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// onTokens ask Fulcio for certificates with ID tokens that it must not take.
func onTokens() []Attack {
	return []Attack{
		{
			Name: "expired-token", Did: "An ID token is used after it has expired.", Who: "Fulcio", Words: regexp.MustCompile(`token is expired`),
			Because: "A stolen token is of use for a short time only.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				return t.withOtherToken(ctx, oidc.ClientID, 2*time.Second)
			},
		},
		{
			Name: "other-audience", Did: "An ID token that was given to another application is used.", Who: "Fulcio", Words: regexp.MustCompile(`expected audience`),
			Because: "A token names the application that it was given to, so that application's operator cannot get certificates with it.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				return t.withOtherToken(ctx, "another", 0)
			},
		},
		{
			Name: "forged-token", Did: "An ID token is made up, and signed by an issuer of the attacker's own.", Who: "Fulcio",
			Words:   regexp.MustCompile(`failed to verify (id token )?signature`),
			Because: "Fulcio fetches the keys of the issuer that the token names, and none of them has signed it.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				token, err := t.forgeToken()
				if err != nil {
					return Attempt{}, err
				}
				return certify(ctx, t.Stack, token)
			},
		},
	}
}

// certify asks the Fulcio of a stack for a certificate. Fulcio tells its caller only that the token was refused, and writes the
// reason into its log, which Attempt.Said therefore holds.
func certify(ctx context.Context, s *stack.Stack, token string) (Attempt, error) {
	url, log := s.Config.URL(config.Fulcio), s.Config.Log("fulcio")
	before, err := os.ReadFile(log)
	if err != nil {
		return Attempt{}, err
	}
	refusal := fulcioclient.Certify(ctx, url, token, s.Config.Email)
	after, err := os.ReadFile(log)
	if err != nil {
		return Attempt{}, err
	}
	return Attempt{
		Command: "POST " + url + "/api/v2/signingCert, with the token as credentials.oidcIdentityToken",
		Said:    string(after[min(len(before), len(after)):]), Refusal: refusal,
	}, nil
}

// withOtherToken asks for a certificate with an ID token that another Dex has given to a client the time wait ago.
func (t *Target) withOtherToken(ctx context.Context, client string, wait time.Duration) (Attempt, error) {
	url, trusts, stop, err := t.otherSignIn(ctx)
	if err != nil {
		return Attempt{}, err
	}
	defer stop()
	password, err := statedir.Secret(t.Config, config.DexPassword)
	if err != nil {
		return Attempt{}, err
	}
	token, err := oidc.TokenFor(ctx, client, url, t.Config.Email, password)
	if err != nil {
		return Attempt{}, err
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return Attempt{}, context.Cause(ctx)
	}
	return certify(ctx, trusts, token)
}

// forgeToken makes an ID token with the claims of one from the stack's issuer, and signs it with a key of its own.
func (t *Target) forgeToken() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	now := time.Now()
	var parts []string
	for _, part := range []map[string]any{
		{"alg": "RS256", "kid": "attacker"},
		{
			"iss": t.Config.Issuer(), "aud": oidc.ClientID, "sub": "1", "email": t.Config.Email, "email_verified": true,
			"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		},
	} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	digest := sha256.Sum256([]byte(strings.Join(parts, ".")))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	return strings.Join(append(parts, base64.RawURLEncoding.EncodeToString(signature)), "."), err
}
