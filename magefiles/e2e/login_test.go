package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/oidc"
)

// browser is a headless Chromium in which a test does what a person would.
type browser struct {
	t   *testing.T
	ctx context.Context
}

// newBrowser starts a browser that ends with the test and reaches nothing but this machine.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("chromium is not installed")
	}
	// Chromium is killed at the end, and then leaves its temporary folders.
	tmp, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.Env("TMPDIR="+tmp),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost"))
	allocated, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return &browser{t, ctx}
}

// in is b for a subtest.
func (b *browser) in(t *testing.T) *browser { return &browser{t, b.ctx} }

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v\n%s", err, b.text())
	}
}

// evaluate runs a script in the page and returns its value.
func evaluate[T any](b *browser, script string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](script))
}

// text is what the page shows.
func (b *browser) text() string {
	text, err := evaluate[string](b, "document.body.innerText")
	if err != nil {
		return err.Error()
	}
	return text
}

// shows waits until the page has a text.
func (b *browser) shows(want string) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(b.text(), want); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("the page does not show %q:\n%s", want, b.text())
		}
	}
}

// open goes to a page of Dex's.
func (b *browser) open(page string) {
	b.t.Helper()
	b.do(chromedp.Navigate(page))
	b.fits()
}

// fill types a text in place of what a field holds.
func (b *browser) fill(field, text string) {
	b.t.Helper()
	b.do(chromedp.Clear(chromedp.CSS(field)), chromedp.SendKeys(chromedp.CSS(field), text))
}

// press clicks on the button or link that reads label.
func (b *browser) press(label string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.Search(`//*[self::a or self::button][contains(., "` + label + `")]`)))
}

// signIn fills in the form for a password.
func (b *browser) signIn(name, password string) {
	b.t.Helper()
	b.fill("#login", name)
	b.fill("#password", password)
	b.press("Sign in")
}

// fits checks that the page says what it is, needs nothing from elsewhere, and can be read and used on a phone and on a
// desktop.
func (b *browser) fits() {
	b.t.Helper()
	for _, width := range []int64{390, 1280} {
		b.do(chromedp.EmulateViewport(width, 800))
		found, err := evaluate[struct {
			Title, Loaded, Small string
			Wide, Narrow         float64
		}](b, `({
			Title: document.title + " " + document.querySelector("header").innerText,
			Loaded: performance.getEntriesByType("resource").map(e => e.name).join(),
			Small: [...document.querySelectorAll("input:not([type=hidden]), button, .button")]
				.filter(e => e.offsetHeight < 44 || parseFloat(getComputedStyle(e).fontSize) < 16).map(e => e.outerHTML).join(),
			Wide: document.documentElement.scrollWidth,
			Narrow: document.querySelector("main").offsetWidth,
		})`)
		if !strings.HasPrefix(found.Title, "Local Sigstore — sign in to sign an artifact Local Sigstore") || found.Wide > float64(width) || found.Narrow < 340 ||
			found.Loaded != "" || found.Small != "" || err != nil {
			b.t.Errorf("%d pixels wide: %+v, %v\n%s", width, found, err, b.text())
		}
	}
}

// login is a demo:login that waits until somebody has signed in.
type login struct {
	s      *stack
	cmd    *exec.Cmd
	ended  chan struct{}
	out    syncBuffer // standard output
	err    syncBuffer // standard error
	bundle string
	page   string // where to sign in
}

// login runs demo:login until it says where to sign in.
func (s *stack) login(args ...string) *login {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	l := &login{s: s, ended: make(chan struct{}), bundle: s.config.Data("artifact.txt.login.json")}
	l.cmd = s.command(ctx, s.config.Root, "go", append([]string{"tool", "mage", "demo:login"}, args...)...)
	l.cmd.Cancel = func() error { return l.cmd.Process.Signal(os.Interrupt) }
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.err
	if err := l.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = l.cmd.Wait()
		close(l.ended)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-l.ended
	})
	for l.page == "" {
		select {
		case <-l.ended:
			s.t.Fatalf("it ended before anybody signed in: %s", l)
		case <-time.After(20 * time.Millisecond):
			l.page = s.page(l.out.String())
		}
	}
	return l
}

