// Package image makes a container image that holds a whole stack, with a bill of its materials and its provenance.
package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/stack"
)

// Where things are in an image.
const (
	Folder = "/opt/" + pack.Command     // the programs
	State  = "/var/lib/" + pack.Command // the stack's folder, on a volume
)

// LayerTime is the time of all files in an image, so that a layer whose files do not change is the same in the next image.
func LayerTime() time.Time { return time.Unix(0, 0).UTC() }

// User is the ID of the user, and of the group, that the stack runs as in an image.
const User = 65532

// Contents is what an image holds, for the program that puts it together.
type Contents struct {
	Reference string    `json:"reference"` // of the image, with its tag
	File      string    `json:"file"`      // the archive to write; empty to push to the registry that Reference names
	SBOM      string    `json:"sbom"`      // the file to write the bill of materials into
	Time      time.Time `json:"time"`      // at which it was made
	Arch      string    `json:"arch"`      // as Go names it
	Version   string    `json:"version"`

	Root     string        `json:"root"`     // a tar archive with the files of Debian's packages
	Packages string        `json:"packages"` // the folder of these packages' .deb files
	Programs [][]pack.File `json:"programs"` // the files of each further layer, below Folder

	Env    []string          `json:"env"`    // NAME=value
	Ports  []int             `json:"ports"`  // by which clients reach the stack
	Labels map[string]string `json:"labels"` // https://github.com/opencontainers/image-spec/blob/main/annotations.md
}

// Made is what the program that puts an image together says of it.
type Made struct {
	Digest string           `json:"digest"` // of its manifest: sha256:…
	Layers map[string]int64 `json:"layers"` // their compressed sizes in bytes, by what is in them
}

// needsPrograms are the packages with what the shell script mariadb-install-db calls.
var needsPrograms = []string{"coreutils", "dash", "hostname", "sed"}

// Possible is an error if no image can be made on this system.
func Possible() error {
	if platform.DebianRelease() == "" {
		return errors.New("this system is not Debian, of whose packages an image is made: the programs in it need the C library that they were built with")
	}
	return nil
}

// Image is an image that Build has made.
type Image struct {
	Reference string // by digest; the path of the archive, if it is in one
	SBOM      string // the file with its bill of materials
}

// Order says which image is to be made.
type Order struct {
	Version    string
	Archive    string   // the path of an archive to write; empty for a registry
	Repository string   // the repository into which it is pushed, with its registry; the stack's own registry if empty
	Further    []string // the import paths of programs of this project's own beside those of the stack
	Debian     []string // Debian's packages beside those that the stack needs
}

// Build makes an image of the stack s, and pushes it or writes it into an archive. What it needs meanwhile, and the bill of materials, are
// in the folder staged.
func Build(ctx context.Context, s *stack.Stack, o Order, staged string) (made Image, err error) {
	step := s.Console.Step("image")
	defer func() {
		if err != nil {
			step.Fail()
		}
	}()
	c, err := contents(ctx, s, o, staged)
	if err != nil {
		return Image{}, err
	}
	step.Detail("gets Debian's packages")
	if err := root(ctx, s, c, o.Debian, staged); err != nil {
		return Image{}, err
	}
	step.Detail("links the programs")
	files, err := pack.Files(ctx, s, s.Builder(), staged, o.Further...)
	if err != nil {
		return Image{}, err
	}
	// What changes with each commit of this project is a layer of its own.
	own := func(one pack.File) bool {
		return strings.HasPrefix(one.From, staged) || strings.HasPrefix(one.From, filepath.Join(s.Config.Root, "templates"))
	}
	c.Programs = [][]pack.File{
		slices.DeleteFunc(slices.Clone(files), own),
		slices.DeleteFunc(slices.Clone(files), func(one pack.File) bool { return !own(one) }),
	}
	step.Detail("compresses the layers")
	assembled, err := assemble(ctx, s, c, staged)
	if err != nil {
		return Image{}, err
	}
	made = Image{Reference: o.Archive, SBOM: c.SBOM}
	if o.Archive == "" {
		made.Reference = o.repository(s) + "@" + assembled.Digest
	}
	var sizes []string
	total := int64(0)
	for _, name := range LayerNames() {
		total += assembled.Layers[name]
		sizes = append(sizes, fmt.Sprintf("%s %d", name, assembled.Layers[name]/1e6))
	}
	step.Done("%s is %d MB compressed: %s", made.Reference, total/1e6, strings.Join(sizes, ", "))
	return made, nil
}

