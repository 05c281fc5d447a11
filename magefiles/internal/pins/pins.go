// Package pins reads and moves the versions that go.mod pins.
package pins

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/project"
)

// Pins are the versions that go.mod in the folder Root pins. go(1) is run in the environment Environ.
type Pins struct {
	Root    string
	Environ []string
	// Repositories has the URLs of git repositories, by the paths of their modules. It is for modules whose release tags Go does
	// not take for versions, since their module paths lack the major version. go.mod pins such a release by its commit, and
	// names the tag in a comment.
	Repositories map[string]string
}

// Pin is a pinned version.
type Pin struct {
	Module  string `json:"module"`
	Pinned  string `json:"pinned"`
	Release string `json:"release,omitempty"` // the tag of the release, if a commit is pinned
	Newest  string `json:"newest"`            // "unknown" if it cannot be looked up
	Error   string `json:"error,omitempty"`   // why the newest version is unknown
}

// Version is the pinned version as people call it.
func (p Pin) Version() string {
	if p.Release != "" {
		return p.Release
	}
	return p.Pinned
}

// unknown stands for the newest version of a module if that cannot be looked up.
const unknown = "unknown"

// List lists the pins of the tools' modules and of the modules that go.mod requires directly.
func (p Pins) List(ctx context.Context) ([]Pin, error) {
	mod, err := p.read()
	if err != nil {
		return nil, err
	}
	pins := listed(mod)
	var wg sync.WaitGroup
	var asked []string
	for i := range pins {
		url, ok := p.Repositories[pins[i].Module]
		if !ok {
			asked = append(asked, pins[i].Module)
			continue
		}
		wg.Go(func() {
			tags, err := p.tags(ctx, url)
			if err == nil && len(tags) == 0 {
				err = fmt.Errorf("%s has no releases", url)
			}
			if err != nil {
				pins[i].Error = err.Error()
				return
			}
			pins[i].Newest = tags[len(tags)-1].name
		})
	}
	newest, err := p.newest(ctx, asked)
	wg.Wait()
	if err != nil {
		return nil, err
	}
	for i := range pins {
		if answer, ok := newest[pins[i].Module]; ok {
			pins[i].Newest, pins[i].Error = answer.Newest, answer.Error
		}
	}
	return pins, nil
}

// listed are the pins that List lists, before their newest versions are looked up.
func listed(mod *modfile.File) []Pin {
	var pins []Pin
	for _, required := range mod.Require {
		tool := slices.ContainsFunc(mod.Tool, func(t *modfile.Tool) bool { return within(t.Path, required.Mod.Path) })
		if tool || !required.Indirect {
			pins = append(pins, Pin{Module: required.Mod.Path, Pinned: required.Mod.Version, Release: release(required), Newest: unknown})
		}
	}
	slices.SortFunc(pins, func(a, b Pin) int { return strings.Compare(a.Module, b.Module) })
	return pins
}

// Names are the shortest names by which Find knows the modules that List lists. Newest versions are not looked up.
func (p Pins) Names() ([]string, error) {
	mod, err := p.read()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, pin := range listed(mod) {
		name := pin.Module
		if short, _, ok := module.SplitPathVersion(pin.Module); ok {
			if _, err := p.Find(path.Base(short)); err == nil {
				name = path.Base(short)
			}
		}
		names = append(names, name)
	}
	return names, nil
}

