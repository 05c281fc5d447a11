package main

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/service"
)

// Exit codes of status, beside 0: all that was started is ready.
const (
	exitNothingRuns = 3
	exitNotWell     = 4
)

// Status shows how every service is. Its exit code is 0 if all that was started is ready, 3 if nothing runs, and 4 if
// something crashed or does not answer.
func Status(
	ctx context.Context,
	o *string, // the form of the output: table or json
	watch *bool, // show it again and again, until Ctrl-C
) error {
	form, err := choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	for watch != nil && *watch {
		rows := s.status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if s.console.Fancy() {
			fmt.Print("\x1b[H\x1b[2J")
		}
		if err := printStatus(os.Stdout, form, rows); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
	rows := s.status(ctx)
	if err := printStatus(os.Stdout, form, rows); err != nil {
		return err
	}
	return s.verdict(rows)
}

// statusRow is a service's status as JSON has it.
type statusRow struct {
	Service string        `json:"service"`
	State   service.State `json:"state"`
	PID     int           `json:"pid,omitempty"`
	Since   *time.Time    `json:"since,omitempty"` // RFC 3339
	Address string        `json:"address"`
	Version string        `json:"version"`
	Memory  int64         `json:"memory,omitempty"` // resident, bytes
	Log     string        `json:"log"`
	Error   string        `json:"error,omitempty"`
}

// status asks every service how it is, all at once.
func (s *stack) status(ctx context.Context) []statusRow {
	all := services(s.config)
	// What stands on a service that died may keep its probe waiting for long; that it died is known already.
	for _, one := range all {
		if s.engine.Crashed(one) {
			limited, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			ctx = limited
			break
		}
	}
	rows := make([]statusRow, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() {
			status := s.engine.Status(ctx, one)
			row := statusRow{
				Service: status.Service, State: status.State, PID: status.PID, Address: status.Address,
				Version: s.version(ctx, one, status), Memory: status.Memory, Log: s.config.Log(status.Service),
			}
			if !status.Since.IsZero() {
				row.Since = &status.Since
			}
			if status.Err != nil {
				row.Error = status.Err.Error()
			}
			rows[i] = row
		})
	}
	wg.Wait()
	return rows
}

// version is the version of what runs, or of what would: the checkout and its revision, or the pinned version.
func (s *stack) version(ctx context.Context, one service.Service, status service.Status) string {
	from := status.From
	if status.PID == 0 {
		from = build.From(s.config, one.Program)
	}
	if from != "" {
		return from
	}
	if _, ok := s.config.CheckedOut(filepath.Base(one.Program)); ok {
		one.Program = filepath.Join(s.config.Programs, filepath.Base(one.Program))
	}
	return version(ctx, one)
}

// version is the version of a service's program: of its module, as Go has written it into the program; of MariaDB, as
// the server says.
func version(ctx context.Context, s service.Service) string {
	info, err := buildinfo.ReadFile(s.Program)
	if err != nil {
		out, err := exec.CommandContext(ctx, s.Program, "--no-defaults", "--version").Output()
		fields := strings.Fields(string(out))
		if err != nil || len(fields) < 3 {
			return "-"
		}
		return fields[2]
	}
	for _, module := range info.Deps {
		if module.Path == s.Module {
			return module.Version
		}
	}
	return info.Main.Version
}

func printStatus(w io.Writer, form string, rows []statusRow) error {
	if form == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(rows)
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SERVICE\tSTATE\tPID\tSINCE\tMEMORY\tVERSION\tADDRESS")
	for _, row := range rows {
		pid, since, memory := "-", "-", "-"
		if row.PID != 0 {
			pid = fmt.Sprint(row.PID)
		}
		if row.Since != nil {
			since = row.Since.Format(time.DateTime)
		}
		if row.Memory != 0 {
			memory = fmt.Sprintf("%d MB", row.Memory/1_000_000)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Service, row.State, pid, since, memory, row.Version, row.Address)
	}
	return table.Flush()
}

// verdict says what is wrong and what to try, and makes of it the exit code.
func (s *stack) verdict(rows []statusRow) error {
	running := 0
	var unwell []string
	for _, row := range rows {
		switch row.State {
		case service.Stopped:
			continue
		case service.Ready:
			running++
			continue
		case service.Crashed:
			s.console.Printf("\n%s died. The end of its log, %s:\n%s", row.Service, row.Log, service.LogTail(row.Log, 10))
		default:
			running++
			s.console.Printf("\n%s runs and does not answer: %s\nThe end of its log, %s:\n%s", row.Service, row.Error, row.Log, service.LogTail(row.Log, 10))
		}
		unwell = append(unwell, fmt.Sprintf("%s (%s)", row.Service, row.State))
	}
	switch {
	case len(unwell) > 0:
		return mg.Fatalf(exitNotWell, "not well: %s. `go tool mage start` brings back what died; `go tool mage restart SERVICE` starts one anew", strings.Join(unwell, ", "))
	case running == 0:
		return mg.Fatal(exitNothingRuns, "nothing runs; `go tool mage start` starts it")
	}
	return nil
}
