package database

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/bcrypt"

	"sigstore-local/magefiles/internal/accounts"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/statedir"
)

// AddAccounts gives Dex a local account for each of emails that has none, or one with another password. The table is Dex's
// (storage/sql/migrate.go); Dex's API for accounts is not enabled, since every user who reaches its port could use it.
func AddAccounts(ctx context.Context, c config.Config, emails []string, password string) error {
	db, err := open(ctx, c, "dex")
	if err != nil {
		return err
	}
	defer db.Close()
	// Comparing a password with its hash takes as long as Dex's start. Pairs that match are remembered by their fingerprints,
	// in the folder of the data that holds the hashes.
	file := filepath.Join(c.Data("mariadb"), "accounts")
	key, err := statedir.Secret(c, config.DatabasePassword)
	if err != nil {
		return err
	}
	known, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	compared := string(known)
	for _, email := range emails {
		var hash []byte
		err := db.QueryRowContext(ctx, "SELECT hash FROM password WHERE email = ?", email).Scan(&hash)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("look for the account %s: %w", email, err)
		}
		if strings.Contains(compared, fingerprint(key, hash, password)) {
			continue
		}
		if bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil {
			compared += fingerprint(key, hash, password)
			continue
		}
		if hash, err = bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost); err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, "REPLACE INTO password (email, hash, username, preferred_username, user_id, `groups`, name, email_verified) "+
			"VALUES (?, ?, ?, '', ?, '[]', '', TRUE)", email, hash, email, accounts.UserID(email))
		if err != nil {
			return fmt.Errorf("add the account %s: %w", email, err)
		}
		compared += fingerprint(key, hash, password)
	}
	if compared == string(known) {
		return nil
	}
	return renameio.WriteFile(file, []byte(compared), 0o600, renameio.WithTempDir(filepath.Dir(file)))
}

// fingerprint is a line that identifies a hash and its password, and tells nothing of them to anybody without the key.
func fingerprint(key string, hash []byte, password string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(hash)
	mac.Write([]byte(password))
	return fmt.Sprintf("%x\n", mac.Sum(nil))
}
