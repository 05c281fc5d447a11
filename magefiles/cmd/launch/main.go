// Launch becomes a daemon under a lock: it locks the PID file, writes its PID there and turns into the program. Since
// the process that writes the PID is the one that keeps it, no moment exists in which a daemon runs that the file does
// not name, even if whoever launched it is killed.
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
	// A pipe that the caller's shell left open would keep whoever reads it waiting for as long as the daemon lives.
	closeOnExec(3)
	// The lock lasts as long as the descriptor, which is to last as long as the daemon.
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
