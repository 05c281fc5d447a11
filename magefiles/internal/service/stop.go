package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Stop ends s and returns when it is gone. A service that does not run is not touched.
func (e *Engine) Stop(ctx context.Context, s Service) (err error) {
	p, alive, err := e.running(s)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if !alive {
		return e.forget(s)
	}
	step := e.Console.Step(s.Name)
	result := "stopped"
	defer func() {
		if err != nil {
			step.Fail()
			err = fmt.Errorf("%s: stop process %d: %w", s.Name, p.pid, err)
			return
		}
		step.Done("%s", result)
	}()
	grace := s.Grace
	if grace == 0 {
		grace = 10 * time.Second
	}
	kill := time.After(grace)
	first := syscall.SIGTERM
	if e.UnderDelve(s) {
		// Delve ends at once on SIGTERM, and leaves the program that it debugs behind.
		first = syscall.SIGINT
	}
	if err := p.signal(first); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	again := make(<-chan time.Time)
	if s.EndsOnSecondTerm {
		again = time.After(secondTermAfter)
	}
	for p.alive() {
		select {
		case <-time.After(poll):
		case <-again:
			if err := p.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		case <-kill:
			result = fmt.Sprintf("killed, since it did not end within %s", grace)
			if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		case <-ctx.Done():
			if s.EndsOnSecondTerm {
				// Otherwise the program would idle, neither serving nor ended.
				_ = p.signal(syscall.SIGTERM)
			}
			return context.Cause(ctx)
		}
	}
	return e.forget(s)
}

// UnderDelve is the end of From of a service that runs under Delve (https://github.com/go-delve/delve).
const UnderDelve = "under Delve"

// secondTermAfter is long enough for a program to take its first SIGTERM and end its requests: two signals sent
// together can arrive as one.
const secondTermAfter = 100 * time.Millisecond
