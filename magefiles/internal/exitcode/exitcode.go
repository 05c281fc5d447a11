// Package exitcode has the errors with which a target ends with an exit code of its own.
package exitcode

import "fmt"

// The exit codes that mean something, beside 0 and the 1 of every other error.
const (
	NothingRuns = 3 // status: no service runs
	NotWell     = 4 // status: a service died or does not answer
	Unhealthy   = 5 // doctor: a check failed
	BrokenLog   = 6 // rekor:show, rekor:monitor: the log has not kept its promise
)

// Error is an error that ends the process with Code. Mage asks for that by the method ExitStatus.
type Error struct {
	Code int
	Err  error
}

// New is an error that ends the process with code; format is that of fmt.Errorf.
func New(code int, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ExitStatus is the exit code.
func (e *Error) ExitStatus() int { return e.Code }
