package main

import (
	"context"
	"os"
	"path/filepath"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/project"
)

// Package writes an archive that runs the stack on a machine without Go and without a compiler, with its checksum and a keyless signature
// by this stack beside it.
func Package(
	ctx context.Context,
	version *string, // the archive's version; what git says of the checkout if not given
	o *string, // the folder to write into; state/packages if not given
	arch *string, // the architecture of the machine that it is for: amd64 or arm64 (that of this one if not given)
) error {
	s, err := load()
	if err != nil {
		return err
	}
	builder, err := pack.Builder(s.Stack, arch)
	if err != nil {
		return err
	}
	if err := needs(ctx, requireAll); err != nil {
		return err
	}
	named, err := pack.Version(ctx, s.Config.Root, version)
	if err != nil {
		return err
	}
	folder := filepath.Join(s.Config.State, "packages")
	if o != nil {
		folder = fromUser(*o)
	}
	// What takes minutes comes before anything is started.
	if err := builder.Run(ctx); err != nil {
		return err
	}
	if err := needs(ctx, bundleServices(s.Config)...); err != nil {
		return err
	}
	file, err := pack.Archive(ctx, s.Stack, builder, named, folder)
	if err != nil {
		return err
	}
	sum, err := pack.Sum(file)
	if err != nil {
		return err
	}
	verify, err := pack.Sign(ctx, s.Stack, sum)
	if err != nil {
		return err
	}
	s.Console.Printf("To verify it: (cd %s && sha256sum -c %s) && %s", shellescape.Quote(folder), filepath.Base(sum), verify)
	return nil
}

// fromUser is a path as the user means it, who may be in another folder than the targets.
func fromUser(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(os.Getenv(project.CalledFrom), path)
}
