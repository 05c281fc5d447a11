// Package foreground keeps a stack running for as long as a process lasts, for containers and service managers.
package foreground

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/exitcode"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// A service that dies is started again after a pause, which doubles each time that it dies again soon.
const (
	firstPause = time.Second
	mostPause  = time.Minute
	soon       = time.Minute // after a start
	every      = 250 * time.Millisecond
)

// Keep watches the services of s that have been started until ctx ends. It starts those that die, by start, and says so; what
// somebody else stops is left stopped. With follow, it prints what services write into their logs.
func Keep(ctx context.Context, s *stack.Stack, follow bool, start func(ctx context.Context, name string) error) error {
	if follow {
		go func() {
			if err := s.ShowLogs(ctx, s.All(), 0, true); err != nil {
				s.Console.Printf("The logs are not followed any longer: %v", err)
			}
		}()
	}
	k := keeper{Stack: s, start: start, fates: map[string]*fate{}}
	for {
		k.look(ctx, time.Now())
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
}

// keeper brings back services.
type keeper struct {
	*stack.Stack
	start func(ctx context.Context, name string) error
	fates map[string]*fate
}

// fate is what is known of a service that has died.
type fate struct {
	pause   time.Duration // before it is started again
	at      time.Time     // when that is; zero if it runs
	started time.Time     // when it was last started by the keeper
}

// look starts what has died and whose pause is over.
func (k *keeper) look(ctx context.Context, now time.Time) {
	for _, one := range k.All() {
		if !k.Engine.Crashed(one) {
			continue
		}
		known := k.fates[one.Name]
		if known == nil {
			known = &fate{}
			k.fates[one.Name] = known
		}
		switch {
		case known.at.IsZero():
			known.pause = nextPause(*known, now)
			known.at = now.Add(known.pause)
			k.Console.Printf("%s died, and is started again in %s. The end of its log, %s:\n%s",
				one.Name, known.pause, k.Config.Log(one.Name), strings.TrimRight(service.LogTail(k.Config.Log(one.Name), 5), "\n"))
		case now.Before(known.at):
		default:
			known.at, known.started = time.Time{}, now
			if err := k.start(ctx, one.Name); err != nil && ctx.Err() == nil {
				k.Console.Printf("%s could not be started: %v", one.Name, err)
			}
		}
	}
}

// nextPause is the pause before a service that has just died is started again.
func nextPause(known fate, now time.Time) time.Duration {
	if known.started.IsZero() || now.Sub(known.started) > soon {
		return firstPause
	}
	return min(mostPause, 2*known.pause)
}

// End is the error of a stack that was stopped, if some service was not well until then.
func End(rows []stack.Row) error {
	for _, row := range rows {
		if row.State == service.Crashed || row.State == service.NotAnswering {
			return exitcode.New(exitcode.NotWell, "%s was %s", row.Service, row.State)
		}
	}
	return nil
}

// Unit is a unit of systemd that runs the stack of c by command, a program and its arguments (systemd.service(5)).
func Unit(c config.Config, environ []string, command ...string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "# Write this to ~/.config/systemd/user/sigstore-local.service, then: systemctl --user daemon-reload && systemctl --user enable --now sigstore-local\n")
	fmt.Fprintf(&out, "[Unit]\nDescription=Sigstore on this machine, in %s\nAfter=network.target\n\n[Service]\nType=exec\n", unitText(c.State))
	fmt.Fprintf(&out, "WorkingDirectory=%s\n", unitText(c.Root))
	for _, setting := range environ {
		fmt.Fprintf(&out, "Environment=%s\n", quoted(setting))
	}
	words := make([]string, len(command))
	for i, word := range command {
		words[i] = quoted(word)
	}
	fmt.Fprintf(&out, "ExecStart=%s\n", strings.Join(words, " "))
	// Only the process itself is told to end: it stops the services in their order.
	fmt.Fprintf(&out, "KillMode=mixed\nTimeoutStopSec=30\nRestart=on-failure\n\n[Install]\nWantedBy=default.target\n")
	return out.String()
}

// unitText is a text in a unit, in which % begins a specifier.
func unitText(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// quoted is one word in a unit.
func quoted(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(word) + `"`
}

// Path is the variable by which a unit finds the programs that this process finds.
func Path() string { return "PATH=" + os.Getenv("PATH") }
