package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// disk writes files that a loss of power does not change once keep has returned. It flushes a file before the file gets its
// name, so that no name stands for an incomplete file, and then each folder on the way to it.
type disk struct {
	// dir is the registry's folder, which holds all the files.
	dir string
	// flush writes the file or folder at path to the disk. It is fsync, which a test replaces.
	flush func(path string) error
}

// fsync is fsync(2) of what path names.
func fsync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// unfinished is the folder of files that are being written.
func (d disk) unfinished() string { return filepath.Join(d.dir, "unfinished") }

// prepare makes the folder of the registry and empties that of unfinished files.
func (d disk) prepare() error {
	if err := os.RemoveAll(d.unfinished()); err != nil {
		return err
	}
	if err := os.MkdirAll(d.unfinished(), 0o700); err != nil {
		return err
	}
	return d.flush(filepath.Dir(d.dir))
}

// keep makes content the content of the file at path, below dir, and makes the folders that are missing.
func (d disk) keep(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.unfinished(), "")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing if all went well, since the file then has its final name
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.flush(f.Name()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return d.settle(filepath.Dir(path))
}

// settle flushes the folder, which is dir or below it, and those above it up to dir: another request may have made one of
// them, and not flushed the folder above yet.
func (d disk) settle(folder string) error {
	for ; ; folder = filepath.Dir(folder) {
		if err := d.flush(folder); err != nil || folder == d.dir {
			return err
		}
	}
}

// diskBlobs has the methods of pkg/registry's disk handler, whose type is not exported.
type diskBlobs interface {
	registry.BlobHandler
	registry.BlobStatHandler
	registry.BlobDeleteHandler
}

// blobStore is pkg/registry's disk handler with another method Put, since the handler's own flushes nothing. A blob that comes in
// chunks is kept, and acknowledged with 201, once it is complete. Until then pkg/registry has the chunks in memory, and if the
// registry dies, the client uploads that blob from its beginning.
type blobStore struct {
	diskBlobs
	disk disk
}

func newBlobStore(d disk) (blobStore, error) {
	handler, ok := registry.NewDiskBlobHandler(filepath.Join(d.dir, "blobs")).(diskBlobs)
	if !ok {
		return blobStore{}, errors.New("pkg/registry's disk handler does not delete blobs or tell their size")
	}
	return blobStore{handler, d}, os.MkdirAll(d.blobs("sha256"), 0o700)
}

// blobs is the folder in which the disk handler has the blobs whose digests are by that algorithm.
func (d disk) blobs(algorithm string) string { return filepath.Join(d.dir, "blobs", algorithm) }

// Put keeps a blob. Its reader verifies the digest, and fails at the end if the content has another one.
func (s blobStore) Put(_ context.Context, _ string, digest v1.Hash, content io.ReadCloser) error {
	return s.disk.keep(filepath.Join(s.disk.blobs(digest.Algorithm), digest.Hex), content)
}

func (s blobStore) Delete(ctx context.Context, repository string, digest v1.Hash) error {
	if err := s.diskBlobs.Delete(ctx, repository, digest); err != nil {
		return err
	}
	return s.disk.settle(s.disk.blobs(digest.Algorithm))
}
