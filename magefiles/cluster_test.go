package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// onCluster reads settings of a cluster, for a stack on a machine whose state folder has the files that the pods get.
func onCluster(t *testing.T, settings string, environ ...string) (config.Config, cluster.Settings, error) {
	t.Helper()
	state := t.TempDir()
	c := testConfig(t, append(environ, "SIGLOCAL_STATE="+state)...)
	for _, one := range services(c) {
		for _, use := range one.Uses {
			kind, _, _ := strings.Cut(use.Of, "/")
			at := filepath.Join(state, filepath.FromSlash(use.Of))
			switch {
			case use.Of == "keys/tuf" || use.Of == "data/hsm":
				if err := os.MkdirAll(at, 0o700); err != nil {
					t.Fatal(err)
				}
			case kind == "keys" || kind == "secrets":
				if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, []byte("of the machine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, content := range map[string]string{
		"dsn": "user:hunter2@tcp(db.example.org:3306)/?tls=true", "plain": "user:hunter2@tcp(db.example.org:3306)/", "named": "user:hunter2@tcp(db.example.org:3306)/rekor?tls=true",
		"junk": "hunter2", "pin": "1234",
	} {
		if err := os.WriteFile(filepath.Join(state, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(state, "open"), []byte("user:hunter2@tcp(db.example.org:3306)/?tls=true"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(state, "cluster.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(settings, "STATE", state)), 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := cluster.Read(file, c, services)
	return c, read, err
}

func workloads(t *testing.T, settings string, environ ...string) []cluster.Workload {
	t.Helper()
	c, read, err := onCluster(t, settings, environ...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := read.Workloads(c, services)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSettingsOfAClusterThatMakeNoSenseAreRefusedByName(t *testing.T) {
	for settings, named := range map[string]string{
		"namespaces: a":                                                    "namespaces is not a setting",
		"services: {rekor: {copies: 2}}":                                   "copies is not a setting",
		"namespace: A":                                                     `namespace is "A"`,
		"namespace: ''":                                                    `namespace is ""`,
		"image: registry.example.org/x:1":                                  "by digest",
		"services: {recor: {replicas: 2}}":                                 `"recor"; accepted is one of registry, mariadb`,
		"services: {tesseract: {replicas: 2}}":                             "two histories",
		"services: {registry: {replicas: 2}}":                              "services.registry.replicas is 2; accepted is 1",
		"services: {mariadb: {replicas: 2}}":                               "services.mariadb.replicas is 2; accepted is an odd number",
		"services: {rekor: {replicas: 2}}":                                 "storage.sharedClass, or a bucket with attestations",
		"services: {rekor: {replicas: -1}}":                                "a number from 1 to 50",
		"services: [rekor]":                                                "accepted are settings, each with its name",
		"services: {rekor: {replicas: many}}":                              "`many`; accepted is a number",
		"services: {page: {replicas: 1}}":                                  `"page"`,
		"services: {ct: {resources: {limits: {disk: 1Gi}}}}":               `"disk"; accepted is cpu or memory`,
		"services: {ct: {resources: {requests: {cpu: lots}}}}":             `services.ct.resources.requests.cpu is "lots"`,
		"storage: {size: big}":                                             `storage.size is "big"`,
		"storage: {sizes: {ct: 1Gi}}":                                      `"ct"; accepted is one of registry, mariadb, rekor`,
		"storage: {sizes: {rekor: big}}":                                   `storage.sizes.rekor is "big"`,
		"ingress: {class: nginx}":                                          "domain is not",
		"domain: a.example.org\ningress: {tlsSecret: a}":                   "ingress.class is not",
		"hosts: {dex: a.example.org}":                                      "domain is not",
		"domain: a.example.org\nhosts: {dexx: a.example.org}":              `"dexx"; accepted is one of registry, rekor`,
		"domain: localhost":                                                `domain is "localhost"`,
		"mysql: {dsnFile: STATE/none}":                                     "no such file",
		"mysql: {dsnFile: STATE/open}":                                     "mode 0644",
		"mysql: {dsnFile: STATE/plain}":                                    "does without TLS",
		"mysql: {dsnFile: STATE/named}":                                    "names a database",
		"mysql: {dsnFile: STATE/junk}":                                     "holds no DSN",
		"mysql: {dsnFile: dsn}":                                            "absolute path",
		"mysql: {dsnFile: STATE/dsn}\nservices: {mariadb: {replicas: 1}}":  `"mariadb"`,
		"ca: STATE/pin":                                                    "no certificate",
		"oidc: {issuer: 'http://a.example.org', clientID: a}":              `oidc.issuer is "http://a.example.org"`,
		"oidc: {issuer: 'https://a.example.org'}":                          "oidc.clientID is missing",
		"oidc: {issuer: 'https://a.example.org', clientID: a, type: mail}": `oidc.type is "mail"`,
		"keys: {rekor: 'file:///a'}":                                       `keys.rekor is "file:///a"`,
		"keys: {pkcs11: {module: /a.so}}":                                  "keys.pkcs11 is incomplete",
		"keys: {fulcio: 'awskms:///a', pkcs11: {module: /a.so, token: a, pinFile: STATE/pin}}": "accepted is one of them",
		"attestations: /a": `attestations is "/a"`,
	} {
		_, _, err := onCluster(t, settings)
		if err == nil || !strings.Contains(err.Error(), named) || !strings.Contains(err.Error(), "cluster.yaml") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", settings, err)
		}
	}
	if _, _, err := onCluster(t, "services: {dex: {replicas: 2}}", "SIGLOCAL_STACK=tiles"); err == nil || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("copies of a Dex without a database: %v", err)
	}
}

// A component that is added appears on a cluster too.
func TestEachServiceRunsInOnePodOfTheCluster(t *testing.T) {
	for _, kind := range []string{"all", "tutorial", "tiles"} {
		var there []string
		for _, w := range workloads(t, "", "SIGLOCAL_STACK="+kind) {
			for _, one := range w.Services {
				there = append(there, one.Name)
			}
		}
		want := []string{"proxy"} // which is for clusters alone
		for _, one := range services(testConfig(t, "SIGLOCAL_STACK="+kind)) {
			if !one.Here {
				want = append(want, one.Name)
			}
		}
		slices.Sort(there)
		slices.Sort(want)
		if !slices.Equal(there, want) {
			t.Errorf("%s: the pods run %v, not %v", kind, there, want)
		}
	}
	// What writes and reads the same files is in the same pod, and what is made anew from them has no volume.
	for _, w := range workloads(t, "", "SIGLOCAL_STACK=tiles") {
		if w.Name == "tiles" && (len(w.Volumes) != 2 || w.Volumes[0].Folder == "data/rekor-index" || w.Volumes[1].Folder == "data/rekor-index") {
			t.Errorf("the volumes are %+v", w.Volumes)
		}
		if w.Name == "tiles" && len(w.Services) != 3 || w.Name != "tiles" && len(w.Services) != 1 {
			t.Errorf("%s has %d services", w.Name, len(w.Services))
		}
	}
}

func TestNoPodNamesAnAddressOrFolderOfTheMachine(t *testing.T) {
	for _, w := range workloads(t, "", "SIGLOCAL_PORT_OFFSET=20000", "SIGLOCAL_LISTEN=all", "SIGLOCAL_HOST=machine.example.org") {
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		own := w.Name == "tiles" // whose services reach each other on loopback
		for _, wrong := range []string{"/checkout", os.TempDir(), "localhost:", "25556", "23000", ".sock)"} {
			// The trusted root has the addresses that the machine had.
			if strings.Contains(string(text), wrong) && w.Name != "tuf" {
				t.Errorf("%s names %s:\n%s", w.Name, wrong, text)
			}
		}
		for _, one := range w.Services {
			listened := strings.Join(one.Args, " ")
			if !own && strings.Contains(listened, "127.0.0.1:") {
				t.Errorf("%s listens on loopback, or looks for another there: %s", one.Name, listened)
			}
		}
	}
}

func TestWhatIsSecretIsNeverPublic(t *testing.T) {
	for _, settings := range []string{"", "mysql: {dsnFile: STATE/dsn}", "keys: {pkcs11: {module: /a.so, token: a, pinFile: STATE/pin}}"} {
		for _, w := range workloads(t, settings) {
			text, err := json.Marshal(w)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "of the machine") || strings.Contains(string(text), `"1234"`) {
				t.Errorf("%s: %s has a secret:\n%s", settings, w.Name, text)
			}
			for name, content := range w.Public {
				for _, secret := range []string{"database-password", "hsm-pin", "ct-key-password", "bcrypt"} {
					if strings.Contains(content, secret) {
						t.Errorf("%s: %s has %s", settings, name, secret)
					}
				}
			}
		}
	}
}

func TestPodsWaitForWhatTheirServicesUse(t *testing.T) {
	all := map[string]cluster.Workload{}
	for _, w := range workloads(t, "") {
		all[w.Name] = w
	}
	for name, want := range map[string]string{"fulcio": "ct dex", "rekor": "log-server mariadb", "log-signer": "mariadb", "tiles": "", "mariadb": ""} {
		if got := strings.Join(all[name].Uses, " "); got != want {
			t.Errorf("%s uses %q, not %q", name, got, want)
		}
	}
	if got := all["fulcio"].Awaits.URLs; !slices.Equal(got, []string{"http://dex:5556/keys", "http://ct:6105/sigstore/ct/v1/get-sth"}) {
		t.Errorf("Fulcio's pod waits for %v", got)
	}
	if !all["mariadb"].Awaits.Install || !all["log-signer"].Elects || all["rekor"].Elects {
		t.Errorf("%+v, %+v", all["mariadb"].Awaits, all["log-signer"])
	}
	for _, w := range workloads(t, "services: {mariadb: {replicas: 3}}") {
		if w.Name != "mariadb" {
			continue
		}
		const hosts = "mariadb-0.mariadb-copies,mariadb-1.mariadb-copies,mariadb-2.mariadb-copies"
		if got := strings.Join(w.Services[0].Args, " "); strings.Join(w.Awaits.Copies, ",") != hosts || !strings.HasPrefix(got, "galera -copies="+hosts+" -self=$(POD_NAME) ") || w.Elects || len(w.Peers) == 0 || w.Surges {
			t.Errorf("three copies of MariaDB: %q, %+v", got, w)
		}
	}
	for _, w := range workloads(t, "mysql: {dsnFile: STATE/dsn}") {
		waits := w.Awaits.Database != ""
		if uses := slices.ContainsFunc(w.Services, func(s service.Service) bool {
			return slices.ContainsFunc(s.Uses, func(use service.Use) bool { return strings.HasPrefix(use.Of, "mariadb/") })
		}); waits != uses {
			t.Errorf("%s waits for the database: %t, and uses it: %t", w.Name, waits, uses)
		}
	}
}

func TestWhatHasOneCopyIsReachedThroughTheProxy(t *testing.T) {
	for _, test := range []struct{ stack, settings, passes string }{
		{"all", "", "registry rekor tiles tuf"},
		{"all", "storage: {sharedClass: shared}", "registry tiles tuf"},
		{"all", "attestations: s3://bucket", "registry tiles tuf"},
		{"all", "services: {proxy: {replicas: 3}, mariadb: {replicas: 3}}", "registry rekor tiles tuf"},
		{"tutorial", "storage: {sharedClass: shared}", "registry"},
		{"tutorial", "registry: registry.example.org\nstorage: {sharedClass: shared}", "none"},
		{"tiles", "", "registry dex tiles tuf"},
	} {
		passes := "none"
		for _, w := range workloads(t, test.settings, "SIGLOCAL_STACK="+test.stack) {
			if w.Name != "proxy" {
				continue
			}
			passes = strings.Join(w.Passes, " ")
			if want := map[bool]int{false: 2, true: 3}[strings.Contains(test.settings, "proxy")]; w.Replicas != want {
				t.Errorf("%+v: %d copies of the proxy", test, w.Replicas)
			}
			if got := strings.Join(w.Services[0].Args, " "); !strings.HasPrefix(got, "pass -ready=8089 1338=registry-direct:1338") {
				t.Errorf("%+v: its arguments are %q", test, got)
			}
		}
		if passes != test.passes {
			t.Errorf("%+v: it takes requests for %q", test, passes)
		}
	}
	if _, _, err := onCluster(t, "services: {proxy: {replicas: 3}}\nregistry: registry.example.org\nstorage: {sharedClass: shared}", "SIGLOCAL_STACK=tutorial"); err == nil || !strings.Contains(err.Error(), `"proxy"`) {
		t.Errorf("settings of a proxy where there is none: %v", err)
	}
}

func TestClientsFindTheClusterWhereItIs(t *testing.T) {
	for settings, want := range map[string]string{
		"": "http://dex.sigstore.svc.cluster.local:5556", "namespace: a": "http://dex.a.svc.cluster.local:5556",
		"domain: s.example.org": "http://dex.s.example.org:5556", "domain: s.example.org\ningress: {class: nginx}": "http://dex.s.example.org",
		"domain: s.example.org\nhosts: {dex: login.example.org}\ningress: {class: nginx, tlsSecret: a}": "https://login.example.org",
		"oidc: {issuer: 'https://accounts.example.org', clientID: a}":                                   "https://accounts.example.org",
	} {
		found := false
		for _, w := range workloads(t, settings) {
			if text := w.Public["config/fulcio.yaml"]; text != "" {
				found = true
				if !strings.Contains(text, `"`+want+`"`) {
					t.Errorf("%s: Fulcio trusts\n%s", settings, text)
				}
			}
			if text := w.Public["config/tuf.json"]; text != "" && (!strings.Contains(text, `"issuer": "`+want+`"`) || !strings.Contains(text, `"url": "http://localhost:3000", "at": "`)) {
				t.Errorf("%s: the signing config has\n%s", settings, text)
			}
		}
		if !found {
			t.Errorf("%s: no Fulcio", settings)
		}
	}
}

// Two places that go on with one log would make two histories of it.
func TestAStackThatHasMovedDoesNotStart(t *testing.T) {
	c := testConfig(t, "SIGLOCAL_STATE="+t.TempDir())
	if err := cluster.Moved(c); err != nil {
		t.Errorf("a stack that has not moved: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(c.State, "cluster"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.State, "cluster", "moved"), []byte("there\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Moved(c); err == nil || !strings.Contains(err.Error(), "go on in there") {
		t.Errorf("a stack that has moved: %v", err)
	}
}

func TestThePageHasSettingsThatAreAccepted(t *testing.T) {
	text, err := os.ReadFile("../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, read, err := onCluster(t, strings.NewReplacer("/etc/ssl/company.pem", certificate, "/home/you/mysql.dsn", "STATE/dsn").Replace(block))
	if err != nil || read.Services["rekor"].Replicas != 3 || read.OIDC.ClientID != "sigstore" {
		t.Errorf("%v:\n%s", err, block)
	}
}

// Network policies let nobody out who does not say where to.
func TestWhatIsOutsideOfTheStackIsSaid(t *testing.T) {
	for settings, want := range map[string]map[string]string{
		"":                            {},
		"mysql: {dsnFile: STATE/dsn}": {"log-server": "mysql://db.example.org:3306", "log-signer": "mysql://db.example.org:3306", "rekor": "mysql://db.example.org:3306", "dex": "mysql://db.example.org:3306"},
		"oidc: {issuer: 'https://accounts.example.org', clientID: a}":               {"fulcio": "https://accounts.example.org"},
		"domain: s.example.org\ningress: {class: nginx, tlsSecret: a}":              {"fulcio": "https://dex.s.example.org"},
		"keys: {fulcio: 'awskms:///a', rekor: 'gcpkms://a', tsa: 'hashivault://a'}": {"fulcio": "https://awskms", "rekor": "https://gcpkms", "tsa": "https://hashivault https://vault:8200"},
		"attestations: s3://bucket":                                                 {"rekor": "https://s3"},
		"keys: {rekor: 'awskms://kms.example.org:8443/alias/a'}":                    {"rekor": "https://kms.example.org:8443 https://awskms"},
		"attestations: s3://bucket?region=a&endpoint=http://minio.example.org:9000": {"rekor": "http://minio.example.org:9000 https://s3"},
	} {
		for _, w := range workloads(t, settings) {
			if got := strings.Join(w.Outside, " "); got != want[w.Name] {
				t.Errorf("%s: %s reaches %q outside, not %q", settings, w.Name, got, want[w.Name])
			}
		}
	}
}

// A node that is cut off closes no connection.
func TestQueriesThroughANetworkHaveLimits(t *testing.T) {
	secret := func(config.Config, config.Secret) (string, error) { return "hunter2", nil }
	for _, settings := range []string{"", "mysql: {dsnFile: STATE/dsn}"} {
		c, read, err := onCluster(t, settings)
		if err != nil {
			t.Fatal(err)
		}
		text, err := service.Render(read.Config(c), "trillian_log_server.flags", service.StandIns(), secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []string{"timeout=5s", "readTimeout=30s", "writeTimeout=30s"} {
			if !regexp.MustCompile(`[?&]` + limit + `[&"]`).Match(text) {
				t.Errorf("%s: no %s in %s", settings, limit, text)
			}
		}
		if text, err := service.Render(c, "trillian_log_server.flags", service.StandIns(), secret); err != nil || strings.Contains(string(text), "imeout") {
			t.Errorf("on one machine: %v: %s", err, text)
		}
	}
}
