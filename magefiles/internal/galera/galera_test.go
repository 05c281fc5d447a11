package galera

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

func waiting(data bool, cluster string, number int64) State {
	return State{Waiting: true, Position: Position{data, cluster, number}}
}

func TestTheCopyWithTheNewestDataStartsTheCluster(t *testing.T) {
	none := waiting(false, noCluster, -1)
	for _, one := range []struct {
		states []State
		want   int
		err    string
	}{
		{[]State{none, none, none}, 0, ""},
		{[]State{waiting(true, noCluster, -1), none, none}, 0, ""},
		{[]State{none, none, waiting(true, "a", 7)}, 2, ""},
		{[]State{waiting(true, "a", 5), waiting(true, "a", 7), waiting(true, "a", 6)}, 1, ""},
		{[]State{waiting(true, "a", 5), waiting(true, "a", 7), waiting(true, "a", 7)}, 1, ""},
		{[]State{waiting(true, "a", 5), {}, waiting(true, "a", 7)}, 0, "about to join"},
		{[]State{waiting(true, "a", 5), waiting(true, "b", 7), none}, 0, "different clusters"},
		{[]State{waiting(true, "a", 5), none, waiting(true, "b", 7)}, 0, "different clusters"},
	} {
		got, err := newest(one.states)
		if err == nil && (one.err != "" || got != one.want) || err != nil && (one.err == "" || !strings.Contains(err.Error(), one.err)) {
			t.Errorf("%+v: %d, %v", one.states, got, err)
		}
	}
}

func TestDataThatWasBeingReplacedIsNoData(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mysql/user.frm", "ibdata1", marker, stateFile, "galera.cache", incoming + "/ibdata1"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("a"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := discardIncomplete(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "galera.cache" {
		t.Errorf("%v, %v", left, err)
	}
	if there, err := hasData(dir); there || err != nil {
		t.Errorf("there is data: %v", err)
	}
}

func TestAFileOfGalerasSaysHowNewTheDataIs(t *testing.T) {
	const text = "# GALERA saved state\nversion: 2.1\nuuid:    0c5b1f3a-0000-11f0-8f2e-000000000000\nseqno:   42\nsafe_to_bootstrap: 0\n"
	got, ok := parsed(text)
	if !ok || got != (Position{true, "0c5b1f3a-0000-11f0-8f2e-000000000000", 42}) {
		t.Errorf("%+v, %t", got, ok)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, stateFile)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := allowStart(dir); err != nil {
		t.Fatal(err)
	}
	if changed, err := os.ReadFile(file); err != nil || string(changed) != strings.Replace(text, "bootstrap: 0", "bootstrap: 1", 1) {
		t.Errorf("%s, %v", changed, err)
	}
}

