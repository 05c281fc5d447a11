package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/oidc"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/traffic"
)

func TestWhatPassesIsToldInItsOrder(t *testing.T) {
	t.Parallel()
	for kind, want := range map[config.Stack][]string{
		config.Tutorial: {
			"browser dex sign-in", "cosign fulcio ID token, certificate request", "ct log-server certificate", "fulcio ct SCT", "cosign rekor entry",
			"cosign registry signature",
		},
		config.Tiles: {
			"browser dex sign-in", "cosign fulcio ID token, certificate request", "fulcio tesseract SCT", "cosign tsa timestamp", "cosign tiles entry",
			"tiles rekor-tiles entry", "cosign registry signature",
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := newStack(t, "SIGLOCAL_STACK="+string(kind))
			// The demos of a stack of tiles have another image.
			named := regexp.MustCompile(regexp.QuoteMeta(s.config.Image("")) + `[a-z-]+@sha256:[0-9a-f]{64}`)
			image := named.FindString(s.must("demo:keyless").stdout)
			f := s.listen()
			s.env = append(slices.Clone(s.env), "COSIGN_IDENTITY_TOKEN="+s.signInAtForm())
			s.program("cosign", "sign", image)
			signed := time.Now()
			var got []string
			for end := signed.Add(10 * time.Second); len(got) < len(want) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				got = f.told()
			}
			time.Sleep(time.Second) // nothing follows
			if got = f.told(); !slices.Equal(got, want) {
				t.Errorf("told is\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			for i, event := range f.events {
				before, late := signed.Sub(event.At).Round(time.Millisecond), f.shown[i].Sub(event.At).Round(time.Millisecond)
				t.Logf("%s from %s to %s %s before the end of cosign, told %s later", event.What, event.From, event.To, before, late)
				if late > time.Minute {
					t.Errorf("%+v is told %s late", event, late)
				}
			}
		})
	}
}

// followed is what the logs of a stack tell.
type followed struct {
	mu     sync.Mutex
	events []traffic.Event
	shown  []time.Time // when they were told
}

// told are the events, but for those of Trillian's signer, which handles the entries of both logs when it gets to them.
func (f *followed) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, event := range f.events {
		if event.From != "log-signer" {
			all = append(all, event.From+" "+event.To+" "+event.What)
		}
	}
	return all
}

// listen follows the logs of the stack until the test ends.
func (s *stack) listen() *followed {
	s.t.Helper()
	services, f := s.passes(), &followed{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- traffic.Follow(ctx, services, s.config.Log, func(event traffic.Event) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events, f.shown = append(f.events, event), append(f.shown, time.Now())
			return nil
		})
	}()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
	time.Sleep(time.Second) // what is logged by then is not new
	return f
}

// passes are the stack's services, with what their logs tell and nothing else. A test of the targets writes that.
func (s *stack) passes() []service.Service {
	s.t.Helper()
	file := filepath.Join(s.home, "passes.json")
	s.env = append(slices.Clone(s.env), "PASSES="+file)
	if r := s.run(s.config.Root, "go", "test", "-count=1", "-run=^TestWhatPassesIsData$", "./magefiles"); r.code != 0 {
		s.t.Fatalf("%s", r)
	}
	content, err := os.ReadFile(file)
	var services []service.Service
	if err == nil {
		err = json.Unmarshal(content, &services)
	}
	if err == nil {
		err = os.Remove(file)
	}
	if err != nil || len(services) < 5 {
		s.t.Fatalf("%d services, %v", len(services), err)
	}
	return services
}

// signInAtForm signs in as the stack's user by Dex's form, as a browser does, and returns the ID token.
func (s *stack) signInAtForm() string {
	s.t.Helper()
	const back = "http://localhost/auth/callback" // which is not called
	client := oauth2.Config{
		ClientID: oidc.ClientID, Scopes: []string{"openid", "email"}, RedirectURL: back,
		Endpoint: oauth2.Endpoint{
			AuthURL: s.config.Issuer() + "/auth", TokenURL: s.config.Issuer() + "/token", AuthStyle: oauth2.AuthStyleInHeader,
		},
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), back) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	form, err := browser.Get(client.AuthCodeURL("state"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer form.Body.Close()
	answer, err := browser.PostForm(form.Request.URL.String(), url.Values{"login": {s.config.Email}, "password": {s.password()}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	to, err := answer.Location()
	if err != nil {
		s.t.Fatalf("%s: %v", answer.Status, err)
	}
	token, err := client.Exchange(s.t.Context(), to.Query().Get("code"))
	if err != nil {
		s.t.Fatal(err)
	}
	id, _ := token.Extra("id_token").(string)
	return id
}
