package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/jsonapi"
	"sigstore-local/magefiles/internal/rekorlog"
)

var (
	screenshots = flag.String("screenshots", "", "write screenshots of the page's views into this `folder`")
	pictures    = flag.Bool("pictures", false, "renew the README's pictures of the page")
)

// pageBrowser is a browser that shows the page of a stack. Whatever it writes to its console fails the test.
type pageBrowser struct {
	*browser
	s *stack
}

// openPage starts a browser at the page of s, with the token.
func openPage(s *stack) pageBrowser {
	s.t.Helper()
	b := newBrowser(s.t)
	messages := chromedp.Console(b.ctx)
	go func() {
		for message, err := range messages {
			if err != nil {
				return
			}
			if strings.HasSuffix(message.URL, "/nothing") {
				continue // which is there to be not found
			}
			if strings.Contains(fmt.Sprint(message), "ERR_CONNECTION_REFUSED") {
				continue // while the page is stopped
			}
			s.t.Errorf("in the browser's console: %v (%s:%d)", message, message.URL, message.Line)
		}
	}()
	p := pageBrowser{b, s}
	said := strings.TrimSpace(s.must("page").stdout)
	if !regexp.MustCompile(`^` + regexp.QuoteMeta(s.config.PageURL()) + `/\?token=[0-9a-f]{32}$`).MatchString(said) {
		s.t.Fatalf("page prints %q", said)
	}
	b.do(chromedp.Navigate(said))
	if at := p.evaluate("location.href"); at != s.config.PageURL()+"/" {
		s.t.Errorf("the token stays in the address: %s", at)
	}
	return p
}

func (p pageBrowser) in(t *testing.T) pageBrowser { return pageBrowser{p.browser.in(t), p.s.in(t)} }

func (p pageBrowser) open(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.s.config.PageURL() + path))
}

// evaluate is the value of a script as text. A promise is waited for.
func (p pageBrowser) evaluate(script string) string {
	p.t.Helper()
	value, err := p.value(script)
	if err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return value
}

func (p pageBrowser) value(script string) (string, error) {
	ctx, cancel := context.WithTimeout(p.ctx, soon)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[string]("(async () => String(await ("+script+")))()", chromedp.EvalAwaitPromise))
}

// soon is longer than a page takes for anything but a command that it runs.
const soon = 5 * time.Minute

// until waits until a script is true. A page that is loaded anew meanwhile ends the script, and is asked again.
func (p pageBrowser) until(script string, most time.Duration) {
	p.t.Helper()
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		value, err := p.value(script)
		switch {
		case value == "true":
			return
		case err != nil && !strings.Contains(err.Error(), "navigated or closed"):
			p.t.Fatalf("%s: %v", script, err)
		case time.Now().After(end):
			p.t.Fatalf("this is not so after %s: %s\n%s", most, script, p.text())
		}
	}
}

