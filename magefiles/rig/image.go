package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
)

const pauseImage = "rig.local/pause:1"

// An image is an OCI image of a single static program.
type image struct {
	name     string
	blobs    map[string][]byte // by digest
	manifest map[string]any    // its descriptor
}

func newImage(name, file string) (image, error) {
	program, err := os.ReadFile(file)
	if err != nil {
		return image{}, err
	}
	i := image{name: name, blobs: map[string][]byte{}}
	layer, err := tarball(map[string][]byte{"program": program})
	if err != nil {
		return image{}, err
	}
	descriptor, err := i.add("application/vnd.oci.image.layer.v1.tar", layer)
	if err != nil {
		return image{}, err
	}
	config, err := i.add("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{"/program"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{descriptor["digest"]}},
	})
	if err != nil {
		return image{}, err
	}
	manifest := "application/vnd.oci.image.manifest.v1+json"
	i.manifest, err = i.add(manifest, map[string]any{
		"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": []any{descriptor},
	})
	return i, err
}

// add adds a blob, or an object as JSON, and returns its descriptor.
func (i image) add(mediaType string, content any) (map[string]any, error) {
	blob, ok := content.([]byte)
	if !ok {
		var err error
		if blob, err = json.Marshal(content); err != nil {
			return nil, err
		}
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	i.blobs[digest] = blob
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(blob)}, nil
}

// writeArchive writes the image as a file that containerd imports.
func (i image) writeArchive(path string) error {
	named := map[string]any{"annotations": map[string]string{"io.containerd.image.name": i.name}}
	for key, value := range i.manifest {
		named[key] = value
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{named}})
	if err != nil {
		return err
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index}
	for digest, blob := range i.blobs {
		files["blobs/"+strings.ReplaceAll(digest, ":", "/")] = blob
	}
	archive, err := tarball(files)
	if err != nil {
		return err
	}
	return os.WriteFile(path, archive, 0o644)
}

func tarball(files map[string][]byte) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), w.Close()
}
