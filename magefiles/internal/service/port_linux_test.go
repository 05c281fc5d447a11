package service

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// hold makes a listener that no process is seen to have, as of a process that is just ending, until release is called: its
// descriptor is on its way through a socket (unix(7), SCM_RIGHTS).
func hold(t *testing.T) (port int, release func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Sendmsg(pair[0], []byte{0}, syscall.UnixRights(int(file.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	_, _ = file.Close(), l.Close()
	return l.Addr().(*net.TCPAddr).Port, func() { _, _ = syscall.Close(pair[0]), syscall.Close(pair[1]) }
}

func TestAPortThatAKilledDaemonStillHoldsIsWaitedFor(t *testing.T) {
	e := engine(t)
	port, release := hold(t)
	taken := config.Port{Name: "HELD_" + strconv.Itoa(port), Default: port}
	s := helper(t, e, "serve")
	s.Listens = []config.Port{taken}
	began := time.Now()
	if _, err := e.Start(t.Context(), s, nil); err == nil || time.Since(began) > 30*time.Second {
		t.Errorf("with the port held for good, start ends after %s with %v", time.Since(began), err)
	}
	time.AfterFunc(200*time.Millisecond, release)
	if _, err := e.Start(t.Context(), s, nil); err != nil {
		t.Error(err)
	}
}
