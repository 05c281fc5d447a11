// Package servicetest proves that a service's description says what its command line and its configuration name.
package servicetest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// Named finds what s, one of all or a client of theirs, names of the stack: in its arguments, its variables, and the
// configuration files that those name. The names are those of service.Use.Of, each once.
func Named(c config.Config, s service.Service, all []service.Service) ([]string, error) {
	const configuration = "config/"
	var names []string
	texts := []string{strings.ReplaceAll(strings.Join(slices.Concat(s.Args, s.Env), "\n"), c.State+"/", standInState+"/")}
	// A user's own names may have to be quoted, in one way here and another there, or look like a port.
	c.Root, c.State, c.PKCS11Token = "/checkout", standInState, standInToken
	for len(texts) > 0 {
		for _, name := range mentioned(c, texts[0], all) {
			if name == s.Name || slices.Contains(names, name) {
				continue
			}
			names = append(names, name)
			if file, ok := strings.CutPrefix(name, configuration); ok {
				text, err := service.Render(c, file, service.StandIns(), nameSecret)
				if err != nil {
					return nil, err
				}
				texts = append(texts, string(text))
			}
		}
		texts = texts[1:]
	}
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, configuration) }), nil
}

// standInState and standInToken stand in a text for the state folder and the token's label.
const (
	standInState = "/state-folder"
	standInToken = "label-of-the-token"
)

// nameSecret stands in a template for a secret's text.
func nameSecret(c config.Config, name config.Secret) (string, error) { return c.SecretFile(name), nil }

// What is found in a text.
var (
	portNumber = regexp.MustCompile(`(?::|port[=: ]+)(\d+)\b`)
	// A path of the state folder, which may be relative to Home.
	statePath = regexp.MustCompile(`(?:` + standInState + `|\.\.)/([\w./-]+)`)
	// In a DSN, and in Dex's configuration.
	databaseName = regexp.MustCompile(`\)/(\w+)|(?m:^\s*database: (\w+)$)`)
)

// mentioned finds in text the addresses of services, the paths of the state folder that Use.Of and the configuration
// have, and the token; some of them several times.
func mentioned(c config.Config, text string, all []service.Service) []string {
	var names []string
	for _, number := range portNumber.FindAllStringSubmatch(text, -1) {
		for _, s := range all {
			if slices.ContainsFunc(s.Listens, func(p config.Port) bool { return strconv.Itoa(c.Port(p)) == number[1] }) {
				names = append(names, s.Name)
			}
		}
	}
	for _, found := range statePath.FindAllStringSubmatch(text, -1) {
		path := found[1]
		folder, _, _ := strings.Cut(path, "/")
		if slices.Contains([]string{"config", "data", "keys", "secrets", "trust"}, folder) {
			names = append(names, path)
		}
		for _, s := range all {
			if !strings.HasSuffix(s.Address, "/"+path) {
				continue
			}
			name := s.Name
			if database := databaseName.FindStringSubmatch(text); database != nil {
				name += "/" + database[1] + database[2]
			}
			names = append(names, name)
		}
	}
	if strings.Contains(text, standInToken) {
		names = append(names, service.Token)
	}
	return names
}
