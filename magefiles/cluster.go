package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/stack"
)

// Cluster is this stack on Kubernetes: described once, with the same keys and logs.
type Cluster mg.Namespace

// Render writes manifests for Kubernetes, a Kustomize base for kubectl apply -k, made from the same descriptions that start uses.
func (Cluster) Render(
	ctx context.Context,
	o *string, // the folder to write into; cluster in the state folder if not given
) error {
	s, settings, err := clusterSettings()
	if err != nil {
		return err
	}
	folder := filepath.Join(s.Config.State, "cluster", "base")
	if o != nil {
		folder = fromUser(*o)
	}
	return cluster.Render(ctx, s.Stack, settings, folder)
}

// clusterSettings reads the settings of the cluster.
func clusterSettings() (*shared, cluster.Settings, error) {
	s, err := load()
	if err != nil {
		return nil, cluster.Settings{}, err
	}
	settings, err := cluster.Read(s.Config.ClusterFile, s.Config, s.Services)
	return s, settings, err
}

// Images makes the image that the cluster's pods run, and pushes it into the repository that KO_DOCKER_REPO names, with the credentials
// that docker, podman or ko have for its registry.
func (Cluster) Images(
	ctx context.Context,
	version *string, // the image's version; what git says of the checkout if not given
) error {
	repository := os.Getenv(imageRepository)
	if !plainRepository.MatchString(repository) {
		return fmt.Errorf("%s is %q; accepted is a registry and perhaps a path, as in registry.example.org/team", imageRepository, repository)
	}
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
	if err := s.Require(ctx, platform.RootFS); err != nil {
		return err
	}
	if err := needs(ctx, requireAll, Build); err != nil {
		return err
	}
	if s, err = acquire(ctx); err != nil {
		return err
	}
	return cluster.Images(ctx, s.Stack, named, repository)
}

// imageRepository is the variable by which ko knows where to push images (https://ko.build/configuration/#overview).
const imageRepository = "KO_DOCKER_REPO"

var plainRepository = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$`)

// Secrets takes this stack's keys, certificates and passwords into Secrets of the cluster that kubectl speaks to.
func (Cluster) Secrets(
	ctx context.Context,
	o *string, // a folder to write them into, each a file of mode 0600, in place of the cluster
) error {
	s, settings, err := clusterSettings()
	if err != nil {
		return err
	}
	if err := needs(ctx, onlyDatabase); err != nil {
		return err
	}
	folder := ""
	if o != nil {
		folder = fromUser(*o)
	}
	return cluster.Secrets(ctx, s.Stack, settings, folder)
}

// Data moves what this stack has signed and logged into the cluster, and compares what is there with what is here. It stops the stack,
// whose logs then go on in the cluster alone.
func (Cluster) Data(ctx context.Context) error {
	s, settings, err := clusterSettings()
	if err != nil {
		return err
	}
	move, err := cluster.NewMove(ctx, s.Stack, settings)
	if err != nil {
		return err
	}
	if err := needs(ctx, onlyDatabase); err != nil {
		return err
	}
	var stops []any
	for _, component := range components() {
		if !component.describe(s.Config).Ready.Database {
			stops = append(stops, component.stop)
		}
	}
	if err := needs(ctx, stops...); err != nil {
		return err
	}
	if err := move.Data(ctx); err != nil {
		return err
	}
	return needs(ctx, Stop)
}

// onlyDatabase starts the database, if the stack has one, in which the IDs of trees are.
func onlyDatabase(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil || !s.Config.HasDatabase() {
		return err
	}
	return needs(ctx, startMariaDB)
}

// Status shows the state of every service in the cluster that kubectl speaks to. Its exit codes are those of status.
func (Cluster) Status(
	ctx context.Context,
	o *string, // the form of the output: table or json
) error {
	form, err := stack.Choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	s, settings, err := clusterSettings()
	if err != nil {
		return err
	}
	return cluster.ShowStatus(ctx, s.Stack, settings, form)
}