// page is the URL at which demo:login asks to sign in.
func (s *stack) page(said string) string {
	found := regexp.MustCompile(`(?m)^    (` + regexp.QuoteMeta(s.config.Issuer()) + `/\S+)\n\n`).FindStringSubmatch(said)
	if found == nil {
		return ""
	}
	return found[1]
}

func (l *login) String() string {
	return result{l.out.String(), l.err.String(), l.cmd.ProcessState.ExitCode()}.String()
}

// succeeds waits for the end of the demo and checks that the signature is who's.
func (l *login) succeeds(who string) {
	l.s.t.Helper()
	<-l.ended
	if !l.cmd.ProcessState.Success() || !strings.Contains(l.out.String(), who+" signed in and signed") || strings.Count(l.out.String(), "Refused, as it should be.") != 2 {
		l.s.t.Fatalf("%s", l)
	}
	l.s.program("cosign", "verify-blob", "--certificate-identity="+who, "--certificate-oidc-issuer="+l.s.config.Issuer(), "--bundle", l.bundle, l.s.config.Data("artifact.txt"))
}

// password is that of the stack's accounts.
func (s *stack) password() string {
	s.t.Helper()
	return strings.TrimSpace(s.read(s.config.SecretFile(config.DexPassword)))
}

const forced = "&approval_prompt=force" // asks for consent, which this stack takes for given otherwise

