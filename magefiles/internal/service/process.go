package service

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/lock"
)

// process is a running daemon, known by the lock that it holds on its PID file.
type process struct {
	pidFile string
	pid     int
}

// running finds the daemon of s; ok says whether it lives.
func (e *Engine) running(s Service) (p process, ok bool, err error) {
	p.pidFile = e.pidFile(s)
	if s.Name == e.Self {
		p.pid = os.Getpid()
		return p, true, nil
	}
	p.pid, err = lock.Holder(p.pidFile)
	return p, p.pid != 0, err
}

// alive says whether the daemon lives, which is whether it holds the lock. Its PID does not tell: another process can have
// that by now.
func (p process) alive() bool {
	holder, err := lock.Holder(p.pidFile)
	return err == nil && holder == p.pid
}

// signal sends sig to the daemon and to no other process. It first opens a handle on the process and then checks the lock.
// Where the system has such handles, this one then cannot be of a process that got the daemon's PID later.
func (p process) signal(sig os.Signal) error {
	handle, err := os.FindProcess(p.pid)
	if err != nil {
		return err
	}
	defer handle.Release()
	if !p.alive() {
		return os.ErrProcessDone
	}
	return handle.Signal(sig)
}

// lastStart reads when s was last started, and as which process, from its PID file. A service that was stopped leaves
// an empty file.
func (e *Engine) lastStart(s Service) (pid int, since time.Time) {
	if s.Name == e.Self {
		pid = os.Getpid()
	} else {
		content, err := os.ReadFile(e.pidFile(s))
		if err != nil {
			return 0, time.Time{}
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(content))); err != nil {
			return 0, time.Time{}
		}
	}
	info, err := os.Stat(e.pidFile(s))
	if err != nil {
		return 0, time.Time{}
	}
	return pid, info.ModTime()
}

// fromFile is the path of the file that holds From of the running service.
func (e *Engine) fromFile(s Service) string { return e.Config.Run(s.Name + ".from") }

// forFile is the path of the file that holds For of the running service.
func (e *Engine) forFile(s Service) string { return e.Config.Run(s.Name + ".for") }

// otherwise says whether s was last started for something else than s.For.
func (e *Engine) otherwise(s Service) bool {
	last, err := os.ReadFile(e.forFile(s))
	return err == nil && s.For != "" && string(last) != s.For
}

// remember writes From and For of s to these files, and deletes the first for a pinned version.
func (e *Engine) remember(s Service) error {
	if s.For != "" {
		if err := renameio.WriteFile(e.forFile(s), []byte(s.For), 0o600); err != nil {
			return err
		}
	}
	if s.From != "" {
		return renameio.WriteFile(e.fromFile(s), []byte(s.From), 0o600)
	}
	if err := os.Remove(e.fromFile(s)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// from is From of the running service.
func (e *Engine) from(s Service) string {
	content, err := os.ReadFile(e.fromFile(s))
	if err != nil {
		return "" // a pinned version
	}
	return string(content)
}

// forget empties the PID file of s after it was stopped, so that s does not pass for crashed.
func (e *Engine) forget(s Service) error {
	err := os.Truncate(e.pidFile(s), 0)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("empty the PID file: %w", err)
	}
	return nil
}

// Runs says whether the daemon of s lives.
func (e *Engine) Runs(s Service) (bool, error) {
	_, alive, err := e.running(s)
	return alive, err
}

// UnderDelve says whether s runs under Delve.
func (e *Engine) UnderDelve(s Service) bool { return strings.HasSuffix(e.from(s), UnderDelve) }
