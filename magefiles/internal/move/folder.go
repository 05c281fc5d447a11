package move

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/lock"
)

// The stream of a folder is a tar archive. Its files are the folder's, below data/, in the order of the bytes of their names, and
// then summary.json, the Digest. A folder's digest is of each file in that order: its name, and its content, as fields.
const (
	below   = "data/"
	trailer = "summary.json"
)

// The names, in a folder, of what is not its data.
const (
	received   = ".received"       // marks what is whole: the Digest
	receiving  = ".receiving"      // the folder that takes the files, until all are there
	moving     = ".moving"         // says that those files are being moved to where they belong, and has their names
	locked     = ".receiving.lock" // is locked by the process that receives
	ofFileSys  = "lost+found"      // the file system's own
	checkpoint = "checkpoint"      // this is data: the file by which a log of tiles says what it has signed
)

func isOurs(name string) bool {
	return slices.Contains([]string{received, receiving, moving, locked, ofFileSys}, name)
}

// SendFolder writes the files of dir, which is taken for empty if it does not exist, except the files and folders without, whose paths are
// below dir. Nothing may change them meanwhile.
func SendFolder(ctx context.Context, dir string, w io.Writer, without ...string) (Digest, error) {
	archive := tar.NewWriter(w)
	digest, err := digestFolder(ctx, dir, without, func(name string, info fs.FileInfo) (io.Writer, error) {
		return archive, archive.WriteHeader(entry(below+name, info.Mode(), info.Size()))
	})
	if err != nil {
		return Digest{}, fmt.Errorf("send %s: %w", dir, err)
	}
	text, err := json.Marshal(digest)
	if err != nil {
		return Digest{}, err
	}
	if err := archive.WriteHeader(entry(trailer, 0o600, int64(len(text)))); err != nil {
		return Digest{}, err
	}
	if _, err := archive.Write(text); err != nil {
		return Digest{}, err
	}
	return digest, archive.Close()
}

func entry(name string, mode fs.FileMode, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: size, Format: tar.FormatPAX}
}

// digestFolder reads the files of dir. The content of each goes to the writer that to returns for it too.
func digestFolder(ctx context.Context, dir string, without []string, to func(name string, info fs.FileInfo) (io.Writer, error)) (Digest, error) {
	names, err := list(dir, without)
	if err != nil {
		return Digest{}, err
	}
	all := newFiles()
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return Digest{}, err
		}
		if err := all.addFile(dir, name, to); err != nil {
			return Digest{}, err
		}
	}
	return all.digest()
}

// list are the names of the files of dir, in the order of their bytes, except the files and folders without.
func list(dir string, without []string) (names []string, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	// WalkDir does not follow a link, and would find nothing.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(file string, found fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(dir, file)
		switch {
		case relErr != nil:
			return relErr
		case found != nil && slices.Contains(without, filepath.ToSlash(name)):
			if found.IsDir() {
				return fs.SkipDir
			}
			return nil
		case isOurs(name) && found.IsDir(): // lost+found cannot be read, and may be
			return fs.SkipDir
		case isOurs(name):
			return nil
		case err != nil:
			return err
		case found.Type().IsRegular():
			names = append(names, filepath.ToSlash(name))
			return nil
		case found.IsDir():
			return nil
		}
		return fmt.Errorf("%s is neither a file nor a folder", file)
	})
	slices.Sort(names) // a-b before a/b, unlike WalkDir
	return names, err
}

// files gathers the digest of a folder.
type files struct {
	*counter
	checkpoint strings.Builder
}

func newFiles() *files { return &files{counter: newCounter(".")} }

func (f *files) addFile(dir, name string, to func(name string, info fs.FileInfo) (io.Writer, error)) error {
	file, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer file.Close()
	before, err := file.Stat()
	if err != nil {
		return err
	}
	w, err := to(name, before)
	if err != nil {
		return err
	}
	if err := f.add(name, before.Size(), file, w); err != nil {
		return err
	}
	if after, err := file.Stat(); err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return errors.Join(fmt.Errorf("%s was changed while it was read", file.Name()), err)
	}
	return nil
}

// add adds a file, whose content it also copies to w.
func (f *files) add(name string, size int64, content io.Reader, w io.Writer) error {
	f.field([]byte(name))
	f.length(size)
	to := io.MultiWriter(f.hash, w)
	if name == checkpoint {
		to = io.MultiWriter(to, &f.checkpoint)
	}
	if n, err := io.Copy(to, io.LimitReader(content, size)); err != nil || n != size {
		return errors.Join(fmt.Errorf("%s: %d of %d bytes were read", name, n, size), err)
	}
	f.part.Files++
	f.part.Bytes += size
	return nil
}

func (f *files) digest() (Digest, error) {
	return Digest{Parts: []Part{f.done()}, Checkpoint: f.checkpoint.String()}.seal()
}

// FolderReceived says whether dir holds what was received, all of it.
func FolderReceived(dir string) (bool, error) {
	_, ok, err := mark(dir)
	return ok, err
}

// mark is the digest with which dir is marked.
func mark(dir string) (d Digest, ok bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, received))
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	return d, err == nil, err
}

// ReceiveFolder reads the files that SendFolder has written, into dir.
func ReceiveFolder(ctx context.Context, dir string, r io.Reader) (Digest, error) {
	digest, err := receiveFolder(ctx, dir, r)
	if err != nil {
		return Digest{}, fmt.Errorf("receive %s: %w", dir, err)
	}
	return digest, nil
}