func TestSigningInWithABrowser(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_USERS=alice@example.org")
	b := newBrowser(t)
	s.must("dex:start")
	user, password := s.config.Email, s.password()

	t.Run("with the wrong password, and then the right one", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		l := s.login()
		b.open(l.page)
		b.signIn(user, "wrong")
		b.shows("This is not the password")
		b.fits()
		b.signIn(user, password)
		l.succeeds(user)
		b.shows("sigstore authentication successful")
		// Standard output is no terminal, so the password is not printed, but the file that holds it is named.
		if said := l.String(); strings.Contains(said, password) || !strings.Contains(said, s.config.SecretFile(config.DexPassword)) {
			t.Errorf("%s", said)
		}
		for _, port := range []config.Port{config.Dex, config.Callback} {
			if forward := fmt.Sprintf(" -L %d:%s", s.config.Port(port), s.config.Address(port)); !strings.Contains(l.out.String(), forward) {
				t.Errorf("it does not say%s: %s", forward, l)
			}
		}
	})
	t.Run("as somebody else, on a machine that has an identity of its own", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		// With the variables that cosign finds in GitHub Actions.
		s.env = append(slices.Clone(s.env), "ACTIONS_ID_TOKEN_REQUEST_TOKEN=a-token", "ACTIONS_ID_TOKEN_REQUEST_URL=http://localhost:1/token?a=b")
		l := s.login()
		b.open(l.page)
		b.signIn("alice@example.org", password)
		l.succeeds("alice@example.org")
	})
	t.Run("cancelled at the terminal", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		before := s.read(s.config.Data("artifact.txt.login.json"))
		l := s.login()
		b.open(l.page)
		began := time.Now()
		_ = l.cmd.Process.Signal(os.Interrupt)
		if <-l.ended; l.cmd.ProcessState.Success() || time.Since(began) > 30*time.Second {
			t.Errorf("it ended after %s: %s", time.Since(began), l)
		}
		for _, pid := range processes(t, l.bundle) {
			t.Errorf("process %d is left", pid)
		}
		if after := s.read(l.bundle); after != before {
			t.Error("something was signed")
		}
		s.only(tutorial[1:]...)
	})
	t.Run("with consent, refused at first", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		l := s.login()
		b.open(l.page + forced)
		b.signIn(user, password)
		b.shows("Allow sigstore to know who you are?")
		b.shows("View your email address")
		b.fits()
		b.press("Cancel")
		b.shows("You have cancelled")
		b.fits()
		b.open(l.page + forced)
		b.signIn(user, password)
		b.shows("Allow sigstore")
		b.press("Allow")
		l.succeeds(user)
	})
	t.Run("by a device's code, a wrong one at first", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		l := s.login("-device")
		page, code, ok := strings.Cut(l.page, "?user_code=")
		if said := l.out.String(); !ok || !strings.Contains(said, "has the code "+code) || !strings.Contains(said, s.config.Address(config.Dex)) ||
			strings.Contains(said, s.config.Address(config.Callback)) {
			t.Fatalf("%s", l)
		}
		b.open(page)
		b.fill("#user_code", "ABCD-EFGH")
		b.press("Continue")
		b.shows("This is not a code that waits for anybody")
		b.fits()
		b.fill("#user_code", strings.ToLower(code))
		b.press("Continue")
		b.shows("Email Address")
		b.signIn("alice@example.org", password)
		b.shows("You are signed in")
		b.fits()
		l.succeeds("alice@example.org")
	})
	t.Run("by a code to copy, as cosign does where it finds no browser", func(t *testing.T) {
		b := b.in(t)
		b.open(s.config.Issuer() + "/auth?" + url.Values{"client_id": {"sigstore"}, "redirect_uri": {"urn:ietf:wg:oauth:2.0:oob"}, "response_type": {"code"}, "scope": {"openid email"}}.Encode())
		b.signIn(user, password)
		b.shows("Copy this code into the terminal")
		b.fits()
	})
	t.Run("at a port that is taken", func(t *testing.T) {
		s := s.in(t)
		l, err := net.Listen("tcp", s.config.Address(config.Callback))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if r := s.mage("demo:login"); r.code == 0 || !strings.Contains(r.stderr, fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(r.stderr, "SIGLOCAL_PORT_CALLBACK") {
			t.Errorf("%s", r)
		}
	})
	t.Run("at a terminal with a desktop", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		terminal := s.terminal()
		// A program in place of the desktop's browser, which writes down the page that it is to open.
		folder := filepath.Join(s.home, "desktop")
		opened := filepath.Join(folder, "opened")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "xdg-open"), []byte("#!/bin/sh\nprintf '%s' \"$1\" >"+opened+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		terminal.run("env -u CI -u SSH_CONNECTION -u SSH_TTY DISPLAY=:99 PATH=" + folder + ":$PATH go tool mage demo:login")
		terminal.shows("Your browser opens this page")
		terminal.shows("the password is " + password)
		b.open(s.read(opened))
		b.signIn(user, password)
		terminal.shows(user + " signed in and signed")
		// A user who is logged in by ssh is told of the page, and no browser is opened.
		if err := os.Remove(opened); err != nil {
			t.Fatal(err)
		}
		terminal.run("clear; env -u CI SSH_CONNECTION=10.0.0.1 DISPLAY=:99 PATH=" + folder + ":$PATH go tool mage demo:login")
		terminal.shows("Open this page in a browser")
		terminal.shows("Ctrl-C ends it")
		if _, err := os.Stat(opened); !os.IsNotExist(err) {
			t.Errorf("it was opened: %v", err)
		}
		terminal.tmux("send-keys", "C-c")
		terminal.shows("context canceled")
	})
	s.in(t).checkSecrets()
}

