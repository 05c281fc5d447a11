package statedir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
)

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
			return "", fmt.Errorf("%s does not hold a secret in one line, 4 to 64 letters, digits or any of . _ ~ + = -: put back its copy, or wipe the stack's data and keys with `"+project.Command+" reset`", path)
		}
		if preset != "" && preset != secret {
			return "", fmt.Errorf("%s is not what %s holds, which the stack was made with: unset it, or wipe the stack's data and keys with `"+project.Command+" reset`",
				name.Variable(), path)
		}
		return secret, nil
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	secret := preset
	if file := c.ProtectsFile(name); secret == "" && file != "" {
		if _, err := os.Stat(file); err == nil {
			return "", fmt.Errorf("%s is gone, and %s was made with what it held: put back its copy, set %s to that, or wipe the stack's data and keys with `"+project.Command+" reset`",
				path, file, name.Variable())
		}
	}
	if secret == "" {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return "", err
		}
		secret = hex.EncodeToString(random)
	}
	return secret, WriteSecret(path, []byte(secret+"\n"))
}

// WriteSecret replaces the file at path, which only its owner can read. The new file is first written beside it, not in
// TMPDIR, where it would stay if this process were killed meanwhile.
func WriteSecret(path string, text []byte) error {
	return renameio.WriteFile(path, text, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

// Copy copies the folder from to the folder to, in which none of the copied files may exist. Each copy has its original's mode from
// the start, so that nobody but its owner can read a secret at any time. os.CopyFS does not promise that.
func Copy(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		copied := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			return os.MkdirAll(copied, info.Mode().Perm())
		case info.Mode().IsRegular():
			return copyFile(copied, path, info.Mode().Perm())
		}
		return nil // a socket, which only its daemon can make
	})
}

func copyFile(to, from string, mode fs.FileMode) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, source)
	return err
}
