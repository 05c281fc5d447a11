package pack

import (
	"archive/tar"
	"cmp"
	"io"
	"os"
	"path"
	"slices"
	"time"
)

// WriteTar writes the contents as tar. Each file is root's, and as old as the contents say, so that the same contents give the same bytes.
func (c Contents) WriteTar(out io.Writer) error {
	archive := tar.NewWriter(out)
	files := slices.Clone(c.Files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	folders := map[string]bool{}
	for _, one := range files {
		name := path.Join(c.Folder, one.Name)
		if err := addFolders(archive, path.Dir(name), c.Time, folders); err != nil {
			return err
		}
		if err := addFile(archive, name, one, c.Time); err != nil {
			return err
		}
	}
	return archive.Close()
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

func addFile(archive *tar.Writer, name string, one File, at time.Time) error {
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
