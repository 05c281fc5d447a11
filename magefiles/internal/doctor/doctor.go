// Package doctor checks whether the stack can run here, and packs a support archive.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/exitcode"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"` // a command, or what to do, if the check failed
}

// examiner examines a stack.
type examiner struct{ *stack.Stack }

// Show prints what is found, in the form table or json. Its error says that something fails, with the exit code for that.
func Show(ctx context.Context, s *stack.Stack, form string) error {
	findings := examine(ctx, s)
	failed := 0
	for _, f := range findings {
		if !f.OK {
			failed++
		}
	}
	if form == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(findings); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark := "✓"
			if !f.OK {
				mark = "✗"
			}
			fmt.Printf("%s %-14s %s\n", mark, f.Check, f.Found)
			if !f.OK {
				fmt.Printf("  to fix it:     %s\n", f.Fix)
			}
		}
	}
	if failed > 0 {
		return exitcode.New(exitcode.Unhealthy, "%d of %d checks failed", failed, len(findings))
	}
	return nil
}

// examine checks everything.
func examine(ctx context.Context, s *stack.Stack) []Finding {
	d := examiner{s}
	var findings []Finding
	if !project.Packaged() {
		findings = append(findings, d.examineGo(ctx))
	}
	findings = append(findings, d.examineNeeds(ctx)...)
	findings = append(findings, d.examineDisk(), d.examineSockets(), d.examineLocalhost(ctx), d.examineState())
	findings = append(findings, d.examinePorts()...)
	return append(findings, d.examineLeftovers())
}

func (d examiner) examineGo(ctx context.Context) Finding {
	out, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		return Finding{"Go", false, fmt.Sprintf("go version: %v", err), "put Go's bin folder on the PATH"}
	}
	return Finding{Check: "Go", OK: true, Found: strings.TrimSpace(string(out))}
}

func (d examiner) examineNeeds(ctx context.Context) []Finding {
	var findings []Finding
	for _, need := range d.Needs() {
		found := map[platform.Need]func() string{
			platform.CCompiler:    platform.FindCCompiler,
			platform.MariaDB:      func() string { return d.examineMariaDB(ctx) },
			platform.PKCS11Module: func() string { return stack.PKCS11Module(d.Config) },
		}[need]()
		check := map[platform.Need]string{platform.CCompiler: "C compiler", platform.MariaDB: "MariaDB", platform.PKCS11Module: "PKCS#11"}[need]
		if len(d.Missing([]platform.Need{need})) == 0 {
			if err := d.unfit(ctx, need); err != nil {
				findings = append(findings, Finding{check, false, err.Error(), "set SIGLOCAL_MARIADBD to another"})
				continue
			}
			findings = append(findings, Finding{Check: check, OK: true, Found: found})
			continue
		}
		fix := "install " + string(need)
		if system, err := platform.Current(); err == nil {
			fix = system.Paste([]platform.Need{need}, os.Geteuid() == 0)
		}
		findings = append(findings, Finding{check, false, string(need) + " not found", fix})
	}
	return findings
}

// unfit says why the program or library that was found for need cannot be used.
func (d examiner) unfit(ctx context.Context, need platform.Need) error {
	if need != platform.MariaDB {
		return nil
	}
	server, _, err := stack.MariaDBPrograms(d.Config)
	if err != nil {
		return err
	}
	return stack.CheckMariaDB(ctx, server)
}

func (d examiner) examineMariaDB(ctx context.Context) string {
	server, _, err := stack.MariaDBPrograms(d.Config)
	if err != nil {
		return err.Error()
	}
	return server + " " + d.Version(ctx, service.Service{Program: server})
}

// The disk space that building and running need, beside Go's caches, in bytes.
const (
	diskToBuild = 6_500_000_000
	diskToRun   = 1_000_000_000
)

