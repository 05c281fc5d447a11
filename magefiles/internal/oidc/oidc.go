// Package oidc signs in to the stack's OpenID Connect issuer without a browser.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/oauth2"
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
	// A public client has no secret.
	client := oauth2.Config{
		ClientID: clientID, Scopes: []string{"openid", "email"},
		Endpoint: oauth2.Endpoint{TokenURL: issuer + "/token", AuthStyle: oauth2.AuthStyleInHeader},
	}
	// The issuer is on loopback, so no proxy is used, and the connection is closed after the answer.
	direct := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	token, err := client.PasswordCredentialsToken(context.WithValue(ctx, oauth2.HTTPClient, direct), email, password)
	if err != nil {
		return "", fmt.Errorf("sign in as %s: %w", email, err)
	}
	id, ok := token.Extra("id_token").(string)
	if !ok || id == "" {
		return "", errors.New("sign in as " + email + ": the answer holds no ID token")
	}
	return id, nil
}
