package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"sigstore-local/magefiles/internal/project"
)

// Source is an upstream repository of programs of the stack. A checkout can replace its pinned version.
type Source struct {
	// Name is what the source is called on the command line; SIGLOCAL_SRC_ and the name is its variable.
	Name string
	// Module is the path of its module, without the suffix of a major version.
	Module string
	// Programs are the folders of its programs in the checkout, by the programs' names.
	Programs map[string]string
	// Restart is the target that restarts the source's services after a build; empty if the source has no service.
	Restart string
	// Demo is the target that shows that the source's programs work.
	Demo string
}

// Variable is the environment variable that names a checkout of the source, such as SIGLOCAL_SRC_REKOR.
func (s Source) Variable() string {
	return prefix + "SRC_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

var moduleLine = regexp.MustCompile(`(?m)^module[ \t]+"?([^\s"]+)`)

// checkout is the folder at path, with links resolved. It is an error if that is not a checkout of the source.
func (s Source) checkout(path string) (string, error) {
	if !filepath.IsAbs(path) || !project.Legible(path) {
		return "", errNotAccepted
	}
	if strings.Contains(path, `\`) {
		return "", errors.New("its path has a backslash, and Go embeds no files of such a folder")
	}
	// filepath.WalkDir does not follow a link at the top.
	folder, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("it does not exist")
	}
	if err != nil {
		return "", err
	}
	mod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", errors.New("it has no go.mod")
	}
	if err != nil {
		return "", err
	}
	found := moduleLine.FindSubmatch(mod)
	if found == nil {
		return "", errors.New("its go.mod names no module")
	}
	if module := string(found[1]); majorVersion.ReplaceAllString(module, "") != s.Module {
		return "", fmt.Errorf("its go.mod is that of %s", module)
	}
	return folder, nil
}

var majorVersion = regexp.MustCompile(`/v[0-9]+$`)
