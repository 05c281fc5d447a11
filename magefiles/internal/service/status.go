package service

import (
	"context"
	"time"

	"sigstore-local/magefiles/internal/platform"
)

// State is how a service is.
type State string

// The states of a service.
const (
	Stopped      State = "stopped"       // it was never started, was stopped, or ended when the system was shut down
	Starting     State = "starting"      // it runs and is not ready, and was started a moment ago
	Ready        State = "ready"         // it answers its probe
	NotAnswering State = "not answering" // it runs and does not answer its probe
	Crashed      State = "crashed"       // it was started and not stopped, and does not run
)

// Status tells how a service is.
type Status struct {
	Service string
	State   State
	PID     int       // 0 unless it runs
	Since   time.Time // when it was last started; zero if it is stopped
	Memory  int64     // resident, bytes; 0 if it is not known
	Address string
	From    string // the checkout and revision that the running program was built from; empty for a pinned version
	Err     error  // why it does not answer, or why its state is not known
}

// Status finds out how s is. It takes at most as long as ctx and one probe.
func (e *Engine) Status(ctx context.Context, s Service) Status {
	status := Status{Service: s.Name, State: Stopped, Address: s.Address}
	p, alive, err := e.running(s)
	if err != nil {
		status.State, status.Err = NotAnswering, err
		return status
	}
	_, since := e.lastStart(s)
	if !alive {
		if e.Crashed(s) {
			status.State, status.Since = Crashed, since
		}
		return status
	}
	status.Since, status.From = since, e.from(s)
	status.PID, status.Memory = p.pid, platform.Memory(p.pid)
	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	status.Err = e.Ask(probe, s)
	switch {
	case status.Err == nil:
		status.State = Ready
	case time.Since(since) < e.StartTimeout:
		status.State = Starting
	default:
		status.State = NotAnswering
	}
	return status
}

// Crashed says whether s was started since the system was, was not stopped, and does not run.
func (e *Engine) Crashed(s Service) bool {
	if runs, err := e.Runs(s); err != nil || runs {
		return false
	}
	pid, since := e.lastStart(s)
	return pid != 0 && since.After(platform.BootTime())
}
