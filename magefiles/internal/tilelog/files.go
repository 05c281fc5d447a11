package tilelog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Files are the files of a log, by the names that the format gives them, such as tile/0/000.p/5.
type Files interface {
	// Read returns the content of a file; the error is fs.ErrNotExist if there is no such file.
	Read(ctx context.Context, name string) ([]byte, error)
	// Place is the path or the URL of a file, for messages.
	Place(name string) string
}

// Folder holds the files of a log.
type Folder string

// Read reads a file of the folder.
func (f Folder) Read(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(f.Place(name))
}

// Place is the path of a file.
func (f Folder) Place(name string) string {
	return filepath.Join(string(f), filepath.FromSlash(name))
}

// Site is the URL by which the files of a log are served, without a slash at its end.
type Site string

// Read asks for a file.
func (s Site) Read(ctx context.Context, name string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Place(name), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: %w", s.Place(name), err)
	case response.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("GET %s: %s: %w", s.Place(name), strings.TrimSpace(string(content)), fs.ErrNotExist)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("GET %s: %s: %s", s.Place(name), response.Status, strings.TrimSpace(string(content)))
	}
	return content, nil
}

// Place is the URL of a file.
func (s Site) Place(name string) string { return string(s) + "/" + name }

// height is how many levels of the tree are in a tile, and fullWidth how many hashes a full tile has.
const (
	height    = 8
	fullWidth = 1 << height
)

// fileName is the name of the file of a tile, or of a bundle of entries if the tile has the level -1.
func (l Log) fileName(tile tlog.Tile) string {
	// The package tlog names tiles as the Go checksum database does, with their height.
	name := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
	if l.Layout == StaticCT {
		return name
	}
	return strings.Replace(name, "tile/data/", "tile/entries/", 1)
}

// read reads the file of a tile or of a bundle. If that is a partial one whose file is gone, it reads the file of the full one,
// which begins with the same content: a log may delete partial files once there is a full one.
func (l Log) read(ctx context.Context, tile tlog.Tile) (content []byte, place string, err error) {
	name := l.fileName(tile)
	content, err = l.Files.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) && tile.W < fullWidth {
		full := tile
		full.W = fullWidth
		if content, fullErr := l.Files.Read(ctx, l.fileName(full)); fullErr == nil {
			return content, l.Files.Place(l.fileName(full)), nil
		}
	}
	return content, l.Files.Place(name), err
}
