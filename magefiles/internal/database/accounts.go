package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"

	"sigstore-local/magefiles/internal/config"
)

// AddAccounts gives Dex a local account for each of emails that has none, or one with another password. The table is
// Dex's (storage/sql/migrate.go); Dex has an API for it too, which whoever reaches its port could use.
func AddAccounts(ctx context.Context, c config.Config, emails []string, password string) error {
	db, err := open(ctx, c, "dex")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, email := range emails {
		var hash []byte
		err := db.QueryRowContext(ctx, "SELECT hash FROM password WHERE email = ?", email).Scan(&hash)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("look for the account %s: %w", email, err)
		}
		if bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil {
			continue
		}
		if hash, err = bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost); err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, "REPLACE INTO password (email, hash, username, preferred_username, user_id, `groups`, name, email_verified) "+
			"VALUES (?, ?, ?, '', ?, '[]', '', TRUE)", email, hash, email, userID(email))
		if err != nil {
			return fmt.Errorf("add the account %s: %w", email, err)
		}
	}
	return nil
}

// userID is the identifier that stands for email in tokens for as long as the email is the same.
func userID(email string) string {
	sum := sha256.Sum256([]byte(email))
	return hex.EncodeToString(sum[:16])
}
