// Sweep waits until whoever holds the other end of its standard input has ended, however that ended. Then it kills the daemons
// of the throwaway stacks in a folder, which are known by the locks on their PID files, and deletes the folder.
//
// Usage: sweep FOLDER
package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/lock"
)

func main() {
	if len(os.Args) != 2 || !filepath.IsAbs(os.Args[1]) {
		fmt.Fprintln(os.Stderr, "usage: sweep FOLDER, the folder's path absolute")
		os.Exit(2)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := sweep(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sweep:", err)
		os.Exit(1)
	}
}

// sweep kills and deletes until nothing comes back: a start that is under way in one of the stacks holds that stack's lock, and
// what it has launched may not have locked its PID file yet.
func sweep(folder string) error {
	const quiet, limit = 300 * time.Millisecond, time.Minute
	gone := time.Time{}
	for began := time.Now(); time.Since(began) < limit; time.Sleep(20 * time.Millisecond) {
		var files []string
		for _, pattern := range []string{"*/run/stack.lock", "*/run/*.pid"} {
			// What is in the folder's own name is no pattern.
			found, err := fs.Glob(os.DirFS(folder), pattern)
			if err != nil {
				return err
			}
			files = append(files, found...)
		}
		killed := false
		for _, file := range files {
			if pid, err := lock.Holder(filepath.Join(folder, file)); err == nil && pid != 0 {
				killed = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		_, err := os.Stat(folder)
		switch {
		case killed:
			// Its lock, which says so, is to be seen to end before its file is deleted.
		case os.IsNotExist(err) && gone.IsZero():
			gone = time.Now()
		case os.IsNotExist(err) && time.Since(gone) > quiet:
			return nil
		case err == nil:
			gone = time.Time{}
			_ = os.RemoveAll(folder) // again, if something was written into it meanwhile
		}
	}
	return fmt.Errorf("%s comes back each time that it is deleted", folder)
}
