package cluster

import (
	"context"
	"os"
	"path/filepath"

	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// Images makes the image that the pods run, and pushes it into a repository, with the user's own credentials for its registry. What
// cluster:render writes then names it by its digest.
func Images(ctx context.Context, s *stack.Stack, version, repository string) error {
	staged, err := os.MkdirTemp(filepath.Join(s.Config.State, "tmp"), "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	var debian []string
	if s.Config.HasDatabase() {
		debian = append(debian, "galera-4")
	}
	made, err := image.Build(ctx, s, image.Order{
		Version: version, Repository: repository + "/" + pack.Command, Further: []string{project.Module + "/magefiles/cmd/data"}, Debian: debian,
	}, staged)
	if err != nil {
		return err
	}
	return statedir.WriteSecret(imageFile(s.Config), []byte(made.Reference+"\n"))
}