// get asks the page without a browser.
func (s *stack) get(method, path string, change func(*http.Request)) (int, string, http.Header) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.config.PageURL()+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if change != nil {
		change(request)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

// hostile is a name as an attacker could put it into a certificate.
const hostile = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>` + "\u202egnp.exe\u200f\u061c"

// uploadHostile adds an entry to Rekor v1 that a certificate of the attacker's own signs, whose names are text of that length.
func (s *stack) uploadHostile(name string) {
	s.t.Helper()
	fail := func(err error) {
		if err != nil {
			s.t.Helper()
			s.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "mallory"}, URIs: []*url.URL{{Scheme: "https", Host: "example.org", RawPath: "", Path: "/" + name}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	fail(err)
	digest := sha256.Sum256([]byte(name))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	fail(err)
	type object = map[string]any
	fail(jsonapi.Ask(s.t.Context(), http.DefaultClient, http.MethodPost, s.config.URL(config.Rekor)+"/api/v1/log/entries", object{
		"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": object{
			"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
			"signature": object{"content": signature, "publicKey": object{"content": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}},
		}}, nil))
}

func TestTheStackInABrowser(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("start")
	p := openPage(s)

	t.Run("the stack lives", func(t *testing.T) {
		p := p.in(t)
		p.open("/")
		p.until(fmt.Sprintf(`document.querySelectorAll("svg.diagram a.part").length >= %d && document.getElementById("running").textContent === "%d"`, len(names), len(names)), soon)
		s := p.s
		// While somebody signs, the arrows light up in their order.
		p.evaluate(`(() => {
			window.lit = [];
			new MutationObserver(all => { for (const one of all) if (one.target.classList.contains("lit")) window.lit.push(one.target.dataset.from + " " + one.target.dataset.to); })
				.observe(document.querySelector("svg.diagram"), {subtree: true, attributes: true, attributeFilter: ["class"]});
		})()`)
		s.must("demo:keyless")
		p.until(`["ID token, certificate request", "SCT", "entry", "signature"].every(what => document.getElementById("passed").innerText.includes(what))`, soon)
		passed := p.evaluate(`[...document.querySelectorAll("#passed li strong")].reverse().map(e => e.textContent).join(", ")`)
		if !regexp.MustCompile(`ID token.*certificate request.*SCT.*entry.*signature`).MatchString(passed) {
			t.Errorf("what passes is in another order: %s", passed)
		}
		p.until(`["cosign fulcio", "fulcio ct", "cosign rekor", "cosign registry"].every(one => window.lit.includes(one))`, soon)

		// A part that is stopped is shown as that, and comes back.
		s.must("rekor:stop")
		p.until(`document.querySelector("[data-row=rekor] [data-field=state]").textContent === "stopped"`, soon)
		p.until(`document.querySelector("svg.diagram [data-part=rekor] .state").textContent === "stopped"`, soon)
		s.must("rekor:start")
		p.until(`document.querySelector("[data-row=rekor] [data-field=state]").textContent === "ready"`, soon)
	})

	t.Run("a part opens", func(t *testing.T) {
		p := p.in(t)
		p.open("/")
		p.do(chromedp.Click(chromedp.CSS(`svg.diagram a[href="/parts/rekor"]`)))
		p.shows("log-server: to add entries")
		if text := p.text(); !strings.Contains(text, "keys/rekor.pub") || !strings.Contains(text, s.config.Log("rekor")) {
			t.Errorf("it shows\n%s", text)
		}
		if html := p.evaluate("document.documentElement.outerHTML"); strings.Contains(html, "PRIVATE KEY") || !strings.Contains(html, "BEGIN PUBLIC KEY") {
			t.Error("it shows a private key, or no public one")
		}
		// Its log follows.
		before := p.evaluate(`document.getElementById("lines").textContent`)
		_, err := http.Get(s.config.URL(config.Rekor) + "/api/v1/log?this-is-new")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(before, "this-is-new") {
			t.Error("the log has the request already")
		}
		p.until(`document.getElementById("lines").textContent.includes("this-is-new")`, soon)
		s.must("tsa:stop")
		p.open("/parts/tsa")
		p.until(`document.getElementById("state").textContent === "stopped"`, soon)
		s.must("tsa:start")
		p.until(`document.getElementById("state").textContent === "ready"`, soon)
		// The page says that its server has gone, and renews itself when there is another.
		p.evaluate(`window.before = "the restart"`)
		s.must("page:stop")
		p.until(`!document.getElementById("lost").hidden`, soon)
		s.must("page:start")
		p.until(`window.before === undefined && document.getElementById("lost")?.hidden && document.getElementById("state").textContent === "ready"`, soon)
		secrets := p.s.secrets()
		for _, part := range append([]string{"cosign", "token"}, names...) {
			_, body, _ := p.s.get(http.MethodGet, "/parts/"+part, nil)
			for name, secret := range secrets {
				if strings.Contains(body, secret) {
					t.Errorf("the page of %s shows the secret %s", part, name)
				}
			}
		}
	})

	t.Run("entries arrive, and are found", func(t *testing.T) {
		p := p.in(t)
		s := p.s
		for _, log := range []string{"rekor", "rekor-tiles"} {
			p.open("/logs/" + log)
			p.until(`document.getElementById("log") !== null`, soon)
			time.Sleep(300 * time.Millisecond) // until the page listens
			count := p.evaluate(`document.querySelectorAll("#rows tr").length`)
			uploader, err := rekorlog.NewUploader(s.config.URL(config.Rekor))
			if log == "rekor-tiles" {
				uploader, err = rekorlog.NewUploaderV2(s.config.RekorV2())
			}
			if err != nil {
				t.Fatal(err)
			}
			p.evaluate(`(() => { window.arrived = new Promise(done => new MutationObserver(() => done(performance.timeOrigin + performance.now())).observe(document.getElementById("log"), {subtree: true, childList: true})); })()`)
			if _, err := uploader.Upload(t.Context()); err != nil {
				t.Fatal(err)
			}
			uploaded := time.Now()
			p.until(fmt.Sprintf(`document.querySelectorAll("#rows tr").length > %s`, count), soon)
			if count != "0" {
				var arrived float64
				if _, err := fmt.Sscan(p.evaluate("window.arrived"), &arrived); err != nil {
					t.Fatal(err)
				}
				t.Logf("an entry of %s is on the screen %s after its upload", log, time.UnixMilli(int64(arrived)).Sub(uploaded).Round(time.Millisecond))
			}
		}
		// If so many have come that some are not among the newest, those from before go, rather than leave a gap between them.
		p.open("/logs/rekor")
		time.Sleep(300 * time.Millisecond) // until the page listens
		p.evaluate(`document.getElementById("rows").innerHTML = '<tr data-index="1000000"></tr>'`)
		s.uploadHostile("after a gap")
		p.until(`document.querySelectorAll("#rows tr").length > 0 && document.querySelector('[data-index="1000000"]') === null`, soon)
		p.until(`document.getElementById("listed").textContent.endsWith(" to " + document.querySelector("#rows tr").dataset.index)`, soon)
		p.open("/logs/rekor")
		search := func(text string) {
			t.Helper()
			p.open("/logs/rekor")
			p.fill("#q", text)
			p.do(chromedp.SendKeys(chromedp.CSS("#q"), kb.Enter))
		}
		search(s.config.Email)
		p.shows("entry has " + s.config.Email)
		// An artifact is hashed by the browser.
		image := strings.TrimSpace(p.evaluate(`document.querySelector("#rows td[data-label=Artifact] code").title`))
		search(image)
		p.shows("1 entry has " + image)
		artifact := filepath.Join(t.TempDir(), "artifact")
		if err := os.WriteFile(artifact, []byte("nobody has signed this"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.open("/logs/rekor")
		p.do(chromedp.SetUploadFiles(chromedp.CSS("#artifact"), []string{artifact}))
		p.shows(fmt.Sprintf("0 entries have sha256:%x", sha256.Sum256([]byte("nobody has signed this"))))
		search("0")
		p.shows("Entry 0")
		uuid := p.evaluate(`[...document.querySelectorAll("dt")].find(e => e.textContent === "UUID").nextElementSibling.textContent`)
		if len(uuid) == 80 {
			search(uuid)
			p.shows("Entry 0")
		}
		search("what?")
		p.shows("nothing that can be searched for")
		search("999999999")
		p.shows("has no entry 999999999")
		p.open("/logs/ct?q=" + s.config.Email)
		p.shows("entry has " + s.config.Email)

		s.must("rekor:stop")
		p.open("/logs/rekor")
		p.shows("rekor is stopped")
		s.must("rekor:start")
		p.until(`document.querySelectorAll("#rows tr").length > 0`, soon)
	})

	t.Run("an entry is shown, and its proof can be seen to break", func(t *testing.T) {
		p := p.in(t)
		for _, path := range []string{"/logs/rekor/0", "/logs/rekor-tiles/0", "/logs/ct/0"} {
			p.open(path)
			p.until(`document.querySelector(".proof[data-computed=yes]") !== null`, soon)
			if verdict := p.evaluate(`document.querySelector(".proof-verdict").innerText`); !strings.Contains(verdict, "It fits") {
				t.Errorf("%s: %s", path, verdict)
			}
			p.evaluate(`(() => { const field = document.querySelector(".proof textarea"); field.value = "x" + field.value.slice(1); field.dispatchEvent(new Event("input", {bubbles: true})); })()`)
			p.until(`document.querySelector(".proof[data-computed=yes]") !== null && document.querySelector(".proof-verdict").innerText.includes("✗")`, soon)
			p.press("Put it back")
			p.until(`document.querySelector(".proof-verdict").innerText.includes("It fits")`, soon)
		}
		p.open("/logs/rekor/0")
		for _, want := range []string{s.config.Email + ", vouched for by " + s.config.Issuer(), "1.3.6.1.4.1.57264.1.8", "SET", "SCT", "The log has signed that it will have this entry"} {
			if !strings.Contains(p.text(), want) {
				t.Errorf("entry 0 does not show %q:\n%s", want, p.text())
			}
		}
		p.open("/logs/rekor/consistency")
		p.until(`document.querySelector(".proof[data-computed=yes]") !== null`, soon)
		if verdict := p.evaluate(`document.querySelector(".proof-verdict").innerText`); strings.Contains(verdict, "✗") {
			t.Errorf("the log has not only grown: %s", verdict)
		}
	})

	t.Run("an attacker's text stays text", func(t *testing.T) {
		p := p.in(t)
		s := p.s
		s.uploadHostile(hostile)
		s.uploadHostile(strings.Repeat("very-long-", 10_000))
		for _, path := range []string{"/logs/rekor", "/logs/rekor?q=" + url.QueryEscape(hostile)} {
			p.open(path)
			p.do(chromedp.EmulateViewport(375, 800))
			p.until(`document.title.includes("Rekor v1") && document.querySelectorAll("img, main script").length === 0`, soon)
			if wide := p.evaluate("document.documentElement.scrollWidth"); wide != "375" {
				t.Errorf("%s is %s pixels wide", path, wide)
			}
		}
		p.open("/logs/rekor")
		for range 2 {
			p.do(chromedp.Click(chromedp.CSS("#rows tr:first-child th a, nav a[rel=prev]")))
			p.until(`document.querySelector(".proof[data-computed=yes]") !== null && document.title.includes("of Rekor v1")`, soon)
			if bad := p.evaluate(`document.querySelectorAll("img, main script").length + " " + document.documentElement.scrollWidth`); bad != "0 375" {
				t.Errorf("%s: %s", p.evaluate("location.pathname"), bad)
			}
			if !strings.Contains(p.text(), "by a CA that is not this stack’s") {
				t.Errorf("a stranger's certificate is shown like the stack's: %s", p.text())
			}
		}
	})

	t.Run("a bundle and an image are verified", func(t *testing.T) {
		p := p.in(t)
		s := p.s
		s.must("demo:bundle")
		p.open("/verify")
		p.do(chromedp.EmulateViewport(1280, 900))
		bundle := s.config.Data("artifact.txt.sigstore.json")
		p.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{bundle}), chromedp.SetUploadFiles(chromedp.CSS("#artifact"), []string{s.config.Data("artifact.txt")}))
		p.until(`document.getElementById("digest").value.startsWith("sha256:")`, soon)
		p.do(chromedp.Click(chromedp.CSS("#upload .primary")))
		p.shows("✓ Verified.")
		p.until(`document.readyState === "complete"`, soon)
		if failed := p.evaluate(`document.querySelectorAll(".checks > .failed").length + " " + document.querySelectorAll(".checks > .passed").length`); !regexp.MustCompile(`^0 ([5-9]|1\d)$`).MatchString(failed) {
			t.Errorf("failed and passed are %s:\n%s", failed, p.text())
		}
		// Another artifact.
		p.open("/verify?bundle=artifact.txt.sigstore.json&digest=sha256:" + strings.Repeat("0", 64))
		p.shows("✗ Refused.")
		p.open("/verify?bundle=artifact.txt.sigstore.json&identity=mallory@example.org")
		p.shows("✗ Refused.")
		image := s.config.Image(filepath.Base(demo.ImagePackage(s.config)))
		p.open("/verify?image=" + image)
		p.shows("✓ Verified.")
		p.open("/verify?image=docker.io/library/debian")
		p.shows("docker.io")
		p.open("/verify?bundle=../secrets/hsm-pin")
		p.shows("there is no bundle")
	})

	t.Run("a lesson goes step by step", func(t *testing.T) {
		p := p.in(t)
		// One that does not get to its end would be in the others' way.
		defer func() { _, _ = p.value(`document.getElementById("end")?.click()`) }()
		p.open("/lessons")
		p.do(chromedp.Click(chromedp.CSS(`button[aria-label^="Begin: 3."]`)))
		p.until(`document.querySelectorAll(".steps > li").length === 1 && document.getElementById("run").dataset.state === "waiting"`, deadline)
		p.evaluate(`document.getElementById("next").focus()`)
		for step := 2; p.evaluate(`["running", "waiting"].includes(document.getElementById("run").dataset.state)`) == "true"; step++ {
			p.do(chromedp.KeyEvent(kb.Enter)) // the button keeps the focus
			p.until(fmt.Sprintf(`document.querySelectorAll(".steps > li").length >= %d && document.getElementById("run").dataset.state === "waiting" || document.getElementById("run").dataset.state === "done"`, step), deadline)
		}
		text := p.text()
		for _, want := range []string{"cosign sign ", "Look:", "Refused, as it should be.", "Entry ", "No key was kept"} {
			if !strings.Contains(text, want) {
				t.Errorf("the lesson does not show %q:\n%s", want, text)
			}
		}
		if at := p.evaluate("document.activeElement.id"); at != "again" {
			t.Errorf("at the end, the focus is on %q", at)
		}
		if at := p.evaluate("location.hash"); !strings.HasPrefix(at, "#step-") {
			t.Errorf("where one is, is not in the address: %s", at)
		}
		p.evaluate(`document.querySelector('.steps a[href^="/verify?image="]').click()`)
		p.shows("✓ Verified.")
	})

	t.Run("each attack is made by its button", func(t *testing.T) {
		p := p.in(t)
		for _, one := range attack.All(s.config) {
			p.open("/lessons")
			p.do(chromedp.Click(chromedp.CSS(`#` + one.Name + ` button`)))
			p.until(`["done", "failed", "stopped"].includes(document.getElementById("run")?.dataset.state)`, deadline)
			if text := p.text(); !strings.Contains(text, one.Who+" notices.") || !strings.Contains(text, "The attack was noticed.") {
				t.Errorf("%s:\n%s", one.Name, text)
			}
		}
	})

	t.Run("by the keyboard alone", func(t *testing.T) {
		p := p.in(t)
		p.open("/")
		p.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
		if at := p.evaluate("location.hash + document.activeElement.id"); at != "#mainmain" {
			t.Errorf("the first key does not lead to the content: %s", at)
		}
		p.open("/")
		reached := map[string]bool{}
		for range 60 {
			p.do(chromedp.KeyEvent(kb.Tab))
			reached[p.evaluate(`document.activeElement.getAttribute("href") || document.activeElement.className || document.activeElement.tagName`)] = true
		}
		for _, want := range []string{"/", "/logs/", "/verify", "/lessons", "/parts/rekor", "wide"} {
			if !reached[want] {
				t.Errorf("Tab does not reach %s: %v", want, reached)
			}
		}
	})

	t.Run("it is safe from other pages", func(t *testing.T) {
		s := s.in(t)
		own := s.config.PageURL()
		token := strings.TrimSpace(s.read(s.config.SecretFile(config.PageToken)))
		if info, err := os.Stat(s.config.SecretFile(config.PageToken)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the token's file: %v, %v", info, err)
		}
		cookie := fmt.Sprintf("page-token-%d=%s", s.config.Port(config.Page), token)
		for name, test := range map[string]struct {
			method, path string
			header       map[string]string
			want         int
		}{
			"another name for this machine": {http.MethodGet, "/", map[string]string{"Host": "rebound.example.org:" + fmt.Sprint(s.config.Port(config.Page))}, http.StatusMisdirectedRequest},
			"another port":                  {http.MethodGet, "/", map[string]string{"Host": "localhost"}, http.StatusMisdirectedRequest},
			"its own address":               {http.MethodGet, "/", map[string]string{"Host": s.config.Address(config.Page)}, http.StatusOK},
			"a wrong token":                 {http.MethodGet, "/?token=0123456789abcdef0123456789abcdef", nil, http.StatusForbidden},
			"a post without the token":      {http.MethodPost, "/lessons", map[string]string{"Origin": own}, http.StatusForbidden},
			"a post with a wrong token":     {http.MethodPost, "/lessons", map[string]string{"Origin": own, "Cookie": cookie + "0"}, http.StatusForbidden},
			"a post from another origin":    {http.MethodPost, "/lessons", map[string]string{"Origin": "http://localhost:1", "Cookie": cookie}, http.StatusForbidden},
			"a post from another site":      {http.MethodPost, "/lessons", map[string]string{"Sec-Fetch-Site": "cross-site", "Cookie": cookie}, http.StatusForbidden},
			"a post of its own":             {http.MethodPost, "/lessons", map[string]string{"Origin": own, "Cookie": cookie}, http.StatusBadRequest}, // it names no lesson
			"a bundle from another origin":  {http.MethodPost, "/verify", map[string]string{"Origin": "http://localhost:1"}, http.StatusForbidden},
			"a redirect elsewhere":          {http.MethodGet, "//example.org/?token=" + token, nil, http.StatusSeeOther},
			"a file beside its own":         {http.MethodGet, "/static/../page.go", nil, http.StatusNotFound},
		} {
			code, _, header := s.get(test.method, test.path, func(r *http.Request) {
				for key, value := range test.header {
					r.Header.Set(key, value)
				}
				r.Host = r.Header.Get("Host")
			})
			if code != test.want && !(code/100 == 3 && test.want == http.StatusNotFound) {
				t.Errorf("%s: the answer is %d, and not %d", name, code, test.want)
			}
			if policy := header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; ") || strings.Contains(policy, "unsafe") {
				t.Errorf("%s: the policy is %q", name, policy)
			}
			if to := header.Get("Location"); strings.HasPrefix(to, "//") || strings.Contains(to, token) {
				t.Errorf("%s: it leads to %s", name, to)
			}
		}
		if s.processHas(token) {
			t.Error("the token is in a process's arguments")
		}
	})

	t.Run("axe finds nothing, and nothing is cut", func(t *testing.T) {
		p := p.in(t)
		p.views(t)
	})
	if *pictures {
		p.picture("page-stack", "/", 1500, 1290, "")
		p.picture("page-proof", "/logs/rekor/5", 1280, 760, "#proof")
	}
}

