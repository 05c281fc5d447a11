package stack

import (
	"context"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/oidc"
	"sigstore-local/magefiles/internal/statedir"
)

// IDToken signs in as email, who has an account, and returns an ID token.
func IDToken(ctx context.Context, c config.Config, email string) (string, error) {
	password, err := statedir.Secret(c, config.DexPassword)
	if err != nil {
		return "", err
	}
	return oidc.Token(ctx, c.URL(config.Dex), email, password)
}

// AddAccounts gives Dex local accounts, all with the stack's password. MariaDB has to run.
func AddAccounts(ctx context.Context, c config.Config, emails ...string) error {
	password, err := statedir.Secret(c, config.DexPassword)
	if err != nil {
		return err
	}
	return database.AddAccounts(ctx, c, emails, password)
}
