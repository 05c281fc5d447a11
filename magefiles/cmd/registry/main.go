// Registry is an OCI registry on loopback whose images outlive it: go-containerregistry's pkg/registry, which keeps
// blobs on disk but manifests and tags in memory, with a store of manifests around it. It holds an empty base image
// for ko, base:latest, so that no image on the internet is needed.
//
// Usage: registry -address HOST:PORT -dir FOLDER
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"sigstore-local/magefiles/internal/webserver"
)

func main() {
	address := flag.String("address", "127.0.0.1:1338", "where to listen, `host:port`")
	dir := flag.String("dir", "", "the `folder` that holds blobs, manifests and tags")
	flag.Parse()
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := serve(context.Background(), *address, *dir); err != nil {
		log.Fatalf("registry: %v", err)
	}
}

func serve(ctx context.Context, address, dir string) error {
	handler, err := newHandler(dir, fsync)
	if err != nil {
		return err
	}
	return webserver.Run(ctx, webserver.Grace, webserver.Site{Address: address, Handler: handler, Listening: func(at net.Addr) { log.Printf("serving %s on %s", dir, at) }})
}

// newHandler serves what the folder dir holds and keeps there what is pushed, which is flushed to the disk before it is
// acknowledged.
func newHandler(dir string, flush func(path string) error) (http.Handler, error) {
	d := disk{dir: filepath.Clean(dir), flush: flush}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	blobs, err := newBlobStore(d)
	if err != nil {
		return nil, err
	}
	handler, err := keepManifests(registry.New(registry.WithBlobHandler(blobs)), d)
	if err != nil {
		return nil, err
	}
	return handler, pushBase(handler)
}

// pushBase pushes the empty image that ko builds on, for the platform that this program runs on.
func pushBase(handler http.Handler) error {
	image, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
	})
	if err != nil {
		return err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	digest, err := image.ConfigName()
	if err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	if status := call(handler, http.MethodPost, "/v2/base/blobs/uploads/?digest="+digest.String(), "application/octet-stream", config); status != http.StatusCreated {
		return fmt.Errorf("push the base image's configuration: status %d", status)
	}
	if status := call(handler, http.MethodPut, "/v2/base/manifests/latest", string(types.OCIManifestSchema1), manifest); status != http.StatusCreated {
		return fmt.Errorf("push the base image: status %d", status)
	}
	return nil
}
