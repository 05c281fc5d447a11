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
)

// Component is a part of the stack that can be built from a checkout of its source.
type Component struct {
	// Name is what the component is called on the command line; SIGLOCAL_SRC_ and the name is its variable.
	Name string
	// Module is the path of its module, without the suffix of a major version.
	Module string
	// Programs are the folders of its programs in the checkout, by the programs' names.
	Programs map[string]string
}

// Components lists what can be built from a checkout.
func Components() []Component {
	return []Component{
		{"rekor", "github.com/sigstore/rekor", map[string]string{"rekor-server": "cmd/rekor-server", "rekor-cli": "cmd/rekor-cli"}},
		{"fulcio", "github.com/sigstore/fulcio", map[string]string{"fulcio": "."}},
		{"dex", "github.com/dexidp/dex", map[string]string{"dex": "cmd/dex"}},
		{"trillian", "github.com/google/trillian", map[string]string{
			"trillian_log_server": "cmd/trillian_log_server", "trillian_log_signer": "cmd/trillian_log_signer", "createtree": "cmd/createtree",
		}},
		{"ct", "github.com/google/certificate-transparency-go", map[string]string{"ct_server": "trillian/ctfe/ct_server"}},
		{"cosign", "github.com/sigstore/cosign", map[string]string{"cosign": "cmd/cosign"}},
		{"ko", "github.com/google/ko", map[string]string{"ko": "."}},
		{"tsa", "github.com/sigstore/timestamp-authority", map[string]string{"timestamp-server": "cmd/timestamp-server"}},
		{"rekor-tiles", "github.com/sigstore/rekor-tiles", map[string]string{"posix": "cmd/rekor-server/posix"}},
	}
}

// Variable is the environment variable that names a checkout of the component, such as SIGLOCAL_SRC_REKOR.
func (c Component) Variable() string {
	return prefix + "SRC_" + strings.ToUpper(strings.ReplaceAll(c.Name, "-", "_"))
}

var moduleLine = regexp.MustCompile(`(?m)^module[ \t]+"?([^\s"]+)`)

// checkout is the folder of the component's checkout that path names. It refuses any other.
func (c Component) checkout(path string) (string, error) {
	if !filepath.IsAbs(path) || !plainPath.MatchString(path) {
		return "", errNotAccepted
	}
	// Whoever walks through a folder does not follow a link to it.
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
	if module := string(found[1]); majorVersion.ReplaceAllString(module, "") != c.Module {
		return "", fmt.Errorf("its go.mod is that of %s", module)
	}
	return folder, nil
}

var majorVersion = regexp.MustCompile(`/v[0-9]+$`)
