package hold

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// listen takes connections at an address for a handler, until close is called.
func listen(t *testing.T, address string, handler http.HandlerFunc) (at string, end func()) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	end = func() { _ = server.Close() }
	t.Cleanup(end)
	return listener.Addr().String(), end
}

func TestRequestsWaitForAServerThatIsReplaced(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.Method+" "+r.Host+" "+r.Header.Get("X-Forwarded-Proto")+" "+r.URL.RequestURI())
		w.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(w, r.Body)
	}
	address, end := listen(t, "127.0.0.1:0", echo)
	proxy := httptest.NewServer(Handler(address, time.Minute))
	defer proxy.Close()
	body := bytes.Repeat([]byte("entry"), 1<<20)
	ask := func() {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, proxy.URL+"/api/a%2Fb?c=d", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "rekor.example.org"
		request.Header.Set("X-Forwarded-Proto", "https")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusCreated || !bytes.Equal(got, body) {
			t.Errorf("%s, %d bytes, %v", response.Status, len(got), err)
		}
		if seen := response.Header.Get("X-Seen"); seen != "POST rekor.example.org https /api/a%2Fb?c=d" {
			t.Errorf("the server has seen %q", seen)
		}
	}
	ask()
	for range 3 {
		end()
		time.AfterFunc(300*time.Millisecond, func() { _, end = listen(t, address, echo) })
		began := time.Now()
		ask()
		if waited := time.Since(began); waited < 250*time.Millisecond {
			t.Errorf("it was answered after %s, while nobody was there", waited)
		}
	}
}

func TestNothingIsSentTwice(t *testing.T) {
	var seen atomic.Int32
	address, _ := listen(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/answered" {
			return
		}
		seen.Add(1)
		connection, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = connection.Close()
		}
	})
	proxy := httptest.NewServer(Handler(address, time.Minute))
	defer proxy.Close()
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		seen.Store(0)
		// After an answer there might be a connection that is kept.
		for _, path := range []string{"/answered", "/broken"} {
			request, err := http.NewRequest(method, proxy.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if broken := response.StatusCode == http.StatusBadGateway; broken != (path == "/broken") {
				t.Errorf("%s %s: %s", method, path, response.Status)
			}
		}
		if got := seen.Load(); got != 1 {
			t.Errorf("the server has seen %s %d times", method, got)
		}
	}
}

func TestWhoHasLeftIsNotWaitedFor(t *testing.T) {
	var seen atomic.Int32
	count := func(http.ResponseWriter, *http.Request) { seen.Add(1) }
	address, end := listen(t, "127.0.0.1:0", count)
	end()
	handler := Handler(address, time.Minute)
	ended := make(chan struct{})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		close(ended)
	}))
	defer proxy.Close()
	client := http.Client{Timeout: 300 * time.Millisecond}
	if response, err := client.Post(proxy.URL, "text/plain", strings.NewReader("entry")); err == nil {
		t.Errorf("nobody was there, and it got %s", response.Status)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it still waits a minute after its client has left")
	}
	listen(t, address, count)
	time.Sleep(time.Second)
	if got := seen.Load(); got != 0 {
		t.Errorf("the server has seen %d requests of a client that had left", got)
	}
}

func TestAServerThatDoesNotComeBackIsNamed(t *testing.T) {
	address, end := listen(t, "127.0.0.1:0", nil)
	end()
	proxy := httptest.NewServer(Handler(address, 200*time.Millisecond))
	defer proxy.Close()
	response, err := http.Get(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || !strings.HasPrefix(string(said), address+" has taken no connection for 200ms: ") {
		t.Errorf("%s: %s, %v", response.Status, said, err)
	}
}
