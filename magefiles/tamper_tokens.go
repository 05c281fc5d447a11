package main

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
	"sigstore-local/magefiles/internal/service"
)

// tokens asks Fulcio for certificates with ID tokens that it must not take.
func (t *tamper) tokens() error {
	c, err := t.elsewhere()
	if err != nil {
		return err
	}
	// The same issuer, keys and accounts; another client, and tokens that soon expire.
	file, err := t.edited("dex.yaml", "http: "+t.config.Address(config.Dex), "http: "+c.Address(config.Dex),
		"staticClients:\n", "expiry:\n  idTokens: 1s\nstaticClients:\n  - id: another\n    name: another\n    public: true\n")
	if err != nil {
		return err
	}
	one := dex(c)
	one.Args = []string{"serve", file}
	one.Ready = service.Answers(c.URL(config.Dex) + strings.TrimPrefix(t.config.Issuer(), "http://"+t.config.Localhost(config.Dex)) + "/keys")
	if err := t.serve(one); err != nil {
		return err
	}
	password, err := service.Secret(t.config, config.DexPassword)
	if err != nil {
		return err
	}
	short, err := oidc.TokenFor(t.ctx, oidc.ClientID, c.URL(config.Dex), t.config.Email, password)
	if err != nil {
		return err
	}
	select {
	case <-time.After(2 * time.Second):
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
	another, err := oidc.TokenFor(t.ctx, "another", c.URL(config.Dex), t.config.Email, password)
	if err != nil {
		return err
	}
	own, err := t.forgeToken()
	if err != nil {
		return err
	}
	const request = "/api/v2/signingCert, with the token as credentials.oidcIdentityToken"
	for _, one := range []struct {
		token string
		attack
	}{
		{short, attack{
			did: "An ID token is used after it has expired.", reason: regexp.MustCompile(`token is expired`),
			because: "A token that was stolen is of use for a short time only.",
		}},
		{another, attack{
			did: "An ID token that was given to another application is used.", reason: regexp.MustCompile(`expected audience`),
			because: "It says for whom it is, and another application's operator gets no certificates by it.",
		}},
		{own, attack{
			did: "An ID token is made up, and signed by an issuer of the attacker's own.", reason: regexp.MustCompile(`failed to verify (id token )?signature`),
			because: "Fulcio fetches the keys of the issuer that the token names, and none of them has signed it.",
		}},
	} {
		before, err := os.ReadFile(t.config.Log("fulcio"))
		if err != nil {
			return err
		}
		refusal := fulcioclient.Certify(t.ctx, t.config.URL(config.Fulcio), one.token, t.config.Email)
		// Fulcio tells its caller no more than that the token was refused.
		after, err := os.ReadFile(t.config.Log("fulcio"))
		if err != nil {
			return err
		}
		one.who, one.command = "Fulcio", "POST "+t.config.URL(config.Fulcio)+request
		said := one.reason.FindString(string(after[min(len(before), len(after)):]))
		if err := t.noticed(one.attack, said, refusal); err != nil {
			return err
		}
	}
	return nil
}

// forgeToken makes an ID token that says what one of the stack's issuer would, with a key of its own.
func (t *tamper) forgeToken() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	now := time.Now()
	var parts []string
	for _, part := range []map[string]any{
		{"alg": "RS256", "kid": "attacker"},
		{
			"iss": t.config.Issuer(), "aud": oidc.ClientID, "sub": "1", "email": t.config.Email, "email_verified": true,
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
