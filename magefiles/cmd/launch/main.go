// Launch turns into a daemon that holds a lock: it locks the PID file, writes its PID there and executes the program. The PID
// stays the same, so no daemon ever runs that its PID file does not name, even if the process that called launch is killed.
//
// Usage: launch PIDFILE PROGRAM [ARGUMENT ...]
package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"sigstore-local/magefiles/internal/lock"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: launch PIDFILE PROGRAM [ARGUMENT ...]")
		os.Exit(2)
	}
	if err := launch(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "launch %s: %v\n", os.Args[2], err)
		os.Exit(1)
	}
}

func launch(pidFile string, command []string) error {
	f, err := lock.Acquire(pidFile)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return err
	}
	// The daemon must not keep descriptors that the caller's shell left open: the reader of a pipe among them would wait for as
	// long as the daemon lives.
	closeOnExec(3)
	// The lock's descriptor stays open, so that the daemon keeps the lock.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		return err
	}
	return syscall.Exec(command[0], command, os.Environ())
}

func closeEachOnExec(fd uint) {
	for ; fd < mostDescriptors; fd++ {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC) // most are not open
	}
}

// mostDescriptors is beyond what a shell or a CI runner leaves open; there is no portable way to list what is open.
const mostDescriptors = 4096
