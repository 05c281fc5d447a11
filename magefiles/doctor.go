package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/magefile/mage/mg"
	"golang.org/x/sys/unix"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/service"
)

// exitUnhealthy is doctor's exit code if anything fails.
const exitUnhealthy = 5

// finding is what doctor found out about one thing.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
	Mend  string `json:"mend,omitempty"` // a command, or what to do, if it is not OK
}

// Doctor checks whether the stack can run here, changes nothing, and says how to mend what fails.
func Doctor(
	ctx context.Context,
	o *string, // the form of the output: table or json
) error {
	form, err := choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	findings := s.examine(ctx)
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
				fmt.Printf("  to mend it:    %s\n", f.Mend)
			}
		}
	}
	if failed > 0 {
		return mg.Fatalf(exitUnhealthy, "%d of %d checks failed", failed, len(findings))
	}
	return nil
}

// Setup installs what doctor finds missing of the system, if it can without asking.
func Setup(ctx context.Context) error {
	if err := require(ctx, platform.Needs()...); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	s.console.Printf("Nothing is missing.")
	return nil
}

func (s *stack) examine(ctx context.Context) []finding {
	findings := []finding{s.examineGo(ctx)}
	findings = append(findings, s.examineNeeds(ctx)...)
	findings = append(findings, s.examineDisk(), s.examineSockets(), s.examineLocalhost(ctx), s.examineState())
	findings = append(findings, s.examinePorts()...)
	return append(findings, s.examineLeftovers())
}

func (s *stack) examineGo(ctx context.Context) finding {
	out, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		return finding{"Go", false, fmt.Sprintf("go version: %v", err), "put Go's bin folder on the PATH"}
	}
	return finding{Check: "Go", OK: true, Found: strings.TrimSpace(string(out))}
}

func (s *stack) examineNeeds(ctx context.Context) []finding {
	var findings []finding
	for _, need := range platform.Needs() {
		found := map[platform.Need]func() string{
			platform.CCompiler:    platform.FindCCompiler,
			platform.MariaDB:      func() string { return s.examineMariaDB(ctx) },
			platform.PKCS11Module: func() string { return pkcs11Module(s.config) },
		}[need]()
		check := map[platform.Need]string{platform.CCompiler: "C compiler", platform.MariaDB: "MariaDB", platform.PKCS11Module: "PKCS#11"}[need]
		if len(s.missing([]platform.Need{need})) == 0 {
			if err := s.unfit(ctx, need); err != nil {
				findings = append(findings, finding{check, false, err.Error(), "set SIGLOCAL_MARIADBD to another"})
				continue
			}
			findings = append(findings, finding{Check: check, OK: true, Found: found})
			continue
		}
		mend := "install " + string(need)
		if system, err := platform.Current(); err == nil {
			mend = system.Paste([]platform.Need{need}, os.Geteuid() == 0)
		}
		findings = append(findings, finding{check, false, string(need) + " not found", mend})
	}
	return findings
}

// unfit says why what there is of need cannot be used.
func (s *stack) unfit(ctx context.Context, need platform.Need) error {
	if need != platform.MariaDB {
		return nil
	}
	server, _, err := mariaDBPrograms(s.config)
	if err != nil {
		return err
	}
	return checkMariaDB(ctx, server)
}

func (s *stack) examineMariaDB(ctx context.Context) string {
	server, _, err := mariaDBPrograms(s.config)
	if err != nil {
		return err.Error()
	}
	return server + " " + version(ctx, service.Service{Program: server})
}

// What building and running need beside Go's own caches, in bytes.
const (
	diskToBuild = 6 << 30
	diskToRun   = 1 << 30
)

func (s *stack) examineDisk() finding {
	needed := int64(diskToRun)
	if _, err := os.Stat(s.config.Program("cosign")); err != nil {
		needed = diskToBuild
	}
	folder := existing(s.config.State)
	free, err := platform.FreeDisk(folder)
	if err != nil {
		return finding{"disk", false, fmt.Sprintf("%s: %v", folder, err), "set SIGLOCAL_STATE to another folder"}
	}
	found := fmt.Sprintf("%.1f GB free at %s", float64(free)/1e9, folder)
	if free < needed {
		return finding{"disk", false, fmt.Sprintf("%s, %.1f GB needed", found, float64(needed)/1e9),
			"make room, with `go clean -testcache -fuzzcache` for one, or set SIGLOCAL_STATE to a folder on another disk"}
	}
	return finding{Check: "disk", OK: true, Found: found}
}

// existing is the nearest folder at or above path that there is.
func existing(path string) string {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	return path
}

func (s *stack) examineSockets() finding {
	// A path that is too long is refused when the configuration is read.
	return finding{Check: "socket paths", OK: true, Found: fmt.Sprintf("%d of %d bytes", len(s.config.DatabaseSocket()), config.MaxSocketPath())}
}

func (s *stack) examineLocalhost(ctx context.Context) finding {
	addresses, err := net.DefaultResolver.LookupHost(ctx, "localhost")
	for _, address := range addresses {
		if address == "127.0.0.1" {
			return finding{Check: "localhost", OK: true, Found: "127.0.0.1"}
		}
	}
	found := fmt.Sprintf("localhost is %v, not 127.0.0.1", addresses)
	if err != nil {
		found = fmt.Sprintf("localhost is not known: %v", err)
	}
	return finding{"localhost", false, found, "add the line `127.0.0.1 localhost` to /etc/hosts"}
}

func (s *stack) examineState() finding {
	folder := existing(s.config.State)
	if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
		return finding{"state folder", false, fmt.Sprintf("%s cannot be written to: %v", folder, err), "set SIGLOCAL_STATE to a folder of yours"}
	}
	if err := service.CheckFolder(s.config); err != nil {
		return finding{"state folder", false, err.Error(), "set SIGLOCAL_STATE to an empty folder"}
	}
	return finding{Check: "state folder", OK: true, Found: s.config.State}
}

// examinePorts looks at the ports of the services that do not run; those of the others are theirs.
func (s *stack) examinePorts() []finding {
	var findings []finding
	free := 0
	for _, one := range services(s.config) {
		if runs, err := s.engine.Runs(one); err != nil || runs {
			continue
		}
		for _, port := range one.Listens {
			if err := service.PortFree(s.config, port); err != nil {
				findings = append(findings, finding{"port", false, fmt.Sprintf("%s of %s is taken by %s", s.config.Address(port), one.Name, platform.Listener(s.config.Address(port))),
					fmt.Sprintf("end that, or set %s or SIGLOCAL_PORT_OFFSET", port.Variable())})
				continue
			}
			free++
		}
	}
	if len(findings) == 0 {
		findings = append(findings, finding{Check: "ports", OK: true, Found: fmt.Sprintf("%d are free, the others are the stack's own", free)})
	}
	return findings
}

// examineLeftovers looks for what a run left that did not end in good order.
func (s *stack) examineLeftovers() finding {
	var crashed []string
	for _, one := range services(s.config) {
		if s.engine.Crashed(one) {
			crashed = append(crashed, one.Name)
		}
	}
	pid, err := lock.Holder(s.config.Run("stack.lock"))
	switch {
	case len(crashed) > 0:
		return finding{"leftovers", false, "died and were not started again: " + strings.Join(crashed, ", "), "go tool mage start"}
	case err != nil:
		return finding{"leftovers", false, err.Error(), "go tool mage reset"}
	case pid != 0:
		return finding{Check: "leftovers", OK: true, Found: fmt.Sprintf("process %d is at work on the stack", pid)}
	}
	return finding{Check: "leftovers", OK: true, Found: "none"}
}
