package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/move"
)

// The test binary is the program too.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_DATA") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func program(in []byte, args ...string) (cmd *exec.Cmd, out, said *bytes.Buffer) {
	cmd, out, said = exec.Command(os.Args[0], args...), &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Env = append(os.Environ(), "RUN_DATA=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), out, said
	return cmd, out, said
}

func run(in []byte, args ...string) (code int, out, said string) {
	cmd, stdout, stderr := program(in, args...)
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAwaitEndsOnceTheFoldersWereReceived(t *testing.T) {
	from, first, second := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "later")
	write(t, filepath.Join(from, "checkpoint"), "text\n")
	var stream bytes.Buffer
	digest, err := move.SendFolder(t.Context(), from, &stream)
	if err != nil {
		t.Fatal(err)
	}
	waiting, out, said := program(nil, "await", "-folder="+first, "-folder="+second)
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- waiting.Wait() }()
	if code, _, said := run(stream.Bytes()[:stream.Len()/4], "receive", "-folder="+first); code != 1 || !strings.HasPrefix(said, "data: receive "+first) {
		t.Errorf("exit code %d: %s", code, said)
	}
	for _, dir := range []string{first, second} {
		select {
		case err := <-ended:
			t.Fatalf("it ended before the data of %s: %v: %s", dir, err, said)
		case <-time.After(time.Second):
		}
		code, printed, said := run(stream.Bytes(), "receive", "-folder="+dir)
		var got move.Digest
		if err := json.Unmarshal([]byte(printed), &got); code != 0 || err != nil || !got.Equal(digest) {
			t.Errorf("exit code %d, %v: %s%s", code, err, printed, said)
		}
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v: %s", err, said)
		}
	case <-time.After(2 * time.Minute):
		_ = waiting.Process.Kill()
		<-ended
		t.Error("it does not end")
	}
	want := fmt.Sprintf("Waiting for the data of %s.\nThere is the data of %[1]s.\nWaiting for the data of %s.\nThere is the data of %[2]s.\n", first, second)
	if out.String() != want {
		t.Errorf("it said\n%s", out)
	}
}

func TestTheAccountIsNeverPrinted(t *testing.T) {
	dir := t.TempDir()
	for _, dsn := range []string{
		"mover:hunter2@unix(" + dir + "/none)/", "mover:hunter2@tcp(127.0.0.1:1)/", "mover:hunter2", "mover:x@hunter2(y)/", "mover:hunter2@tcp(a:1)/?tls=hunter2", "a:b@tcp(a:1)/?parseTime=hunter2",
	} {
		file := write(t, filepath.Join(dir, "dsn"), dsn+"\n")
		code, out, said := run(nil, "receive", "-database", "-dsn-file="+file, "-patience=1s")
		if code != 1 || said == "" || strings.Contains(out+said, "hunter2") {
			t.Errorf("%s: exit code %d: %s%s", dsn, code, out, said)
		}
		waiting, shown, more := program(nil, "await", "-database", "-dsn-file="+file, "-folder="+dir)
		if err := waiting.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1200 * time.Millisecond)
		if err := waiting.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		told := time.Now()
		_ = waiting.Wait()
		if took := time.Since(told); took > 20*time.Second || waiting.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: after SIGTERM it ended in %s with %d", dsn, took, waiting.ProcessState.ExitCode())
		}
		if strings.Count(shown.String(), "\n") != 1 || !strings.HasPrefix(shown.String(), "Waiting for the data of the database: ") || strings.Contains(shown.String()+more.String(), "hunter2") {
			t.Errorf("%s: it said %s%s", dsn, shown, more)
		}
	}
}

