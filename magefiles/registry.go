package main

import (
	"context"
	"fmt"
	"regexp"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/registryclient"
	"sigstore-local/magefiles/internal/service"
)

// Registry is the OCI registry that holds images and their signatures.
type Registry mg.Namespace

// Start starts the registry.
func (Registry) Start(ctx context.Context) error {
	if err := needs(ctx, Build); err != nil {
		return err
	}
	return start(ctx, registry, nil)
}

// Restart rebuilds the registry if its source has changed, and restarts only the registry.
func (Registry) Restart(ctx context.Context) error {
	return restartOnly(ctx, Registry.Start, registryComponent())
}

// Stop stops the registry.
func (Registry) Stop(ctx context.Context) error { return stop(ctx, registry) }

// Image stores a small new image, which therefore nobody has signed, and prints its reference.
func (Registry) Image(
	ctx context.Context,
	repository string, // the image's repository in the registry, such as example
) error {
	if !repositoryName.MatchString(repository) {
		return fmt.Errorf("the repository is %q; accepted are parts of small letters, digits and any of . _ - with slashes between them", repository)
	}
	if err := needs(ctx, Registry.Start); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	reference, err := registryclient.NewImage(ctx, s.Config, repository, "An image to sign")
	if err == nil {
		fmt.Println(reference)
	}
	return err
}

// repositoryName matches the name of a repository (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests).
var repositoryName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)

func registryComponent() component {
	return component{describe: registry, start: Registry.Start, stop: Registry.Stop}
}

func registry(c config.Config) service.Service {
	return service.Service{
		Name:  "registry",
		About: "an OCI registry, with images and signatures",
		Uses: []service.Use{
			{Of: "data/registry", To: "keep images and signatures"},
		},
		Stacks:   []config.Stack{config.Tutorial, config.Tiles},
		Program:  c.Program("registry"),
		Packages: []string{project.Module + "/magefiles/cmd/registry"},
		Module:   "github.com/google/go-containerregistry",
		Single:   "it keeps images in a folder, into which only one copy may write",
		Args:     []string{"-address", c.ListenAddress(config.Registry), "-dir", c.Data("registry")},
		Listens:  []config.Port{config.Registry},
		Address:  c.Localhost(config.Registry),
		Ready:    service.Answers(c.URL(config.Registry) + "/v2/base/manifests/latest"),
		Passes:   []service.Passage{{Line: goLog + `stored ".*" ".*": signature$`, From: "cosign", To: "registry", What: "signature"}},
	}
}
