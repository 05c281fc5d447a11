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
	{"commands", (*benchmark).commands},
}

// Options say what is measured, and how often.
type Options struct {
	Only    []string // names of what is measured
	Runs    int      // how often each figure is measured
	Entries int      // how many entries the log is filled with for growth
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
	b := &benchmark{Stack: s, Options: options}
	if b.scratch, err = s.NewScratch(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.scratch.Close()) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, one := range benchmarks {
		if !slices.Contains(options.Only, one.name) {
			continue
		}
		b.step = s.Console.Step(one.name)
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
		return encoder.Encode(map[string]any{"machine": machine, "runs": options.Runs, "figures": b.figures})
	}
	fmt.Printf("Medians of %d runs, with the least and the greatest, on %s.\n\n", options.Runs, machine)
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

// benchmark measures on two stacks of its own: one as users have it, and one with upstream's defaults.
type benchmark struct {
	*stack.Stack
	Options
	step         *console.Step
	figures      []Figure
	scratch      *stack.Scratch
	tuned, plain *rig
}

// rig is a throwaway stack that is measured.
type rig struct{ *stack.Throwaway }

// tutorial lists the services of the three levels.
func (b *benchmark) tutorial() []service.Service {
	return slices.DeleteFunc(b.All(), func(one service.Service) bool { return !slices.Contains(one.Stacks, config.Tutorial) })
}

// rig makes a throwaway stack beside others. In that stack, the target start runs services.
func (b *benchmark) rig(name string, tuning config.Tuning, services []service.Service, others ...*rig) (*rig, error) {
	var beside []*stack.Throwaway
	for _, other := range others {
		beside = append(beside, other.Throwaway)
	}
	one, err := b.Throwaway(b.scratch, name, tuning, stack.Names(services), beside...)
	return &rig{one}, err
}

func (b *benchmark) prepare(ctx context.Context) (err error) {
	if b.tuned, err = b.rig("tuned", config.TunedLocal, b.tutorial()); err != nil {
		return err
	}
	if b.plain, err = b.rig("plain", config.TunedUpstream, b.tutorial(), b.tuned); err != nil {
		return err
	}
	for _, r := range []*rig{b.tuned, b.plain} {
		if _, _, err := r.Mage(ctx, "start", "stop"); err != nil {
			return err
		}
	}
	return nil
}

func (b *benchmark) add(name string, measured Series, against string, compared *Series, aim *Aim) {
	b.figures = append(b.figures, Figure{Name: name, Measured: measured, Against: against, Compared: compared, Aim: aim})
}

func atMost(limit float64) *Aim  { return &Aim{Limit: limit} }
func atLeast(limit float64) *Aim { return &Aim{Limit: limit, AtLeast: true} }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// described lists the services of the three levels, each after those that it depends on. They have no templates, since their
// configuration files are rendered already.
func (r *rig) described() []service.Service {
	var all []service.Service
	for _, one := range r.All() {
		if slices.Contains(one.Stacks, config.Tutorial) {
			one.Templates = nil
			all = append(all, one)
		}
	}
	return all
}
