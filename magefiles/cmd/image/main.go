// Image puts a container image together, of which the same input gives the same digest, and writes a bill of its materials. It is a
// program of its own because the libraries for this are large, and the magefiles do without them.
//
// Usage: image DESCRIPTION
//
// DESCRIPTION is a JSON file, whose form is the type image.Contents. What was made is printed as JSON, as the type image.Made.
package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: image DESCRIPTION")
		os.Exit(2)
	}
	made, err := run(os.Args[1])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(made)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(description string) (made image.Made, err error) {
	text, err := os.ReadFile(description)
	if err != nil {
		return made, err
	}
	var c image.Contents
	if err := json.Unmarshal(text, &c); err != nil {
		return made, fmt.Errorf("%s: %w", description, err)
	}
	packages, err := debianPackages(c.Packages)
	if err != nil {
		return made, err
	}
	built, sizes, err := assemble(c, packages, filepath.Dir(description))
	if err != nil {
		return made, err
	}
	digest, err := built.Digest()
	if err != nil {
		return made, err
	}
	made = image.Made{Digest: digest.String(), Layers: sizes}
	if err := writeSBOM(c, packages, digest); err != nil {
		return made, err
	}
	return made, write(c, built)
}

// assemble makes the image, with its layers as files in the folder dir, and returns their compressed sizes, by name.
func assemble(c image.Contents, packages []debianPackage, dir string) (v1.Image, map[string]int64, error) {
	base := filepath.Join(dir, "base.tar")
	if err := writeBase(base, c, packages); err != nil {
		return nil, nil, err
	}
	files := []string{base}
	for i, programs := range c.Programs {
		layer := filepath.Join(dir, fmt.Sprintf("layer%d.tar", i))
		if err := writePrograms(layer, programs); err != nil {
			return nil, nil, err
		}
		files = append(files, layer)
	}
	at := v1.Time{Time: c.Time}
	built := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	sizes := map[string]int64{}
	for i, file := range files {
		layer, err := tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
		if err != nil {
			return nil, nil, err
		}
		name := image.LayerNames()[i]
		if sizes[name], err = layer.Size(); err != nil {
			return nil, nil, err
		}
		if built, err = mutate.Append(built, mutate.Addendum{Layer: layer, History: v1.History{Created: at, CreatedBy: name}}); err != nil {
			return nil, nil, err
		}
	}
	file, err := built.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Created = c.Arch, "linux", at
	program := image.Folder + "/" + pack.Command
	file.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", image.User, image.User),
		Entrypoint: []string{program}, Cmd: []string{"run"},
		Env: c.Env, Labels: c.Labels, StopSignal: "SIGTERM", WorkingDir: image.State,
		Volumes:      map[string]struct{}{image.State: {}},
		ExposedPorts: map[string]struct{}{},
		// The format of OCI has no health check; Docker reads it nevertheless.
		Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD", program, "status", "-all"}, Interval: 5 * time.Second, Timeout: 10 * time.Second, StartPeriod: time.Minute, Retries: 3,
		},
	}
	for _, port := range c.Ports {
		file.Config.ExposedPorts[strconv.Itoa(port)+"/tcp"] = struct{}{}
	}
	built, err = mutate.ConfigFile(built, file)
	return built, sizes, err
}

// writePrograms writes a layer with files below the folder of programs.
func writePrograms(layer string, programs []pack.File) error {
	out, err := os.Create(layer)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := (pack.Contents{Folder: image.Folder[1:], Time: image.LayerTime(), Files: programs}).WriteTar(out); err != nil {
		return err
	}
	return out.Close()
}

// write pushes the image to the registry that its reference names, or writes it into an archive.
func write(c image.Contents, built v1.Image) error {
	// A registry on this machine or in a private network is spoken to without TLS, as docker and ko do.
	reference, err := name.NewTag(c.Reference)
	if err != nil {
		return err
	}
	if c.File == "" {
		return remote.Write(reference, built, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	out, err := renameio.NewPendingFile(c.File, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if err := tarball.Write(reference, built, out); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