func TestGetAsksOnceAndSaysWhatIsWrong(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
		}
		fmt.Fprint(w, "body")
	}))
	defer site.Close()
	for _, test := range []struct {
		args      []string
		code      int
		out, said string
	}{
		{[]string{site.URL}, 0, "body", ""},
		{[]string{site.URL + "/missing"}, 1, "", "404 Not Found"},
		{[]string{"-status=404", site.URL + "/missing"}, 0, "404 page not found\nbody", ""},
		{[]string{"-status=x", site.URL}, 1, "", "accepted is a number"},
		{[]string{"file:///etc/passwd"}, 1, "", "unsupported protocol"},
	} {
		code, out, said := run(nil, append([]string{"get"}, test.args...)...)
		if code != test.code || out != test.out || !strings.Contains(said, test.said) {
			t.Errorf("%q: exit code %d: %s%s", test.args, code, out, said)
		}
	}
}

func TestAwaitEndsOnceAddressesAndURLsAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	waiting, out, said := program(nil, "await", "-address="+address, "-url=http://"+address+"/")
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	site := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = site.Listener.Close()
	if site.Listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	site.Start()
	defer site.Close()
	if err := waiting.Wait(); err != nil || !strings.HasPrefix(out.String(), "Waiting for "+address) || !strings.HasSuffix(out.String(), "There is http://"+address+"/.\n") {
		t.Errorf("%v: %s%s", err, out, said)
	}
}

// It goes on without the server, and ends when it is told to.
func TestPassTakesRequestsForAServerThatComesLater(t *testing.T) {
	var ports []string
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
		_ = listener.Close()
	}
	passing, out, said := program(nil, "pass", "-ready="+ports[0], ports[1]+"=127.0.0.1:"+ports[2])
	if err := passing.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get("http://127.0.0.1:" + ports[0])
		if err == nil {
			_ = response.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	time.AfterFunc(500*time.Millisecond, func() {
		site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "at ", r.URL.Path) }))
		_ = site.Listener.Close()
		var err error
		if site.Listener, err = net.Listen("tcp", "127.0.0.1:"+ports[2]); err != nil {
			t.Error(err)
			return
		}
		site.Start()
		t.Cleanup(site.Close)
	})
	response, err := http.Get("http://127.0.0.1:" + ports[1] + "/path")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != "at /path" {
		t.Errorf("%s: %s, %v", response.Status, got, err)
	}
	if err := passing.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := passing.Wait(); err != nil {
		t.Errorf("%v: %s%s", err, out, said)
	}
}

func TestUseIsExplained(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"--help"}, {"await", "-h"}} {
		if code, out, said := run(nil, args...); code != 0 || out+said != usage {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, said)
		}
	}
	for _, args := range [][]string{
		{}, {"send"}, {"get"}, {"get", "a", "b"}, {"get", "-folder=x", "a"}, {"get", "-install", "a"}, {"get", "-database", "-dsn-file=x", "a"}, {"receive", "-url=x", "-folder=a"}, {"await", "-from=x", "-folder=a"}, {"receive"}, {"receive", "-folder=a", "-folder=b"}, {"receive", "-database"},
		{"receive", "-dsn-file=x"}, {"receive", "-database", "-dsn-file=x", "-folder=a"}, {"await"}, {"await", "-folder=a", "b"},
		{"await", "-install", "-copies=a,b"}, {"await", "-folder=a", "-copies=a,b", "-self=a"}, {"await", "-folder=a", "-clustered"}, {"get", "-clustered", "a"},
		{"galera", "-copies=a,b", "-self=a", "-folder=c", "mariadbd"}, {"galera", "-copies=a,b", "-self=a", "-folder=c", "-dsn-file=d"}, {"galera", "-dsn-file=d", "-folder=c", "mariadbd"},
		{"pass"}, {"pass", "-ready=1"}, {"pass", "1=a:2"}, {"pass", "-ready=0", "1=a:2"}, {"pass", "-ready=1", "a:2"}, {"pass", "-ready=1", "1=:2"}, {"pass", "-ready=1", "1=a:65536"},
		{"pass", "-ready=1", "-url=x", "1=a:2"}, {"pass", "-ready=1", "-patience=1s", "1=a:2"}, {"get", "-ready=1", "a"},
	} {
		if code, out, said := run(nil, args...); code != 2 || out != "" || !strings.HasSuffix(said, ": see data -h\n") {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, said)
		}
	}
}