func (d examiner) examineDisk() Finding {
	needed := int64(diskToRun)
	if _, err := os.Stat(d.Config.Program("cosign")); err != nil {
		needed = diskToBuild
	}
	folder := existing(d.Config.State)
	free, err := platform.FreeDisk(folder)
	if err != nil {
		return Finding{"disk", false, fmt.Sprintf("%s: %v", folder, err), "set SIGLOCAL_STATE to another folder"}
	}
	found := fmt.Sprintf("%s free at %s", console.Size(free), folder)
	if free < needed {
		return Finding{"disk", false, fmt.Sprintf("%s, %s needed", found, console.Size(needed)),
			"make room, with `go clean -testcache -fuzzcache` for one, or set SIGLOCAL_STATE to a folder on another disk"}
	}
	return Finding{Check: "disk", OK: true, Found: found}
}

// existing is the nearest folder at or above path that exists.
func existing(path string) string {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	return path
}

func (d examiner) examineSockets() Finding {
	// A path that is too long is refused when the configuration is read.
	return Finding{Check: "socket paths", OK: true, Found: fmt.Sprintf("%d of %d bytes", len(d.Config.DatabaseSocket()), config.MaxSocketPath())}
}

func (d examiner) examineLocalhost(ctx context.Context) Finding {
	addresses, err := net.DefaultResolver.LookupHost(ctx, "localhost")
	for _, address := range addresses {
		if address == "127.0.0.1" {
			return Finding{Check: "localhost", OK: true, Found: "127.0.0.1"}
		}
	}
	found := fmt.Sprintf("localhost is %v, not 127.0.0.1", addresses)
	if err != nil {
		found = fmt.Sprintf("localhost is not known: %v", err)
	}
	return Finding{"localhost", false, found, "add the line `127.0.0.1 localhost` to /etc/hosts"}
}

func (d examiner) examineState() Finding {
	folder := existing(d.Config.State)
	if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
		return Finding{"state folder", false, fmt.Sprintf("%s cannot be written to: %v", folder, err), "set SIGLOCAL_STATE to a folder of yours"}
	}
	if err := statedir.CheckFolder(d.Config); err != nil {
		return Finding{"state folder", false, err.Error(), "set SIGLOCAL_STATE to an empty folder"}
	}
	return Finding{Check: "state folder", OK: true, Found: d.Config.State}
}

// examinePorts checks that the ports of the services that do not run are free.
func (d examiner) examinePorts() []Finding {
	var findings []Finding
	free := 0
	for _, one := range d.All() {
		if runs, err := d.Engine.Runs(one); err != nil || runs {
			continue
		}
		for _, port := range one.Listens {
			if err := service.PortFree(d.Config, port); err != nil {
				findings = append(findings, Finding{"port", false, fmt.Sprintf("%s of %s is taken by %s", d.Config.Address(port), one.Name, platform.Listener(d.Config.Address(port))),
					fmt.Sprintf("end that, or set %s or SIGLOCAL_PORT_OFFSET", port.Variable())})
				continue
			}
			free++
		}
	}
	if len(findings) == 0 {
		findings = append(findings, Finding{Check: "ports", OK: true, Found: fmt.Sprintf("%d are free, the others are the stack's own", free)})
	}
	return findings
}

// examineLeftovers looks for services that have died, and for a process that holds the stack's lock.
func (d examiner) examineLeftovers() Finding {
	var crashed []string
	for _, one := range d.All() {
		if d.Engine.Crashed(one) {
			crashed = append(crashed, one.Name)
		}
	}
	pid, err := lock.Holder(d.Config.Run("stack.lock"))
	switch {
	case len(crashed) > 0:
		return Finding{"leftovers", false, "died and were not started again: " + strings.Join(crashed, ", "), project.Command + " start"}
	case err != nil:
		return Finding{"leftovers", false, err.Error(), project.Command + " reset"}
	case pid != 0 && pid != os.Getpid():
		return Finding{Check: "leftovers", OK: true, Found: fmt.Sprintf("process %d is at work on the stack", pid)}
	}
	return Finding{Check: "leftovers", OK: true, Found: "none"}
}
