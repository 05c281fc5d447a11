package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
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
	r, err := b.rig(ctx, tuned)
	if err != nil {
		return err
	}
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
	environ, err := r.ClientProcess(config.Without(os.Environ()), client.Trusts(r.Config)[0])
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
	ours, theirs, err := b.pair(ctx, tuned, plain)
	if err != nil {
		return err
	}
	callers := []int{1, 8}
	type result struct {
		median, rate Series
		all          Load // of all runs, since a run has too few for a percentile
	}
	results := map[*rig]map[int]*result{}
	parts := newParts("of a keyless signature: ")
	for _, r := range []*rig{ours, theirs} {
		results[r] = map[int]*result{}
		for _, n := range callers {
			results[r][n] = &result{median: Series{Unit: "ms"}, rate: Series{Unit: "/s"}}
		}
	}
	for run := range b.Runs {
		for _, r := range []*rig{ours, theirs} {
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
				load, err := Drive(ctx, n, count, sign)
				if err != nil {
					return err
				}
				ended, err := spent()
				if err != nil {
					return err
				}
				if r == ours && n > 1 {
					each := func(name string, took time.Duration) {
						parts.add(fmt.Sprintf("%d at a time, processor time of %s", n, name), took/time.Duration(count))
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
				got.median.Add(milliseconds(load.Percentile(50)))
				got.rate.Add(load.Rate())
				got.all.Latencies = append(got.all.Latencies, load.Latencies...)
			}
			if r == ours {
				if err := r.parts(ctx, parts); err != nil {
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
		got, other := results[ours][n], results[theirs][n]
		b.add(name+"median", got.median, "upstream's defaults", &other.median, atMost(0.7))
		b.add(fmt.Sprintf("%s99th percentile of %d", name, len(got.all.Latencies)), high(got.all), "upstream's defaults", new(high(other.all)), nil)
		b.add(name+"signatures a second", got.rate, "upstream's defaults", &other.rate, nil)
	}
	parts.addTo(b)
	return nil
}

// parts are figures of the parts of something, in the order in which they were measured first.
type parts struct {
	of     string // what their names begin with
	names  []string
	series map[string]*Series
}

func newParts(of string) *parts { return &parts{of: of, series: map[string]*Series{}} }

// add adds how long a part took.
func (p *parts) add(name string, took time.Duration) {
	if p.series[name] == nil {
		p.series[name], p.names = &Series{Unit: "ms"}, append(p.names, name)
	}
	p.series[name].Add(milliseconds(took))
}

// addTo adds the figures to those of b.
func (p *parts) addTo(b *benchmark) {
	for _, name := range p.names {
		b.add(p.of+name, *p.series[name], "", nil, nil)
	}
}

// high is the 99th percentile of a load.
func high(load Load) Series {
	slices.Sort(load.Latencies)
	return Series{Unit: "ms", Values: []float64{milliseconds(load.Percentile(99))}}
}

// signer prepares keyless signatures of a file by the stack's cosign: with an entry in Rekor v1 or, in a stack of tiles, into a
// bundle with an entry in Rekor v2 and a timestamp.
func (r *rig) signer(ctx context.Context) (func(context.Context) error, error) {
	environ, err := r.clients(ctx)
	if err != nil {
		return nil, err
	}
	file := r.Config.Data("bench.txt")
	if err := os.WriteFile(file, []byte("An artifact to sign.\n"), 0o600); err != nil {
		return nil, err
	}
	output := "--output-certificate=" + os.DevNull
	if r.Config.Stack == config.Tiles {
		output = "--bundle=" + file + ".sigstore.json"
	}
	return func(ctx context.Context) error {
		token, _, err := r.token(ctx)
		if err != nil {
			return err
		}
		cmd := command.New(ctx, r.Config.Home(), append(slices.Clone(environ), "COSIGN_IDENTITY_TOKEN="+token),
			r.Config.Program("cosign"), "sign-blob", output, file)
		_, err = command.Output(ctx, cmd)
		return err
	}, nil
}

// parts times each part of a keyless signature alone.
func (r *rig) parts(ctx context.Context, into *parts) error {
	uploader, err := r.uploader()
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
	into.add("the token of Dex", took)
	type part struct {
		name string
		run  func() error
	}
	list := []part{
		{"cosign's own start (cosign version)", func() error {
			_, err := command.Output(ctx, command.New(ctx, r.Config.Home(), environ, r.Config.Program("cosign"), "version"))
			return err
		}},
		{"the certificate of Fulcio, with its entry in the CT log", func() error {
			return fulcioclient.Certify(ctx, r.Config.URL(config.Fulcio), token, r.Config.Email)
		}},
	}
	if r.Config.Stack == config.Tiles {
		list = append(list, part{"the timestamp of the timestamp authority", func() error { return r.timestamp(ctx) }})
	}
	list = append(list, part{"the entry in Rekor", func() error { _, err := uploader.Upload(ctx); return err }})
	for _, one := range list {
		began := time.Now()
		if err := one.run(); err != nil {
			return err
		}
		into.add(one.name, time.Since(began))
	}
	return nil
}

// timestamp asks the timestamp authority for a timestamp.
func (r *rig) timestamp(ctx context.Context) error {
	digest := sha256.Sum256([]byte(r.Config.State))
	asked, err := json.Marshal(map[string]any{"artifactHash": digest[:], "hashAlgorithm": "sha256", "certificates": true})
	if err != nil {
		return err
	}
	url := r.Config.URL(config.TSA) + "/api/v1/timestamp"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(asked))
	if err != nil {
		return err
	}
	// The authority takes a request as JSON too, and answers with a timestamp in DER.
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("POST %s: %s: %s", url, response.Status, answer)
	}
	return err
}

// uploader uploads to the Rekor that clients of the stack use.
func (r *rig) uploader() (*rekorlog.Uploader, error) {
	if r.Config.Stack == config.Tiles {
		return rekorlog.NewUploaderV2(r.Config.RekorV2())
	}
	return rekorlog.NewUploader(r.Config.URL(config.Rekor))
}

// upload measures uploads to Rekor by its API, beside a stack with upstream's defaults.
func (b *benchmark) upload(ctx context.Context) error {
	ours, theirs, err := b.pair(ctx, tuned, plain)
	if err != nil {
		return err
	}
	callers := []int{1, 16, 64}
	rates, medians := map[*rig][]Series{}, map[*rig][]Series{}
	for run := range b.Runs {
		for _, r := range []*rig{ours, theirs} {
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
				rates[r][i].Add(load.Rate())
				medians[r][i].Add(milliseconds(load.Percentile(50)))
			}
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	for i, n := range callers {
		name := fmt.Sprintf("upload to Rekor, %d at a time, ", n)
		b.add(name+"entries a second", rates[ours][i], "upstream's defaults", &rates[theirs][i], atLeast(2))
		b.add(name+"median", medians[ours][i], "upstream's defaults", &medians[theirs][i], nil)
	}
	return nil
}

// fill uploads so many entries from so many callers at a time.
func (r *rig) fill(ctx context.Context, callers, count int) (Load, error) {
	uploader, err := r.uploader()
	if err != nil {
		return Load{}, err
	}
	return Drive(ctx, callers, count, func(ctx context.Context) error {
		_, err := uploader.Upload(ctx)
		return err
	})
}

// growth measures the whole stack with ever more entries in the log: its speed, and the resources that it takes.
func (b *benchmark) growth(ctx context.Context) error {
	r, err := b.rig(ctx, setup{"grown", config.Whole, config.TunedLocal})
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
			sign, err := r.signer(ctx)
			if err != nil {
				return err
			}
			load, err := Drive(ctx, 1, 12, sign)
			if err != nil {
				return err
			}
			entries += 12
			signatures[i].Add(milliseconds(load.Percentile(50)))
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
		for i, size := range sizes[1:] {
			b.add(fmt.Sprintf("resident memory after the upload of %d entries", size), filled[i+1], "", nil, nil)
			b.add(fmt.Sprintf("resident memory with %d entries, started again", size), memory[i+1], "", nil, atMost(512))
		}
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

// idle measures what a stack takes that nobody uses: all services, and those of a stack of tiles.
func (b *benchmark) idle(ctx context.Context) error {
	everything, alone, err := b.pair(ctx, whole, tiles)
	if err != nil {
		return err
	}
	// Daemons finish what a start leaves them to do, and then are watched for so long that a hundredth of a second, which is how
	// finely the system counts, is a small part of the result.
	const settle, while = 5 * time.Second, 20 * time.Second
	type result struct {
		memory, processor Series
		each              map[string]*Series // the processor time of each service
	}
	results := map[*rig]*result{}
	for run := range b.Runs {
		for _, r := range []*rig{everything, alone} {
			b.step.Detail("run %d of %d", run+1, b.Runs)
			if results[r] == nil {
				results[r] = &result{Series{Unit: "MB"}, Series{Unit: "% of one processor"}, map[string]*Series{}}
			}
			got := results[r]
			if _, _, err := r.Mage(ctx, "start"); err != nil {
				return err
			}
			if err := pause(ctx, settle); err != nil {
				return err
			}
			began, before := time.Now(), r.processors(ctx)
			if err := pause(ctx, while); err != nil {
				return err
			}
			took, sum := time.Since(began), time.Duration(0)
			for name, taken := range r.processors(ctx) {
				if got.each[name] == nil {
					got.each[name] = &Series{Unit: "% of one processor"}
				}
				got.each[name].Add(100 * (taken - before[name]).Seconds() / took.Seconds())
				sum += taken - before[name]
			}
			got.processor.Add(100 * sum.Seconds() / took.Seconds())
			got.memory.Add(r.memory(ctx))
			if _, _, err := r.Mage(ctx, "stop"); err != nil {
				return err
			}
		}
	}
	if results[everything].memory.median() == 0 {
		return nil // the system does not tell
	}
	for _, one := range []struct {
		name              string
		rig               *rig
		memory, processor float64
	}{{"everything", everything, 512, 5}, {"`tiles`", alone, 180, 1}} {
		got := results[one.rig]
		b.add("resident memory of "+one.name+", idle", got.memory, "", nil, atMost(one.memory))
		b.add("processor time of "+one.name+", idle", got.processor, "", nil, atMost(one.processor))
		for _, name := range slices.Sorted(maps.Keys(got.each)) {
			// What a service takes whose figure would be rounded to nothing is left out.
			if each := *got.each[name]; each.median() >= 0.05 {
				b.add("of that: "+name, each, "", nil, nil)
			}
		}
	}
	return nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commands measures the targets that are typed most.
func (b *benchmark) commands(ctx context.Context) error {
	r, err := b.rig(ctx, tuned)
	if err != nil {
		return err
	}
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
	_, _, err = r.Mage(ctx, "stop")
	return err
}