// picture renews a picture of docs: a view of the page, from an element on.
func (p pageBrowser) picture(name, path string, width, height int64, from string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	}); err != nil {
		p.t.Fatal(err)
	}
	p.do(chromedp.EmulateViewport(width, height))
	p.open(path)
	p.until(`document.readyState === "complete" && !document.querySelector(".proof:not([data-computed=yes])")`, soon)
	if from != "" {
		p.evaluate(fmt.Sprintf("document.querySelector(%q).scrollIntoView()", from))
	}
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.s.config.Root, "docs", name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// processHas says whether a process has a text among its arguments.
func (s *stack) processHas(text string) bool {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(text)) {
			return true
		}
	}
	return false
}

// axe is the script of axe-core, which checks a page by the Web Content Accessibility Guidelines.
func axe(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", dir, "axe-core@4.11.0")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm: %v: %s", err, out)
	}
	script, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// views looks at each view, in light and dark and at both widths: with axe's rules, whether anything is cut, and for screenshots.
func (p pageBrowser) views(t *testing.T) {
	script := axe(t)
	for name, path := range map[string]string{
		"stack": "/", "part": "/parts/fulcio", "log": "/logs/rekor", "log-tiles": "/logs/rekor-tiles", "certificates": "/logs/ct", "search": "/logs/rekor?q=" + p.s.config.Email,
		"entry": "/logs/rekor/0", "entry-tiles": "/logs/rekor-tiles/0", "certificate": "/logs/ct/0", "consistency": "/logs/rekor/consistency",
		"verify": "/verify", "verified": "/verify?bundle=artifact.txt.sigstore.json", "refused": "/verify?bundle=artifact.txt.sigstore.json&identity=mallory@example.org",
		"image": "/verify?image=" + p.s.config.Image(filepath.Base(demo.ImagePackage(p.s.config))), "lessons": "/lessons", "lesson": "/lessons/1", "problem": "/nothing",
	} {
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int64{375, 1600} {
				if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
				}); err != nil {
					t.Fatal(err)
				}
				p.do(chromedp.EmulateViewport(width, 900))
				p.open(path)
				p.until(`document.readyState === "complete" && !document.querySelector(".proof:not([data-computed=yes])")`, soon)
				if wide := p.evaluate("document.documentElement.scrollWidth"); wide != fmt.Sprint(width) {
					t.Errorf("%s at %d pixels is %s wide", name, width, wide)
				}
				if *screenshots != "" {
					picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(*screenshots, fmt.Sprintf("%s-%s-%d.png", name, scheme, width)), picture, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				// By the debugger, which the page's policy does not bind.
				if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[any](script+"; null")); err != nil {
					t.Fatal(err)
				}
				found := p.evaluate(`axe.run({resultTypes: ["violations"]}).then(r => r.violations.map(v => v.id + ": " + v.help + " " + v.nodes.map(n => n.target + " " + n.failureSummary).join(" / ")).join("\n"))`)
				if found != "" {
					t.Errorf("%s, %s, %d: axe finds\n%s", name, scheme, width, found)
				}
			}
		}
	}
}
