package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
)

// debianPackage is a package of Debian's.
type debianPackage struct {
	control string            // its control paragraph (deb-control(5))
	fields  map[string]string // of control, those of one line
	sum     [sha256.Size]byte // of the .deb file
}

// debianPackages reads the packages in a folder of .deb files.
func debianPackages(folder string) ([]debianPackage, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.deb"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no packages", folder)
	}
	var all []debianPackage
	for _, file := range files {
		control, err := exec.Command("dpkg-deb", "--field", file).Output()
		if err != nil {
			return nil, fmt.Errorf("dpkg-deb --field %s: %w", file, err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		one := debianPackage{control: string(control), fields: map[string]string{}, sum: sha256.Sum256(content)}
		for line := range strings.Lines(one.control) {
			if name, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
				one.fields[name] = strings.TrimSpace(value)
			}
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b debianPackage) int { return cmp.Compare(a.fields["Package"], b.fields["Package"]) })
	return all, nil
}

// unneeded begins the names of what no program reads that runs in the image: translations, conversions between character sets, and what
// mmdebstrap leaves of its own work.
var unneeded = regexp.MustCompile(`^(usr/share/(man|info|locale|lintian|bug|doc-base|perl5|debconf|menu)|usr/lib/[^/]+/gconv|var/(cache|log|lib/apt|lib/dpkg)|etc/(apt|machine-id|resolv\.conf|hostname))(/|$)`)

// needed says whether a file of a package is needed in the image. Of the documentation, that is the licenses.
func needed(name string) bool {
	if rest, ok := strings.CutPrefix(name, "usr/share/doc/"); ok {
		_, file, inside := strings.Cut(rest, "/")
		return !inside || file == "copyright"
	}
	return !unneeded.MatchString(name)
}

// certificates are where ca-certificates keeps those of CAs.
const certificates = "usr/share/ca-certificates/"

// writeBase writes the lowest layer: the files of the packages, and what their scripts would make of them that the stack needs, since none
// of these scripts has run.
func writeBase(layer string, c image.Contents, packages []debianPackage) error {
	in, err := os.Open(c.Root)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(layer)
	if err != nil {
		return err
	}
	defer out.Close()
	archive := tar.NewWriter(out)
	var trusted bytes.Buffer
	for root := tar.NewReader(in); ; {
		header, err := root.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Root, err)
		}
		name := path.Clean(header.Name)
		if name == "." || !needed(name) {
			continue
		}
		var content io.Reader = root
		if strings.HasPrefix(name, certificates) && header.Typeflag == tar.TypeReg {
			content = io.TeeReader(root, &trusted)
		}
		header.Name = name
		if header.Typeflag == tar.TypeDir {
			header.Name += "/"
		}
		header.Linkname = strings.TrimPrefix(header.Linkname, "./")
		// The user who has run mmdebstrap must not show.
		header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(archive, content); err != nil {
			return err
		}
	}
	made := map[string]string{
		"etc/passwd":                        fmt.Sprintf("root:x:0:0:root:/root:/usr/sbin/nologin\n%[1]s:x:%[2]d:%[2]d:%[1]s:%[3]s:/usr/sbin/nologin\n", pack.Command, image.User, image.State),
		"etc/group":                         fmt.Sprintf("root:x:0:\n%s:x:%d:\n", pack.Command, image.User),
		"etc/nsswitch.conf":                 "hosts: files dns\n",
		"etc/ssl/certs/ca-certificates.crt": trusted.String(),
		"var/lib/dpkg/status":               status(packages),
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(made[name])), ModTime: image.LayerTime(), Format: tar.FormatPAX}); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, made[name]); err != nil {
			return err
		}
	}
	// A volume that is mounted there for the first time gets this folder's owner.
	state := &tar.Header{Typeflag: tar.TypeDir, Name: image.State[1:] + "/", Mode: 0o700, Uid: image.User, Gid: image.User, ModTime: image.LayerTime(), Format: tar.FormatPAX}
	if err := archive.WriteHeader(state); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return out.Close()
}

// status is the list of installed packages in dpkg's form, which programs that look for known vulnerabilities read.
func status(packages []debianPackage) string {
	var out strings.Builder
	for _, one := range packages {
		first, rest, _ := strings.Cut(one.control, "\n")
		fmt.Fprintf(&out, "%s\nStatus: install ok installed\n%s\n", first, rest)
	}
	return out.String()
}
