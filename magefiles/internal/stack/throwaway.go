package stack

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// Throwaway is a stack in a scratch folder that runs the programs of another stack, beside it.
type Throwaway struct {
	*Stack
	Environ []string // the environment of commands for this stack
}

// Throwaway describes a stack of a kind in the folder name of a scratch folder. In that stack, the target start runs the services of
// the given names, or all if none is given, on ports that are free and not used by others.
func (s *Stack) Throwaway(in *Scratch, name string, kind config.Stack, tuning config.Tuning, services []string, others ...*Throwaway) (*Throwaway, error) {
	var taken []int
	for _, other := range others {
		for _, port := range other.Config.Ports() {
			taken = append(taken, other.Config.Port(port))
		}
	}
	ports, err := s.freePorts(taken...)
	if err != nil {
		return nil, err
	}
	folder, err := in.throwaway(name)
	if err != nil {
		return nil, err
	}
	settings := []string{
		"SIGLOCAL_STATE=" + folder, "SIGLOCAL_TUNING=" + string(tuning), "SIGLOCAL_INSTALL=never", "SIGLOCAL_STACK=" + string(kind),
	}
	of := s.Config
	of.Stack = kind
	all := s.Services(of)
	if len(services) == 0 {
		services = Names(all)
	} else {
		settings = append(settings, "SIGLOCAL_SERVICES="+strings.Join(services, ","))
	}
	for port, number := range ports {
		settings = append(settings, port.Variable()+"="+strconv.Itoa(number))
	}
	programs := []string{"SIGLOCAL_MARIADBD"}
	// Another module than SoftHSM keeps its tokens outside the stack's folder, so a throwaway stack's token would not be deleted
	// with that folder.
	if strings.Contains(filepath.Base(s.Config.PKCS11Module), "softhsm") {
		programs = append(programs, "SIGLOCAL_PKCS11_MODULE")
	}
	needed := append(service.UsedBy(all, services), services...)
	for _, one := range all {
		// The throwaway stack uses checkouts only for the services that it runs. Upstream's timestamp authority, for example,
		// would need a port that s holds.
		if one.Source != nil && slices.Contains(needed, one.Name) {
			programs = append(programs, one.Source.Variable())
		}
	}
	for _, setting := range s.Config.Settings {
		if variable, _, _ := strings.Cut(setting, "="); slices.Contains(programs, variable) {
			settings = append(settings, setting)
		}
	}
	c, err := config.Load(s.Config.Root, settings, s.Parts()...)
	if err != nil {
		return nil, err
	}
	if err := statedir.MakeFolders(c); err != nil {
		return nil, err
	}
	for name := range c.Checkouts {
		// The source's programs are copied, so that they are not built again.
		source := config.Source{Name: name}
		if err := os.CopyFS(c.CheckoutPrograms(source), os.DirFS(s.Config.CheckoutPrograms(source))); err != nil {
			return nil, err
		}
	}
	one, err := s.with(c)
	return &Throwaway{one, append(config.Without(os.Environ()), settings...)}, err
}

// Mage runs targets of the stack as a user does, and returns how long that took and what they said.
func (t *Throwaway) Mage(ctx context.Context, targets ...string) (took time.Duration, said string, err error) {
	began := time.Now()
	program, args := "go", append([]string{"tool", "mage"}, targets...)
	if project.Packaged() {
		program, args = t.Config.Program("targets"), targets
	}
	said, err = command.Combined(ctx, command.New(ctx, t.Config.Root, t.Environ, program, args...))
	return time.Since(began), said, err
}
