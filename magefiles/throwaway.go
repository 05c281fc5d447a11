package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/service"
)

// rig is a throwaway stack.
type rig struct {
	config  config.Config
	environ []string
	engine  *service.Engine
}

// throwaway describes a stack in the folder state, whose start runs so many services, on ports that are free and of none
// of others.
func (s *stack) throwaway(state string, tuning config.Tuning, services []string, others ...*rig) (*rig, error) {
	// Anywhere, since two that are made at the same time see the same ports free.
	for offset := 12000 + rand.IntN(6000); offset < 24000; offset += 7 {
		settings := []string{
			"SIGLOCAL_STATE=" + state, "SIGLOCAL_PORT_OFFSET=" + strconv.Itoa(offset),
			"SIGLOCAL_TUNING=" + string(tuning), "SIGLOCAL_INSTALL=never", "SIGLOCAL_SERVICES=" + strings.Join(services, ","),
		}
		for _, v := range config.Variables() {
			if value, ok := os.LookupEnv(v.Name); ok && (v.Name == "SIGLOCAL_MARIADBD" || v.Name == "SIGLOCAL_PKCS11_MODULE") {
				settings = append(settings, v.Name+"="+value)
			}
		}
		c, err := config.Load(s.config.Root, settings)
		if err != nil {
			return nil, err
		}
		taken := slices.ContainsFunc(others, func(other *rig) bool { return other.config.Port(config.Rekor) == c.Port(config.Rekor) })
		for _, port := range config.PortNames() {
			taken = taken || service.PortFree(c, port) != nil
		}
		if taken {
			continue
		}
		quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &rig{
			config: c, environ: append(testEnviron(), settings...),
			engine: &service.Engine{Config: c, Console: console.New(quiet, os.Getenv), StartTimeout: startTimeout},
		}, nil
	}
	return nil, errors.New("no offset leaves all ports free for a throwaway stack")
}

// mage runs targets of the stack as a user does, and returns how long that took.
func (r *rig) mage(ctx context.Context, targets ...string) (time.Duration, error) {
	took, _, err := r.run(ctx, targets...)
	return took, err
}

func (r *rig) run(ctx context.Context, targets ...string) (time.Duration, string, error) {
	began := time.Now()
	said, err := command.Combined(ctx, command.New(ctx, r.config.Root, r.environ, "go", append([]string{"tool", "mage"}, targets...)...))
	return time.Since(began), said, err
}

// remove ends the stack and deletes its folder.
func (r *rig) remove(ctx context.Context) error {
	_, err := r.mage(ctx, "stop")
	return errors.Join(err, os.RemoveAll(r.config.State))
}
