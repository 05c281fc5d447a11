package servicetest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

var logServerHTTP = config.Port{Name: "LOG_SERVER_HTTP", Default: 8090}

func TestWhatAServiceNamesIsFoundInItsArgumentsVariablesAndConfiguration(t *testing.T) {
	// Names that look like a port, and have to be quoted. The folder is never made.
	state := filepath.Join(os.TempDir(), `r&d "port 3100 $x\`)
	c, err := config.Load("/port 3100", []string{"SIGLOCAL_STATE=" + state, "SIGLOCAL_PORT_OFFSET=100", `SIGLOCAL_PKCS11_TOKEN=a "token" \ of/data/hsm`}, config.Part{Ports: []config.Port{logServerHTTP}})
	if err != nil {
		t.Fatal(err)
	}
	all := []service.Service{
		{Name: "mariadb", Address: c.DatabaseSocket()},
		{Name: "log-server", Listens: []config.Port{config.LogServer, logServerHTTP}, Address: c.Address(config.LogServer)},
		{Name: "rekor", Listens: []config.Port{config.Rekor}, Args: []string{"--config=" + c.ConfigFile("rekor.yaml")}},
		{Name: "dex", Listens: []config.Port{config.Dex}, Args: []string{c.ConfigFile("dex.yaml")}},
		{Name: "fulcio", Args: []string{"--pkcs11-config-path=" + c.ConfigFile("crypto11.json")}, Env: []string{"SOFTHSM2_CONF=" + c.ConfigFile("softhsm2.conf")}},
		{Name: "client", Args: []string{"--url=" + c.Issuer() + "/keys"}, Env: []string{"KEY=" + c.Key("rekor.pub"), "LOG=" + c.Log("dex"), "N=3100", "SERVER=" + c.Address(logServerHTTP)}},
		{Name: "bystander", Args: []string{"--dir=" + c.Data("registry"), "--not=" + c.PKCS11Token}},
	}
	for name, want := range map[string][]string{
		"mariadb":    nil,
		"log-server": nil,
		// Each stands in its template.
		"rekor":  {"data/rekor-attestations", "keys/rekor.pem", "log-server", "mariadb/rekor", "secrets/database-password"},
		"dex":    {"mariadb/dex", "secrets/database-password"},
		"fulcio": {"data/hsm", "secrets/hsm-pin", service.Token},
		// A number that is not a port is none, and a log is nobody's to use.
		"bystander": {"data/registry"},
		"client":    {"dex", "keys/rekor.pub", "log-server"},
	} {
		named, err := Named(c, all[slices.IndexFunc(all, func(s service.Service) bool { return s.Name == name })], all)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(named)
		if !slices.Equal(named, want) {
			t.Errorf("%s names %q, not %q", name, named, want)
		}
	}
	// Named makes nothing, above all no secrets.
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("the state folder was made: %v", err)
	}
}
