package main

import (
	"context"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
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
		Args:     []string{"-address", c.Address(config.Registry), "-dir", c.Data("registry")},
		Listens:  []config.Port{config.Registry},
		Address:  c.Localhost(config.Registry),
		Ready:    service.Answers(c.URL(config.Registry) + "/v2/base/manifests/latest"),
		Passes:   []service.Passage{{Line: goLog + `stored ".*" ".*": signature$`, From: "cosign", To: "registry", What: "signature"}},
	}
}