// repository is that into which the image is pushed.
func (o Order) repository(s *stack.Stack) string {
	return cmp.Or(o.Repository, s.Config.Image(pack.Command))
}

// contents says what an image holds, without its programs.
func contents(ctx context.Context, s *stack.Stack, o Order, staged string) (Contents, error) {
	at, err := pack.Time(ctx, s.Config.Root, os.Getenv)
	if err != nil {
		return Contents{}, err
	}
	c := Contents{
		Reference: o.repository(s) + ":" + tag(o.Version), File: o.Archive, SBOM: filepath.Join(staged, "sbom.spdx.json"), Time: at,
		Arch: runtime.GOARCH, Version: o.Version, Root: filepath.Join(staged, "root.tar"), Packages: filepath.Join(staged, "archives"),
		Env: []string{
			"PATH=" + Folder + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"SIGLOCAL_STATE=" + State, "SIGLOCAL_STACK=" + string(s.Config.Stack), "SIGLOCAL_LISTEN=" + string(config.ListenAll),
			"SIGLOCAL_INSTALL=" + string(config.InstallNever),
		},
		Labels: map[string]string{
			"org.opencontainers.image.title":       pack.Command,
			"org.opencontainers.image.description": "A whole Sigstore: Fulcio, Rekor, a CT log, a timestamp authority, Dex, a registry",
			"org.opencontainers.image.version":     o.Version,
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.created":     at.Format(time.RFC3339),
		},
	}
	if o.Archive != "" {
		c.Reference = "localhost/" + pack.Command + ":" + tag(o.Version)
	}
	// In a container the ports are the default ones, whatever those of this stack are.
	defaults, err := config.Load(s.Config.Root, []string{"SIGLOCAL_STATE=" + State}, s.Parts()...)
	if err != nil {
		return Contents{}, err
	}
	for _, one := range s.All() {
		for _, port := range config.PublicPorts(one.Listens) {
			c.Ports = append(c.Ports, defaults.Port(port))
		}
	}
	slices.Sort(c.Ports)
	return c, nil
}

// assemble builds and runs the program that puts an image together.
func assemble(ctx context.Context, s *stack.Stack, c Contents, staged string) (made Made, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return Made{}, err
	}
	description := filepath.Join(staged, "image.json")
	if err := os.WriteFile(description, text, 0o600); err != nil {
		return Made{}, err
	}
	program, err := pack.Tool(ctx, s.Config.Root, "image", staged)
	if err != nil {
		return Made{}, err
	}
	said, err := command.OwnOutput(ctx, command.New(ctx, s.Config.Root, os.Environ(), program, description))
	if err != nil {
		return Made{}, err
	}
	err = json.Unmarshal([]byte(said), &made)
	return made, err
}

// The names of an image's layers.
const (
	baseLayer     = "Debian's packages"
	upstreamLayer = "Sigstore's programs"
	ownLayer      = "this project's programs"
)

// LayerNames are the names of an image's layers, from the lowest up.
func LayerNames() []string { return []string{baseLayer, upstreamLayer, ownLayer} }

// tag is version as a tag, in which a plus sign cannot be (https://github.com/opencontainers/distribution-spec, "Pulling manifests").
func tag(version string) string { return strings.ReplaceAll(version, "+", "_") }

// root gets the packages that the stack runs with, and unpacks them into an archive. Nothing in them is run, so an ordinary user can
// do this, and the same packages give the same bytes.
func root(ctx context.Context, s *stack.Stack, c Contents, further []string, staged string) error {
	needs := slices.DeleteFunc(s.Needs(), func(need platform.Need) bool { return need == platform.CCompiler })
	packages := slices.Concat([]string{"base-files", "ca-certificates"}, platform.DebianPackages(needs), further)
	if s.Config.HasDatabase() {
		packages = append(packages, needsPrograms...)
	}
	bootstrap := command.New(ctx, staged, append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(LayerTime().Unix(), 10)),
		"mmdebstrap", "--quiet", "--variant=extract", "--include="+strings.Join(packages, ","), "--extract-hook=copy-out /var/cache/apt/archives "+shellescape.Quote(staged),
		platform.DebianRelease(), c.Root)
	_, err := command.Combined(ctx, bootstrap)
	return err
}
