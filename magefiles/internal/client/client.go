// Package client is the environment in which cosign, rekor-cli, ko and other clients use this stack and nothing else.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
)

// Variable is one environment variable. Its value is Value, or what the file Secret holds. With Prepend, Value goes before
// the value that the variable has already; with Unset, the variable must not be set.
type Variable struct {
	Name, Value, Secret string
	Prepend, Unset      bool
}

// Trust says by what cosign trusts the stack and finds its services.
type Trust string

// The kinds of trust. cosign takes one of them at a time.
const (
	Keys Trust = "keys" // keys and URLs one by one, as cosign v2 does
	Root Trust = "root" // a trusted root and a signing configuration, as cosign v3 does
)

// Trusts are the kinds of trust that the clients of a stack can have, first the one that its demos use. Rekor v2 is found by a
// signing configuration only.
func Trusts(c config.Config) []Trust {
	if c.Stack == config.Tiles {
		return []Trust{Root}
	}
	return []Trust{Keys, Root}
}

// Environment lists the variables with which clients use the stack.
func Environment(c config.Config, trust Trust) []Variable {
	// cosign reads each flag from COSIGN_ and its name.
	byKeys := []Variable{
		{Name: "COSIGN_REKOR_URL", Value: c.URL(config.Rekor)},
		{Name: "COSIGN_FULCIO_URL", Value: c.URL(config.Fulcio)},
		{Name: "COSIGN_OIDC_ISSUER", Value: c.Issuer()},
		{Name: "SIGSTORE_ROOT_FILE", Value: c.Key("ca-root.pem")},
		{Name: "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", Value: c.CTLogKey()},
		{Name: "SIGSTORE_REKOR_PUBLIC_KEY", Value: c.Key("rekor.pub")},
	}
	byRoot := []Variable{
		{Name: "COSIGN_SIGNING_CONFIG", Value: c.Trust("signing_config.json")},
		{Name: "COSIGN_TRUSTED_ROOT", Value: c.Trust("trusted_root.json")},
	}
	chosen, other := byKeys, byRoot
	if trust == Root {
		chosen, other = byRoot, byKeys
	}
	for i := range other {
		other[i] = Variable{Name: other[i].Name, Unset: true}
	}
	var rekor, tiles []Variable
	if c.Stack.Includes(config.Tutorial) {
		rekor = []Variable{{Name: "REKOR_REKOR_SERVER", Value: c.URL(config.Rekor)}, {Name: "REKOR_URL", Value: c.URL(config.Rekor)}}
	}
	if c.Stack.Includes(config.Tiles) {
		tiles = []Variable{{Name: "REKOR_V2_URL", Value: c.RekorV2()}, {Name: "TSA_URL", Value: c.URL(config.TSA)}, {Name: "TUF_MIRROR", Value: c.TUFMirror()}}
	}
	return slices.Concat(chosen, other, []Variable{
		{Name: "PATH", Value: path(c), Prepend: true},
		{Name: "COSIGN_YES", Value: "true"},
		{Name: "COSIGN_PASSWORD", Secret: c.SecretFile(config.CosignPassword)},
		{Name: "KO_DOCKER_REPO", Value: c.Localhost(config.Registry)},
		{Name: "KO_DEFAULTBASEIMAGE", Value: c.Image("base")},

		// Folders of the stack's own in place of ~/.sigstore and ~/.docker.
		{Name: "TUF_ROOT", Value: filepath.Join(c.Home(), "tuf")},
		{Name: "DOCKER_CONFIG", Value: filepath.Join(c.Home(), "docker")},

		// The names that Sigstore's own test environments give these.
		{Name: "FULCIO_URL", Value: c.URL(config.Fulcio)},
		{Name: "OIDC_URL", Value: c.Issuer()},
		{Name: "ISSUER_URL", Value: c.Issuer()},
		{Name: "CT_LOG_KEY", Value: c.CTLogKey()},
		{Name: "TUF_ROOT_JSON", Value: c.Trust("root.json")},
		{Name: "TRUSTED_ROOT", Value: c.Trust("trusted_root.json")},
		{Name: "SIGNING_CONFIG", Value: c.Trust("signing_config.json")},
	}, rekor, tiles)
}

