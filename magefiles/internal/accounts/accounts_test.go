package accounts

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/statedir"
)

func TestAccountsAreMadeOnceAndHaveThePassword(t *testing.T) {
	c := config.Config{State: t.TempDir()}
	if err := statedir.MakeFolders(c); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		emails  []string
		changed bool
		all     []string
	}{
		{[]string{"b@example.org"}, true, []string{"b@example.org"}},
		{[]string{"b@example.org"}, false, []string{"b@example.org"}},
		{[]string{"a@example.org"}, true, []string{"a@example.org", "b@example.org"}},
		{nil, false, []string{"a@example.org", "b@example.org"}},
	} {
		check(t, c, test.emails, test.changed, test.all)
	}
	if info, err := os.Stat(File(c)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// A lost password is replaced by another, which all accounts then have.
	if err := os.Remove(c.SecretFile(config.DexPassword)); err != nil {
		t.Fatal(err)
	}
	check(t, c, []string{"a@example.org"}, true, []string{"a@example.org", "b@example.org"})
	if err := os.WriteFile(File(c), []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(c, "a@example.org"); err == nil || !strings.Contains(err.Error(), File(c)) {
		t.Errorf("a damaged file: %v", err)
	}
}

func check(t *testing.T, c config.Config, emails []string, want bool, all []string) {
	t.Helper()
	changed, err := Add(c, emails...)
	if err != nil || changed != want {
		t.Errorf("%v: changed %v, %v", emails, changed, err)
	}
	password, err := statedir.Secret(c, config.DexPassword)
	if err != nil {
		t.Fatal(err)
	}
	list, err := List(c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range list {
		got = append(got, one.Email)
		if err := bcrypt.CompareHashAndPassword([]byte(one.Hash), []byte(password)); err != nil || one.UserID != UserID(one.Email) {
			t.Errorf("%+v: %v", one, err)
		}
	}
	if !slices.Equal(got, all) {
		t.Errorf("the accounts are %v, not %v", got, all)
	}
}
