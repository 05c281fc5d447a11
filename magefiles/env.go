package main

import (
	"context"
	"fmt"
	"strings"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/stack"
)

// Env prints the environment variables with which clients use this stack. To set them in a shell: eval "$(go tool mage env)".
func Env(
	ctx context.Context,
	o *string, // the form of the output: sh, fish, json or github (lines for the file that GITHUB_ENV names)
	token *bool, // add a fresh SIGSTORE_ID_TOKEN; starts Dex if need be
	trust *string, // what cosign is told to trust: keys, one by one (for cosign v2), or root, a trusted root and signing config (for v3)
) error {
	form, err := stack.Choice("o", o, "sh", "fish", "json", "github")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	var kinds []string
	for _, kind := range client.Trusts(s.Config) {
		kinds = append(kinds, string(kind))
	}
	kind, err := stack.Choice("trust", trust, kinds...)
	if err != nil {
		return err
	}
	if s, err = acquire(ctx); err != nil {
		return err
	}
	variables, err := s.ClientEnvironment(client.Trust(kind))
	if err != nil {
		return err
	}
	if token != nil && *token {
		if err := needs(ctx, Dex.Start); err != nil {
			return err
		}
		secret, err := stack.IDToken(ctx, s.Config, s.Config.Email)
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