// path lists the folders of the programs: first those of checkouts.
func path(c config.Config) string {
	var folders []string
	for _, source := range c.Sources() {
		if _, ok := c.Checkouts[source.Name]; ok {
			folders = append(folders, c.CheckoutPrograms(source))
		}
	}
	if pinned := filepath.Dir(filepath.Join(c.Programs, c.Cosign())); pinned != c.Programs {
		folders = append(folders, pinned)
	}
	return strings.Join(append(folders, c.Programs), string(os.PathListSeparator))
}

// Forms are the ways to write variables, by the name that the target env gives them.
func Forms() map[string]func([]Variable) (string, error) {
	return map[string]func([]Variable) (string, error){"sh": sh, "fish": fish, "json": asJSON, "github": github}
}

// sh writes variables as commands for a POSIX shell. A secret is read from its file when the shell runs them.
func sh(variables []Variable) (string, error) {
	var out strings.Builder
	for _, v := range variables {
		value := shellescape.Quote(v.Value)
		switch {
		case v.Unset:
			fmt.Fprintf(&out, "unset %s\n", v.Name)
			continue
		case v.Secret != "":
			value = `"$(cat ` + shellescape.Quote(v.Secret) + `)"`
		case v.Prepend:
			value += `:"$` + v.Name + `"`
		}
		fmt.Fprintf(&out, "export %s=%s\n", v.Name, value)
	}
	return out.String(), nil
}

// fish writes variables as commands for fish.
func fish(variables []Variable) (string, error) {
	var out strings.Builder
	for _, v := range variables {
		value := QuoteFish(v.Value)
		switch {
		case v.Unset:
			fmt.Fprintf(&out, "set -e %s\n", v.Name)
			continue
		case v.Secret != "":
			value = `(cat ` + QuoteFish(v.Secret) + `)`
		case v.Prepend:
			value += " $" + v.Name
		}
		fmt.Fprintf(&out, "set -gx %s %s\n", v.Name, value)
	}
	return out.String(), nil
}

// QuoteFish quotes a text for fish, in which a backslash within single quotes escapes another and a single quote.
func QuoteFish(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// asJSON writes variables as one object of names and values, those of secrets included.
func asJSON(variables []Variable) (string, error) {
	object := map[string]string{}
	for _, v := range set(variables) {
		value, err := v.value()
		if err != nil {
			return "", err
		}
		object[v.Name] = value
	}
	out, err := json.MarshalIndent(object, "", "  ")
	return string(out), err
}

// github writes variables as lines for the file that GITHUB_ENV names (GitHub Actions, "Workflow commands").
func github(variables []Variable) (string, error) {
	var out strings.Builder
	for _, v := range set(variables) {
		value, err := v.value()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s=%s\n", v.Name, value)
	}
	return out.String(), nil
}

// set returns those variables that have a value.
func set(variables []Variable) []Variable {
	return slices.DeleteFunc(slices.Clone(variables), func(v Variable) bool { return v.Unset })
}

// value is the variable's value in the environment of a child of this process.
func (v Variable) value() (string, error) {
	switch {
	case v.Secret != "":
		content, err := os.ReadFile(v.Secret)
		return strings.TrimSuffix(string(content), "\n"), err
	case v.Prepend:
		return v.Value + string(os.PathListSeparator) + os.Getenv(v.Name), nil
	default:
		return v.Value, nil
	}
}

// Values is base with variables set, for a process. It leaves out the variables of base that would lead a client to other
// services, and sets HOME to the stack's.
func Values(c config.Config, base []string, variables []Variable) ([]string, error) {
	env := slices.DeleteFunc(slices.Clone(base), func(entry string) bool {
		for _, prefix := range []string{"COSIGN_", "SIGSTORE_", "REKOR_", "TUF_", "KO_", "DOCKER_"} {
			if strings.HasPrefix(entry, prefix) {
				return true
			}
		}
		return false
	})
	env = append(env, "HOME="+c.Home())
	for _, v := range set(variables) {
		value, err := v.value()
		if err != nil {
			return nil, err
		}
		env = append(env, v.Name+"="+value)
	}
	return env, nil
}

// GoFolders are the variables by which go(1) uses the user's folders although HOME is the stack's.
func GoFolders(ctx context.Context, dir string) ([]string, error) {
	names := []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOENV"}
	out, err := command.Output(ctx, command.New(ctx, dir, os.Environ(), "go", append([]string{"env", "-json"}, names...)...))
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	if err := json.Unmarshal([]byte(out), &values); err != nil {
		return nil, err
	}
	var env []string
	for _, name := range names {
		env = append(env, name+"="+values[name])
	}
	return env, nil
}
