// Package accounts keeps the local accounts of a Dex that has no database, which reads them when it starts.
package accounts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/statedir"
)

// Account is a local account, as Dex's staticPasswords have it
// (https://github.com/dexidp/dex/blob/v2.45.1/cmd/dex/config.go, password).
type Account struct {
	Email  string `json:"email"`
	Hash   string `json:"hash"` // of the password, by bcrypt
	UserID string `json:"userID"`
	// Of identifies the password that Hash is of: the hash, authenticated with the password (HMAC-SHA-256, hex). Comparing
	// Hash itself with a password takes as long as Dex's start.
	Of string `json:"of"`
}

// File is where the accounts of a stack are kept.
func File(c config.Config) string { return c.Data("dex-accounts.json") }

// List are the accounts of a stack.
func List(c config.Config) ([]Account, error) {
	content, err := os.ReadFile(File(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Account
	if err := json.Unmarshal(content, &all); err != nil {
		return nil, fmt.Errorf("%s does not hold a list of accounts: %w: delete it, and the next start makes it anew", File(c), err)
	}
	return all, nil
}

// Add keeps an account for each of emails with the stack's password. It says whether that changed anything, which Dex knows
// once it is started again.
func Add(c config.Config, emails ...string) (changed bool, err error) {
	all, err := List(c)
	if err != nil {
		return false, err
	}
	password, err := statedir.Secret(c, config.DexPassword)
	if err != nil {
		return false, err
	}
	// A lost password is replaced by another, which all accounts then have.
	for _, one := range all {
		if !slices.Contains(emails, one.Email) {
			emails = append(slices.Clone(emails), one.Email)
		}
	}
	for _, email := range emails {
		at := slices.IndexFunc(all, func(one Account) bool { return one.Email == email })
		if at >= 0 && hmac.Equal([]byte(all[at].Of), []byte(of(all[at].Hash, password))) {
			continue
		}
		if at < 0 {
			all, at = append(all, Account{}), len(all)
		}
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
		if err != nil {
			return false, err
		}
		all[at], changed = Account{email, string(hash), UserID(email), of(string(hash), password)}, true
	}
	if !changed {
		return false, nil
	}
	slices.SortFunc(all, func(a, b Account) int { return strings.Compare(a.Email, b.Email) })
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return false, err
	}
	return true, statedir.WriteSecret(File(c), append(text, '\n'))
}

func of(hash, password string) string {
	mac := hmac.New(sha256.New, []byte(password))
	mac.Write([]byte(hash))
	return hex.EncodeToString(mac.Sum(nil))
}

// UserID is the identifier of email in ID tokens, the same at all times and with every storage of Dex.
func UserID(email string) string {
	sum := sha256.Sum256([]byte(email))
	return hex.EncodeToString(sum[:16])
}
