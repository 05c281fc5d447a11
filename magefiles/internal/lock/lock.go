// Package lock tells who holds a file by a POSIX record lock (fcntl(2), F_SETLK and F_GETLK). Such a lock belongs to a
// process, lasts over execve(2), ends with the process however it ends, and names its holder: so a daemon's lock on
// its PID file says whether it lives and under which PID, whatever stands in the file.
//
// The system drops a process's lock as soon as the process closes any descriptor of the file, and does not tell a process of
// its own locks. This package knows them instead, and opens no file that this process has locked.
package lock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// HeldError says that a process holds the lock, which may be this one.
type HeldError struct {
	Path string
	PID  int
}

func (e *HeldError) Error() string { return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID) }

// File is an open file that this process has locked, until it is closed or the process ends.
type File struct{ *file }

// file is os.File under a name that is not exported, so that the embedded file can be closed by File.Close only.
type file = os.File

// own are the files that this process has locked. It is a variable of the package because the locks belong to the process.
// Files are compared by device and inode, which are the same for all paths of a file, and are not given to another file while
// this one is open.
var own struct {
	sync.Mutex
	files map[*File]os.FileInfo
}

// holds says whether this process holds the file at path. The caller holds own's mutex, for as long as it has that file open.
func holds(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false // the caller opens the file and sees why
	}
	for _, held := range own.files {
		if os.SameFile(held, info) {
			return true
		}
	}
	return false
}

// Acquire locks the file at path, which it makes if need be, for this process. The lock is given up by File.Close, and by
// execve(2), unless close-on-exec is cleared first. The error is a *HeldError if another process holds the lock, or this one
// does already.
func Acquire(path string) (*File, error) {
	own.Lock()
	defer own.Unlock()
	for {
		f, err := acquireOnce(path)
		if err != nil || there(f, path) {
			return f, err
		}
		// Another process has deleted the file after it was opened here, and a third may lock the new one.
		delete(own.files, f)
		_ = f.file.Close()
	}
}

// there says whether path is the open file f.
func there(f *File, path string) bool {
	named, err := os.Stat(path)
	return err == nil && os.SameFile(own.files[f], named)
}

// acquireOnce locks the file that is at path when it opens it. The caller holds own's mutex.
func acquireOnce(path string) (*File, error) {
	if holds(path) {
		return nil, &HeldError{Path: path, PID: os.Getpid()}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := acquire(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	locked := &File{f}
	if own.files == nil {
		own.files = map[*File]os.FileInfo{}
	}
	own.files[locked] = info
	return locked, nil
}

func acquire(f *os.File) error {
	request := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &request)
	if err == nil {
		return nil
	}
	if !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EACCES) {
		return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	held, err := holder(f)
	if err != nil {
		return err
	}
	return &HeldError{Path: f.Name(), PID: held}
}

// Close gives the lock up.
func (f *File) Close() error {
	own.Lock()
	defer own.Unlock()
	delete(own.files, f)
	return f.file.Close()
}

// Holder is the PID of the process that holds the file at path, which may be this one, or 0 if none does or there is no such
// file.
func Holder(path string) (int, error) {
	own.Lock()
	defer own.Unlock()
	if holds(path) {
		return os.Getpid(), nil
	}
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

// holder is the PID of the other process that holds f, or 0.
func holder(f *os.File) (int, error) {
	// Asks about a shared lock, the only kind for a file that is open for reading. The holders' locks are exclusive, so they
	// show.
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