func TestMoreWaysToSignIn(t *testing.T) {
	t.Parallel()
	const id, secret = "Iv1.0123456789", "the-secret-of-the-application"
	s := newStack(t, "GITHUB_CLIENT_ID="+id, "GITHUB_CLIENT_SECRET="+secret)
	b := newBrowser(t)
	file := filepath.Join(s.home, "connectors.yaml")
	connectors := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	connectors("# Dex's own, for tests.\n  - type: mockPassword\n    id: mock\n    name: Mock\n    config:\n      username: kilgore\n      password: $trout\n")
	s.env = append(s.env, "SIGLOCAL_DEX_CONNECTORS="+file)
	t.Run("GitHub is offered beside the local account", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		l := s.login()
		b.open(l.page)
		b.shows("Sign in with GitHub")
		b.shows("Sign in with Mock")
		link, err := evaluate[string](b, `[...document.links].find(a => a.innerText.includes("GitHub")).href`)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		response, err := client.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		to, err := response.Location()
		if err != nil || to.Host+to.Path != "github.com/login/oauth/authorize" || to.Query().Get("client_id") != id ||
			to.Query().Get("redirect_uri") != s.config.Issuer()+"/callback" {
			t.Errorf("it leads to %v, %v", to, err)
		}
		b.press("local account")
		b.shows("Sign in another way")
		b.fits()
		b.signIn(s.config.Email, s.password())
		l.succeeds(s.config.Email)
	})
	t.Run("a connector of the user's is merged in", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		l := s.login()
		b.open(l.page)
		b.press("Mock")
		b.signIn("kilgore", "$trout")
		l.succeeds("kilgore@kilgore.trout")
	})
	t.Run("a script still signs in as the local account", func(t *testing.T) { s.in(t).must("dex:token") })
	t.Run("an account with another password gets the stack's", func(t *testing.T) {
		s := s.in(t)
		if err := database.AddAccounts(t.Context(), s.config, []string{s.config.Email}, "another-password"); err != nil {
			t.Fatal(err)
		}
		if token, err := oidc.Token(t.Context(), s.config.Issuer(), s.config.Email, s.password()); err == nil {
			t.Fatalf("the account still takes the stack's password, and gives %s", token)
		}
		s.must("dex:token")
	})
	t.Run("nothing shows their secrets", func(t *testing.T) {
		s := s.in(t)
		archive := strings.TrimSpace(s.must("support").stdout)
		packed := s.run("/", "tar", "-xzOf", archive)
		for _, one := range []string{secret, "$trout"} {
			s.checkSecret(one, []byte(one))
			if !strings.Contains(packed.stdout, "passwordConnector: local") || strings.Contains(packed.stdout, one) {
				t.Errorf("%s shows %s", archive, one)
			}
		}
	})
	t.Run("a broken file is refused in Dex's words, and the Dex that runs is left alone", func(t *testing.T) {
		s := s.in(t)
		running := s.pids()["dex"]
		for text, words := range map[string]string{
			"issuer: http://localhost:1": "yaml: line ",
			"- [":                        "yaml: line ",
			"- type: nobody":             `unknown connector type "nobody"`,
			"- type: github":             "ID, Type and Name fields are required for a connector",
			"- {type: mockPassword, id: a, name: A, config: {username: a}}": "no password supplied",
		} {
			connectors(text)
			for _, restart := range [][]string{{"dex:restart"}, {"restart", "dex"}} {
				if r := s.mage(restart...); r.code == 0 || !strings.Contains(r.stderr, words) || !strings.Contains(r.stderr, fmt.Sprintf("SIGLOCAL_DEX_CONNECTORS is %q", file)) {
					t.Errorf("%s: the message does not say %q: %s", text, words, r)
				}
			}
		}
		if got := s.pids()["dex"]; got != running {
			t.Errorf("it was process %d and is %d", running, got)
		}
		s.must("dex:stop")
		if r := s.mage("dex:start"); r.code == 0 || !strings.Contains(r.stderr, file) {
			t.Errorf("%s", r)
		}
	})
	t.Run("without them the local account is all there is", func(t *testing.T) {
		s, b := s.in(t), b.in(t)
		s.env = slices.DeleteFunc(slices.Clone(s.env), func(entry string) bool {
			return strings.HasPrefix(entry, "GITHUB_CLIENT_") || strings.HasPrefix(entry, "SIGLOCAL_DEX_CONNECTORS=")
		})
		l := s.login()
		b.open(l.page)
		b.shows("Email Address")
		b.signIn(s.config.Email, s.password())
		l.succeeds(s.config.Email)
	})
}
