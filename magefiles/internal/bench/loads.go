package bench

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/fulcioclient"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/stack"
)

// typed matches a command that a demo prints for a person to type.
var typed = regexp.MustCompile(`(?m)^    \$ (?:COSIGN_IDENTITY_TOKEN="\$\([^"]*\)" )?(.*)$`)

// demo measures demo:keyless, beside the commands that it shows, each run alone.
func (b *benchmark) demo(ctx context.Context) error {
	r := b.tuned
	if _, _, err := r.Mage(ctx, "demo:keyless"); err != nil {
		return err
	}
	environ, err := r.clients(ctx)
	if err != nil {
		return err
	}
	demo, alone := Series{Unit: "s"}, Series{Unit: "s"}
	for run := range b.Runs {
		b.step.Detail("run %d of %d", run+1, b.Runs)
		took, said, err := r.Mage(ctx, "demo:keyless")
		if err != nil {
			return err
		}
		demo.Add(took.Seconds())
		token, took, err := r.token(ctx)
		if err != nil {
			return err
		}
		sum := took
		for _, line := range typed.FindAllStringSubmatch(said, -1) {
			if strings.HasPrefix(line[1], "eval ") {
				continue
			}
			cmd := command.New(ctx, r.Config.Home(), append(slices.Clone(environ), "COSIGN_IDENTITY_TOKEN="+token), "sh", "-c", line[1])
			began := time.Now()
			// The demo shows some commands because they are refused.
			if _, err := command.Combined(ctx, cmd); ctx.Err() != nil {
				return err
			}
			sum += time.Since(began)
		}
		alone.Add(sum.Seconds())
	}
	b.add("demo:keyless on a running stack", demo, "its commands, each run alone", &alone, atMost(1.2))
	_, _, err = r.Mage(ctx, "stop")
	return err
}

// clients is the environment of the stack's clients.
func (r *rig) clients(ctx context.Context) ([]string, error) {
	folders, err := client.GoFolders(ctx, r.Config.Root)
	if err != nil {
		return nil, err
	}
	environ, err := r.ClientProcess(config.Without(os.Environ()), client.Keys)
	return append(environ, folders...), err
}

// token signs in, and says how long that took.
func (r *rig) token(ctx context.Context) (string, time.Duration, error) {
	began := time.Now()
	token, err := stack.IDToken(ctx, r.Config, r.Config.Email)
	return token, time.Since(began), err
}

