// Archive packs files into a .tar.zst, of which the same input gives the same bytes.
//
// Usage: archive OUTPUT DESCRIPTION
//
// DESCRIPTION is a JSON file, whose form is the type pack.Contents.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

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

// write writes the archive.
func write(out io.Writer, contents pack.Contents) error {
	// One block of the input at a time, so that the output does not depend on the number of processors.
	compressed, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	if err := contents.WriteTar(compressed); err != nil {
		return err
	}
	return compressed.Close()
}
