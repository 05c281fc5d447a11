package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// TestClientsElsewhereReachTheStackByItsHost has the stack known by a name that leads nowhere from here. Clients elsewhere, for whom the
// name leads to the stack, are cosign with a proxy that takes it for localhost.
func TestClientsElsewhereReachTheStackByItsHost(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real stack")
	}
	t.Parallel()
	const host = "sigstore.invalid"
	s := newStack(t, "SIGLOCAL_STACK=tiles", "SIGLOCAL_HOST="+host, "SIGLOCAL_LISTEN=all")
	if r := s.must("demo:keyless"); !strings.Contains(r.stdout, "--certificate-oidc-issuer=http://"+host+":") {
		t.Errorf("the issuer has another name: %s", r)
	}
	s.must("demo:tamper", "-only=own-ca,expired-token")
	if r := s.mage("status", "-all"); r.code != 4 || !strings.Contains(r.stderr, "tuf does not run") {
		t.Errorf("the repository was not started: %s", r)
	}
	s.must("start")
	s.must("status", "-all")
	token := strings.TrimSpace(s.must("dex:token").stdout)

	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if r.Out.URL.Hostname() == host {
			r.Out.URL.Host = "localhost:" + r.Out.URL.Port()
		}
	}})
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(at)}}
	answer, err := client.Get(s.config.TUFMirror() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the index: %s, %s", answer.Status, answer.Header)
	}
	files := t.TempDir()
	if r := s.run(s.home, "cp", "-r", s.config.Trust("")+"/.", files); r.code != 0 {
		t.Fatalf("%s", r)
	}
	artifact := s.file("artifact", "signed elsewhere")
	settings := s.must("env", "-files="+files).stdout
	for _, form := range []string{"json", "github"} {
		if r := s.must("env", "-o="+form, "-files="+files); strings.Contains(r.stdout, s.config.State) || !strings.Contains(r.stdout, host) {
			t.Errorf("%s", r)
		}
	}
	cosign := s.config.Program("cosign")
	script := settings + "\n" + `"$1" sign-blob --identity-token "$TOKEN" --bundle "$2.sigstore.json" "$2" &&
		"$1" verify-blob --trusted-root "$TRUSTED_ROOT" --certificate-identity user@example.org --certificate-oidc-issuer "$ISSUER_URL" --use-signed-timestamps --bundle "$2.sigstore.json" "$2" &&
		"$1" initialize --mirror "$TUF_MIRROR" --root "$TUF_MIRROR/trust/root.json" && test -d "$TUF_ROOT"`
	outside := *s
	outside.env = append(s.env, "HTTP_PROXY="+proxy.URL, "TOKEN="+token)
	if r := outside.run(files, "sh", "-c", script, "sh", cosign, artifact); r.code != 0 || !strings.Contains(r.stderr, "Verified OK") {
		t.Errorf("%s", r)
	}
	// A name that clients could not go on to use is refused.
	other := *s
	other.env = append(s.env, "SIGLOCAL_HOST=other.invalid")
	if r := other.mage("start"); r.code != 1 || !strings.Contains(r.stderr, "SIGLOCAL_HOST="+host) {
		t.Errorf("%s", r)
	}
}
