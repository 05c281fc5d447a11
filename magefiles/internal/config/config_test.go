package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// logSigner has the highest of the default ports.
var logSigner = Port{"LOG_SIGNER", 8191}

// parts are those of a small stack.
var parts = []Part{
	{Service: "registry", Ports: []Port{Registry}},
	{Service: "mariadb"},
	{Service: "log-server", Ports: []Port{LogServer}, Source: &Source{Name: "trillian", Module: "github.com/google/trillian"}},
	{Service: "log-signer", Ports: []Port{logSigner}, Source: &Source{Name: "trillian", Module: "github.com/google/trillian"}},
	{Service: "rekor", Ports: []Port{Rekor}, Source: &Source{Name: "rekor", Module: "github.com/sigstore/rekor"}},
	{Service: "tsa", Ports: []Port{TSA}, Source: &Source{Name: "tsa", Module: "github.com/sigstore/timestamp-authority"}},
	{Source: &Source{Name: "cosign", Module: "github.com/sigstore/cosign"}},
}

func TestDefaultsAreTheDocumentedAddresses(t *testing.T) {
	c, err := Load("/checkout", nil, parts...)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.State:            "/checkout/state",
		c.Programs:         "/checkout/state/bin",
		c.Image("x"):       "localhost:1338/x",
		c.Address(Rekor):   "127.0.0.1:3000",
		c.CTLog():          "http://localhost:6105/sigstore",
		c.Issuer():         "http://localhost:5556",
		c.URL(Fulcio):      "http://127.0.0.1:5555",
		c.DatabaseSocket(): "/checkout/state/run/mariadb.sock",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestOffsetShiftsAllPortsAndAPortsOwnVariableWins(t *testing.T) {
	c, err := Load("/checkout", []string{"SIGLOCAL_PORT_REKOR=4000", "SIGLOCAL_PORT_OFFSET=100", "SIGLOCAL_STATE=/elsewhere"}, parts...)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range c.Ports() {
		want := port.Default + 100
		if port == Rekor {
			want = 4000
		}
		if got := c.Port(port); got != want {
			t.Errorf("%s: got %d, want %d", port.Name, got, want)
		}
	}
	if got := c.Port(c.PortNamed("LOG_SIGNER")); got != 8291 {
		t.Errorf("a part's own port is %d", got)
	}
	if c.Programs != "/checkout/state/bin" {
		t.Errorf("a stack with a folder of its own does not share the checkout's programs: %s", c.Programs)
	}
}

func TestClientsElsewhereHaveOtherNamesThanThoseHere(t *testing.T) {
	state := t.TempDir()
	load := func(environ ...string) (Config, error) {
		return Load("/checkout", append(environ, "SIGLOCAL_STATE="+state), parts...)
	}
	c, err := load("SIGLOCAL_HOST=sigstore.test", "SIGLOCAL_LISTEN=all")
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.Issuer():                     "http://sigstore.test:5556",
		c.PublicURL(Fulcio):            "http://sigstore.test:5555",
		c.TUFMirror():                  "http://sigstore.test:8080",
		c.RekorV2Origin():              "sigstore.test",
		c.URL(Fulcio):                  "http://127.0.0.1:5555",
		c.Image("x"):                   "localhost:1338/x",
		c.ListenAddress(Fulcio):        "0.0.0.0:5555",
		c.ListenAddress(LogServer):     "127.0.0.1:8091",
		c.FromState(c.SigningConfig()): "trust/signing_config.here.json",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := os.MkdirAll(c.Data("rekor-tiles"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Data("rekor-tiles"), "checkpoint"), []byte("sigstore.test\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load("SIGLOCAL_HOST=sigstore.test", "SIGLOCAL_LISTEN=all"); err != nil {
		t.Error(err)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), `SIGLOCAL_HOST is "localhost"`) || !strings.Contains(err.Error(), "SIGLOCAL_HOST=sigstore.test") {
		t.Errorf("another name than the log's: %v", err)
	}
	for _, damaged := range []string{"", "\x00\x01\n1\n", "sigstore.te"} {
		if err := os.WriteFile(filepath.Join(c.Data("rekor-tiles"), "checkpoint"), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(); err != nil {
			t.Errorf("the checkpoint %q, whose damage the start of the log notices: %v", damaged, err)
		}
	}
}

func TestNonsenseIsRefusedWithTheVariablesNameAndWhatItTakes(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module github.com/google/trillian\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	named := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const app = "GITHUB_CLIENT_ID=an.id\nGITHUB_CLIENT_SECRET=a-secret\n"
	for _, test := range []struct {
		environ []string
		want    []string
	}{
		{[]string{"GITHUB_CLIENT_ID=an.id"}, []string{"only one of GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET", "both or neither"}},
		{[]string{"GITHUB_CLIENT_SECRET=a-secret"}, []string{"only one of GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET"}},
		{[]string{"GITHUB_CLIENT_ID=an id", "GITHUB_CLIENT_SECRET=a-secret"}, []string{"GITHUB_CLIENT_ID", "5 characters", "4 to 64"}},
		{[]string{"SIGLOCAL_GITHUB_FILE=github.env"}, []string{"SIGLOCAL_GITHUB_FILE", "absolute path"}},
		{[]string{"SIGLOCAL_GITHUB_FILE=" + named("open.env", app, 0o644)}, []string{"SIGLOCAL_GITHUB_FILE", "open.env", "0644", "0600"}},
		{[]string{"SIGLOCAL_GITHUB_FILE=" + named("half.env", "GITHUB_CLIENT_ID=an.id\n", 0o600)}, []string{"SIGLOCAL_GITHUB_FILE", "half.env", "GITHUB_CLIENT_SECRET=…"}},
		{[]string{"SIGLOCAL_GITHUB_FILE=" + named("whole.env", app, 0o600), "GITHUB_CLIENT_ID=an.id"}, []string{"SIGLOCAL_GITHUB_FILE", "is set too"}},
		{[]string{"SIGLOCAL_DEX_CONNECTORS=/no/such.yaml"}, []string{"SIGLOCAL_DEX_CONNECTORS", "no such file", "a YAML list"}},
		{[]string{"SIGLOCAL_DEX_CONNECTORS=" + named("open.yaml", "[]", 0o640)}, []string{"SIGLOCAL_DEX_CONNECTORS", "open.yaml", "0640", "0600"}},
		{[]string{"SIGLOCAL_TUNING=fast"}, []string{"SIGLOCAL_TUNING", `"fast"`, `"local" or "upstream"`}},
		{[]string{"SIGLOCAL_LISTEN=0.0.0.0"}, []string{"SIGLOCAL_LISTEN", `"0.0.0.0"`, `"loopback" or "all"`}},
		{[]string{"SIGLOCAL_HOST=http://sigstore"}, []string{"SIGLOCAL_HOST", `"http://sigstore"`, "a host name"}},
		{[]string{"SIGLOCAL_HOST=sigstore:5556"}, []string{"SIGLOCAL_HOST", "a host name"}},
		{[]string{"SIGLOCAL_HOST=Sigstore"}, []string{"SIGLOCAL_HOST", "lower case"}},
		{[]string{"SIGLOCAL_HOST=::1"}, []string{"SIGLOCAL_HOST", "IPv4"}},
		{[]string{"SIGLOCAL_HOST=256.0.0.1", "SIGLOCAL_LISTEN=all"}, []string{"SIGLOCAL_HOST", "IPv4"}},
		{[]string{"SIGLOCAL_HOST=0.0.0.0", "SIGLOCAL_LISTEN=all"}, []string{"SIGLOCAL_HOST", "no client can reach"}},
		{[]string{"SIGLOCAL_HOST=127.0.0.2"}, []string{"SIGLOCAL_HOST", `"127.0.0.2"`, "SIGLOCAL_LISTEN=all"}},
		{[]string{"SIGLOCAL_HOST=sigstore"}, []string{"SIGLOCAL_HOST", `"sigstore"`, "SIGLOCAL_LISTEN=all"}},
		{[]string{"SIGLOCAL_PORT_REKOR=http"}, []string{"SIGLOCAL_PORT_REKOR", `"http"`, "1 to 65535"}},
		{[]string{"SIGLOCAL_PORT_REKOR=0"}, []string{"SIGLOCAL_PORT_REKOR", "1 to 65535"}},
		{[]string{"SIGLOCAL_PORT_REKOR=65536"}, []string{"SIGLOCAL_PORT_REKOR", "1 to 65535"}},
		{[]string{"SIGLOCAL_PORT_REKOR=-1"}, []string{"SIGLOCAL_PORT_REKOR", "1 to 65535"}},
		{[]string{"SIGLOCAL_PORT_REKOR=3000 "}, []string{"SIGLOCAL_PORT_REKOR", "1 to 65535"}},
		{[]string{"SIGLOCAL_PORT_REKOR=5556"}, []string{"SIGLOCAL_PORT_DEX and SIGLOCAL_PORT_REKOR", "5556"}},
		{[]string{"SIGLOCAL_PORT_OFFSET=-1"}, []string{"SIGLOCAL_PORT_OFFSET", "0 to 57344"}},
		{[]string{"SIGLOCAL_PORT_OFFSET=57345"}, []string{"SIGLOCAL_PORT_OFFSET", "0 to 57344"}},
		{[]string{"SIGLOCAL_PORT_OFFSET=1e3"}, []string{"SIGLOCAL_PORT_OFFSET", "0 to 57344"}},
		{[]string{"SIGLOCAL_STATE=state"}, []string{"SIGLOCAL_STATE", `"state"`, "absolute"}},
		{[]string{"SIGLOCAL_STATE=/"}, []string{"SIGLOCAL_STATE", "root folder"}},
		{[]string{"SIGLOCAL_STATE=/a:b"}, []string{`SIGLOCAL_STATE is "/a:b"`, "PATH", "without : @ , # ="}},
		{[]string{"SIGLOCAL_STATE=/a@b"}, []string{`SIGLOCAL_STATE is "/a@b"`, "Dex"}},
		{[]string{"SIGLOCAL_STATE=/a,b"}, []string{`SIGLOCAL_STATE is "/a,b"`, "rekor-cli"}},
		{[]string{"SIGLOCAL_STATE=/a#b"}, []string{`SIGLOCAL_STATE is "/a#b"`, "SoftHSM"}},
		{[]string{"SIGLOCAL_STATE=/a=b"}, []string{`SIGLOCAL_STATE is "/a=b"`, "SoftHSM"}},
		{[]string{"SIGLOCAL_STATE=/a\nb"}, []string{`SIGLOCAL_STATE is "/a\nb"`, "control"}},
		{[]string{"SIGLOCAL_STATE=/a\u202eb"}, []string{`SIGLOCAL_STATE is "/a\u202eb"`, "invisible"}},
		{[]string{"SIGLOCAL_STATE=/a\xffb"}, []string{`SIGLOCAL_STATE is "/a\xffb"`, "UTF-8"}},
		{[]string{"SIGLOCAL_STATE=/" + strings.Repeat("x", 100)}, []string{"bytes", "SIGLOCAL_STATE"}},
		{[]string{"SIGLOCAL_INSTALL=maybe"}, []string{"SIGLOCAL_INSTALL", `"maybe"`, `"never"`}},
		{[]string{"SIGLOCAL_EMAIL=me"}, []string{"SIGLOCAL_EMAIL", `"me"`, "user@example.org"}},
		{[]string{"SIGLOCAL_EMAIL=Me <me@example.org>"}, []string{"SIGLOCAL_EMAIL"}},
		{[]string{"SIGLOCAL_EMAIL=a@b, c@d"}, []string{"SIGLOCAL_EMAIL"}},
		{[]string{"SIGLOCAL_EMAIL=Me@example.org"}, []string{"SIGLOCAL_EMAIL", "lower case"}},
		{[]string{"SIGLOCAL_EMAIL=@example.org"}, []string{"SIGLOCAL_EMAIL"}},
		{[]string{"SIGLOCAL_EMAIL=me@"}, []string{"SIGLOCAL_EMAIL"}},
		{[]string{"SIGLOCAL_USERS=alice"}, []string{"SIGLOCAL_USERS", "alice@example.org,bob@example.org"}},
		{[]string{"SIGLOCAL_USERS=alice@example.org, bob@example.org"}, []string{"SIGLOCAL_USERS"}},
		{[]string{"SIGLOCAL_USERS=alice@example.org,"}, []string{"SIGLOCAL_USERS"}},
		{[]string{"SIGLOCAL_SRC_REKOR=src/rekor"}, []string{"SIGLOCAL_SRC_REKOR", `"src/rekor"`, "absolute path of a checkout of github.com/sigstore/rekor"}},
		{[]string{"SIGLOCAL_SRC_REKOR=/no/such/folder"}, []string{"SIGLOCAL_SRC_REKOR", "does not exist"}},
		{[]string{"SIGLOCAL_SRC_REKOR=" + folder}, []string{"SIGLOCAL_SRC_REKOR", folder, "is that of github.com/google/trillian"}},
		{[]string{"SIGLOCAL_SRC_TSA=" + folder + "/go.mod"}, []string{"SIGLOCAL_SRC_TSA", "github.com/sigstore/timestamp-authority"}},
		{[]string{"SIGLOCAL_SERVICES=rekor,mysql"}, []string{"SIGLOCAL_SERVICES", `"rekor,mysql"`, "registry, mariadb"}},
		{[]string{"SIGLOCAL_SERVICES=cosign"}, []string{"SIGLOCAL_SERVICES", "tsa, trillian"}},
		{[]string{"SIGLOCAL_SERVICES=rekor, tsa"}, []string{"SIGLOCAL_SERVICES", "with commas"}},
		{[]string{"SIGLOCAL_MARIADBD=mariadbd"}, []string{"SIGLOCAL_MARIADBD", "absolute path"}},
		{[]string{"SIGLOCAL_MARIADBD=/no/such/mariadbd"}, []string{"SIGLOCAL_MARIADBD", "no such file"}},
		{[]string{"SIGLOCAL_MARIADBD=" + folder}, []string{"SIGLOCAL_MARIADBD", "not a file"}},
		{[]string{"SIGLOCAL_PKCS11_MODULE=/no/such.so"}, []string{"SIGLOCAL_PKCS11_MODULE", "no such file"}},
		{[]string{"SIGLOCAL_MARIADBD=" + named("a server", "", 0o755)}, []string{"SIGLOCAL_MARIADBD", "a server", "mariadb-install-db", "without colons and spaces"}},
		{[]string{"SIGLOCAL_MARIADBD=" + named("a:server", "", 0o755)}, []string{"SIGLOCAL_MARIADBD", "a:server", "PATH"}},
		{[]string{"SIGLOCAL_PKCS11_TOKEN=" + strings.Repeat("x", 33)}, []string{"SIGLOCAL_PKCS11_TOKEN", "33 bytes", "1 to 32"}},
		{[]string{"SIGLOCAL_PKCS11_TOKEN=" + strings.Repeat("ю", 17)}, []string{"SIGLOCAL_PKCS11_TOKEN", "34 bytes", "1 to 32"}},
		{[]string{"SIGLOCAL_PKCS11_TOKEN=My Token "}, []string{`SIGLOCAL_PKCS11_TOKEN is "My Token "`, "fills labels up with spaces"}},
		{[]string{"SIGLOCAL_PKCS11_TOKEN=a\tb"}, []string{`SIGLOCAL_PKCS11_TOKEN is "a\tb"`, "control characters"}},
		{[]string{"SIGLOCAL_PKCS11_TOKEN=a\u0085b"}, []string{`SIGLOCAL_PKCS11_TOKEN is "a\u0085b"`, "control characters"}},
		{[]string{"SIGLOCAL_PKCS11_TOKEN=a\xffb"}, []string{`SIGLOCAL_PKCS11_TOKEN is "a\xffb"`, "UTF-8"}},
		{[]string{`SIGLOCAL_SRC_REKOR=/a\b`}, []string{"SIGLOCAL_SRC_REKOR", `/a\\b`, "backslash"}},
		{[]string{"SIGLOCAL_HSM_PIN=123"}, []string{"SIGLOCAL_HSM_PIN", "3 characters", "4 to 64"}},
		{[]string{"SIGLOCAL_DEX_PASSWORD=with space"}, []string{"SIGLOCAL_DEX_PASSWORD", "4 to 64"}},
		{[]string{"SIGLOCAL_DATABASE_PASSWORD=it's"}, []string{"SIGLOCAL_DATABASE_PASSWORD", "4 to 64"}},
		{[]string{"SIGLOCAL_PORT_RECOR=1"}, []string{"SIGLOCAL_PORT_RECOR", "nearest is SIGLOCAL_PORT_REKOR"}},
		{[]string{"SIGLOCAL_STAT=/x"}, []string{"SIGLOCAL_STAT ", "nearest is SIGLOCAL_STATE"}},
		{[]string{"SIGLOCAL_=/x"}, []string{"SIGLOCAL_ ", "nearest is"}},
	} {
		_, err := Load("/checkout", test.environ, parts...)
		if err == nil {
			t.Errorf("%q is accepted", test.environ)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: the message does not say %q: %v", test.environ, want, err)
			}
		}
	}
}

func TestTheGitHubApplicationIsTheOneOfTheEnvironmentOrOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "github.env")
	if err := os.WriteFile(file, []byte("GITHUB_CLIENT_ID=an.id\nGITHUB_CLIENT_SECRET=a-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, environ := range [][]string{{"GITHUB_CLIENT_ID=an.id", "GITHUB_CLIENT_SECRET=a-secret"}, {"SIGLOCAL_GITHUB_FILE=" + file}} {
		c, err := Load("/checkout", environ, parts...)
		if want := (OAuthApp{"an.id", "a-secret"}); err != nil || c.GitHub != want {
			t.Errorf("%q: got %v, %v", environ, c.GitHub, err)
		}
	}
}