func receiveFolder(ctx context.Context, dir string, r io.Reader) (Digest, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Digest{}, err
	}
	held, err := lock.Acquire(filepath.Join(dir, locked))
	if err != nil {
		return Digest{}, err
	}
	defer held.Close()
	defer os.Remove(filepath.Join(dir, locked))
	known, ok, err := mark(dir)
	if err != nil {
		return Digest{}, err
	}
	if ok {
		sent, err := readArchive(ctx, r, func(string) (io.WriteCloser, error) { return nowhere{}, nil })
		if err == nil && !sent.Equal(known) {
			err = ErrOther
		}
		return sent, err
	}
	fresh := filepath.Join(dir, receiving)
	if err := os.RemoveAll(fresh); err != nil {
		return Digest{}, err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return Digest{}, err
	}
	sent, err := unpack(ctx, fresh, r)
	if err != nil {
		return Digest{}, err
	}
	there, err := digestFolder(ctx, fresh, nil, func(string, fs.FileInfo) (io.Writer, error) { return io.Discard, nil })
	if err != nil {
		return Digest{}, err
	}
	if !there.Equal(sent) {
		return Digest{}, errors.New("what is on the disk is not what was sent")
	}
	return sent, moveIn(dir, fresh, sent)
}

// unpack writes the files of an archive below fresh, and flushes them and their folders to the disk.
func unpack(ctx context.Context, fresh string, r io.Reader) (Digest, error) {
	root, err := os.OpenRoot(fresh) // leads nowhere else, whatever the names
	if err != nil {
		return Digest{}, err
	}
	defer root.Close()
	sent, err := readArchive(ctx, r, func(name string) (io.WriteCloser, error) {
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return nil, err
		}
		file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return flushed{file}, err
	})
	if err != nil {
		return Digest{}, err
	}
	return sent, filepath.WalkDir(fresh, func(file string, found fs.DirEntry, err error) error {
		if err == nil && found.IsDir() {
			err = flush(file)
		}
		return err
	})
}

// flushed is a file that is on the disk once it is closed.
type flushed struct{ *os.File }

func (f flushed) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }

// flush writes a folder to the disk.
func flush(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// readArchive reads an archive to its end. The content of each file goes to what create returns for its name.
func readArchive(ctx context.Context, r io.Reader, create func(name string) (io.WriteCloser, error)) (Digest, error) {
	archive, all, last := tar.NewReader(r), newFiles(), ""
	for {
		if err := ctx.Err(); err != nil {
			return Digest{}, err
		}
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // nothing has said that this is all
		}
		if err != nil {
			return Digest{}, err
		}
		if header.Typeflag != tar.TypeReg {
			return Digest{}, fmt.Errorf("%q is not a file", header.Name)
		}
		if header.Name == trailer {
			return readTrailer(archive, r, all)
		}
		name, ok := strings.CutPrefix(header.Name, below)
		first, _, _ := strings.Cut(name, "/")
		if !ok || !filepath.IsLocal(name) || path.Clean(name) != name || isOurs(first) {
			return Digest{}, fmt.Errorf("%q is not the name of a file in the folder", header.Name)
		}
		if name <= last {
			return Digest{}, fmt.Errorf("%q comes after %q", name, last)
		}
		last = name
		file, err := create(name)
		if err != nil {
			return Digest{}, err
		}
		if err := errors.Join(all.add(name, header.Size, archive, file), file.Close()); err != nil {
			return Digest{}, err
		}
	}
}

// readTrailer reads the digest at the end of the archive, and compares it with that of the files before it.
func readTrailer(archive *tar.Reader, r io.Reader, all *files) (said Digest, err error) {
	if err := json.NewDecoder(archive).Decode(&said); err != nil {
		return Digest{}, fmt.Errorf("%s: %w", trailer, err)
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return Digest{}, errors.Join(fmt.Errorf("the archive does not end after %s", trailer), err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return Digest{}, err
	}
	came, err := all.digest()
	if err == nil && !came.Equal(said) {
		err = errors.New("what came is not what was sent")
	}
	return came, err
}

// moveIn moves what is in fresh to dir, and marks it. If that is interrupted, the names in the file moving are those that the
// next attempt may replace.
func moveIn(dir, fresh string, digest Digest) error {
	entries, err := os.ReadDir(fresh)
	if err != nil {
		return err
	}
	var names, replaced []string
	text, err := os.ReadFile(filepath.Join(dir, moving))
	if err == nil {
		err = json.Unmarshal(text, &replaced)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, one := range entries {
		names = append(names, one.Name())
		if _, err := os.Lstat(filepath.Join(dir, one.Name())); !slices.Contains(replaced, one.Name()) && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s: %w", filepath.Join(dir, one.Name()), ErrOther), err, os.RemoveAll(fresh))
		}
	}
	replaced = append(replaced, names...)
	if err := writeJSON(dir, moving, replaced); err != nil {
		return err
	}
	for _, name := range replaced {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(fresh, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := flush(dir); err != nil {
		return err
	}
	if err := writeJSON(dir, received, digest); err != nil {
		return err
	}
	return errors.Join(os.Remove(filepath.Join(dir, moving)), os.RemoveAll(fresh))
}

// writeJSON writes a file of dir at once, and flushes it to the disk.
func writeJSON(dir, name string, content any) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	err = renameio.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o600, renameio.WithTempDir(filepath.Join(dir, receiving)))
	return errors.Join(err, flush(dir))
}
