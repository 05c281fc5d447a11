package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

// issuer answers each request at /token by answer until the test ends.
func issuer(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /dex/token", answer)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/dex"
}

func says(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestATokenIsAskedForAsAPublicClient(t *testing.T) {
	url := issuer(t, func(w http.ResponseWriter, r *http.Request) {
		client, secret, ok := r.BasicAuth()
		if !ok || client != "another" || secret != "" {
			t.Errorf("client %q with secret %q, %t", client, secret, ok)
		}
		for name, want := range map[string]string{"grant_type": "password", "scope": "openid email", "username": "a+b@example.org", "password": "p&ss word"} {
			if got := r.PostFormValue(name); got != want {
				t.Errorf("%s is %q; want %q", name, got, want)
			}
		}
		if !r.Close {
			t.Error("the connection is to be kept")
		}
		says(200, "application/json", `{"access_token":"access","token_type":"bearer","expires_in":60,"id_token":"a.b.c"}`)(w, r)
	})
	if got, err := TokenFor(t.Context(), "another", url, "a+b@example.org", "p&ss word"); err != nil || got != "a.b.c" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAnErrorHoldsWhatTheIssuerAnswered(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   []string
	}{
		{"an error of OAuth", says(401, "application/json", `{"error":"invalid_grant","error_description":"Invalid username or password"}`), []string{"invalid_grant", "Invalid username or password"}},
		{"another answer", says(502, "text/html", "<p>nobody is here"), []string{"502", "nobody is here"}},
		{"no ID token", says(200, "application/json", `{"access_token":"access","token_type":"bearer"}`), []string{"no ID token"}},
		{"an empty ID token", says(200, "application/json", `{"access_token":"access","id_token":""}`), []string{"no ID token"}},
	} {
		got, err := Token(t.Context(), issuer(t, test.answer), "a@example.org", "secret")
		if err == nil || got != "" {
			t.Errorf("%s: got %q, %v", test.name, got, err)
			continue
		}
		for _, want := range append(test.want, "sign in as a@example.org: ") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", test.name, err, want)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password is in the error: %v", test.name, err)
		}
	}
	_, err := Token(t.Context(), issuer(t, says(401, "application/json", `{"error":"invalid_grant"}`)), "a@example.org", "secret")
	if answer := (*oauth2.RetrieveError)(nil); !errors.As(err, &answer) || answer.Response.StatusCode != 401 {
		t.Errorf("got %v", err)
	}
}

func TestSigningInEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	url := issuer(t, func(http.ResponseWriter, *http.Request) {
		cancel()
		<-ended
	})
	_, err := Token(ctx, url, "a@example.org", "secret")
	close(ended)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
