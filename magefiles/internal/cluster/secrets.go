package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/move"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// secret is a Secret (https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/).
type secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   secretMetadata    `json:"metadata"`
	Type       string            `json:"type"`
	Data       map[string][]byte `json:"data"` // base64 in JSON
}

type secretMetadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
}

// Secrets takes the keys and passwords of the stack s, and the configuration files that hold such, into Secrets: files of mode 0600 in a
// folder, or straight to the cluster if the folder is empty.
func Secrets(ctx context.Context, s *stack.Stack, settings Settings, folder string) (err error) {
	step := s.Console.Step("secrets")
	defer func() {
		if err != nil {
			step.Fail()
		}
	}()
	workloads, err := settings.complete(s.Config, s.Services)
	if err != nil {
		return err
	}
	var all []secret
	for _, w := range workloads {
		one, err := w.secret(ctx, s.Config, settings)
		if err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
		if len(one.Data) > 0 {
			all = append(all, one)
		}
	}
	if folder != "" {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		for _, one := range all {
			text, err := json.MarshalIndent(one, "", "  ")
			if err != nil {
				return err
			}
			if err := statedir.WriteSecret(filepath.Join(folder, one.Metadata.Name+".json"), append(text, '\n')); err != nil {
				return err
			}
		}
		step.Done("%d files, which hold keys and passwords, are in %s", len(all), folder)
		return nil
	}
	// With server-side apply no copy of what is secret is kept in an annotation.
	_, err = tell(ctx, s, settings, func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		for _, one := range all {
			if err := encoder.Encode(one); err != nil {
				return err
			}
		}
		return nil
	}, "apply", "--server-side", "--force-conflicts", "--filename=-")
	if err != nil {
		return err
	}
	step.Done("%d Secrets are in the namespace %s", len(all), settings.Namespace)
	return nil
}

// secret holds the private files of a workload.
func (w Workload) secret(ctx context.Context, machine config.Config, settings Settings) (secret, error) {
	made := secret{
		APIVersion: "v1", Kind: "Secret", Type: "Opaque", Data: map[string][]byte{},
		Metadata: secretMetadata{Name: w.SecretName(), Namespace: settings.Namespace, Labels: map[string]string{
			"app.kubernetes.io/name": w.Name, "app.kubernetes.io/part-of": "sigstore-local",
		}},
	}
	for _, name := range w.Private {
		text, err := w.private(ctx, machine, settings, name)
		if err != nil {
			return made, err
		}
		made.Data[Key(name)] = text
	}
	for _, folder := range w.Placed {
		var stream bytes.Buffer
		if _, err := move.SendFolder(ctx, filepath.Join(machine.State, filepath.FromSlash(folder)), &stream); err != nil {
			return made, err
		}
		made.Data[Key(folder)] = stream.Bytes()
	}
	return made, nil
}

// private is the content of a private file: of a configuration file as a pod sees it, or of the machine's.
func (w Workload) private(ctx context.Context, machine config.Config, settings Settings, name string) ([]byte, error) {
	if name == databaseDSN {
		return os.ReadFile(settings.MySQL.DSNFile)
	}
	if path.Dir(name) != "config" {
		return os.ReadFile(filepath.Join(machine.State, filepath.FromSlash(name)))
	}
	values := values(w.there)
	for _, one := range w.Services {
		if one.Tree == "" {
			continue
		}
		tree, err := database.Tree(ctx, machine, one.Tree)
		if err != nil {
			return nil, err
		}
		values["Tree"] = tree
	}
	return service.Render(w.there, path.Base(name), values, func(_ config.Config, name config.Secret) (string, error) {
		return statedir.Secret(machine, name)
	})
}