// Galera's numbers do not grow while an ordinary server writes: a volume that is left from before must not pass for newer.
func TestWhatAnOrdinaryServerWroteIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "mysql"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("uuid: a\nseqno: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Copy{Dir: dir}
	if got, err := c.position(t.Context()); err != nil || got != (Position{true, "a", 5}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := Alone(dir); err != nil {
		t.Fatal(err)
	}
	here, err := c.position(t.Context())
	if err != nil || !here.alone() {
		t.Errorf("%+v, %v", here, err)
	}
	if _, err := newest([]State{{Waiting: true, Position: here}, waiting(true, "a", 7), waiting(false, noCluster, -1)}); err == nil {
		t.Error("an older volume is not noticed")
	}
	if best, err := newest([]State{waiting(false, noCluster, -1), {Waiting: true, Position: here}}); err != nil || best != 1 {
		t.Errorf("%d, %v", best, err)
	}
	if err := allowStart(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{aloneMark, stateFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left of what was before: %v", name, err)
		}
	}
}

func TestAllCopiesLeadConnectionsToTheSame(t *testing.T) {
	hosts := []string{"a", "b", "c"}
	serves := func(leader string) State { return State{Serves: true, Leader: leader} }
	for _, one := range []struct {
		states []State
		want   string
	}{
		{[]State{{}, {}, {}}, ""},
		{[]State{serves(""), serves(""), {}}, "a"},
		{[]State{{}, serves(""), serves("")}, "b"},
		// One that comes back does not lead at once, and adopts who does.
		{[]State{serves(""), serves("b"), serves("b")}, "b"},
		// A leader that does not serve any more leads nobody.
		{[]State{{}, serves("a"), serves("a")}, "b"},
		{[]State{{Leader: "c"}, serves("a"), serves("c")}, "c"},
		// Those that disagree for a moment do so no longer.
		{[]State{serves("a"), serves("b"), serves("b")}, "a"},
		{[]State{serves("z"), {}, {}}, "a"},
	} {
		if got := choose(hosts, one.states); got != one.want {
			t.Errorf("%+v: %q, and not %q", one.states, got, one.want)
		}
	}
}

// A copy that is ended while it asks the others for their states gets no answers. That must not look as if they were gone: there would be nobody
// to hand over to.
func TestACopyThatIsEndedWhileItAsksHandsOver(t *testing.T) {
	t.Parallel()
	network := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(200), rand.IntN(250))
	self, other := network+"1", network+"2"
	asked := make(chan struct{}, 100)
	serve(t, at(other, statePort), func(listener net.Listener) {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ends with the listener
			asked <- struct{}{}
			time.Sleep(300 * time.Millisecond)
			_ = json.NewEncoder(w).Encode(State{Serves: true, Leader: self})
		}))
	})
	// A server that answers when it is told to.
	const login, ok = "\x05\x00\x00\x00\x0a10.1", "\x07\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00"
	answer := make(chan string)
	serve(t, at(self, serverPort), func(listener net.Listener) {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		_, _ = io.WriteString(connection, login+ok)
		_, _ = connection.Read(make([]byte, 10))
		_, _ = io.WriteString(connection, <-answer)
		_, _ = io.Copy(io.Discard, connection)
	})
	l := &leader{
		copy:  Copy{Copies: []string{self, other}, Clustered: func(ctx context.Context) bool { return ctx.Err() == nil }},
		state: &shown{}, said: log.New(io.Discard, "", 0), addresses: map[string]string{},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.run(ctx, at(self, config.MariaDB)) }()

	var client net.Conn
	for end := time.Now().Add(time.Minute); client == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody leads")
		}
		client, _ = net.Dial("tcp", at(self, config.MariaDB))
	}
	defer client.Close()
	if _, err := io.ReadFull(client, make([]byte, len(login+ok))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(client, "\x02\x00\x00\x00\x03Q"); err != nil {
		t.Fatal(err)
	}
	for len(asked) > 0 {
		<-asked
	}
	<-asked
	time.Sleep(100 * time.Millisecond)
	cancel()
	time.Sleep(500 * time.Millisecond)
	select {
	case err := <-ended:
		t.Fatalf("its server is ended at once, and the query with it: %v", err)
	default:
	}
	answer <- ok
	got := make([]byte, 20)
	n, err := client.Read(got)
	if err != nil || string(got[:n]) != ok {
		t.Errorf("the client got %q, %v", got[:n], err)
	}
	answered := time.Now()
	if n, err = client.Read(got); err == nil {
		t.Errorf("a connection that nobody uses stays, and the client got %q", got[:n])
	}
	// It is not that of the last moment.
	if took := time.Since(answered); took > drained*3/5 {
		t.Errorf("it is ended after %s", took)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// serve takes connections at an address until the test ends.
func serve(t *testing.T, address string, with func(net.Listener)) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go with(listener)
}

// A server that is asked on a busy machine may not answer in time for once. That is no reason to lead connections elsewhere.
func TestTheLeaderStaysThoughItDoesNotServeForOnce(t *testing.T) {
	t.Parallel()
	network := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(200), rand.IntN(250))
	self, other := network+"1", network+"2"
	serve(t, at(other, statePort), func(listener net.Listener) {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ends with the listener
			_ = json.NewEncoder(w).Encode(State{Serves: true, Leader: self})
		}))
	})
	var said bytes.Buffer
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	l := &leader{
		copy: Copy{Copies: []string{self, other}, Clustered: func(ctx context.Context) bool {
			if asked++; asked == 6 {
				cancel()
			}
			return asked != 3 && ctx.Err() == nil
		}},
		state: &shown{}, said: log.New(&said, "", 0), addresses: map[string]string{},
	}
	if err := l.run(ctx, at(self, config.MariaDB)); err != nil {
		t.Error(err)
	}
	if got := said.String(); strings.Count(got, "are led to") != 1 || !strings.Contains(got, self) {
		t.Errorf("it said %s", got)
	}
}
