package main

import (
	"context"
	"fmt"
	"path/filepath"
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
	files *string, // for clients elsewhere, outside of a container: the folder there that is a copy of the stack's folder trust
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
	folder := ""
	if files != nil {
		if folder = filepath.Clean(*files); !filepath.IsAbs(folder) {
			return fmt.Errorf("-files is %q; accepted is an absolute path", *files)
		}
	}
	if s, err = acquire(ctx); err != nil {
		return err
	}
	variables := client.Elsewhere(s.Config, client.Trust(kind), folder)
	if folder == "" {
		if variables, err = s.ClientEnvironment(client.Trust(kind)); err != nil {
			return err
		}
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