// keyless measures keyless signatures of a file, the ID token included, beside a stack with upstream's defaults.
func (b *benchmark) keyless(ctx context.Context) error {
	callers := []int{1, 8}
	type result struct {
		median, rate Series
		all          Load // of all runs, since a run has too few for a percentile
	}
	results := map[*rig]map[int]*result{}
	parts := map[string]*Series{}
	var order []string
	part := func(name string, took time.Duration) {
		name = "of a keyless signature: " + name
		if parts[name] == nil {
			parts[name], order = &Series{Unit: "ms"}, append(order, name)
		}
		parts[name].Add(milliseconds(took))
	}
	for _, r := range []*rig{b.tuned, b.plain} {
		results[r] = map[int]*result{}
		for _, n := range callers {
			results[r][n] = &result{median: Series{Unit: "ms"}, rate: Series{Unit: "/s"}}
		}
	}
	for run := range b.Runs {
		for _, r := range []*rig{b.tuned, b.plain} {
			b.step.Detail("run %d of %d", run+1, b.Runs)
			if _, _, err := r.Mage(ctx, "start"); err != nil {
				return err
			}
			sign, err := r.signer(ctx)
			if err != nil {
				return err
			}
			for _, n := range callers {
				count := 24 + 8*n
				before := r.processors(ctx)
				cosign, err := spent()
				if err != nil {
					return err
				}
				load, err := drive(ctx, n, count, sign)
				if err != nil {
					return err
				}
				ended, err := spent()
				if err != nil {
					return err
				}
				if r == b.tuned && n > 1 {
					each := func(name string, took time.Duration) {
						part(fmt.Sprintf("%d at a time, processor time of %s", n, name), took/time.Duration(count))
					}
					each("cosign", ended-cosign)
					after := r.processors(ctx)
					for _, name := range slices.Sorted(maps.Keys(after)) {
						if took := after[name] - before[name]; took > 0 {
							each(name, took)
						}
					}
				}
				got := results[r][n]
				got.median.Add(milliseconds(load.percentile(50)))
				got.rate.Add(load.rate())
				got.all.Latencies = append(got.all.Latencies, load.Latencies...)
			}
			if r == b.tuned {
				if err := r.parts(ctx, part); err != nil {
					return err
				}
			}
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	for _, n := range callers {
		name := fmt.Sprintf("keyless signature, %d at a time, ", n)
		ours, theirs := results[b.tuned][n], results[b.plain][n]
		b.add(name+"median", ours.median, "upstream's defaults", &theirs.median, atMost(0.7))
		b.add(fmt.Sprintf("%s99th percentile of %d", name, len(ours.all.Latencies)), high(ours.all), "upstream's defaults", new(high(theirs.all)), nil)
		b.add(name+"signatures a second", ours.rate, "upstream's defaults", &theirs.rate, nil)
	}
	for _, name := range order {
		b.add(name, *parts[name], "", nil, nil)
	}
	return nil
}

// high is the 99th percentile of a load.
func high(load Load) Series {
	slices.Sort(load.Latencies)
	return Series{Unit: "ms", Values: []float64{milliseconds(load.percentile(99))}}
}

// signer prepares keyless signatures by cosign.
func (r *rig) signer(ctx context.Context) (func(context.Context) error, error) {
	environ, err := r.clients(ctx)
	if err != nil {
		return nil, err
	}
	file := r.Config.Data("bench.txt")
	if err := os.WriteFile(file, []byte("An artifact to sign.\n"), 0o600); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		token, _, err := r.token(ctx)
		if err != nil {
			return err
		}
		cmd := command.New(ctx, r.Config.Home(), append(slices.Clone(environ), "COSIGN_IDENTITY_TOKEN="+token),
			r.Config.Program("cosign"), "sign-blob", "--output-certificate="+os.DevNull, file)
		_, err = command.Output(ctx, cmd)
		return err
	}, nil
}

// parts times each part of a keyless signature alone.
func (r *rig) parts(ctx context.Context, part func(name string, took time.Duration)) error {
	uploader, err := rekorlog.NewUploader(r.Config.URL(config.Rekor))
	if err != nil {
		return err
	}
	environ, err := r.clients(ctx)
	if err != nil {
		return err
	}
	token, took, err := r.token(ctx)
	if err != nil {
		return err
	}
	part("the token of Dex", took)
	for _, one := range []struct {
		name string
		run  func() error
	}{
		{"cosign's own start (cosign version)", func() error {
			_, err := command.Output(ctx, command.New(ctx, r.Config.Home(), environ, r.Config.Program("cosign"), "version"))
			return err
		}},
		{"the certificate of Fulcio, with its entry in the CT log", func() error {
			return fulcioclient.Certify(ctx, r.Config.URL(config.Fulcio), token, r.Config.Email)
		}},
		{"the entry in Rekor", func() error {
			_, err := uploader.Upload(ctx)
			return err
		}},
	} {
		began := time.Now()
		if err := one.run(); err != nil {
			return err
		}
		part(one.name, time.Since(began))
	}
	return nil
}

// upload measures uploads to Rekor by its API, beside a stack with upstream's defaults.
func (b *benchmark) upload(ctx context.Context) error {
	callers := []int{1, 16, 64}
	rates, medians := map[*rig][]Series{}, map[*rig][]Series{}
	for run := range b.Runs {
		for _, r := range []*rig{b.tuned, b.plain} {
			b.step.Detail("run %d of %d", run+1, b.Runs)
			if _, _, err := r.Mage(ctx, "rekor:start"); err != nil {
				return err
			}
			for i, n := range callers {
				load, err := r.fill(ctx, n, 20+10*n)
				if err != nil {
					return err
				}
				if run == 0 {
					rates[r], medians[r] = append(rates[r], Series{Unit: "/s"}), append(medians[r], Series{Unit: "ms"})
				}
				rates[r][i].Add(load.rate())
				medians[r][i].Add(milliseconds(load.percentile(50)))
			}
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	for i, n := range callers {
		name := fmt.Sprintf("upload to Rekor, %d at a time, ", n)
		b.add(name+"entries a second", rates[b.tuned][i], "upstream's defaults", &rates[b.plain][i], atLeast(2))
		b.add(name+"median", medians[b.tuned][i], "upstream's defaults", &medians[b.plain][i], nil)
	}
	return nil
}

// fill uploads so many entries from so many callers at a time.
func (r *rig) fill(ctx context.Context, callers, count int) (Load, error) {
	uploader, err := rekorlog.NewUploader(r.Config.URL(config.Rekor))
	if err != nil {
		return Load{}, err
	}
	return drive(ctx, callers, count, func(ctx context.Context) error {
		_, err := uploader.Upload(ctx)
		return err
	})
}

// growth measures the whole stack with ever more entries in the log: its speed, and the resources that it takes.
func (b *benchmark) growth(ctx context.Context) error {
	r, err := b.rig("grown", config.TunedLocal, b.All(), b.tuned, b.plain)
	if err != nil {
		return err
	}
	sizes := []int{100, 10000, b.Entries}
	slices.Sort(sizes)
	sizes = slices.DeleteFunc(slices.Compact(sizes), func(size int) bool { return size > b.Entries })
	if _, _, err := r.Mage(ctx, "start"); err != nil {
		return err
	}
	var starts, signatures, memory, filled []Series
	idle := Series{Unit: "% of one processor"}
	entries := 0
	for i, size := range sizes {
		b.step.Detail("fills the log with %d entries", size)
		if _, err := r.fill(ctx, 64, size-entries); err != nil {
			return err
		}
		filled = append(filled, Series{Unit: "MB", Values: []float64{r.memory(ctx)}})
		starts, signatures, memory = append(starts, Series{Unit: "s"}), append(signatures, Series{Unit: "ms"}), append(memory, Series{Unit: "MB"})
		entries = size
		for run := range b.Runs {
			b.step.Detail("%d entries, run %d of %d", size, run+1, b.Runs)
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
			took, _, err := r.Mage(ctx, "start")
			if err != nil {
				return err
			}
			starts[i].Add(took.Seconds())
			memory[i].Add(r.memory(ctx))
			if i == 0 {
				const while = 3 * time.Second
				before := r.processors(ctx)
				time.Sleep(while)
				sum := time.Duration(0)
				for name, taken := range r.processors(ctx) {
					sum += taken - before[name]
				}
				idle.Add(100 * sum.Seconds() / while.Seconds())
			}
			sign, err := r.signer(ctx)
			if err != nil {
				return err
			}
			load, err := drive(ctx, 1, 12, sign)
			if err != nil {
				return err
			}
			entries += 12
			signatures[i].Add(milliseconds(load.percentile(50)))
		}
	}
	for i, size := range sizes[1:] {
		with := fmt.Sprintf(" with %d entries", size)
		b.add("keyless signature"+with, signatures[i+1], "itself with 100", &signatures[0], atMost(1.2))
		b.add("warm start of everything"+with, starts[i+1], "itself with 100", &starts[0], atMost(1.2))
	}
	if _, _, err := r.Mage(ctx, "stop"); err != nil {
		return err
	}
	if memory[0].median() > 0 {
		b.add("resident memory of everything, idle", memory[0], "", nil, atMost(512))
		for i, size := range sizes[1:] {
			b.add(fmt.Sprintf("resident memory after the upload of %d entries", size), filled[i+1], "", nil, nil)
			b.add(fmt.Sprintf("resident memory with %d entries, started again", size), memory[i+1], "", nil, atMost(512))
		}
		b.add("processor time of everything, idle", idle, "", nil, nil)
	}
	return nil
}

// memory is the resident memory of all services in MB (10^6 bytes); 0 where the system does not tell.
func (r *rig) memory(ctx context.Context) float64 {
	sum := int64(0)
	for _, one := range r.All() {
		sum += r.Engine.Status(ctx, one).Memory
	}
	return float64(sum) / 1e6
}

// processors is the processor time that each service has taken, by its name. Where the system does not tell there is none.
func (r *rig) processors(ctx context.Context) map[string]time.Duration {
	taken := map[string]time.Duration{}
	for _, one := range r.All() {
		if time := platform.ProcessorTime(r.Engine.Status(ctx, one).PID); time > 0 {
			taken[one.Name] = time
		}
	}
	return taken
}

// commands measures the targets that are typed most.
func (b *benchmark) commands(ctx context.Context) error {
	r := b.tuned
	if _, _, err := r.Mage(ctx, "start"); err != nil {
		return err
	}
	for _, target := range []string{"-l", "status"} {
		series := Series{Unit: "s"}
		for range b.Runs {
			took, _, err := r.Mage(ctx, target)
			if err != nil {
				return err
			}
			series.Add(took.Seconds())
		}
		b.add("go tool mage "+target, series, "", nil, atMost(0.5))
	}
	_, _, err := r.Mage(ctx, "stop")
	return err
}
