package stack

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/exitcode"
	"sigstore-local/magefiles/internal/pins"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// Row is a service's status as JSON has it.
type Row struct {
	Service string         `json:"service"`
	State   service.State  `json:"state"`
	PID     int            `json:"pid,omitempty"`
	Since   *time.Time     `json:"since,omitempty"` // RFC 3339
	Address string         `json:"address"`
	Ports   map[string]int `json:"ports,omitempty"` // by the variables that move them
	Version string         `json:"version"`
	Memory  int64          `json:"memory,omitempty"` // resident, bytes
	Log     string         `json:"log"`
	Error   string         `json:"error,omitempty"`
}

// Status asks every service how it is, all at once: those of the stack, and others that the state folder was made for as well,
// which may run.
func (s *Stack) Status(ctx context.Context) []Row {
	whole := s.Config
	if remembered, err := whole.Remembered(); err == nil {
		whole.Stack = remembered
	}
	all, probes := s.Services(whole), ctx
	// If a service has died, the probes of services that depend on it may wait for long, and would tell nothing new.
	for _, one := range all {
		if s.Engine.Crashed(one) {
			limited, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			probes = limited
			break
		}
	}
	rows := make([]Row, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { rows[i] = s.row(ctx, one, s.Engine.Status(probes, one)) })
	}
	wg.Wait()
	return rows
}

func (s *Stack) row(ctx context.Context, one service.Service, status service.Status) Row {
	row := Row{
		Service: status.Service, State: status.State, PID: status.PID, Address: status.Address, Ports: map[string]int{},
		Version: s.version(ctx, one, status), Memory: status.Memory, Log: s.Config.Log(status.Service),
	}
	for _, port := range one.Listens {
		row.Ports[port.Variable()] = s.Config.Port(port)
	}
	if !status.Since.IsZero() {
		row.Since = &status.Since
	}
	if status.Err != nil {
		row.Error = status.Err.Error()
	}
	return row
}

// version is the version of the running program, or of the one that a start would run: the checkout and its revision, or the
// pinned version.
func (s *Stack) version(ctx context.Context, one service.Service, status service.Status) string {
	from := status.From
	if status.PID == 0 {
		from = build.From(s.Config, one.Program)
	}
	if from != "" {
		return from
	}
	if _, ok := s.Config.CheckedOut(filepath.Base(one.Program)); ok {
		one.Program = filepath.Join(s.Config.Programs, filepath.Base(one.Program))
	}
	return s.Version(ctx, one)
}

// Version is the version of a service's program. Go has written the version of the module into the program; go.mod may name
// the release that this is. MariaDB's server prints its own.
func (s *Stack) Version(ctx context.Context, one service.Service) string {
	info, err := buildinfo.ReadFile(one.Program)
	if err != nil {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, one.Program, "--no-defaults", "--version").Output()
		fields := strings.Fields(string(out))
		if err != nil || len(fields) < 3 {
			return "-"
		}
		return fields[2]
	}
	module := &info.Main
	for _, dependency := range info.Deps {
		if dependency.Path == one.Module {
			module = dependency
		}
	}
	if module.Version == "(devel)" {
		return info.GoVersion // a program of this project's own, over Go's standard library
	}
	s.reading.Do(func() { s.release, _ = pins.Releases(s.Config.Root) })
	if s.release == nil {
		return module.Version // go.mod cannot be read
	}
	return s.release(module.Path, module.Version)
}

// ShowStatus prints how every service is, in the form table or json; with watch again and again until ctx ends. Its error
// says what is wrong and what to try, with the exit code for that. With all, it is wrong that a service does not run that the user
// wants to run.
func (s *Stack) ShowStatus(ctx context.Context, form string, watch, all bool) error {
	for watch {
		rows := s.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if s.Console.Fancy() {
			fmt.Print("\x1b[H\x1b[2J")
		}
		if err := writeStatus(os.Stdout, form, rows); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
	rows := s.Status(ctx)
	if err := writeStatus(os.Stdout, form, rows); err != nil {
		return err
	}
	if err := s.wellness(rows); err != nil || !all {
		return err
	}
	for _, one := range s.All() {
		if s.Chosen(one) && slices.ContainsFunc(rows, func(row Row) bool { return row.Service == one.Name && row.State == service.Stopped }) {
			return exitcode.New(exitcode.NotWell, "%s does not run; `"+project.Command+" start` starts it", one.Name)
		}
	}
	return nil
}

func writeStatus(w io.Writer, form string, rows []Row) error {
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
			memory = console.Size(row.Memory)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Service, row.State, pid, since, memory, row.Version, row.Address)
	}
	return table.Flush()
}

// wellness is an error, with the exit code for it, if nothing runs or if a service has crashed or does not answer. It says
// what to try, and prints the ends of these services' logs.
func (s *Stack) wellness(rows []Row) error {
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
			s.Console.Printf("\n%s died. The end of its log, %s:\n%s", row.Service, row.Log, service.LogTail(row.Log, 10))
		default:
			running++
			s.Console.Printf("\n%s runs and does not answer: %s\nThe end of its log, %s:\n%s", row.Service, row.Error, row.Log, service.LogTail(row.Log, 10))
		}
		unwell = append(unwell, fmt.Sprintf("%s (%s)", row.Service, row.State))
	}
	if err := statedir.RoomFor(s.Config, statedir.Spare); err != nil && running > 0 {
		// A service that cannot write answers nevertheless that it is ready.
		s.Console.Printf("\nServices that cannot write answer, and take no entries: %v", err)
	}
	switch {
	case len(unwell) > 0:
		return exitcode.New(exitcode.NotWell, "not well: %s. `"+project.Command+" start` brings back what died; `"+project.Command+" restart SERVICE` starts one anew", strings.Join(unwell, ", "))
	case running == 0:
		return exitcode.New(exitcode.NothingRuns, "nothing runs; `%s start` starts it", project.Command)
	}
	return nil
}
