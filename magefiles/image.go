package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
)

// Image makes a container image that holds the whole stack, pushes it to the stack's registry, and signs it there, with its SBOM and its
// provenance. It needs Debian, but no Docker.
func Image(
	ctx context.Context,
	version *string, // the image's version; what git says of the checkout if not given
	o *string, // an archive to write it into, for docker load, podman load and ctr images import, in place of the registry
) error {
	if err := image.Possible(); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	named, err := pack.Version(ctx, s.Config.Root, version)
	if err != nil {
		return err
	}
	file := ""
	if o != nil {
		file = fromUser(*o)
		if there, err := os.Stat(file); err == nil && !there.Mode().IsRegular() {
			return fmt.Errorf("-o is %q; accepted is a file", *o)
		}
	}
	if err := s.Require(ctx, platform.RootFS); err != nil {
		return err
	}
	if err := needs(ctx, requireAll); err != nil {
		return err
	}
	services := bundleServices(s.Config)
	if file == "" {
		services = append(services, Registry.Start)
	}
	if err := needs(ctx, services...); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	staged, err := os.MkdirTemp(filepath.Join(s.Config.State, "tmp"), "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	began := time.Now()
	made, err := image.Build(ctx, s.Stack, image.Order{Version: named, Archive: file}, staged)
	if err != nil {
		return err
	}
	provenance := filepath.Join(staged, "provenance.json")
	if err := image.Provenance(ctx, s.Stack, named, made, provenance, began); err != nil {
		return err
	}
	verify, err := image.Sign(ctx, s.Stack, made, provenance)
	if err != nil {
		return err
	}
	// By these variables cosign trusts the stack; for an archive the commands name what to trust.
	after := ""
	if file == "" {
		after = `, after eval "$(` + project.Command + ` env)"`
	}
	for _, line := range verify {
		s.Console.Printf("To verify it%s: %s", after, line)
	}
	return nil
}
