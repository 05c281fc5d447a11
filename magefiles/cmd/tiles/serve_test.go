package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sigstore-local/magefiles/internal/tilelog/tilelogtest"
)

// asked asks a handler for a path, which is sent as it is.
func asked(t *testing.T, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost", nil)
	r.URL.Path = path
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) []byte {
	t.Helper()
	content, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// serving serves a folder, beside a server that answers every request with its method, path and body.
func serving(t *testing.T, folder, layout string, prefixes ...string) *handler {
	t.Helper()
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, sent)
	}))
	t.Cleanup(echo.Close)
	h, err := newHandler(served{Name: "the-log", Folder: folder, Layout: layout, Prefixes: prefixes, Submissions: echo.URL})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTheFormatsFilesAreServedAndNothingElse(t *testing.T) {
	log := tilelogtest.OfSize(t, 600)
	h := serving(t, log.Dir, tlogTiles, "/", "/api/v2/")
	outside := filepath.Join(t.TempDir(), "outside")
	tilelogtest.Write(t, outside, make([]byte, 8192))
	if err := os.Symlink(outside, log.Files.Place("tile/0/003")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(log.Files.Place("tile/0/004"), 0o600); err != nil {
		t.Fatal(err)
	}
	tilelogtest.Write(t, log.Files.Place("tile/0/005"), make([]byte, 8000))
	tilelogtest.Write(t, log.Files.Place("tile/0/x000/001"), make([]byte, 8192))
	tilelogtest.Write(t, log.Files.Place("tile/0/001.tmp"), make([]byte, 8192))
	tilelogtest.Write(t, log.Files.Place("tile/data/000"), nil)
	const served, none, passed = http.StatusOK, http.StatusNotFound, http.StatusCreated
	for path, want := range map[string]int{
		"/checkpoint": served, "/api/v2/checkpoint": served,
		"/tile/0/000": served, "/api/v2/tile/0/001": served, "/tile/0/002.p/88": served, "/tile/1/000.p/2": served,
		"/tile/entries/000": served, "/tile/entries/002.p/88": served,
		// Every smaller width of a full tile can be cut from it.
		"/tile/0/000.p/1": served, "/tile/entries/001.p/255": served,

		"/tile/0/002": none, "/tile/0/002.p/87": none, "/tile/0/002.p/89": none, "/tile/0/000.p/0": none, "/tile/0/000.p/256": none, "/tile/0/000.p/01": none,
		"/tile/0/00": none, "/tile/00/000": none, "/tile/64/000": none, "/tile/-1/000": none, "/tile/0/x000/001": none, "/tile/0/001.tmp": none,
		"/tile": none, "/tile/": none, "/tile/0": none, "/tile/0/000/": none, "/checkpoint/": none, "/tile/data/000": none,
		"/.state/treeState": none, "/api/v2/.state/treeState": none, "/.state": none,
		"/tile/../.state/treeState": none, "/api/v2/../../.state/treeState": none, "//checkpoint": none, "/tile/0/../0/000": none, "/log/../checkpoint": none,
		"/tile/0/003": none, "/tile/0/004": none,

		"/tile/0/005": http.StatusInternalServerError,

		"/api/v2/log/entries": passed, "/healthz": passed, "/": passed, "/issuer/" + strings.Repeat("a", 64): passed,
	} {
		if r := asked(t, h, http.MethodGet, path); r.StatusCode != want {
			t.Errorf("GET %s: %d, not %d: %s", path, r.StatusCode, want, body(t, r))
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		if r := asked(t, h, method, "/tile/0/000"); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, %v", method, r.StatusCode, r.Header)
		}
	}
	if r := asked(t, h, http.MethodHead, "/tile/0/000"); r.StatusCode != served || r.ContentLength != 8192 || len(body(t, r)) != 0 {
		t.Errorf("HEAD: %d, %d bytes", r.StatusCode, r.ContentLength)
	}
	r := asked(t, h, http.MethodGet, "/tile/0/005")
	if said := string(body(t, r)); !strings.Contains(said, log.Files.Place("tile/0/005")) || !strings.Contains(said, "damaged") {
		t.Errorf("damage is not named: %s", said)
	}
}

func TestWhatIsImmutableIsCachedAndACheckpointIsNot(t *testing.T) {
	log := tilelogtest.OfSize(t, 600)
	h := serving(t, log.Dir, tlogTiles, "/")
	for path, want := range map[string]struct{ kind, caching string }{
		"/checkpoint":            {"text/plain; charset=utf-8", "no-cache"},
		"/tile/0/000":            {"application/octet-stream", forGood},
		"/tile/0/002.p/88":       {"application/octet-stream", forGood},
		"/tile/entries/000":      {"application/octet-stream", forGood},
		"/tile/entries/002.p/88": {"application/octet-stream", forGood},
	} {
		header := asked(t, h, http.MethodGet, path).Header
		if header.Get("Content-Type") != want.kind || header.Get("Cache-Control") != want.caching || header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, header)
		}
	}
	// A second checkpoint within a second is another one.
	first := body(t, asked(t, h, http.MethodGet, "/checkpoint"))
	log.Append([]byte("more"))
	r := asked(t, h, http.MethodGet, "/checkpoint", "If-Modified-Since", "Mon, 01 Jan 2300 00:00:00 GMT")
	if second := body(t, r); r.StatusCode != http.StatusOK || bytes.Equal(first, second) {
		t.Errorf("%d: %s", r.StatusCode, second)
	}
	if r := asked(t, h, http.MethodGet, "/tile/0/009"); r.StatusCode != http.StatusNotFound || r.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("what is not there yet: %d, %v", r.StatusCode, r.Header)
	}
}

