package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
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
	{"idle", (*benchmark).idle},
	{"commands", (*benchmark).commands},
	{"tiles-start", (*benchmark).tilesStart},
	{"tiles-keyless", (*benchmark).tilesKeyless},
	{"tiles-upload", (*benchmark).tilesUpload},
	{"tiles-growth", (*benchmark).tilesGrowth},
	{"page", (*benchmark).page},
	{"handout", (*benchmark).handout},
}

// Options say what is measured, and how often.
type Options struct {
	Only    []string // names of what is measured
	Runs    int      // how often each figure is measured
	Entries int      // how many entries a log is filled with for growth, tiles-growth and page
}

// Parse makes options of flags, nil where one was not given.
func Parse(only *string, runs, entries *int) (Options, error) {
	options := Options{Runs: 5, Entries: 10000}
	for _, number := range []struct {
		flag  string
		given *int
		value *int
		least int
	}{{"runs", runs, &options.Runs, 1}, {"entries", entries, &options.Entries, 1000}} {
		if number.given != nil {
			if *number.value = *number.given; *number.value < number.least {
				return Options{}, fmt.Errorf("-%s is %d; accepted is a whole number from %d", number.flag, *number.value, number.least)
			}
		}
	}
	var names []string
	for _, one := range benchmarks {
		names = append(names, one.name)
	}
	if only == nil {
		options.Only = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "build" })
		return options, nil
	}
	options.Only = strings.Split(*only, ",")
	for _, name := range options.Only {
		if !slices.Contains(names, name) {
			return Options{}, fmt.Errorf("-only has %q; accepted are %s, with commas between them", name, strings.Join(names, ", "))
		}
	}
	return options, nil
}

// Run measures on throwaway stacks beside s, whose programs are built, and prints the figures in the form table or json.
func Run(ctx context.Context, s *stack.Stack, options Options, form string) (err error) {
	b := &benchmark{Stack: s, Options: options, rigs: map[string]*rig{}}
	if b.scratch, err = s.NewScratch(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.scratch.Close()) }()
	for _, one := range benchmarks {
		if !slices.Contains(options.Only, one.name) {
			continue
		}
		b.step = s.Console.Step(one.name)
		if err := one.measure(b, ctx); err != nil {
			b.step.Fail()
			// What has been measured until then has taken minutes, and is shown.
			return errors.Join(fmt.Errorf("measure %s: %w", one.name, err), b.print(form))
		}
		b.step.Done("is measured")
	}
	return b.print(form)
}

// print prints the figures in the form table or json.
func (b *benchmark) print(form string) error {
	machine := fmt.Sprintf("%d processors (%s), %s/%s, %s", runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	if form == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"machine": machine, "runs": b.Runs, "figures": b.figures})
	}
	fmt.Printf("Medians of %d runs, with the least and the greatest, on %s.\n\n", b.Runs, machine)
	return write(os.Stdout, b.figures)
}

// processor is the processor's name, where the system tells.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if found := regexp.MustCompile(`model name\s*: (.*)`).FindStringSubmatch(string(text)); err == nil && found != nil {
		return found[1]
	}
	return "not told"
}

// benchmark measures on stacks of its own.
type benchmark struct {
	*stack.Stack
	Options
	step    *console.Step
	figures []Figure
	scratch *stack.Scratch
	rigs    map[string]*rig // by their names
}

// rig is a throwaway stack that is measured.
type rig struct {
	*stack.Throwaway
	made bool // it has been started once: its programs are built, and its keys are made
}

// setup says what a rig is like.
type setup struct {
	name   string // of its folder
	kind   config.Stack
	tuning config.Tuning
}

// The setups that several measurements share. One that fills a log has a rig of its own.
var (
	tuned = setup{"tuned", config.Tutorial, config.TunedLocal}    // the services of the three levels, as users have them
	plain = setup{"plain", config.Tutorial, config.TunedUpstream} // the same with upstream's defaults
	whole = setup{"whole", config.Whole, config.TunedLocal}       // everything
	tiles = setup{"tiles", config.Tiles, config.TunedLocal}       // the logs of tiles alone
)

// described is the rig of a setup. Nothing of it may have been started yet.
func (b *benchmark) described(of setup) (*rig, error) {
	if known := b.rigs[of.name]; known != nil {
		return known, nil
	}
	var beside []*stack.Throwaway
	for _, other := range b.rigs {
		beside = append(beside, other.Throwaway)
	}
	made, err := b.Throwaway(b.scratch, of.name, of.kind, of.tuning, nil, beside...)
	if err != nil {
		return nil, err
	}
	b.rigs[of.name] = &rig{Throwaway: made}
	return b.rigs[of.name], nil
}

// rig is the rig of a setup, stopped, which has been started before.
func (b *benchmark) rig(ctx context.Context, of setup) (*rig, error) {
	r, err := b.described(of)
	if err != nil || r.made {
		return r, err
	}
	b.step.Detail("makes a stack of %q to measure", of.kind)
	_, _, err = r.Mage(ctx, "start", "stop")
	r.made = err == nil
	return r, err
}

// pair are the rigs of two setups that are measured in turn.
func (b *benchmark) pair(ctx context.Context, first, second setup) (one, other *rig, err error) {
	if one, err = b.rig(ctx, first); err != nil {
		return nil, nil, err
	}
	other, err = b.rig(ctx, second)
	return one, other, err
}

func (b *benchmark) add(name string, measured Series, against string, compared *Series, aim *Aim) {
	b.figures = append(b.figures, Figure{Name: name, Measured: measured, Against: against, Compared: compared, Aim: aim})
}

func atMost(limit float64) *Aim  { return &Aim{Limit: limit} }
func atLeast(limit float64) *Aim { return &Aim{Limit: limit, AtLeast: true} }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// rendered lists the services, each after those that it depends on. They have no templates, since their configuration files are
// rendered already.
func (r *rig) rendered() []service.Service {
	all := r.All()
	for i := range all {
		all[i].Templates = nil
	}
	return all
}
