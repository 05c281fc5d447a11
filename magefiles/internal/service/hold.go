package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/lock"
)

// Hold waits until no other process changes the stack of c, and keeps them from it until the file is closed. It calls
// waiting with the PID of the process that it waits for.
func Hold(ctx context.Context, c config.Config, waiting func(pid int)) (*os.File, error) {
	told := 0
	for {
		held, err := lock.Acquire(c.Run("stack.lock"))
		other := (*lock.HeldError)(nil)
		if !errors.As(err, &other) {
			return held, err
		}
		if other.PID != told && other.PID != 0 {
			told = other.PID
			waiting(told)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for process %d: %w", told, context.Cause(ctx))
		}
	}
}

// Wipe deletes everything that a stack made, but not its folder, nor programs in it.
func Wipe(c config.Config) error {
	for _, folder := range c.Folders() {
		if folder == c.State {
			continue
		}
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(c.State, marker))
}
