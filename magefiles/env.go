package main

import (
	"context"
	"fmt"
	"strings"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// Env prints what makes a shell's clients use this stack: eval "$(go tool mage env)".
func Env(
	ctx context.Context,
	o *string, // the form of the output: sh, fish, json or github (lines for the file that GITHUB_ENV names)
	token *bool, // add a fresh SIGSTORE_ID_TOKEN; starts Dex if need be
	trust *string, // by what cosign trusts the stack: keys one by one (v2), or root, a trusted root and signing config (v3)
) error {
	form, err := choice("o", o, "sh", "fish", "json", "github")
	if err != nil {
		return err
	}
	kind, err := choice("trust", trust, string(client.Keys), string(client.Root))
	if err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if err := s.prepareClients(); err != nil {
		return err
	}
	variables := client.Environment(s.config, client.Trust(kind))
	if token != nil && *token {
		if err := needs(ctx, Dex.Start); err != nil {
			return err
		}
		secret, err := idToken(ctx, s.config, s.config.Email)
		if err != nil {
			return err
		}
		variables = append(variables, client.Variable{Name: "SIGSTORE_ID_TOKEN", Value: secret})
	}
	text, err := client.Forms()[form](variables)
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimSuffix(text, "\n"))
	return nil
}

// prepareClients makes what the clients' environment names.
func (s *stack) prepareClients() error {
	_, err := service.Secret(s.config, config.CosignPassword)
	return err
}
