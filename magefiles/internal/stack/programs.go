package stack

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/statedir"
)

// Programs lists the import paths of all programs that are built: launch, sweep, and those that the descriptions of services
// and clients name.
func (s *Stack) Programs() []string {
	programs := []string{project.Module + "/magefiles/cmd/launch", project.Module + "/magefiles/cmd/sweep"}
	for _, one := range slices.Concat(s.All(), s.Clients(s.Config)) {
		for _, name := range one.Packages {
			if !slices.Contains(programs, name) {
				programs = append(programs, name)
			}
		}
	}
	slices.Sort(programs)
	return programs
}

// Builder builds the Programs.
func (s *Stack) Builder() *build.Builder {
	return &build.Builder{
		Config: s.Config, Console: s.Console, Environ: os.Environ(), Packages: s.Programs(),
		Ready: func(ctx context.Context) (string, error) {
			err := s.Require(ctx, platform.CCompiler)
			return platform.FindCCompiler(), err
		},
	}
}

// Build builds the pinned programs and the checkouts. If only names a source, the checkouts of other sources are built only
// if they never were.
func (s *Stack) Build(ctx context.Context, only string) error {
	if checkouts := slices.Sorted(maps.Keys(s.Config.Checkouts)); project.Packaged() && len(checkouts) > 0 {
		return fmt.Errorf("%s names a checkout, which only a checkout of this project builds: it needs Go", config.Source{Name: checkouts[0]}.Variable())
	}
	builder := s.Builder()
	if err := builder.Run(ctx); err != nil || len(s.Config.Checkouts) == 0 {
		return err
	}
	// The checkouts' programs are in the state folder.
	if err := statedir.MakeFolders(s.Config); err != nil {
		return err
	}
	return builder.Checkouts(ctx, only)
}

// RequireToRun is Require, but without the C compiler if the programs are built: trying a compiler takes as long as a
// daemon's start.
func (s *Stack) RequireToRun(ctx context.Context, needs ...platform.Need) error {
	built, err := s.Builder().Built()
	if err != nil {
		return err
	}
	if built && len(s.Config.Checkouts) == 0 {
		needs = slices.DeleteFunc(slices.Clone(needs), func(need platform.Need) bool { return need == platform.CCompiler })
	}
	return s.Require(ctx, needs...)
}