// Find is the module that name means: its path, or the last part of it that is not a major version.
func (p Pins) Find(name string) (string, error) {
	mod, err := p.read()
	if err != nil {
		return "", err
	}
	var found []string
	for _, pin := range listed(mod) {
		if pin.Module == name {
			return name, nil
		}
		if short, _, ok := module.SplitPathVersion(pin.Module); ok && path.Base(short) == name {
			found = append(found, pin.Module)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%q is not one module that go.mod pins; accepted is a module as `"+project.Command+" versions` lists them, or the last part of its path", name)
	}
	return found[0], nil
}

// move pins another version of a module ("" for the newest), tidies, and calls check. If anything fails, go.mod and
// go.sum are put back as they were. It says on out what it does.
func (p Pins) move(ctx context.Context, path, version string, out io.Writer, check func(context.Context) error) (err error) {
	files := map[string][]byte{}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(p.Root, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		files[name] = content
	}
	putBack := func() (err error) {
		for name, content := range files {
			err = errors.Join(err, renameio.WriteFile(filepath.Join(p.Root, name), content, 0o644))
		}
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\ngo.mod and go.sum are as they were before", errors.Join(err, putBack()))
		}
	}()
	before, err := p.read()
	if err != nil {
		return err
	}
	query, tag, err := p.query(ctx, path, version)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "go get %s@%s\n", path, query)
	if _, err := p.run(ctx, "get", path+"@"+query); err != nil {
		return err
	}
	got, err := p.read()
	if err != nil {
		return err
	}
	was, is := p.required(before, path), p.required(got, path)
	if was.Mod == is.Mod && (tag == "" || tag == release(was)) {
		fmt.Fprintf(out, "%s is pinned there already\n", path)
		return putBack()
	}
	if tag != "" || release(is) != "" {
		if err := p.comment(path, tag); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "go mod tidy")
	if _, err := p.run(ctx, "mod", "tidy"); err != nil {
		// The tests of a dependency of a dependency can import a module that cannot be downloaded.
		fmt.Fprintf(out, "%v\ngo mod tidy -e, which leaves that out\n", err)
		if _, err := p.run(ctx, "mod", "tidy", "-e"); err != nil {
			return err
		}
	}
	after, err := p.read()
	if err != nil {
		return err
	}
	for _, move := range moves(before, after) {
		fmt.Fprintln(out, move)
	}
	return check(ctx)
}

// query is the version query by which go(1) gets version of a module. If the version is a release whose tag is not a version
// to Go, query is the release's commit, and tag its tag.
func (p Pins) query(ctx context.Context, path, version string) (query, tag string, err error) {
	url, ok := p.Repositories[path]
	switch {
	case ok && (version == "" || semver.IsValid(version) && !module.IsPseudoVersion(version)):
		tags, err := p.tags(ctx, url)
		if err != nil {
			return "", "", err
		}
		at := slices.IndexFunc(tags, func(t gitTag) bool { return t.name == version })
		if version == "" {
			at = len(tags) - 1
		}
		if at < 0 {
			return "", "", fmt.Errorf("%s has no release %q", url, version)
		}
		return tags[at].commit, tags[at].name, nil
	case version == "":
		return "latest", "", nil
	default:
		return version, "", nil
	}
}

// moves says in a line each which pins differ.
func moves(before, after *modfile.File) []string {
	var lines []string
	old := map[string]Pin{}
	for _, pin := range listed(before) {
		old[pin.Module] = pin
	}
	for _, pin := range listed(after) {
		if was, ok := old[pin.Module]; ok && was != pin {
			lines = append(lines, fmt.Sprintf("%s: %s, which was %s", pin.Module, pin.Version(), was.Version()))
		}
	}
	if before.Go != nil && after.Go != nil && before.Go.Version != after.Go.Version {
		lines = append(lines, fmt.Sprintf("go: %s, which was %s", after.Go.Version, before.Go.Version))
	}
	return lines
}

func (p Pins) run(ctx context.Context, args ...string) (string, error) {
	return command.Output(ctx, command.New(ctx, p.Root, p.Environ, "go", args...))
}

// newest are the newest versions of modules, or why they are not known, by module.
func (p Pins) newest(ctx context.Context, modules []string) (map[string]Pin, error) {
	args := []string{"list", "-m", "-e", "-json"}
	for _, path := range modules {
		args = append(args, path+"@latest")
	}
	out, err := p.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	answers := map[string]Pin{}
	for decoder := json.NewDecoder(strings.NewReader(out)); ; {
		var one struct {
			Path, Version string
			Error         *struct{ Err string }
		}
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return nil, err
		}
		if one.Error != nil {
			answers[one.Path] = Pin{Newest: unknown, Error: one.Error.Err}
		} else {
			answers[one.Path] = Pin{Newest: one.Version}
		}
	}
}

