// Package lock tells who holds a file by a POSIX record lock (fcntl(2), F_SETLK and F_GETLK). Such a lock belongs to a
// process, lasts over execve(2), ends with the process however it ends, and names its holder: so a daemon's lock on
// its PID file says whether it lives and under which PID, whatever stands in the file.
package lock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// HeldError says that another process holds the lock.
type HeldError struct {
	Path string
	PID  int
}

func (e *HeldError) Error() string { return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID) }

// Acquire locks the file at path, which it makes if need be, for this process. Closing the file, or any other
// descriptor of it, gives the lock up; so does execve(2), unless close-on-exec is cleared first. The error is a
// *HeldError if another process holds the lock.
func Acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	request := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &request)
	if err == nil {
		return f, nil
	}
	held, holderErr := holder(f)
	_ = f.Close()
	switch {
	case !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EACCES):
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	case holderErr != nil:
		return nil, holderErr
	default:
		return nil, &HeldError{Path: path, PID: held}
	}
}

// Holder is the PID of the process that holds the file at path, or 0 if none does or there is no such file.
func Holder(path string) (int, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return holder(f)
}

func holder(f *os.File) (int, error) {
	// A shared lock is what a file that is open for reading may ask about; the holders' locks are exclusive.
	request := syscall.Flock_t{Type: syscall.F_RDLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &request); err != nil {
		return 0, &os.PathError{Op: "ask for the lock of", Path: f.Name(), Err: err}
	}
	if request.Type == syscall.F_UNLCK {
		return 0, nil
	}
	// The holder is in another PID namespace, such as a container's, or on another host.
	if request.Pid <= 0 {
		return 0, fmt.Errorf("%s is locked by a process that is not of this system", f.Name())
	}
	return int(request.Pid), nil
}
