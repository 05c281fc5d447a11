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

// Environment lists the variables with which clients on this machine use the stack.
func Environment(c config.Config, trust Trust) []Variable {
	return slices.Concat(byTrust(c, trust, here(c)), []Variable{
		{Name: "PATH", Value: path(c), Prepend: true},
		{Name: "COSIGN_YES", Value: "true"},
		{Name: "COSIGN_PASSWORD", Secret: c.SecretFile(config.CosignPassword)},
		{Name: "KO_DEFAULTBASEIMAGE", Value: c.Image("base")},

		// Folders of the stack's own in place of ~/.sigstore and ~/.docker.
		{Name: "TUF_ROOT", Value: filepath.Join(c.Home(), "tuf")},
		{Name: "DOCKER_CONFIG", Value: filepath.Join(c.Home(), "docker")},
	}, names(c, here(c)))
}

// Elsewhere lists the variables with which clients use the stack from another machine, or from outside of its container, where a copy
// of the stack's folder trust is the folder files.
func Elsewhere(c config.Config, trust Trust, files string) []Variable {
	return slices.Concat(byTrust(c, trust, elsewhere(c, files)), []Variable{
		{Name: "COSIGN_YES", Value: "true"},
		{Name: "TUF_ROOT", Value: filepath.Join(files, "tuf")},
	}, names(c, elsewhere(c, files)))
}

// Index is a JSON object of the names of variables and the URLs that are their values, as clients elsewhere have them: of services, and of
// the files that the stack's TUF repository serves beside its own.
func Index(c config.Config) ([]byte, error) {
	text, err := asJSON(names(c, elsewhere(c, c.TUFMirror()+"/trust")))
	return []byte(text + "\n"), err
}

// place is where a client is: what it calls the stack's services and files.
type place struct {
	rekor, fulcio, rekorV2, tsa, mirror, registry string

	ca, ctLogKey, rekorKey, tufRoot, trustedRoot, signingConfig string // paths
}

func here(c config.Config) place {
	return place{
		rekor: c.URL(config.Rekor), fulcio: c.URL(config.Fulcio), rekorV2: c.RekorV2(), tsa: c.URL(config.TSA),
		mirror: "http://" + c.Localhost(config.TUF), registry: c.Localhost(config.Registry),
		ca: c.Key("ca-root.pem"), ctLogKey: c.CTLogKey(), rekorKey: c.Key("rekor.pub"),
		tufRoot: c.Trust("root.json"), trustedRoot: c.Trust("trusted_root.json"), signingConfig: c.SigningConfig(),
	}
}

func elsewhere(c config.Config, files string) place {
	file := func(name string) string { return files + "/" + name }
	return place{
		rekor: c.PublicURL(config.Rekor), fulcio: c.PublicURL(config.Fulcio), rekorV2: "http://" + c.Public(config.RekorTiles), tsa: c.PublicURL(config.TSA),
		mirror: c.TUFMirror(), registry: c.Public(config.Registry),
		ca: file("fulcio.crt.pem"), ctLogKey: file(filepath.Base(c.CTLogKey())), rekorKey: file("rekor.pub"),
		tufRoot: file("root.json"), trustedRoot: file("trusted_root.json"), signingConfig: file("signing_config.json"),
	}
}

// byTrust are the variables by which cosign finds and trusts the stack.
func byTrust(c config.Config, trust Trust, at place) []Variable {
	// cosign reads each flag from COSIGN_ and its name.
	byKeys := []Variable{
		{Name: "COSIGN_REKOR_URL", Value: at.rekor},
		{Name: "COSIGN_FULCIO_URL", Value: at.fulcio},
		{Name: "COSIGN_OIDC_ISSUER", Value: c.Issuer()},
		{Name: "SIGSTORE_ROOT_FILE", Value: at.ca},
		{Name: "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", Value: at.ctLogKey},
		{Name: "SIGSTORE_REKOR_PUBLIC_KEY", Value: at.rekorKey},
	}
	byRoot := []Variable{
		{Name: "COSIGN_SIGNING_CONFIG", Value: at.signingConfig},
		{Name: "COSIGN_TRUSTED_ROOT", Value: at.trustedRoot},
	}
	chosen, other := byKeys, byRoot
	if trust == Root {
		chosen, other = byRoot, byKeys
	}
	for i := range other {
		other[i] = Variable{Name: other[i].Name, Unset: true}
	}
	return append(chosen, other...)
}

// names are the variables for the stack's services, and for what clients trust, by the names that Sigstore's own test environments and
// other clients give them.
func names(c config.Config, at place) []Variable {
	all := []Variable{
		{Name: "KO_DOCKER_REPO", Value: at.registry},
		{Name: "FULCIO_URL", Value: at.fulcio},
		{Name: "OIDC_URL", Value: c.Issuer()},
		{Name: "ISSUER_URL", Value: c.Issuer()},
		{Name: "CT_LOG_KEY", Value: at.ctLogKey},
		{Name: "TUF_ROOT_JSON", Value: at.tufRoot},
		{Name: "TRUSTED_ROOT", Value: at.trustedRoot},
		{Name: "SIGNING_CONFIG", Value: at.signingConfig},
	}
	if c.Stack.Includes(config.Tutorial) {
		all = append(all, Variable{Name: "REKOR_REKOR_SERVER", Value: at.rekor}, Variable{Name: "REKOR_URL", Value: at.rekor})
	}
	if c.Stack.Includes(config.Tiles) {
		all = append(all, Variable{Name: "REKOR_V2_URL", Value: at.rekorV2}, Variable{Name: "TSA_URL", Value: at.tsa}, Variable{Name: "TUF_MIRROR", Value: at.mirror})
	}
	return all
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
