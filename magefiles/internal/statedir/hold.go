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

// Hold makes the folders of the stack of c and takes the stack's lock: no other process changes the stack until the returned
// file is closed. While another process has the lock, Hold waits, and calls waiting with the PID of that process.
func Hold(ctx context.Context, c config.Config, waiting func(pid int)) (*lock.File, error) {
	told := 0
	file := c.Run("stack.lock")
	if err := MakeFolders(c); err != nil {
		return nil, err
	}
	for {
		held, err := lock.Acquire(file)
		if err == nil {
			return held, nil
		}
		other := (*lock.HeldError)(nil)
		switch {
		case errors.Is(err, os.ErrNotExist):
			// A reset has deleted the folder.
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