func TestEntriesAreCompressedForWhoTakesThat(t *testing.T) {
	log := tilelogtest.OfSize(t, 300)
	h := serving(t, log.Dir, tlogTiles, "/")
	plain := body(t, asked(t, h, http.MethodGet, "/tile/entries/000"))
	for accepted, compressed := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "identity": false, "gzippy": false, "": false} {
		r := asked(t, h, http.MethodGet, "/tile/entries/000", "Accept-Encoding", accepted)
		if got := r.Header.Get("Content-Encoding") == "gzip"; got != compressed || r.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %v", accepted, r.Header)
			continue
		}
		content := body(t, r)
		if compressed {
			unpacked, err := gzip.NewReader(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if len(content) >= len(plain) {
				t.Errorf("%q: %d bytes have become %d", accepted, len(plain), len(content))
			}
			if content, err = io.ReadAll(unpacked); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(content, plain) {
			t.Errorf("%q: the content is another", accepted)
		}
	}
	if r := asked(t, h, http.MethodGet, "/tile/0/000", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "" {
		t.Errorf("hashes, which cannot be compressed, are: %v", r.Header)
	}
}

func TestAPartialFileKeepsItsContentWhenItIsGone(t *testing.T) {
	log := tilelogtest.OfSize(t, 300)
	h := serving(t, log.Dir, tlogTiles, "/")
	was := map[string][]byte{}
	for _, path := range []string{"/tile/0/001.p/44", "/tile/entries/001.p/44"} {
		was[path] = body(t, asked(t, h, http.MethodGet, path))
	}
	for range 300 {
		log.Append([]byte("more"))
	}
	for _, folder := range []string{"tile/0/001.p", "tile/entries/001.p"} {
		if err := os.RemoveAll(log.Files.Place(folder)); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range was {
		if r := asked(t, h, http.MethodGet, path); r.StatusCode != http.StatusOK || !bytes.Equal(body(t, r), content) {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

func TestALogWithoutFilesIsEmpty(t *testing.T) {
	h := serving(t, filepath.Join(t.TempDir(), "none"), tlogTiles, "/")
	r := asked(t, h, http.MethodGet, "/checkpoint")
	if said := string(body(t, r)); r.StatusCode != http.StatusNotFound || !strings.Contains(said, "the log of the-log has no checkpoint yet") {
		t.Errorf("%d: %s", r.StatusCode, said)
	}
	if r := asked(t, h, http.MethodGet, "/tile/0/000"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a tile: %d", r.StatusCode)
	}
}

// certificates are entries of a certificate log: a certificate, and a precertificate.
func certificates() [2][]byte {
	sized := func(size, width int) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(size))[4-width:], bytes.Repeat([]byte{7}, size)...)
	}
	timestamp := make([]byte, 8)
	chain := sized(64, 2)
	return [2][]byte{
		bytes.Join([][]byte{timestamp, {0, 0}, sized(700, 3), sized(8, 2), chain}, nil),
		bytes.Join([][]byte{timestamp, {0, 1}, make([]byte, 32), sized(600, 3), sized(8, 2), sized(650, 3), chain}, nil),
	}
}

func TestACertificateLogIsServedToo(t *testing.T) {
	folder := t.TempDir()
	entries := certificates()
	var full []byte
	for i := range 256 {
		full = append(full, entries[i%2]...)
	}
	write := func(name string, content []byte) {
		tilelogtest.Write(t, filepath.Join(folder, filepath.FromSlash(name)), content)
	}
	issuer := "issuer/" + strings.Repeat("0a", 32)
	write("checkpoint", []byte("localhost/sigstore\n"))
	write("tile/0/000", make([]byte, 8192))
	write("tile/data/000", full)
	write("tile/data/001.p/2", append(bytes.Clone(entries[0]), entries[1]...))
	write("tile/data/002.p/2", entries[0])
	write(issuer, []byte("a certificate"))
	h := serving(t, folder, staticCT, "/sigstore/")
	for path, want := range map[string]int{
		"/sigstore/checkpoint": 200, "/sigstore/tile/0/000": 200, "/sigstore/tile/data/000": 200, "/sigstore/tile/data/001.p/2": 200, "/sigstore/tile/data/000.p/3": 200,
		"/sigstore/tile/entries/000": 404, "/sigstore/tile/6/000": 404, "/sigstore/" + issuer: 200, "/sigstore/" + strings.ToUpper(issuer): 201, "/sigstore/issuer/0a": 404,
		"/sigstore/tile/data/002.p/2": 500,
		"/checkpoint":                 201, "/sigstore/ct/v1/add-chain": 201,
	} {
		if r := asked(t, h, http.MethodGet, path); r.StatusCode != want {
			t.Errorf("%s: %d, not %d: %s", path, r.StatusCode, want, body(t, r))
		}
	}
	if r := asked(t, h, http.MethodGet, "/sigstore/"+issuer); r.Header.Get("Content-Type") != "application/pkix-cert" || r.Header.Get("Cache-Control") != forGood {
		t.Errorf("%v", r.Header)
	}
	cut := body(t, asked(t, h, http.MethodGet, "/sigstore/tile/data/000.p/3"))
	if want := 2*len(entries[0]) + len(entries[1]); len(cut) != want || !bytes.Equal(cut, full[:want]) {
		t.Errorf("three entries have %d bytes, not %d", len(cut), want)
	}
}

func TestWhatIsNoFileIsPassedOn(t *testing.T) {
	h := serving(t, t.TempDir(), tlogTiles, "/", "/api/v2/")
	front := httptest.NewServer(h)
	defer front.Close()
	response, err := http.Post(front.URL+"/api/v2/log/entries?a=b", "application/json", strings.NewReader(`{"an": "entry"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if said := string(body(t, response)); response.StatusCode != http.StatusCreated || said != `POST /api/v2/log/entries?a=b {"an": "entry"}` {
		t.Errorf("%d: %s", response.StatusCode, said)
	}

	gone := httptest.NewServer(nil)
	gone.Close()
	h, err = newHandler(served{Name: "the-log", Folder: t.TempDir(), Layout: tlogTiles, Prefixes: []string{"/"}, Submissions: gone.URL})
	if err != nil {
		t.Fatal(err)
	}
	r := asked(t, h, http.MethodPost, "/api/v2/log/entries")
	if said := string(body(t, r)); r.StatusCode != http.StatusBadGateway || strings.Count(strings.TrimSpace(said), "\n") != 0 ||
		!strings.Contains(said, "the-log, which takes the entries of this log, does not answer at "+gone.URL) {
		t.Errorf("%d: %s", r.StatusCode, said)
	}
}

func TestWhatIsPassedOnAndMayAddAnEntryIsLoggedInOneLine(t *testing.T) {
	h := serving(t, t.TempDir(), tlogTiles, "/", "/api/v2/")
	var said bytes.Buffer
	log.SetOutput(&said)
	defer log.SetOutput(os.Stderr)
	asked(t, h, http.MethodPost, "/api/v2/log/entries")
	asked(t, h, http.MethodGet, "/healthz")
	asked(t, h, "DELETE", "/a\nb"+strings.Repeat("/long", 1000))
	want := regexp.MustCompile(`^\S+ \S+ the-log: "POST" "/api/v2/log/entries": 201 in \S+s\n\S+ \S+ the-log: "DELETE" "/a\\nb(/long)+/?\w*": 201 in \S+s\n$`)
	if !want.Match(said.Bytes()) || said.Len() > 400 {
		t.Errorf("the log has\n%s", &said)
	}
}

func TestADescriptionThatMakesNoSenseIsRefused(t *testing.T) {
	const good = `{"logs": [{"name": "a", "address": "127.0.0.1:1", "folder": "/f", "layout": "tlog-tiles", "prefixes": ["/"], "submissions": "http://127.0.0.1:2"}]}`
	file := filepath.Join(t.TempDir(), "tiles.json")
	for replaced, test := range map[string]struct{ by, want string }{
		"nothing":      {"nothing", ""},
		`"tlog-tiles"`: {`"tiles"`, `the log "a": layout is "tiles"; accepted are "tlog-tiles" and "static-ct"`},
		`["/"]`:        {`["api"]`, `a prefix is "api"; accepted is a path that begins and ends with a slash`},
		`http://127`:   {`127`, `submissions is "127`},
		`"folder"`:     {`"floder"`, `unknown field "floder"`},
		good:           {`{}`, "logs is empty"},
	} {
		tilelogtest.Write(t, file, []byte(strings.Replace(good, replaced, test.by, 1)))
		_, err := read(file)
		if (err == nil) != (test.want == "") || err != nil && !(strings.Contains(err.Error(), test.want) && strings.Contains(err.Error(), file)) {
			t.Errorf("%s: %v", replaced, err)
		}
	}
}
