package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/bench"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/service"
)

// benchmarks lists what bench measures, by the names that -only takes, in the order of the table.
var benchmarks = []struct {
	name    string
	measure func(*benchmark, context.Context) error
}{
	{"start", (*benchmark).start},
	{"stop", (*benchmark).stop},
	{"build", (*benchmark).build},
	{"demo", (*benchmark).demo},
	{"keyless", (*benchmark).keyless},
	{"upload", (*benchmark).upload},
	{"growth", (*benchmark).growth},
	{"commands", (*benchmark).commands},
}

// Bench measures what the stack costs, on throwaway stacks beside yours, and prints a table.
func Bench(
	ctx context.Context,
	o *string, // the form of the output: table or json
	only *string, // what to measure, with commas between: start, stop, build, demo, keyless, upload, growth, commands; all but build, which takes a quarter of an hour for each run, if not given
	runs *int, // how often each figure is measured; 5 if not given
	entries *int, // how many entries the log is filled with for growth; 10000 if not given
) error {
	form, err := choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	b := &benchmark{runs: 5, entries: 10000}
	for _, number := range []struct {
		flag  string
		given *int
		value *int
		least int
	}{{"runs", runs, &b.runs, 1}, {"entries", entries, &b.entries, 1000}} {
		if number.given != nil {
			if *number.value = *number.given; *number.value < number.least {
				return fmt.Errorf("-%s is %d; accepted is a whole number from %d", number.flag, *number.value, number.least)
			}
		}
	}
	var names, chosen []string
	for _, one := range benchmarks {
		names = append(names, one.name)
	}
	chosen = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "build" })
	if only != nil {
		chosen = strings.Split(*only, ",")
		for _, name := range chosen {
			if !slices.Contains(names, name) {
				return fmt.Errorf("-only has %q; accepted are %s, with commas between them", name, strings.Join(names, ", "))
			}
		}
	}
	if err := require(ctx, platform.Needs()...); err != nil {
		return err
	}
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if b.stack, err = load(); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	// After Ctrl-C too.
	defer b.remove(context.WithoutCancel(ctx))
	for _, one := range benchmarks {
		if !slices.Contains(chosen, one.name) {
			continue
		}
		b.step = b.stack.console.Step(one.name)
		if err := one.measure(b, ctx); err != nil {
			b.step.Fail()
			return fmt.Errorf("measure %s: %w", one.name, err)
		}
		b.step.Done("is measured")
	}
	machine := fmt.Sprintf("%d processors (%s), %s/%s, %s", runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	if form == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"machine": machine, "runs": b.runs, "figures": b.figures})
	}
	fmt.Printf("Medians of %d runs, with the least and the greatest, on %s.\n\n", b.runs, machine)
	return bench.Write(os.Stdout, b.figures)
}

// processor is the processor's name, where the system tells.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if found := regexp.MustCompile(`model name\s*: (.*)`).FindStringSubmatch(string(text)); err == nil && found != nil {
		return found[1]
	}
	return "not told"
}

// benchmark measures on two stacks of its own: one as users have it, and one with upstream's defaults.
type benchmark struct {
	stack         *stack
	step          *console.Step
	runs, entries int
	figures       []bench.Figure
	dir           string
	tuned, plain  *rig
}

// tutorialServices are those of the three levels, in an order in which each finds what it needs.
var tutorialServices = []string{"registry", "mariadb", "log-server", "log-signer", "rekor", "ct", "dex", "fulcio"}

func (b *benchmark) prepare(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "sigstore-bench"); err != nil {
		return err
	}
	for _, one := range []struct {
		rig    **rig
		tuning config.Tuning
	}{{&b.tuned, config.TunedLocal}, {&b.plain, config.TunedUpstream}} {
		var others []*rig
		if b.tuned != nil {
			others = append(others, b.tuned)
		}
		if *one.rig, err = b.stack.throwaway(filepath.Join(b.dir, string(one.tuning)), one.tuning, tutorialServices, others...); err == nil {
			_, err = (*one.rig).mage(ctx, "start", "stop")
		}
		if err != nil {
			b.remove(context.WithoutCancel(ctx))
			return err
		}
	}
	return nil
}

// remove ends the throwaway stacks and deletes their folders.
func (b *benchmark) remove(ctx context.Context) {
	for _, r := range []*rig{b.tuned, b.plain} {
		if r != nil {
			_, _ = r.mage(ctx, "stop")
		}
	}
	_ = os.RemoveAll(b.dir)
}

func (b *benchmark) add(name string, measured bench.Series, against string, compared *bench.Series, aim *bench.Aim) {
	b.figures = append(b.figures, bench.Figure{Name: name, Measured: measured, Against: against, Compared: compared, Aim: aim})
}

func atMost(limit float64) *bench.Aim  { return &bench.Aim{Limit: limit} }
func atLeast(limit float64) *bench.Aim { return &bench.Aim{Limit: limit, AtLeast: true} }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// described lists the tutorial's services, without the templates that are rendered already.
func (r *rig) described() []service.Service {
	var all []service.Service
	for _, name := range tutorialServices {
		for _, one := range services(r.config) {
			if one.Name == name {
				one.Templates = nil
				all = append(all, one)
			}
		}
	}
	return all
}
