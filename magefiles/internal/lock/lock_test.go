package lock

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary is the other process too: with LOCK set it locks that file, says how that went, and keeps the lock until
// its standard input ends.
func TestMain(m *testing.M) {
	path, other := os.LookupEnv("LOCK")
	if !other {
		os.Exit(m.Run())
	}
	_, err := Acquire(path)
	held := (*HeldError)(nil)
	switch {
	case errors.As(err, &held):
		fmt.Println("held by", held.PID)
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("locked")
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// other has another process lock the file at path, and returns what that said, its PID, and what ends it.
func other(t *testing.T, path string) (said string, pid int, end func()) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "LOCK="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 1000)
	n, _ := stdout.Read(line)
	return strings.TrimSpace(string(line[:n])), cmd.Process.Pid, func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
}

// locks checks what another process says when it tries to lock the file at path.
func locks(t *testing.T, path, want string) {
	t.Helper()
	said, _, end := other(t, path)
	end()
	if said != want {
		t.Errorf("another process locks %s: %q; want %q", filepath.Base(path), said, want)
	}
}

func acquireIt(t *testing.T, path string) *File {
	t.Helper()
	f, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestALockIsKeptUntilItIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f := acquireIt(t, path)
	linked, symbolic := path+".link", path+".symlink"
	if err := errors.Join(os.Link(path, linked), os.Symlink(path, symbolic)); err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprint("held by ", os.Getpid())
	for _, name := range []string{path, linked, symbolic} {
		if pid, err := Holder(name); pid != os.Getpid() || err != nil {
			t.Errorf("%s: held by %d, %v; want this process, %d", filepath.Base(name), pid, err, os.Getpid())
		}
		locks(t, path, self)
		again, err := Acquire(name)
		if held := (*HeldError)(nil); !errors.As(err, &held) || held.PID != os.Getpid() {
			t.Errorf("%s, which this process holds, is locked again: %v, %v", filepath.Base(name), again, err)
		}
		locks(t, path, self)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if pid, err := Holder(path); pid != 0 || err != nil {
		t.Errorf("closed: held by %d, %v", pid, err)
	}
	locks(t, path, "locked")
	acquireIt(t, path)
	locks(t, path, self)
}

func TestALockOfAnotherProcessIsKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid, err := Holder(path); pid != 0 || err != nil {
		t.Errorf("no file: held by %d, %v", pid, err)
	}
	said, other, end := other(t, path)
	defer end()
	if said != "locked" {
		t.Fatalf("another process locks: %q", said)
	}
	if pid, err := Holder(path); pid != other || err != nil {
		t.Errorf("held by %d, %v; want %d", pid, err, other)
	}
	_, err := Acquire(path)
	if held := (*HeldError)(nil); !errors.As(err, &held) || held.PID != other || held.Path != path {
		t.Errorf("got %v", err)
	}
	end()
	acquireIt(t, path)
}

func TestALockIsOfTheFileAndNotOfItsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first := acquireIt(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if pid, err := Holder(path); pid != 0 || err != nil {
		t.Errorf("removed: held by %d, %v", pid, err)
	}
	acquireIt(t, path)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if pid, err := Holder(path); pid != os.Getpid() || err != nil {
		t.Errorf("held by %d, %v; want this process", pid, err)
	}
	locks(t, path, fmt.Sprint("held by ", os.Getpid()))
}
