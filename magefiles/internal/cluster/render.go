package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
)

// Base describes what is rendered, for the program that makes Kubernetes' objects of it.
type Base struct {
	Folder    string     `json:"folder"` // to write into
	Settings  Settings   `json:"settings"`
	Image     string     `json:"image"` // by digest
	Workloads []Workload `json:"workloads"`
	Routes    []Route    `json:"routes"`
	CA        string     `json:"ca"`  // certificates of CAs in PEM
	Env       []string   `json:"env"` // NAME=value, of every container
}

// Route says by which host clients from outside of the cluster reach a port.
type Route struct {
	Host    string      `json:"host"`
	Service string      `json:"service"`
	Port    config.Port `json:"port"`
}

// SecretName is the name of the Secret with the private files of a workload.
func (w Workload) SecretName() string { return w.Name + "-files" }

// Key is the name that a file below the stack's folder has in a Secret or ConfigMap, in which names have no slashes.
func Key(file string) string { return strings.ReplaceAll(file, "/", ".") }

// imageFile holds the reference of the image that was pushed last.
func imageFile(c config.Config) string { return filepath.Join(c.State, "cluster", "image") }

// image is the image that pods run: the one that the settings name, or else the one that was pushed last.
func (s Settings) image(c config.Config) (string, error) {
	if s.Image != "" {
		return s.Image, nil
	}
	text, err := os.ReadFile(imageFile(c))
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("there is no image yet for the cluster's pods: push one with `" + project.Command + " cluster:images`, or name one by digest as image in the settings")
	}
	return strings.TrimSpace(string(text)), err
}

// Render writes a Kustomize base for the stack s into a folder, and says how to apply it.
func Render(ctx context.Context, s *stack.Stack, settings Settings, folder string) (err error) {
	image, err := settings.image(s.Config)
	if err != nil {
		return err
	}
	workloads, err := settings.complete(s.Config, s.Services)
	if err != nil {
		return err
	}
	step := s.Console.Step("cluster")
	defer func() {
		if err != nil {
			step.Fail()
			return
		}
		step.Done("%s", folder)
		s.Console.Printf("Next: `kubectl apply --filename=%s`, `"+project.Command+" cluster:secrets`, `kubectl apply --kustomize=%s`, `"+project.Command+" cluster:data`.",
			shellescape.Quote(filepath.Join(folder, "namespace.yaml")), shellescape.Quote(folder))
	}()
	base := Base{Folder: folder, Settings: settings, Image: image, Workloads: workloads, Env: settings.env()}
	if settings.CA != "" {
		text, err := os.ReadFile(settings.CA)
		if err != nil {
			return err
		}
		base.CA = string(text)
	}
	if settings.Ingress.Class != "" {
		for _, w := range base.Workloads {
			for _, one := range w.Services {
				for _, port := range config.PublicPorts(one.Listens) {
					base.Routes = append(base.Routes, Route{settings.host(port), one.Name, port})
				}
			}
		}
	}
	return runProgram(ctx, s, base)
}

// env are the variables of every container, beside those of its service.
func (s Settings) env() []string {
	if s.CA == "" {
		return nil
	}
	return []string{"SSL_CERT_DIR=" + CAFolder}
}

// CAFolder is where a container has the certificates of the CAs that the settings name. Go reads this folder beside the file with the
// public ones (https://pkg.go.dev/crypto/x509#SystemCertPool).
const CAFolder = "/etc/sigstore-local/ca"

// runProgram builds and runs the program cluster, which has Kubernetes' types.
func runProgram(ctx context.Context, s *stack.Stack, base Base) error {
	staged, err := os.MkdirTemp(filepath.Join(s.Config.State, "tmp"), "cluster")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	text, err := json.Marshal(base)
	if err != nil {
		return err
	}
	description := filepath.Join(staged, "base.json")
	if err := os.WriteFile(description, text, 0o600); err != nil {
		return err
	}
	program, err := pack.Tool(ctx, s.Config.Root, "cluster", staged)
	if err != nil {
		return err
	}
	if _, err := command.OwnOutput(ctx, command.New(ctx, s.Config.Root, os.Environ(), program, description)); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	return nil
}
