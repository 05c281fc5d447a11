package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/service"
)

// programs lists the import paths of all programs that the stack runs: this project's own, and the tools that go.mod
// pins.
func programs() []string {
	return []string{
		"sigstore-local/magefiles/cmd/hsm",
		"sigstore-local/magefiles/cmd/launch",
		"sigstore-local/magefiles/cmd/registry",
		"sigstore-local/magefiles/cmd/timestamp-server",
		"sigstore-local/magefiles/cmd/tuf",
		"github.com/dexidp/dex/cmd/dex",
		"github.com/google/certificate-transparency-go/trillian/ctfe/ct_server",
		"github.com/google/ko",
		"github.com/google/trillian/cmd/createtree",
		"github.com/google/trillian/cmd/trillian_log_server",
		"github.com/google/trillian/cmd/trillian_log_signer",
		"github.com/sigstore/cosign/v2/cmd/cosign",
		"github.com/sigstore/fulcio",
		"github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix",
		"github.com/sigstore/rekor/cmd/rekor-cli",
		"github.com/sigstore/rekor/cmd/rekor-server",
	}
}

// Build compiles every program of the stack from the versions that go.mod pins, or from a checkout that is named.
func Build(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	return s.build(ctx, s.restarted)
}

// build builds the pinned programs and the checkouts: only that component's, if only is not empty and the others have
// ever been built.
func (s *stack) build(ctx context.Context, only string) error {
	builder := s.builder()
	if err := builder.Run(ctx); err != nil || len(s.config.Checkouts) == 0 {
		return err
	}
	// The checkouts' programs are this stack's own.
	if err := service.MakeFolders(s.config); err != nil {
		return err
	}
	return builder.Checkouts(ctx, only)
}

func (s *stack) builder() *build.Builder {
	return &build.Builder{
		Config: s.config, Console: s.console, Environ: os.Environ(), Packages: programs(),
		Ready: func(ctx context.Context) (string, error) {
			err := require(ctx, platform.CCompiler)
			return platform.FindCCompiler(), err
		},
	}
}

// Test prepares what the tests need and runs them all, those of the real stack included.
func Test(
	ctx context.Context,
	faults *bool, // repeat each fault as often as the README's figures say, which takes about 20 minutes more
) error {
	if err := require(ctx, platform.Needs()...); err != nil {
		return err
	}
	if err := needs(ctx, Build); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	environ := build.Env(testEnviron(), true)
	if faults != nil && *faults {
		environ = append(environ, "FAULT_ROUNDS=full")
	}
	for _, args := range [][]string{
		{"test", "-count=1", "-timeout=80m", "./..."},
		{"test", "-count=1", "-race", "./magefiles/internal/service"},
	} {
		if err := s.shown(ctx, environ, args...); err != nil {
			return err
		}
	}
	return nil
}

// shown runs go(1), whose output is shown as it comes. When ctx ends, tests get the time to remove what they have made.
func (s *stack) shown(ctx context.Context, environ []string, args ...string) error {
	cmd := command.New(ctx, s.config.Root, environ, "go", args...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// testEnviron is an environment without this stack's settings, for other stacks that have their own.
func testEnviron() []string { return config.Without(os.Environ()) }
