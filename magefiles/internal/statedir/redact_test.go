package statedir

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"sigstore-local/magefiles/internal/config"
)

func TestARedactedTextHasNoSecretByItsForm(t *testing.T) {
	redact, err := Redactor(config.Config{State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	token := "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl"
	key := "-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----"
	connectors := "connectors:\n  - type: github\n\n    config: {clientSecret: s}\n"
	hash := "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W"
	got := string(redact([]byte("a " + token + " b\n" + key + "\nhash: \"" + hash + "\"\nc\n" + connectors)))
	if got != "a [secret] b\n[secret]\nhash: \"[secret]\"\nc\n[secret]" {
		t.Errorf("got %q", got)
	}
	// A JSON file is one without its secrets, too.
	content, err := json.Marshal(map[string]string{"token": token})
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(redact(content)) {
		t.Errorf("got %s", redact(content))
	}
}

// A folder's name with special characters must not keep its secrets from being found.
func TestARedactedTextHasNoSecretOfAStackInAFolderOfAnyName(t *testing.T) {
	c := config.Config{State: filepath.Join(t.TempDir(), "a [folder]* ?")}
	if err := os.MkdirAll(filepath.Join(c.State, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.SecretFile(config.HSMPIN), []byte("a-secret-pin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	redact, err := Redactor(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(redact([]byte(`{"Pin": "a-secret-pin"}`))); got != `{"Pin": "[secret hsm-pin]"}` {
		t.Errorf("got %s", got)
	}
}