func (p Pins) read() (*modfile.File, error) {
	name := filepath.Join(p.Root, "go.mod")
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(name, content, nil)
}

func (p Pins) required(mod *modfile.File, path string) *modfile.Require {
	i := slices.IndexFunc(mod.Require, func(r *modfile.Require) bool { return r.Mod.Path == path })
	return mod.Require[i]
}

// within says whether the package is of the module.
func within(pkg, module string) bool { return pkg == module || strings.HasPrefix(pkg, module+"/") }

var releaseComment = regexp.MustCompile(`release (v[0-9][\w.+-]*)`)

// release is the release that the comment of a requirement in go.mod names; empty if it names none.
func release(required *modfile.Require) string {
	for _, comment := range required.Syntax.Suffix {
		if found := releaseComment.FindStringSubmatch(comment.Token); found != nil {
			return found[1]
		}
	}
	return ""
}

// Releases reads go.mod in the folder root and returns a function that gives a module's version the name that people use: the
// release that the comment of the requirement names, if go.mod pins exactly that version, or else the version itself.
func Releases(root string) (func(module, version string) string, error) {
	mod, err := Pins{Root: root}.read()
	if err != nil {
		return nil, err
	}
	releases := map[module.Version]string{}
	for _, required := range mod.Require {
		if tag := release(required); tag != "" {
			releases[required.Mod] = tag
		}
	}
	return func(path, version string) string {
		return cmp.Or(releases[module.Version{Path: path, Version: version}], version)
	}, nil
}

// comment writes the tag of a release into the comment of the requirement of the module path in go.mod, where the release's commit
// is pinned. With an empty tag it removes such a comment.
func (p Pins) comment(path, tag string) error {
	mod, err := p.read()
	if err != nil {
		return err
	}
	required := p.required(mod, path)
	var notes []string
	if required.Indirect {
		// go(1) finds an indirect requirement by the beginning of its comment: "indirect" alone, or "indirect;" and more words.
		notes = append(notes, "indirect")
	}
	if tag != "" {
		notes = append(notes, "release "+tag)
	}
	required.Syntax.Suffix = nil
	if len(notes) > 0 {
		required.Syntax.Suffix = []modfile.Comment{{Token: "// " + strings.Join(notes, "; "), Suffix: true}}
	}
	content, err := mod.Format()
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(p.Root, "go.mod"), content, 0o644)
}

// gitTag is a release in a git repository.
type gitTag struct{ name, commit string }

// tags are the releases of the repository at url, the newest last.
func (p Pins) tags(ctx context.Context, url string) ([]gitTag, error) {
	limited, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	cmd := exec.CommandContext(limited, "git", "ls-remote", "--tags", url)
	cmd.Env = append(slices.Clone(p.Environ), "GIT_TERMINAL_PROMPT=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-remote %s: %w: %s", url, err, bytes.TrimSpace(stderr.Bytes()))
	}
	commits := map[string]string{}
	for line := range strings.Lines(string(out)) {
		commit, ref, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			continue
		}
		// git lists an annotated tag twice, the second time with its commit.
		name, annotated := strings.CutSuffix(strings.TrimPrefix(ref, "refs/tags/"), "^{}")
		if _, known := commits[name]; semver.IsValid(name) && semver.Prerelease(name) == "" && (annotated || !known) {
			commits[name] = commit
		}
	}
	var tags []gitTag
	for name, commit := range commits {
		tags = append(tags, gitTag{name, commit})
	}
	slices.SortFunc(tags, func(a, b gitTag) int { return semver.Compare(a.name, b.name) })
	return tags, nil
}