func TestARefusedSecretIsNotShown(t *testing.T) {
	_, err := Load("/checkout", []string{"SIGLOCAL_HSM_PIN=my secret pin"}, parts...)
	if err == nil || strings.Contains(err.Error(), "my secret pin") {
		t.Errorf("got %v", err)
	}
}

func TestEmptyVariablesAreAsIfUnset(t *testing.T) {
	var environ []string
	for _, v := range Variables(parts...) {
		environ = append(environ, v.Name+"=")
	}
	if _, err := Load("/checkout", environ, parts...); err != nil {
		t.Error(err)
	}
}

// filepath.WalkDir does not follow a link at the top.
func TestACheckoutIsKnownByItsOwnFolderWhateverLinksToIt(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder, link := filepath.Join(dir, "rekor"), filepath.Join(dir, "link")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module github.com/sigstore/rekor\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	c, err := Load("/checkout", []string{"SIGLOCAL_SRC_REKOR=" + link}, parts...)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Checkouts["rekor"]; got != folder {
		t.Errorf("%s is taken for %q, not for %s", link, got, folder)
	}
}

func TestWhatRunsBesideAStackHasItsSettingsAndOtherPorts(t *testing.T) {
	c, err := Load("/checkout", []string{"SIGLOCAL_PORT_OFFSET=100", "SIGLOCAL_PORT_REKOR=4000", "SIGLOCAL_EMAIL=a@example.org", "SIGLOCAL_HSM_PIN=secret-pin"}, parts...)
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.Beside("/elsewhere", map[Port]int{TSA: 5000})
	if err != nil || other.Port(TSA) != 5000 || other.Port(Rekor) != 4000 || other.Port(Registry) != 1438 || c.Port(TSA) != 3104 {
		t.Errorf("the ports are %d, %d, %d, and the stack's own is %d: %v", other.Port(TSA), other.Port(Rekor), other.Port(Registry), c.Port(TSA), err)
	}
	if other.Built != "/checkout/state/checkouts" || other.Key("x") != "/elsewhere/keys/x" || other.Email != "a@example.org" {
		t.Errorf("it is %+v", other)
	}
	if _, err := c.Beside("/elsewhere", map[Port]int{TSA: 4000}); err == nil || !strings.Contains(err.Error(), "both port 4000") {
		t.Errorf("a port that the stack has: %v", err)
	}
	if want := []string{"SIGLOCAL_EMAIL=a@example.org", "SIGLOCAL_PORT_OFFSET=100", "SIGLOCAL_PORT_REKOR=4000"}; !slices.Equal(c.Settings, want) {
		t.Errorf("the settings are %q", c.Settings)
	}
}

