// Cluster writes a Kustomize base that runs a stack on Kubernetes. It is a program of its own because Kubernetes' types are large, and the
// magefiles do without them.
//
// Usage: cluster DESCRIPTION
//
// DESCRIPTION is a JSON file, whose form is the type cluster.Base.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"sigs.k8s.io/yaml"

	"sigstore-local/magefiles/internal/cluster"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cluster DESCRIPTION")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(description string) error {
	text, err := os.ReadFile(description)
	if err != nil {
		return err
	}
	var base cluster.Base
	if err := json.Unmarshal(text, &base); err != nil {
		return fmt.Errorf("%s: %w", description, err)
	}
	files, err := render(base)
	if err != nil {
		return err
	}
	return write(base.Folder, files)
}

// file is a file of the base, with objects of Kubernetes.
type file struct {
	name    string
	objects []any
}

// mark is the first line of each file of a base. Files that begin with it are replaced and deleted; others are the user's.
const mark = "# Written by cluster:render. Changes belong into an overlay, which uses this folder as its base.\n"

// write writes the files and their kustomization into a folder, and deletes those that an earlier call has left there.
func write(folder string, files []file) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	there, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	written := map[string]string{}
	kustomization := kustomize{APIVersion: "kustomize.config.k8s.io/v1beta1", Kind: "Kustomization"}
	for _, one := range files {
		var text bytes.Buffer
		text.WriteString(mark)
		for i, object := range one.objects {
			if i > 0 {
				text.WriteString("---\n")
			}
			out, err := plain(object)
			if err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
			text.Write(out)
		}
		written[filepath.Join(folder, one.name)] = text.String()
		kustomization.Resources = append(kustomization.Resources, one.name)
	}
	text, err := yaml.Marshal(kustomization)
	if err != nil {
		return err
	}
	written[filepath.Join(folder, "kustomization.yaml")] = mark + string(text)
	for _, name := range there {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		ours := bytes.HasPrefix(content, []byte(mark))
		_, again := written[name]
		switch {
		case !ours && again:
			return fmt.Errorf("%s was not written by this program: move it, or name another folder with -o", name)
		case ours && !again:
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	for name, text := range written {
		if err := renameio.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// kustomize is the file kustomization.yaml (https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/).
type kustomize struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources"`
}

// plain is an object in YAML.
func plain(object any) ([]byte, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	prune(fields)
	return yaml.Marshal(fields)
}

// prune removes fields that only a cluster fills in, and those whose empty value is the same as none.
func prune(fields map[string]any) {
	for name, value := range fields {
		inner, isMap := value.(map[string]any)
		switch {
		case isMap && len(inner) == 0 && slices.Contains([]string{"status", "resources", "strategy", "updateStrategy"}, name):
			delete(fields, name)
		case isMap:
			prune(inner)
		}
		list, _ := value.([]any)
		for _, one := range list {
			if inner, ok := one.(map[string]any); ok {
				prune(inner)
			}
		}
	}
}
