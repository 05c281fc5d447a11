package main

import (
	"slices"
	"strings"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// clients describes the programs that use the stack of c, in the same form as the services: Env has the variables that the
// target env sets, and Args the arguments that a demo or a person adds.
func clients(c config.Config) []service.Service {
	return slices.DeleteFunc(allClients(c), func(one service.Service) bool { return !c.Stack.Includes(one.Stacks...) })
}

func allClients(c config.Config) []service.Service {
	return []service.Service{
		cosign(c),
		{
			Name:  "bundle",
			About: "cosign, sigstore-go, sigstore-js, with bundles",
			Env:   environment(c, client.Root, "COSIGN_SIGNING_CONFIG", "COSIGN_TRUSTED_ROOT", "TUF_"),
			Uses:  bundleUses(c),
		},
		{
			Name:     "ko",
			Stacks:   []config.Stack{config.Tutorial, config.Tiles},
			About:    "builds images",
			Packages: []string{"github.com/google/ko"},
			Source:   &config.Source{Name: "ko", Module: "github.com/google/ko", Programs: map[string]string{"ko": "."}, Demo: "demo:keyed"},
			Env:      environment(c, client.Keys, "KO_"),
			Uses:     []service.Use{{Of: "registry", To: "store images"}},
		},
		{
			Name:     "rekor-cli",
			Stacks:   []config.Stack{config.Tutorial},
			About:    "asks the log",
			Packages: []string{"github.com/sigstore/rekor/cmd/rekor-cli"},
			Source:   rekorSource(),
			Env:      environment(c, client.Keys, "REKOR_REKOR_SERVER"),
			Uses:     []service.Use{{Of: "rekor", To: "add and find entries"}},
		},
		{
			Name:   "browser",
			Stacks: []config.Stack{config.Tutorial, config.Tiles},
			About:  "where a person signs in",
			Args:   []string{c.Issuer(), c.SecretFile(config.DexPassword)},
			Uses: []service.Use{
				{Of: "dex", To: "sign in as a person"},
				{Of: "secrets/dex-password", To: "type this password"},
			},
		},
	}
}

// environment lists, as NAME=value, the clients' variables whose names begin with one of prefixes. In place of a secret it has
// the path of the secret's file.
func environment(c config.Config, trust client.Trust, prefixes ...string) []string {
	var env []string
	for _, v := range client.Environment(c, trust) {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(v.Name, prefix) }) {
			env = append(env, v.Name+"="+v.Value+v.Secret)
		}
	}
	return env
}

// cosign is of version 3, as people install it today, in a stack of tiles. In others it is of version 2, which takes keys and
// addresses one by one.
func cosign(c config.Config) service.Service {
	one := service.Service{
		Name:   "cosign",
		About:  "signs and verifies images",
		Stacks: []config.Stack{config.Tutorial, config.Tiles},
		Args:   []string{"--key", c.Key("cosign.key"), "--key", c.Key("other.key"), c.Image("rekor-cli")},
		Source: &config.Source{Name: "cosign", Module: "github.com/sigstore/cosign", Programs: map[string]string{"cosign": "cmd/cosign"}, Demo: "demo:keyless"},
	}
	keys := []service.Use{
		{Of: "keys/cosign.key", Signs: "images in demo:keyed, demo:rekor"},
		{Of: "keys/other.key", To: "show that a wrong key is refused"},
		{Of: "secrets/cosign-password", To: "decrypt these keys"},
	}
	if c.Stack == config.Tiles {
		one.Packages = []string{c.Cosign() + "=github.com/sigstore/cosign/v3/cmd/cosign"}
		one.Env = environment(c, client.Root, "COSIGN_", "TUF_")
		one.Uses = slices.Concat(bundleUses(c), []service.Use{{Of: "registry", To: "5 store the bundle"}}, keys)
		return one
	}
	one.Packages = []string{"github.com/sigstore/cosign/v2/cmd/cosign"}
	one.Env = environment(c, client.Keys, "COSIGN_", "SIGSTORE_")
	one.Uses = append([]service.Use{
		{Of: "dex", To: "1 sign in"},
		{Of: "fulcio", To: "2 certify a fresh key"},
		{Of: "rekor", To: "3 log the signature"},
		{Of: "registry", To: "4 store the signature"},
		{Of: "keys/ca-root.pem", To: "check certificates"},
		{Of: c.FromState(c.CTLogKey()), To: "check SCTs"},
		{Of: "keys/rekor.pub", To: "check log entries"},
	}, keys...)
	return one
}

// bundleUses is what a client uses that signs into bundles by a signing config.
func bundleUses(c config.Config) []service.Use {
	return []service.Use{
		{Of: "tuf", To: "get what to trust"},
		{Of: "dex", To: "1 sign in"},
		{Of: "fulcio", To: "2 certify a fresh key"},
		{Of: "tsa", To: "3 timestamp the signature"},
		{Of: "tiles", To: "4 log the signature"},
		{Of: "trust/root.json", To: "check the TUF repository"},
		{Of: c.FromState(c.SigningConfig()), To: "find these services"},
		{Of: "trust/trusted_root.json", To: "check what they signed"},
	}
}
