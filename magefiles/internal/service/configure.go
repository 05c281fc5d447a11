package service

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/templates"
)

// Values are what only the running stack knows, such as the ID of a Trillian tree, by the name that templates use.
type Values map[string]any

// view is what templates see: the configuration's fields and methods, Values and Secret.
type view struct {
	config.Config
	Values Values
	secret func(config.Config, config.Secret) (string, error)
}

// Port, Address and URL take the listener's name, since templates have only strings.
func (v view) Port(name string) int       { return v.Config.Port(config.Port(name)) }
func (v view) Address(name string) string { return v.Config.Address(config.Port(name)) }
func (v view) URL(name string) string     { return v.Config.URL(config.Port(name)) }

// Localhost is the URL of a listener by the name localhost.
func (v view) Localhost(name string) string { return "http://" + v.Config.Localhost(config.Port(name)) }

// Secret is the text of the secret name.
func (v view) Secret(name string) (string, error) { return v.secret(v.Config, config.Secret(name)) }

// List is the YAML list in a file, indented so that it can stand in a longer one, and can be nothing but a part of it.
func (v view) List(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	margin := ""
	if first := firstItem.FindSubmatch(content); first != nil {
		margin = string(first[1])
	}
	var list strings.Builder
	for line := range strings.Lines(string(content)) {
		list.WriteString("  " + strings.TrimPrefix(line, margin))
	}
	return list.String(), nil
}

var firstItem = regexp.MustCompile(`(?m)^( *)-`)

// Configure renders the template name into the folder of configuration files, readable by its owner alone.
func Configure(c config.Config, name string, values Values) error {
	text, err := templates.Render(name, view{c, values, Secret})
	if err != nil {
		return err
	}
	// What is there already need not be brought to the disk once more, which takes as long as a daemon's start.
	if there, err := os.ReadFile(c.ConfigFile(name)); err == nil && bytes.Equal(there, text) {
		return os.Chmod(c.ConfigFile(name), 0o600)
	}
	return renameio.WriteFile(c.ConfigFile(name), text, 0o600, beside(c.ConfigFile(name)))
}

// beside keeps what is secret out of TMPDIR, where it would stay if this process were killed while it writes the file.
func beside(file string) renameio.Option { return renameio.WithTempDir(filepath.Dir(file)) }

// marker is the file by which a state folder is known, so that a folder of somebody's own is never filled or wiped.
const marker = ".sigstore-local"

// otherFolder ends the messages about a state folder that cannot be used.
const otherFolder = "name an empty folder of yours, or one that does not exist, with SIGLOCAL_STATE"

// CheckFolder refuses a state folder that is another user's, or holds what no stack has put there.
func CheckFolder(c config.Config) error {
	info, err := os.Stat(c.State)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("the state folder %s is not a folder: "+otherFolder, c.State)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("the state folder %s belongs to the user with ID %d, not to you, %d: "+otherFolder, c.State, owner.Uid, os.Geteuid())
	}
	marked := func() (bool, error) {
		_, err := os.Stat(filepath.Join(c.State, marker))
		return !errors.Is(err, os.ErrNotExist), err
	}
	if ok, err := marked(); ok {
		return err
	}
	entries, err := os.ReadDir(c.State)
	if err != nil {
		return fmt.Errorf("read the state folder: %w: "+otherFolder, err)
	}
	for _, entry := range entries {
		// Of these, the first and the last are the checkout's own; between them is a marker that is being written.
		name := entry.Name()
		if name == ".gitignore" || strings.HasPrefix(name, "."+marker) || filepath.Join(c.State, name) == c.Programs {
			continue
		}
		// Another process may have made the folders since.
		if ok, err := marked(); ok {
			return err
		}
		return fmt.Errorf("the state folder %s was not made by this project and holds %s: "+otherFolder, c.State, name)
	}
	return nil
}

// MakeFolders makes the folders of a stack, private to its owner. It refuses what CheckFolder refuses.
func MakeFolders(c config.Config) error {
	if err := CheckFolder(c); err != nil {
		return err
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w: "+otherFolder, err)
	}
	markerFile := filepath.Join(c.State, marker)
	if _, err := os.Stat(markerFile); errors.Is(err, os.ErrNotExist) {
		text := "This folder holds a local Sigstore: its configuration, data, keys, secrets and logs.\n"
		if err := renameio.WriteFile(markerFile, []byte(text), 0o600); err != nil {
			return fmt.Errorf("make the state folder: %w: "+otherFolder, err)
		}
	}
	for _, folder := range c.Folders() {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("make the state folder: %w: "+otherFolder, err)
		}
		// The state folder that is part of the checkout was made by git, with the user's umask.
		if err := os.Chmod(folder, 0o700); err != nil {
			return fmt.Errorf("make the state folder private: %w: "+otherFolder, err)
		}
	}
	return nil
}

// Secret is the text of the secret name of a stack, which it makes if need be: from the user's variable if that is set,
// and from 128 random bits otherwise.
func Secret(c config.Config, name config.Secret) (string, error) {
	path := c.SecretFile(name)
	preset := c.PresetSecrets[name]
	content, err := os.ReadFile(path)
	switch {
	case err == nil:
		secret := strings.TrimSuffix(string(content), "\n")
		if !config.Valid(secret) {
			return "", fmt.Errorf("%s does not hold a secret in one line, 4 to 64 letters, digits or any of . _ ~ + = -: put back its copy, or wipe the stack's data and keys with `go tool mage reset`", path)
		}
		if preset != "" && preset != secret {
			return "", fmt.Errorf("%s is not what %s holds, which the stack was made with: unset it, or wipe the stack's data and keys with `go tool mage reset`",
				name.Variable(), path)
		}
		return secret, nil
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	secret := preset
	if secret == "" {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return "", err
		}
		secret = hex.EncodeToString(random)
	}
	return secret, renameio.WriteFile(path, []byte(secret+"\n"), 0o600, beside(path))
}
