package statedir

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigstore-local/magefiles/internal/config"
)

// secretForms matches texts that are secret by their form: ID tokens, private keys, hashes of passwords by bcrypt, which can be
// guessed from, and Dex's connectors, which hold the client secrets of identity providers.
var secretForms = regexp.MustCompile(`\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}|eyJ[\w-]+\.[\w-]+\.[\w-]+|(?m:^connectors:\n(?:(?: .*)?\n)*)|(?s:-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----)`)

// Redactor returns a function that replaces every secret of the stack in a text.
func Redactor(c config.Config) (func([]byte) []byte, error) {
	folder := filepath.Join(c.State, "secrets")
	files, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var pairs []string
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(folder, file.Name()))
		if err != nil {
			return nil, err
		}
		if secret := strings.TrimSpace(string(content)); secret != "" {
			pairs = append(pairs, secret, "[secret "+file.Name()+"]")
		}
	}
	replacer := strings.NewReplacer(pairs...)
	return func(text []byte) []byte {
		return []byte(replacer.Replace(secretForms.ReplaceAllString(string(text), "[secret]")))
	}, nil
}
