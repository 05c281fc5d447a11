package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo/event"
	"sigstore-local/magefiles/internal/inspect"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

const token = "0123456789abcdef0123456789abcdef"

// served is the page of a stack whose services do not run.
func served(t *testing.T, targets string) (handler *Server, s *stack.Stack) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return servedUntil(ctx, t, targets)
}

// servedUntil is served, until ctx ends.
func servedUntil(ctx context.Context, t *testing.T, targets string) (handler *Server, s *stack.Stack) {
	t.Helper()
	state := t.TempDir()
	d := stack.Description{
		Root: t.TempDir(), Settings: []string{"SIGLOCAL_STATE=" + state}, Targets: targets,
		Services: []service.Service{
			{Name: "rekor", About: "a log", Program: "/bin/rekor", Address: "http://127.0.0.1:3000", Listens: []config.Port{config.Rekor}, Passes: []service.Passage{{Line: `asked`, From: "cosign", To: "rekor", What: "entry"}}, Uses: []service.Use{
				{Of: "ct", To: "1 ask"}, {Of: "keys/rekor.pem", Signs: "entries", Public: "keys/rekor.pub"}, {Of: "secrets/page-token", To: "know"},
			}},
			{Name: "ct", About: "another log", Program: "/bin/ct", Address: "http://127.0.0.1:6105"},
			{Name: "page", About: "this", Program: "/bin/page", Address: "http://localhost:8088", Listens: []config.Port{config.Page}},
		},
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(state, "page.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s, d, err = stack.ReadDescription(file)
	if err != nil {
		t.Fatal(err)
	}
	handler, err = New(ctx, s, d, token)
	if err != nil {
		t.Fatal(err)
	}
	return handler, s
}

// get asks a handler as a browser on this machine does.
func get(handler http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Host = "localhost:8088"
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	return answer
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAPartShowsPublicHalvesAndNoSecret(t *testing.T) {
	handler, s := served(t, "")
	public, private := "-----BEGIN PUBLIC KEY-----\ncHVi\n-----END PUBLIC KEY-----\n", "-----BEGIN PRIVATE KEY-----\ncHJp\n-----END PRIVATE KEY-----\n"
	write(t, s.Config.Key("rekor.pub"), public)
	write(t, s.Config.Key("rekor.pem"), private)
	write(t, s.Config.SecretFile(config.PageToken), token)
	page := get(handler, http.MethodGet, "/parts/rekor", "").Body.String()
	if !strings.Contains(page, "cHVi") || strings.Contains(page, "cHJp") || strings.Contains(page, token) {
		t.Errorf("it shows\n%s", page)
	}
	if !strings.Contains(page, `<a href="/parts/ct">ct</a>: to ask`) {
		t.Errorf("it does not say whom it talks to:\n%s", page)
	}
	if page := get(handler, http.MethodGet, "/parts/ct", "").Body.String(); !strings.Contains(page, `<a href="/parts/rekor">rekor</a>: to ask`) {
		t.Errorf("it does not say who talks to it:\n%s", page)
	}
	if code := get(handler, http.MethodGet, "/parts/nothing", "").Code; code != http.StatusNotFound {
		t.Errorf("a part that is not there: %d", code)
	}
}

func TestALogThatDoesNotRunSaysSo(t *testing.T) {
	handler, _ := served(t, "")
	for _, path := range []string{"/logs/rekor", "/logs/rekor/0", "/logs/rekor/consistency", "/logs/ct"} {
		if page := get(handler, http.MethodGet, path, "").Body.String(); !strings.Contains(page, "is stopped. `go tool mage") {
			t.Errorf("%s shows\n%s", path, page)
		}
	}
	for _, path := range []string{"/logs/tesseract", "/logs/rekor/x", "/logs/rekor/-1"} {
		if code := get(handler, http.MethodGet, path, "").Code; code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestStreamsAreForOwnPagesAndFew(t *testing.T) {
	handler, _ := served(t, "")
	if code := get(handler, http.MethodGet, "/events", "", "Sec-Fetch-Site", "cross-site").Code; code != http.StatusForbidden {
		t.Errorf("a stream for another site: %d", code)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	open := func() *http.Response {
		request, err := http.NewRequest(http.MethodGet, server.URL+"/logs/rekor/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "localhost:8088"
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var opened []*http.Response
	for range mostStreams {
		one := open()
		if one.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %s", len(opened), one.Status)
		}
		opened = append(opened, one)
	}
	one := open()
	one.Body.Close()
	if one.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many: %s", one.Status)
	}
	for _, one := range opened {
		one.Body.Close()
	}
	// Streams that are closed make room.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		one := open()
		one.Body.Close()
		if one.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("streams that were closed still count")
		}
	}
}

func TestWhatIsTypedIntoTheSearch(t *testing.T) {
	v1 := logAbout{Name: "rekor", UUIDs: true}
	digest, uuid := strings.Repeat("ab", 32), strings.Repeat("ab", 40)
	for text, want := range map[string]string{
		"7": "entry 7", " 0 ": "entry 0", digest: "sha256:" + digest, "SHA256:" + digest: "sha256:" + digest, uuid: "uuid " + uuid,
		"key:" + digest: "the key sha256:" + digest, "user@example.org": "user@example.org", "https://example.org/a": "https://example.org/a",
		"": "", "user": "", "-1": "", "key:x": "", "sha256:12": "sha256:12", strings.Repeat("@", 1001): "",
	} {
		query, index, found, err := searchFor(text, v1)
		got := query.String()
		switch {
		case err != nil:
			got = ""
		case found != "":
			got = "uuid " + found
		case got == "":
			got = fmt.Sprintf("entry %d", index)
		}
		if got != want {
			t.Errorf("%.80q is taken for %q, not %q", text, got, want)
		}
	}
	if _, _, found, err := searchFor(uuid, logAbout{Name: "rekor-tiles"}); found != "" || err == nil {
		t.Errorf("a UUID in a log without UUIDs: %q, %v", found, err)
	}
}

// A program in place of the targets tells what a lesson tells, and waits where a lesson waits.
const lessonScript = `#!/bin/sh
say() { printf '%s\n' "$1"; }
say '{"kind":"intro","text":"Type this first:","command":"eval it"}'
say '{"kind":"step","step":1,"why":"First <b>why</b>","command":"cosign sign localhost:1338/a@sha256:` + "0000000000000000000000000000000000000000000000000000000000000000" + `"}'
say '{"kind":"said","step":1,"said":"<script>said</script>"}'
say '{"kind":"look","step":1,"text":"at this"}'
say '{"kind":"wait"}'
read line || exit 1
say '{"kind":"step","step":2,"why":"Second","command":"cosign verify"}'
say '{"kind":"said","step":2,"said":"a\nb","refused":true,"line":"b"}'
say '{"kind":"done","text":"The end."}'
`

func TestALessonWaitsForItsReaderAndIsTheOnlyOne(t *testing.T) {
	script := filepath.Join(t.TempDir(), "targets")
	write(t, script, lessonScript)
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	handler, s := served(t, script)
	cookie := fmt.Sprintf("page-token-%d=%s", s.Config.Port(config.Page), token)
	own := []string{"Origin", "http://localhost:8088", "Cookie", cookie}
	begun := get(handler, http.MethodPost, "/lessons", "lesson=chapter-1", own...)
	if to := begun.Header().Get("Location"); begun.Code != http.StatusSeeOther || to != "/lessons/1" {
		t.Fatalf("%d, to %s: %s", begun.Code, to, begun.Body)
	}
	until := func(state string) string {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			page := get(handler, http.MethodGet, "/lessons/1", "", own...).Body.String()
			if strings.Contains(page, `data-state="`+state+`"`) {
				return page
			}
			if time.Now().After(end) {
				t.Fatalf("it is not %s:\n%s", state, page)
			}
		}
	}
	page := until(waiting)
	for _, want := range []string{"First &lt;b&gt;why&lt;/b&gt;", "&lt;script&gt;said&lt;/script&gt;", "at this", "eval it", "/verify?image=localhost%3a1338"} {
		if !strings.Contains(page, want) && !strings.Contains(page, strings.ReplaceAll(want, "%3a", ":")) {
			t.Errorf("it does not show %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "Second") {
		t.Error("it did not wait")
	}
	if second := get(handler, http.MethodPost, "/lessons", "lesson=chapter-2", own...); second.Header().Get("Location") != "/lessons/1?already" {
		t.Errorf("a second lesson: %d, to %s", second.Code, second.Header().Get("Location"))
	}
	get(handler, http.MethodPost, "/lessons/1/next", "", own...)
	page = until(done)
	for _, want := range []string{"Second", "Refused, as it should be.", "The end."} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not show %q:\n%s", want, page)
		}
	}
	// Another can begin, and be ended.
	if third := get(handler, http.MethodPost, "/lessons", "lesson=chapter-2", own...); third.Header().Get("Location") != "/lessons/2" {
		t.Fatalf("the next lesson: %d, to %s", third.Code, third.Header().Get("Location"))
	}
	get(handler, http.MethodPost, "/lessons/2/stop", "", own...)
	for end := time.Now().Add(20 * time.Second); !strings.Contains(get(handler, http.MethodGet, "/lessons/2", "").Body.String(), "This lesson was stopped."); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
	}
}

func TestALessonThatFailsSaysWhy(t *testing.T) {
	script := filepath.Join(t.TempDir(), "targets")
	write(t, script, "#!/bin/sh\necho '{\"kind\":\"failed\",\"text\":\"the disk is on fire\"}'\necho no more >&2\nexit 3\n")
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	handler, s := served(t, script)
	get(handler, http.MethodPost, "/lessons", "lesson=own-ca", "Origin", "http://localhost:8088", "Cookie", fmt.Sprintf("page-token-%d=%s", s.Config.Port(config.Page), token))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		page := get(handler, http.MethodGet, "/lessons/1", "").Body.String()
		if strings.Contains(page, "the disk is on fire") && strings.Contains(page, `data-state="failed"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it shows\n%s", page)
		}
	}
}

func TestWhatAStepHasChanged(t *testing.T) {
	_, s := served(t, "")
	server := &Server{stack: s}
	write(t, s.Config.Data("artifact.txt.sigstore.json"), "{}")
	image := "localhost:1338/rekor-cli@sha256:" + strings.Repeat("0", 64)
	got := server.changes(map[string]uint64{"rekor": 3, "ct": 1}, map[string]uint64{"rekor": 5, "ct": 1},
		"cosign sign "+image+" "+image+" --bundle "+s.Config.Data("artifact.txt.sigstore.json")+" other.sigstore.json")
	var links []string
	for _, one := range got {
		links = append(links, one.Link)
	}
	want := "/logs/rekor/3 /logs/rekor/4 /verify?image=" + image + " /verify?bundle=artifact.txt.sigstore.json"
	if strings.Join(links, " ") != want {
		t.Errorf("the links are\n%s\nand not\n%s", strings.Join(links, " "), want)
	}
	// A bundle is one of the demos', and nothing else in the state folder.
	write(t, s.Config.SecretFile(config.PageToken), token)
	if err := os.Symlink(s.Config.SecretFile(config.PageToken), s.Config.Data("link.sigstore.json")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link.sigstore.json", "../secrets/page-token", "nothing.sigstore.json", "", "../data/artifact.txt.sigstore.json"} {
		if file := server.bundle(name); file != "" {
			t.Errorf("%q is taken for the bundle %s", name, file)
		}
	}
}

func TestHeadsKeepTheOldestAndTheNewest(t *testing.T) {
	var h heads
	for size := range uint64(200) {
		h.add("rekor", head{Size: size})
		h.add("rekor", head{Size: size})
	}
	kept := h.of("rekor")
	if len(kept) != keptHeads || kept[0].Size != 1 || kept[len(kept)-1].Size != 199 {
		t.Errorf("%d are kept, from %d to %d", len(kept), kept[0].Size, kept[len(kept)-1].Size)
	}
}

func TestEveryKindOfEventIsTakenIn(t *testing.T) {
	r := &run{}
	for _, told := range []event.Event{{Kind: event.Said, Said: "before any step"}, {Kind: event.Look}, {Kind: event.Attack, Did: "They cheat.", Who: "cosign", Because: "It looks.", Line: "no"}} {
		r.take(told, nil)
	}
	if len(r.steps) != 1 || r.steps[0].Notices != "cosign notices. It looks." || !r.steps[0].Done {
		t.Errorf("got %+v", r.steps)
	}
}

func TestOnlyPublicKeysAndCertificatesAreShown(t *testing.T) {
	server, s := served(t, "")
	block := func(kind string) string { return "-----BEGIN " + kind + "-----\ncHVi\n-----END " + kind + "-----\n" }
	for text, shown := range map[string]bool{
		block("PUBLIC KEY"): true, block("CERTIFICATE") + "\n" + block("CERTIFICATE"): true, "": true, block("EC PRIVATE KEY"): false,
		block("CERTIFICATE") + block("PRIVATE KEY"): false, "a secret\n": false, "a secret\n" + block("PUBLIC KEY"): false,
		block("PUBLIC KEY") + "a secret": false, "-----BEGIN PUBLIC KEY-----\ncut": false, block("ENCRYPTED SIGSTORE PRIVATE KEY"): false,
	} {
		write(t, s.Config.Key("x.pem"), text)
		if got := server.public("keys/x.pem"); got != text && shown || got != "" && !shown {
			t.Errorf("of %q it shows %q", text, got)
		}
	}
	write(t, s.Config.SecretFile(config.PageToken), block("PUBLIC KEY"))
	if got := server.public("secrets/page-token"); got != "" {
		t.Errorf("it shows a file by another name: %q", got)
	}
}

func TestWhoMayAskForWhat(t *testing.T) {
	handler, s := served(t, "/bin/false")
	cookie := fmt.Sprintf("page-token-%d=%s", s.Config.Port(config.Page), token)
	foreign, leads := []string{"Sec-Fetch-Site", "cross-site"}, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	for name, one := range map[string]struct {
		method, path string
		header       []string
		want         int
	}{
		"own page":                         {"GET", "/verify", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		"the address bar":                  {"GET", "/verify", []string{"Sec-Fetch-Site", "none"}, 200},
		"no browser":                       {"GET", "/verify", nil, 200},
		"a link elsewhere":                 {"GET", "/verify", leads, 200},
		"an image elsewhere":               {"GET", "/logs/rekor?q=a@b", foreign, 403},
		"a page at another port":           {"GET", "/logs/rekor?q=a@b", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		"a frame elsewhere":                {"GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		"a stream in a window":             {"GET", "/events", leads, 403},
		"a form elsewhere":                 {"POST", "/verify", leads, 403},
		"a form elsewhere, an old browser": {"POST", "/lessons", []string{"Origin", "http://localhost:9999", "Cookie", cookie}, 403},
		"a lesson without the token":       {"POST", "/lessons", []string{"Origin", "http://localhost:8088"}, 403},
		"a lesson with a wrong token":      {"POST", "/lessons", []string{"Cookie", strings.Replace(cookie, "0", "1", 1)}, 403},
		"a lesson that there is not":       {"POST", "/lessons", []string{"Cookie", cookie}, 400},
		"a wrong token":                    {"GET", "/?token=x", nil, 403},
	} {
		if got := get(handler, one.method, one.path, "", one.header...).Code; got != one.want {
			t.Errorf("%s: %d, not %d", name, got, one.want)
		}
	}
	for host, want := range map[string]int{
		"localhost:8088": 200, "LOCALHOST:8088": 200, "127.0.0.1:8088": 200, "localhost": 421, "localhost:8089": 421, "evil.example:8088": 421, "localhost.evil.example:8088": 421, "": 421,
	} {
		request := httptest.NewRequest(http.MethodGet, "/lessons", nil)
		request.Host = host
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != want {
			t.Errorf("by the name %q: %d, not %d", host, answer.Code, want)
		}
	}
}

// A bundle of the size that is accepted is, though the form around it takes some bytes too.
func TestABundleMayHaveItsFullSize(t *testing.T) {
	handler, _ := served(t, "/bin/false")
	for size, want := range map[int]string{inspect.MaxBundle: "no trusted root yet", mostUpload + 1: "what was sent has more than"} {
		var form bytes.Buffer
		writer := multipart.NewWriter(&form)
		file, err := writer.CreateFormFile("file", "large.sigstore.json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		if answer := get(handler, http.MethodPost, "/verify", form.String(), "Content-Type", writer.FormDataContentType()); !strings.Contains(answer.Body.String(), want) {
			t.Errorf("of %d bytes is not said %q", size, want)
		}
	}
}

func TestATokenInAnAddressBecomesACookie(t *testing.T) {
	handler, _ := served(t, "")
	for path, want := range map[string]string{
		"/?token=" + token: "/", "/logs/rekor?q=a&token=" + token: "/logs/rekor?q=a", "//evil.example/?token=" + token: "/evil.example/",
		"/\\evil.example/?token=" + token: "/%5Cevil.example/",
	} {
		answer := get(handler, http.MethodGet, path, "")
		if to := answer.Header().Get("Location"); answer.Code != http.StatusSeeOther || to != want {
			t.Errorf("%s leads to %q (%d), not %q", path, to, answer.Code, want)
		}
		cookies := answer.Result().Cookies()
		if len(cookies) != 1 || cookies[0].Value != token || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("%s sets the cookies %v", path, cookies)
		}
	}
	if page := get(handler, http.MethodGet, "/lessons", "").Body.String(); strings.Contains(page, token) {
		t.Error("a page shows the token")
	}
}

// listened are the events of a stream, as "KIND DATA".
func listened(t *testing.T, handler http.Handler, path string) <-chan string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "localhost:8088"
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 1000)
	go func() {
		defer close(events)
		defer answer.Body.Close()
		one := ""
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "event":
				one = value
			case "data":
				one += " " + value
			default:
				events <- one
			}
		}
	}()
	return events
}

// until waits for an event that begins with a text.
func until(t *testing.T, events <-chan string, begins string) string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case one, open := <-events:
			if !open {
				t.Fatalf("the stream has ended before %q", begins)
			}
			if strings.HasPrefix(one, begins) {
				return one
			}
		case <-late:
			t.Fatalf("%q does not come", begins)
		}
	}
}

func TestAPartsLogFollowsWithoutSecrets(t *testing.T) {
	server, s := served(t, "")
	secret := "the-password-of-the-database"
	write(t, s.Config.SecretFile(config.PageToken), secret)
	log := s.Config.Log("rekor")
	write(t, log, "first\nwith "+secret+"\n")
	if page := get(server, http.MethodGet, "/parts/rekor", "").Body.String(); strings.Contains(page, secret) || !strings.Contains(page, "with [secret page-token]") {
		t.Errorf("it shows\n%s", page)
	}
	events := listened(t, server, "/parts/rekor/events")
	until(t, events, "open "+server.started)
	if got := until(t, events, "log "); got != "log first with [secret page-token] " {
		t.Errorf("the end of the log is %q", got)
	}
	add := func(text string) {
		file, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(text + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	add("again " + secret + " \x1b[31mred\x1b[0m")
	until(t, events, "line again [secret page-token] red")
	// A new start begins a new log.
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	add("started anew")
	until(t, events, "line started anew")
}

func TestNothingIsSentOnceAStreamHasEnded(t *testing.T) {
	// The race detector tells of what is sent to a browser that has gone.
	server, s := served(t, "")
	log := s.Config.Log("rekor")
	write(t, log, "")
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				file, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					return
				}
				fmt.Fprintln(file, "asked")
				file.Close()
			}
		}
	})
	defer writing.Wait()
	defer close(stop)
	for _, path := range []string{"/events", "/parts/rekor/events", "/events"} {
		request := httptest.NewRequest(http.MethodGet, path, nil)
		request.Host = "localhost:8088"
		ctx, cancel := context.WithTimeout(request.Context(), 500*time.Millisecond)
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request.WithContext(ctx))
		cancel()
		sent := answer.Body.Len() // a race if something is still sent
		if !strings.Contains(answer.Body.String(), "asked") && !strings.Contains(answer.Body.String(), "event: passed") {
			t.Errorf("%s sent nothing of what was written: %s", path, answer.Body)
		}
		if time.Sleep(50 * time.Millisecond); answer.Body.Len() != sent {
			t.Errorf("%s went on sending", path)
		}
	}
	if open := server.streams.Load(); open != 0 {
		t.Errorf("%d streams count as open", open)
	}
}

func TestAPageOfAnEarlierServerIsTold(t *testing.T) {
	server, _ := served(t, "")
	if page := get(server, http.MethodGet, "/lessons", "").Body.String(); !strings.Contains(page, `data-server="`+server.started+`"`) {
		t.Errorf("the page does not say who has made it:\n%s", page)
	}
	until(t, listened(t, server, "/lessons/7/events"), "open "+server.started)
}

// script is a program in place of the targets.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "targets")
	write(t, file, "#!/bin/sh\n"+text)
	if err := os.Chmod(file, 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLessonsThatAreBegunAtOnceAreOne(t *testing.T) {
	server, _ := served(t, script(t, "echo '{\"kind\":\"wait\"}'\nread line\n"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := server.lessons.begin(lesson{Name: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if server.lessons.last != 1 {
		t.Errorf("%d were begun", server.lessons.last)
	}
	server.lessons.underWay().stop()
	server.Wait(10 * time.Second)
}

func TestALessonHasTheUsersMemory(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "40MiB")
	t.Setenv("GOGC", "50")
	server, _ := served(t, script(t, `echo "{\"kind\":\"done\",\"text\":\"limit $GOMEMLIMIT$GOGC of $CALLED\"}"`))
	begun, _, err := server.lessons.begin(lesson{})
	if err != nil {
		t.Fatal(err)
	}
	server.Wait(10 * time.Second)
	if shown, _ := begun.snapshot(); shown.Ending != "limit  of" {
		t.Errorf("it says %q", shown.Ending)
	}
}

func TestALessonEndsWithThePage(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := filepath.Join(t.TempDir(), "ended")
	server, _ := servedUntil(ctx, t, script(t, "trap 'echo cleared > "+ended+"; exit 1' INT\necho '{\"kind\":\"wait\"}'\nwhile :; do sleep 0.1; done\n"))
	begun, _, err := server.lessons.begin(lesson{})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if shown, _ := begun.snapshot(); shown.State == waiting {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not begin")
		}
	}
	cancel()
	server.Wait(10 * time.Second)
	if text, err := os.ReadFile(ended); err != nil || string(text) != "cleared\n" {
		t.Errorf("it could not clear away: %q, %v", text, err)
	}
}

func TestAFailureWithoutAnEventShowsTheLastWords(t *testing.T) {
	server, _ := served(t, script(t, "i=0; while [ $i -lt 1000 ]; do echo 'a line of what was built' >&2; i=$((i+1)); done; echo 'the reason' >&2; exit 3\n"))
	begun, _, err := server.lessons.begin(lesson{})
	if err != nil {
		t.Fatal(err)
	}
	server.Wait(10 * time.Second)
	if shown, _ := begun.snapshot(); shown.State != failed || !strings.HasSuffix(shown.Ending, "the reason\nexit status 3") || len(shown.Ending) > 3000 {
		t.Errorf("it is %s: %q", shown.State, shown.Ending)
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server, _ := servedUntil(ctx, t, script(t, "read line\n"))
	if _, _, err := server.lessons.begin(lesson{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/events", "/parts/rekor/events", "/logs/rekor/events", "/lessons/1/events"} {
		events := listened(t, server, path)
		until(t, events, "open ")
		defer func() {
			late := time.After(time.Minute)
			for {
				select {
				case _, open := <-events:
					if !open {
						return
					}
				case <-late:
					t.Errorf("%s goes on", path)
					return
				}
			}
		}()
	}
	cancel()
	server.Wait(10 * time.Second)
}
