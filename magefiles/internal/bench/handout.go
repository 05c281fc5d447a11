package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
)

// handout measures the first start of a stack, with the making of its keys, from an image and from an archive, beside that of a checkout
// whose programs are built, and how large the two are.
func (b *benchmark) handout(ctx context.Context) error {
	for _, of := range []setup{tiles, whole} {
		r, err := b.rig(ctx, of)
		if err != nil {
			return err
		}
		if err := b.handoutOf(ctx, r, of); err != nil {
			return err
		}
	}
	return nil
}

func (b *benchmark) handoutOf(ctx context.Context, r *rig, of setup) (err error) {
	// The rig's own folders are wiped between its starts, and Podman takes no path longer than 50 characters.
	folder, err := os.MkdirTemp("", "sl")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	b.step.Detail("packs an archive of %q", of.kind)
	if _, _, err := r.Mage(ctx, "package", "-version=0", "-o="+folder, "stop"); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(folder, "*.tar.zst"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("package made the archives %q: %w", archives, err)
	}
	size := Series{Unit: "MB"}
	if err := addSize(&size, archives[0]); err != nil {
		return err
	}
	b.add(fmt.Sprintf("archive of `%s`", of.kind), size, "", nil, nil)
	if _, err := command.Combined(ctx, command.New(ctx, folder, os.Environ(), "tar", "-xf", archives[0])); err != nil {
		return err
	}
	programs, err := filepath.Glob(filepath.Join(folder, "*", pack.Command))
	if err != nil || len(programs) != 1 {
		return fmt.Errorf("the archive holds the programs %q: %w", programs, err)
	}
	c, err := b.container(ctx, r, of, folder)
	defer func() { err = errors.Join(err, c.remove()) }()
	if err != nil {
		return err
	}
	checkout, archive, contained := Series{Unit: "s"}, Series{Unit: "s"}, Series{Unit: "s"}
	for run := range b.Runs {
		b.step.Detail("run %d of %d", run+1, b.Runs)
		if _, _, err := r.Mage(ctx, "reset", "-yes"); err != nil {
			return err
		}
		took, _, err := r.Mage(ctx, "start")
		if err != nil {
			return err
		}
		checkout.Add(took.Seconds())
		if _, _, err := r.Mage(ctx, "reset", "-yes"); err != nil {
			return err
		}
		began := time.Now()
		if _, err := command.Combined(ctx, command.New(ctx, folder, r.Environ, programs[0], "start")); err != nil {
			return err
		}
		archive.Add(time.Since(began).Seconds())
		if _, _, err := r.Mage(ctx, "stop"); err != nil {
			return err
		}
		if c == nil {
			continue
		}
		if took, err = c.start(ctx); err != nil {
			return err
		}
		contained.Add(took.Seconds())
	}
	name := fmt.Sprintf("first start of `%s`, keys included, ", of.kind)
	b.add(name+"by an archive", archive, "`start` of a checkout", &checkout, atMost(1))
	if c != nil {
		b.add(fmt.Sprintf("image of `%s`, compressed", of.kind), c.size, "", nil, atMost(map[bool]float64{true: 120, false: 300}[of == tiles]))
		b.add(name+"by a container", contained, "`start` of a checkout", &checkout, nil)
		b.add(name+"by a container", contained, "", nil, atMost(5))
	}
	return nil
}

func addSize(series *Series, file string) error {
	info, err := os.Stat(file)
	if err == nil {
		series.Add(float64(info.Size()) / 1e6)
	}
	return err
}

// container starts containers of an image by Podman, with all that it stores in a folder of its own.
type container struct {
	folder string
	size   Series // of the image
}

// container makes an image of a rig and loads it. It is nil where no image can be made, or where there is no Podman.
func (b *benchmark) container(ctx context.Context, r *rig, of setup, folder string) (*container, error) {
	_, podman := exec.LookPath("podman")
	if err := cmp.Or(image.Possible(), podman); err != nil {
		b.Console.Printf("The image of %q is not measured: %v", of.kind, err)
		return nil, nil
	}
	b.step.Detail("makes an image of %q", of.kind)
	file := filepath.Join(folder, "image.tar")
	if _, _, err := r.Mage(ctx, "image", "-version=0", "-o="+file, "stop"); err != nil {
		return nil, err
	}
	c := &container{folder: filepath.Join(folder, "podman"), size: Series{Unit: "MB"}}
	if err := addSize(&c.size, file); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.folder, 0o700); err != nil {
		return nil, err
	}
	_, err := c.podman(ctx, "load", "--quiet", "--input", file)
	return c, err
}

func (c *container) podman(ctx context.Context, args ...string) (string, error) {
	at := func(name string) string { return filepath.Join(c.folder, name) }
	all := []string{"--root", at("root"), "--runroot", at("run"), "--tmpdir", at("tmp"), "--volumepath", at("volumes"), "--cgroup-manager", "cgroupfs", "--events-backend", "file"}
	if _, err := exec.LookPath("runc"); err == nil {
		all = append(all, "--runtime", "runc")
	}
	return command.Combined(ctx, command.New(ctx, c.folder, os.Environ(), "podman", append(all, args...)...))
}

// start runs a container, says how long it took until its stack was ready, and removes the container.
func (c *container) start(ctx context.Context) (took time.Duration, err error) {
	const name = "measured"
	began := time.Now()
	// The stack in it is reached by nobody, so it needs no network. Some sandboxes let nobody raise limits, which Podman does by default.
	if _, err := c.podman(ctx, "run", "--detach", "--name", name, "--read-only", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
		"localhost/"+pack.Command+":0"); err != nil {
		return 0, err
	}
	defer func() {
		_, removed := c.podman(context.WithoutCancel(ctx), "rm", "--force", "--volumes", name)
		err = errors.Join(err, removed)
	}()
	for {
		_, err := c.podman(ctx, "exec", name, pack.Command, "status", "-all")
		if err == nil {
			return time.Since(began), nil
		}
		if time.Since(began) > time.Minute {
			return 0, fmt.Errorf("the container is not ready after a minute: %w", err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// remove removes what Podman has stored.
func (c *container) remove() error {
	if c == nil {
		return nil
	}
	_, err := c.podman(context.Background(), "rmi", "--all", "--force")
	return err
}
