package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// Archive packs status, findings, versions, configuration and logs into an archive in the state folder, without any secret,
// and returns its path.
func Archive(ctx context.Context, s *stack.Stack) (string, error) {
	files, err := collect(ctx, s)
	if err != nil {
		return "", err
	}
	name := filepath.Join(s.Config.State, "support", time.Now().UTC().Format("20060102T150405Z")+".tar.gz")
	return name, writeArchive(name, files)
}

// archived is a file of the archive.
type archived struct {
	name    string
	content []byte
}

// collect reads what goes into the archive.
func collect(ctx context.Context, s *stack.Stack) ([]archived, error) {
	redact, err := statedir.Redactor(s.Config)
	if err != nil {
		return nil, err
	}
	var files []archived
	add := func(name string, content []byte) { files = append(files, archived{name, redact(content)}) }
	for name, value := range map[string]any{"status.json": s.Status(ctx), "doctor.json": examine(ctx, s)} {
		content, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return nil, err
		}
		add(name, content)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(s.Config.Root, name))
		if err != nil {
			return nil, err
		}
		add("versions/"+name, content)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		add("versions/targets.txt", []byte(info.String()))
	}
	for _, folder := range []string{"config", "logs"} {
		found, err := os.ReadDir(filepath.Join(s.Config.State, folder))
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			content, err := os.ReadFile(filepath.Join(s.Config.State, folder, file.Name()))
			if err != nil {
				return nil, err
			}
			add(folder+"/"+file.Name(), content)
		}
	}
	return files, nil
}

// writeArchive writes files to a tar.gz that only its owner can read.
func writeArchive(name string, files []archived) error {
	var packed bytes.Buffer
	compressor := gzip.NewWriter(&packed)
	archive := tar.NewWriter(compressor)
	for _, file := range files {
		header := &tar.Header{Name: file.name, Mode: 0o600, Size: int64(len(file.content)), ModTime: time.Now().Truncate(time.Second)}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(file.content); err != nil {
			return err
		}
	}
	for _, closer := range []io.Closer{archive, compressor} {
		if err := closer.Close(); err != nil {
			return err
		}
	}
	return renameio.WriteFile(name, packed.Bytes(), 0o600)
}
