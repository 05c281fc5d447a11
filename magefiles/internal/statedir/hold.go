package statedir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/lock"
)

// Hold makes the folders of the stack of c, waits until no other process changes it, and keeps them from it until the
// file is closed. It calls waiting with the PID of the process that it waits for.
func Hold(ctx context.Context, c config.Config, waiting func(pid int)) (*lock.File, error) {
	told := 0
	file := c.Run("stack.lock")
	if err := MakeFolders(c); err != nil {
		return nil, err
	}
	for {
		held, err := lock.Acquire(file)
		if err == nil && there(held, file) {
			return held, nil
		}
		other := (*lock.HeldError)(nil)
		switch {
		case err == nil:
			// A reset that was waited for has wiped the file since it was opened: another may lock the new one.
			_ = held.Close()
			continue
		case errors.Is(err, os.ErrNotExist):
			// It has wiped the folder too.
			if err := MakeFolders(c); err != nil {
				return nil, err
			}
			continue
		case !errors.As(err, &other):
			return nil, err
		}
		if other.PID != told && other.PID != 0 {
			told = other.PID
			waiting(told)
		}
		select {
		case <-time.After(4 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for process %d: %w", told, context.Cause(ctx))
		}
	}
}

// there says whether path is the open file f.
func there(f *lock.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(open, named)
}
