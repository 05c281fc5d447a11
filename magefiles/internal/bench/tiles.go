package bench

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/jsonapi"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/tilelog"
)

// tilesStart measures a warm start of a stack of tiles, beside everything and beside its own daemons alone.
func (b *benchmark) tilesStart(ctx context.Context) error {
	alone, everything, err := b.pair(ctx, tiles, whole)
	if err != nil {
		return err
	}
	started, other := newWarm(), Series{Unit: "s"}
	for run := range b.Runs {
		b.step.Detail("run %d of %d", run+1, b.Runs)
		if err := alone.warm(ctx, &started); err != nil {
			return err
		}
		took, _, err := everything.Mage(ctx, "start")
		if err != nil {
			return err
		}
		other.Add(took.Seconds())
		if _, _, err := everything.Mage(ctx, "stop"); err != nil {
			return err
		}
	}
	const name = "warm start of `tiles`"
	b.add(name, started.byTool, "of everything", &other, atMost(0.6))
	b.add(name, started.byTool, "the daemons' critical path, each timed alone", &started.path, atMost(1.2))
	b.add(name+" by the compiled targets, without go tool", started.byTargets, "the same", &started.path, atMost(1.2))
	return nil
}

// tilesKeyless measures keyless signatures of a file into a bundle with an entry in Rekor v2, the ID token included, beside those
// with an entry in Rekor v1.
func (b *benchmark) tilesKeyless(ctx context.Context) error {
	v2, v1, err := b.pair(ctx, tiles, tuned)
	if err != nil {
		return err
	}
	const count = 24
	medians, loads := map[*rig]*Series{}, map[*rig]*Load{}
	parts := newParts("of a keyless signature by Rekor v2: ")
	for run := range b.Runs {
		for _, r := range []*rig{v2, v1} {
			b.step.Detail("run %d of %d", run+1, b.Runs)
			if medians[r] == nil {
				medians[r], loads[r] = &Series{Unit: "ms"}, &Load{}
			}
			if _, _, err := r.Mage(ctx, "start"); err != nil {
				return err
			}
			sign, err := r.signer(ctx)
			if err != nil {
				return err
			}
			load, err := Drive(ctx, 1, count, sign)
			if err != nil {
				return err
			}
			medians[r].Add(milliseconds(load.Percentile(50)))
			loads[r].Latencies = append(loads[r].Latencies, load.Latencies...)
			if r == v2 {
				if err := r.parts(ctx, parts); err != nil {
					return err
				}
			}
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	const name, against = "keyless signature by Rekor v2, 1 at a time, ", "by Rekor v1"
	b.add(name+"median", *medians[v2], against, medians[v1], atMost(2))
	b.add(fmt.Sprintf("%s99th percentile of %d", name, len(loads[v2].Latencies)), high(*loads[v2]), against, new(high(*loads[v1])), nil)
	parts.addTo(b)
	return nil
}

// tilesUpload measures uploads to Rekor v2 by its API, beside those to Rekor v1.
func (b *benchmark) tilesUpload(ctx context.Context) error {
	v2, v1, err := b.pair(ctx, tiles, tuned)
	if err != nil {
		return err
	}
	callers := []int{1, 16, 64, 256}
	aims := map[int]*Aim{64: atLeast(2), 256: atLeast(5)}
	rates, medians := map[*rig][]Series{}, map[*rig][]Series{}
	costs := newParts("of an upload to Rekor v2, ")
	busy := make([]Series, len(callers))
	refused := map[*rig]*atomic.Int64{v2: {}, v1: {}}
	for run := range b.Runs {
		for _, r := range []*rig{v2, v1} {
			if run == 0 {
				for range callers {
					rates[r], medians[r] = append(rates[r], Series{Unit: "/s"}), append(medians[r], Series{Unit: "ms"})
				}
			}
			if _, _, err := r.Mage(ctx, "start"); err != nil {
				return err
			}
			for i, n := range callers {
				b.step.Detail("run %d of %d, %d at a time", run+1, b.Runs, n)
				count := 10 + 10*n
				before, own := r.processors(ctx), platform.ProcessorTime(os.Getpid())
				uploader, err := r.uploader()
				if err != nil {
					return err
				}
				load, err := Drive(ctx, n, count, func(ctx context.Context) error {
					// With so many at a time Rekor v1 now and then gets from Trillian what it does not expect, and refuses the upload: a
					// client would try again.
					const tries = 5
					for try := 1; ; try++ {
						_, err := uploader.Upload(ctx)
						if err == nil || try == tries || ctx.Err() != nil {
							return err
						}
						refused[r].Add(1)
					}
				})
				if err != nil {
					return err
				}
				rates[r][i].Add(load.Rate())
				medians[r][i].Add(milliseconds(load.Percentile(50)))
				if r != v2 {
					continue
				}
				after := r.processors(ctx)
				sum := platform.ProcessorTime(os.Getpid()) - own
				for _, name := range []string{"rekor-tiles", "tiles"} {
					taken := after[name] - before[name]
					sum += taken
					// Of fewer entries it would not be more than the hundredths of a second by which the system counts.
					if n >= 64 && taken > 0 {
						costs.add(fmt.Sprintf("%d at a time, processor time of %s", n, name), taken/time.Duration(count))
					}
				}
				busy[i].Unit = "%"
				busy[i].Add(100 * sum.Seconds() / load.Took.Seconds() / float64(runtime.NumCPU()))
			}
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	for i, n := range callers {
		name := fmt.Sprintf("upload to Rekor v2, %d at a time, ", n)
		b.add(name+"entries a second", rates[v2][i], "to Rekor v1", &rates[v1][i], aims[n])
		b.add(name+"median", medians[v2][i], "to Rekor v1", &medians[v1][i], nil)
	}
	for _, one := range []struct {
		version string
		rig     *rig
	}{{"v2", v2}, {"v1", v1}} {
		if n := refused[one.rig].Load(); n > 0 {
			b.add("uploads that Rekor "+one.version+" refused, and took when they were repeated", Series{Values: []float64{float64(n)}}, "", nil, nil)
		}
	}
	costs.addTo(b)
	if busy[len(busy)-1].median() > 0 {
		for i, n := range callers {
			b.add(fmt.Sprintf("upload to Rekor v2, %d at a time: how busy it keeps the processors, clients included", n), busy[i], "", nil, nil)
		}
	}
	return nil
}

// base is how many entries the log has that tilesGrowth compares larger ones with.
const base = 1000

// tilesGrowth measures a stack of tiles with few and with many entries in Rekor v2. Uploading so many would take hours, since Rekor
// v2 acknowledges a few hundred a second: the log's files are written directly.
func (b *benchmark) tilesGrowth(ctx context.Context) error {
	type grown struct {
		*rig
		size                                              int
		digest                                            string  // of what an entry in the middle of the log holds
		disk, indexed                                     float64 // bytes for each entry, seconds
		start, rate, memory, byDigest, byKey, server, web Series
	}
	var all []*grown
	for _, size := range slices.Compact([]int{base, b.Entries}) {
		r, err := b.rig(ctx, setup{fmt.Sprint("tiles", size), config.Tiles, config.TunedLocal})
		if err != nil {
			return err
		}
		b.step.Detail("writes a log of %d entries", size)
		digest, key, err := r.written(size)
		if err != nil {
			return err
		}
		g := &grown{
			rig: r, size: size, digest: digest,
			start: Series{Unit: "s"}, rate: Series{Unit: "/s"}, memory: Series{Unit: "MB"}, byDigest: Series{Unit: "s"}, byKey: Series{Unit: "s"},
			server: Series{Unit: "MB"}, web: Series{Unit: "MB"},
		}
		all = append(all, g)
		if _, _, err := r.Mage(ctx, "start"); err != nil {
			return err
		}
		b.step.Detail("waits until %d entries are in the index", size)
		began := time.Now()
		if err := r.indexed(ctx, size); err != nil {
			return err
		}
		g.indexed = time.Since(began).Seconds()
		if g.disk, err = r.onDisk(size); err != nil {
			return err
		}
		if _, _, err := r.Mage(ctx, "stop"); err != nil {
			return err
		}
		for run := range b.Runs {
			b.step.Detail("%d entries, run %d of %d", size, run+1, b.Runs)
			took, _, err := r.Mage(ctx, "start")
			if err != nil {
				return err
			}
			g.start.Add(took.Seconds())
			if err := r.indexed(ctx, size); err != nil {
				return err
			}
			g.memory.Add(r.memory(ctx))
			for _, one := range r.All() {
				switch one.Name {
				case "rekor-tiles":
					g.server.Add(float64(r.Engine.Status(ctx, one).Memory) / 1e6)
				case "tiles":
					g.web.Add(float64(r.Engine.Status(ctx, one).Memory) / 1e6)
				}
			}
			for _, search := range []struct {
				flag   string
				series *Series
			}{{"-digest=" + digest, &g.byDigest}, {"-key=" + key, &g.byKey}} {
				took, _, err := r.Mage(ctx, "rekor:search", search.flag)
				if err != nil {
					return err
				}
				search.series.Add(took.Seconds())
			}
			load, err := r.fill(ctx, 64, 650)
			if err != nil {
				return err
			}
			g.rate.Add(load.Rate())
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	few := all[0]
	against := fmt.Sprintf("with %d", base)
	for _, g := range all[1:] {
		with := fmt.Sprintf(" with %d entries in Rekor v2, whose files were written directly", g.size)
		b.add("warm start of `tiles`"+with, g.start, against, &few.start, atMost(1.2))
		b.add("upload, 64 at a time,"+with, g.rate, against, &few.rate, atLeast(0.83))
		if few.memory.median() > 0 {
			b.add("resident memory of `tiles`"+with, g.memory, against, &few.memory, atMost(1.2))
			b.add("of that: rekor-tiles", g.server, against, &few.server, nil)
			b.add("of that: tiles", g.web, against, &few.web, nil)
		}
		one := func(x float64, unit string) Series { return Series{Unit: unit, Values: []float64{x}} }
		b.add("disk for each entry"+with, one(g.disk, "B"), against, new(one(few.disk, "B")), atMost(1.2))
		b.add("first index"+with, one(g.indexed, "s"), "", nil, nil)
		b.add("rekor:search of a digest"+with, g.byDigest, against, &few.byDigest, nil)
		b.add("rekor:search of a digest"+with, g.byDigest, "", nil, atMost(1))
		b.add("rekor:search of a key that signed all"+with, g.byKey, "", nil, atMost(1))
	}
	return nil
}

// written fills the log of Rekor v2, which does not run and has no entries, by writing its files as its server does. It returns the
// digest that an entry in the middle holds, and that of the key that has signed all.
func (r *rig) written(size int) (digest, key string, err error) {
	file := r.Config.Key("rekor-tiles.pem")
	signer, err := keys.Private(file)
	if err != nil {
		return "", "", err
	}
	private, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return "", "", fmt.Errorf("%s holds a %T; accepted is an Ed25519 key", file, signer)
	}
	writer, err := tilelog.NewWriter(tilelog.Folder(r.Config.Data("rekor-tiles")), r.Config.RekorV2Origin(), private)
	if err != nil {
		return "", "", err
	}
	maker, err := r.uploader()
	if err != nil {
		return "", "", err
	}
	for i := range size {
		entry, err := maker.EntryV2()
		if err == nil {
			err = writer.Add(entry)
		}
		if err != nil {
			return "", "", err
		}
		if i == size/2 {
			what, err := rekorlog.Describe(entry)
			if err != nil {
				return "", "", err
			}
			digest, key = what.Digests[0], what.Signers[0].Key
		}
	}
	return digest, key, writer.Publish()
}

// indexed waits until the index of Rekor v2 has at least size entries.
func (r *rig) indexed(ctx context.Context, size int) error {
	// Any query makes the index say how far it is.
	url := r.Config.RekorV2() + rekorlog.SearchPath + "?identity=nobody@example.org"
	for {
		var answer rekorlog.Answer
		if err := jsonapi.Ask(ctx, http.DefaultClient, http.MethodGet, url, nil, &answer); err != nil {
			return err
		}
		if answer.Problem != "" {
			return fmt.Errorf("the index does not go on: %s", answer.Problem)
		}
		if answer.Indexed >= uint64(size) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// onDisk is how many bytes of the disk the files of Rekor v2 and of its index hold for each of so many entries.
func (r *rig) onDisk(entries int) (float64, error) {
	sum := int64(0)
	for _, folder := range []string{"rekor-tiles", "rekor-index"} {
		err := filepath.WalkDir(r.Config.Data(folder), func(_ string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += int64(stat.Blocks) * 512
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return float64(sum) / float64(entries), nil
}
