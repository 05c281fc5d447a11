package page

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo/event"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

const token = "0123456789abcdef0123456789abcdef"

// served is the page of a stack whose services do not run.
func served(t *testing.T, targets string) (handler http.Handler, s *stack.Stack) {
	t.Helper()
	state := t.TempDir()
	d := stack.Description{
		Root: t.TempDir(), Settings: []string{"SIGLOCAL_STATE=" + state}, Targets: targets,
		Services: []service.Service{
			{Name: "rekor", About: "a log", Program: "/bin/rekor", Address: "http://127.0.0.1:3000", Listens: []config.Port{config.Rekor}, Uses: []service.Use{
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
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
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
	write(t, s.Config.Key("rekor.pub"), "-----BEGIN PUBLIC KEY-----\nthis is public\n")
	write(t, s.Config.Key("rekor.pem"), "-----BEGIN PRIVATE KEY-----\nthis is private\n")
	write(t, s.Config.SecretFile(config.PageToken), token)
	page := get(handler, http.MethodGet, "/parts/rekor", "").Body.String()
	if !strings.Contains(page, "this is public") || strings.Contains(page, "this is private") || strings.Contains(page, token) {
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
