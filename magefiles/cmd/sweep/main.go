// Sweep clears a scratch folder away once the process that made it, its owner, has ended, in whatever way. The owner holds the
// other end of sweep's standard input, so sweep waits for its end. An owner that has ended all its commands writes a byte
// there first. Then sweep kills the daemons of the stacks in the folder, which are known by the locks on their PID files, and
// deletes the folder.
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
	// A command that starts a stack lives on if its owner is killed, and is seen only once it holds the stack's lock.
	quiet := 10 * time.Second
	if said, _ := io.ReadAll(os.Stdin); len(said) > 0 {
		quiet = 300 * time.Millisecond // the owner has ended its commands
	}
	if err := sweep(os.Args[1], quiet); err != nil {
		fmt.Fprintln(os.Stderr, "sweep:", err)
		os.Exit(1)
	}
}

// sweep kills and deletes until nothing has come back for as long as quiet: a start that is under way in one of the stacks
// holds that stack's lock, and a daemon that it has launched may not have locked its PID file yet.
func sweep(folder string, quiet time.Duration) error {
	const limit = time.Minute
	gone := time.Time{}
	for began := time.Now(); time.Since(began) < limit; time.Sleep(20 * time.Millisecond) {
		var files []string
		for _, pattern := range []string{"*/run/stack.lock", "*/run/*.pid"} {
			// The folder's own name is not part of the pattern, since it may hold special characters.
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
			// The folder is deleted once no lock is held, since the locks tell which processes are still there.
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
