package service

import (
	"bytes"
	"os"
	"regexp"
	"strings"

	"sigstore-local/magefiles/internal/accounts"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/statedir"
	"sigstore-local/templates"
)

// Values are what only the running stack knows, such as the ID of a Trillian tree, by the name that templates use.
type Values map[string]any

// StandIns are Values for rendering a template while the stack does not run.
func StandIns() Values { return Values{"Tree": 0, "Module": ""} }

// Secrets gives the text of a secret of a stack, as statedir.Secret does.
type Secrets func(config.Config, config.Secret) (string, error)

// view is what templates see: the configuration's fields and methods, Values and Secret.
type view struct {
	config.Config
	Values Values
	secret Secrets
}

// These take the port's name, since templates have only strings.
func (v view) Port(name string) int       { return v.Config.Port(v.PortNamed(name)) }
func (v view) Address(name string) string { return v.Config.Address(v.PortNamed(name)) }
func (v view) URL(name string) string     { return v.Config.URL(v.PortNamed(name)) }

func (v view) ListenAddress(name string) string {
	return v.Config.ListenAddress(v.PortNamed(name))
}
func (v view) ListenHost(name string) string { return v.Config.ListenHost(v.PortNamed(name)) }
func (v view) Public(name string) string     { return v.Config.Public(v.PortNamed(name)) }
func (v view) PublicURL(name string) string  { return v.Config.PublicURL(v.PortNamed(name)) }
func (v view) Localhost(name string) string  { return v.Config.Localhost(v.PortNamed(name)) }

// Accounts are the local accounts of a Dex without a database.
func (v view) Accounts() ([]accounts.Account, error) { return accounts.List(v.Config) }

// Secret is the text of the secret name.
func (v view) Secret(name string) (string, error) { return v.secret(v.Config, config.Secret(name)) }

// List is the YAML list in a file, indented so that it can only continue a list in a template, and begin nothing else.
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

// Render is the configuration file that the template name makes of c.
func Render(c config.Config, name string, values Values, secrets Secrets) ([]byte, error) {
	return templates.Render(name, view{c, values, secrets})
}

// Configure renders the template name into the folder of configuration files, readable by its owner alone.
func Configure(c config.Config, name string, values Values) error {
	text, err := Render(c, name, values, statedir.Secret)
	if err != nil {
		return err
	}
	// A file that has this content already is not written again: flushing it to the disk takes as long as a daemon's start.
	if there, err := os.ReadFile(c.ConfigFile(name)); err == nil && bytes.Equal(there, text) {
		return os.Chmod(c.ConfigFile(name), 0o600)
	}
	return statedir.WriteSecret(c.ConfigFile(name), text)
}
