// Archive packs files into a .tar.zst, of which the same input gives the same bytes.
//
// Usage: archive OUTPUT DESCRIPTION
//
// DESCRIPTION is a JSON file, whose form is the type pack.Contents.
package main

import (
	"archive/tar"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"

	"sigstore-local/magefiles/internal/pack"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: archive OUTPUT DESCRIPTION")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(output, description string) error {
	text, err := os.ReadFile(description)
	if err != nil {
		return err
	}
	var contents pack.Contents
	if err := json.Unmarshal(text, &contents); err != nil {
		return fmt.Errorf("%s: %w", description, err)
	}
	out, err := renameio.NewPendingFile(output, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if err := write(out, contents); err != nil {
		return fmt.Errorf("%s: %w", output, err)
	}
	return out.CloseAtomicallyReplace()
}

// write writes the archive. Each file is root's, and as old as the contents say.
func write(out io.Writer, contents pack.Contents) error {
	// One block of the input at a time, so that the output does not depend on the number of processors.
	compressed, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)
	files := slices.Clone(contents.Files)
	slices.SortFunc(files, func(a, b pack.File) int { return cmp.Compare(a.Name, b.Name) })
	folders := map[string]bool{}
	for _, one := range files {
		name := path.Join(contents.Folder, one.Name)
		if err := addFolders(archive, path.Dir(name), contents.Time, folders); err != nil {
			return err
		}
		if err := addFile(archive, name, one, contents.Time); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return compressed.Close()
}

func addFolders(archive *tar.Writer, folder string, at time.Time, known map[string]bool) error {
	if folder == "." || known[folder] {
		return nil
	}
	if err := addFolders(archive, path.Dir(folder), at, known); err != nil {
		return err
	}
	known[folder] = true
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: at, Format: tar.FormatPAX})
}

func addFile(archive *tar.Writer, name string, one pack.File, at time.Time) error {
	file, err := os.Open(one.From)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if one.Program {
		mode = 0o755
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size(), ModTime: at, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}
