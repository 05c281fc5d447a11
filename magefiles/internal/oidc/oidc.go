// Package oidc signs in to the stack's OpenID Connect issuer without a browser.
package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// ClientID is the public client that Fulcio expects as the audience, and cosign's default.
const ClientID = "sigstore"

// Token asks issuer for an ID token of the account email by a resource owner password credentials grant (RFC 6749,
// section 4.3). An error holds what the issuer answered.
func Token(ctx context.Context, issuer, email, password string) (string, error) {
	return TokenFor(ctx, ClientID, issuer, email, password)
}

// TokenFor is Token for another client than Sigstore's.
func TokenFor(ctx context.Context, clientID, issuer, email, password string) (string, error) {
	form := url.Values{"grant_type": {"password"}, "scope": {"openid email"}, "username": {email}, "password": {password}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// A public client has no secret.
	request.SetBasicAuth(clientID, "")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("sign in as %s: %w", email, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("sign in as %s: %w", email, err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("sign in as %s: %s: %s", email, response.Status, body)
	}
	var answer struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("sign in as %s: %w", email, err)
	}
	if answer.IDToken == "" {
		return "", errors.New("sign in as " + email + ": the answer holds no ID token")
	}
	return answer.IDToken, nil
}
