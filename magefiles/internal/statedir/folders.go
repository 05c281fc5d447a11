// Package statedir keeps the state folder of a stack: who may use it, its folders, its secrets, and the lock of the process
// that changes the stack.
package statedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/platform"
)

// marker is the file by which a state folder is known, so that a folder of somebody's own is never filled or wiped.
const marker = ".sigstore-local"

// otherFolder ends the messages about a state folder that cannot be used.
const otherFolder = "name an empty folder of yours, or one that does not exist, with SIGLOCAL_STATE"

// CheckFolder refuses a state folder that is another user's, or holds what no stack has put there.
func CheckFolder(c config.Config) error {
	info, err := os.Stat(c.State)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("the state folder %s is not a folder: "+otherFolder, c.State)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("the state folder %s belongs to the user with ID %d, not to you, %d: "+otherFolder, c.State, owner.Uid, os.Geteuid())
	}
	marked := func() (bool, error) {
		_, err := os.Stat(filepath.Join(c.State, marker))
		return !errors.Is(err, os.ErrNotExist), err
	}
	if ok, err := marked(); ok {
		return err
	}
	entries, err := os.ReadDir(c.State)
	if err != nil {
		return fmt.Errorf("read the state folder: %w: "+otherFolder, err)
	}
	for _, entry := range entries {
		// These are no reason to refuse: the checkout's .gitignore and programs, and the temporary file of a marker that is
		// being written.
		name := entry.Name()
		if name == ".gitignore" || strings.HasPrefix(name, "."+marker) || filepath.Join(c.State, name) == c.Programs {
			continue
		}
		// Another process may have made the folders since.
		if ok, err := marked(); ok {
			return err
		}
		return fmt.Errorf("the state folder %s holds %s, and has no file %s, by which the folder of a stack is known: if it is one, make that file anew, empty; otherwise "+otherFolder,
			c.State, name, marker)
	}
	return nil
}

// MakeFolders makes the folders of a stack, private to its owner. It refuses what CheckFolder refuses.
func MakeFolders(c config.Config) error {
	if err := CheckFolder(c); err != nil {
		return err
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w: "+otherFolder, err)
	}
	markerFile := filepath.Join(c.State, marker)
	if _, err := os.Stat(markerFile); errors.Is(err, os.ErrNotExist) {
		text := "This folder holds a local Sigstore: its configuration, data, keys, secrets and logs.\n"
		if err := renameio.WriteFile(markerFile, []byte(text), 0o600); err != nil {
			return fmt.Errorf("make the state folder: %w: "+otherFolder, err)
		}
	}
	for _, folder := range c.Folders() {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("make the state folder: %w: "+otherFolder, err)
		}
		// The state folder that is part of the checkout was made by git, with the user's umask.
		if err := os.Chmod(folder, 0o700); err != nil {
			return fmt.Errorf("make the state folder private: %w: "+otherFolder, err)
		}
	}
	return nil
}

// Remember keeps which stack the folder is for, with what c adds to it.
func Remember(c config.Config) error {
	stack, err := c.Remembered()
	if err != nil {
		return err
	}
	if made, err := os.ReadFile(c.StackFile()); err == nil && string(made) == string(stack)+"\n" {
		return nil
	}
	return renameio.WriteFile(c.StackFile(), []byte(string(stack)+"\n"), 0o600)
}

// Wipe deletes everything that a stack made, but not its folder, nor programs in it.
func Wipe(c config.Config) error {
	// bundles is the name that the folder support had in earlier versions of this project.
	for _, folder := range append(c.Folders(), filepath.Join(c.State, "bundles")) {
		if folder == c.State {
			continue
		}
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
	}
	if err := os.Remove(c.StackFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(filepath.Join(c.State, marker))
}

// Spare is the room on the disk, in bytes, without which no service is started: for its log, its configuration, a little data.
const Spare = 16_000_000

// RoomFor is an error if the disk of the state folder has less than so many bytes free.
func RoomFor(c config.Config, bytes int64) error {
	free, err := platform.FreeDisk(c.State)
	if err != nil {
		return err
	}
	if free < bytes {
		return fmt.Errorf("no space left on device: the disk of %s has %s free, and at least %s are needed: make room, or set SIGLOCAL_STATE to a folder on another disk",
			c.State, console.Size(free), console.Size(bytes))
	}
	return nil
}