func TestTheFolderOfACheckoutIsRefusedIfNoStackCanBeInIt(t *testing.T) {
	_, err := Load("/build@2", nil)
	for _, want := range []string{`the checkout's state folder is "/build@2/state"`, "Dex", "without : @ , # =", "SIGLOCAL_STATE"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the message does not say %q: %v", want, err)
		}
	}
	if _, err := Load("/build@2", []string{"SIGLOCAL_STATE=/elsewhere"}); err != nil {
		t.Error(err)
	}
}

func TestTokensMayHaveAnyLabelThatATokenCanHave(t *testing.T) {
	for _, label := range []string{"My Token", "SmartCard-HSM (UserPIN)", `a"b\c`, "ключ", " -x", strings.Repeat("x", 32), strings.Repeat("ю", 16)} {
		c, err := Load("/checkout", []string{"SIGLOCAL_PKCS11_TOKEN=" + label})
		if err != nil || c.PKCS11Token != label {
			t.Errorf("%q: %q, %v", label, c.PKCS11Token, err)
		}
	}
}

func TestAStateFoldersPathMayHaveWhatItsProgramsCanBeGiven(t *testing.T) {
	for given, want := range map[string]string{
		"/My Projects/state/":  "/My Projects/state",
		"/ü//x/../state":       "/ü/state",
		"/it's \"x\" a\\b":     "/it's \"x\" a\\b",
		"/$HOME 100% (a)?*[1]": "/$HOME 100% (a)?*[1]",
		"/;|<>&!~`{}^+":        "/;|<>&!~`{}^+",
	} {
		c, err := Load("/checkout", []string{"SIGLOCAL_STATE=" + given})
		if err != nil || c.State != want {
			t.Errorf("%q: %q, %v", given, c.State, err)
		}
		if socket := c.FromHome(c.DatabaseSocket()); socket != "../run/mariadb.sock" {
			t.Errorf("%q: the socket is %q", given, socket)
		}
	}
}
