package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/fulcioclient"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/rekorlog"
)

// The aims of the page.
const (
	pageMemory = 60  // MB, resident
	pageView   = 100 // ms, of the server for a view
	pageNew    = 300 // ms, until a new entry is on the screen
)

// certified is how many certificates the CT log is filled with, each of which takes some milliseconds: as many as a search of the page
// looks through.
const certified = 2000

// signedAll is who has signed all entries with which Rekor v1 is filled.
const signedAll = "everybody@example.org"

// pageLog is a log that the page shows.
type pageLog struct {
	name   string
	size   uint64                      // entries that it was filled with
	digest string                      // of what an entry in the middle holds; empty for a CT log
	add    func(context.Context) error // adds an entry
}

// page measures the page in the browser beside full logs: its views, its memory, how soon it shows a new entry, and what it costs those
// who sign.
func (b *benchmark) page(ctx context.Context) error {
	r, err := b.rig(ctx, setup{"page", config.Whole, config.TunedLocal})
	if err != nil {
		return err
	}
	logs, err := b.filledForPage(ctx, r)
	if err != nil {
		return err
	}
	for _, measure := range []func(context.Context, *rig, []pageLog) error{b.pageViews, b.pageNews, b.pageIdle, b.pageBeside} {
		if err := measure(ctx, r, logs); err != nil {
			return err
		}
	}
	_, _, err = r.Mage(ctx, "stop")
	return err
}

// filledForPage starts a rig that is stopped, and fills its logs. Of Rekor v2 the files are written directly.
func (b *benchmark) filledForPage(ctx context.Context, r *rig) ([]pageLog, error) {
	b.step.Detail("writes a log of %d entries", b.Entries)
	digest, _, err := r.written(b.Entries)
	if err != nil {
		return nil, err
	}
	if _, _, err := r.Mage(ctx, "start"); err != nil {
		return nil, err
	}
	if err := r.indexed(ctx, b.Entries); err != nil {
		return nil, err
	}
	b.step.Detail("uploads %d entries", b.Entries)
	v1, err := rekorlog.NewUploaderAs(r.Config.URL(config.Rekor), signedAll)
	if err != nil {
		return nil, err
	}
	upload := func(u *rekorlog.Uploader) func(context.Context) error {
		return func(ctx context.Context) error { _, err := u.Upload(ctx); return err }
	}
	if _, err := Drive(ctx, 64, b.Entries, upload(v1)); err != nil {
		return nil, err
	}
	log, err := rekorlog.Open(r.Config.URL(config.Rekor), r.Config.Key("rekor.pub"))
	if err != nil {
		return nil, err
	}
	middle, err := log.Entry(ctx, uint64(b.Entries/2))
	if err != nil {
		return nil, err
	}
	what, err := rekorlog.Describe(middle.Body)
	if err != nil {
		return nil, err
	}
	b.step.Detail("asks for %d certificates", certified)
	token, _, err := r.token(ctx)
	if err != nil {
		return nil, err
	}
	certify := func(ctx context.Context) error {
		return fulcioclient.Certify(ctx, r.Config.URL(config.Fulcio), token, r.Config.Email)
	}
	if _, err := Drive(ctx, 16, certified, certify); err != nil {
		return nil, err
	}
	v2, err := rekorlog.NewUploaderV2(r.Config.RekorV2())
	if err != nil {
		return nil, err
	}
	return []pageLog{
		{"rekor", uint64(b.Entries), what.Digests[0], upload(v1)},
		{"rekor-tiles", uint64(b.Entries), digest, upload(v2)},
		{string(r.Config.CTLogService), certified, "", func(ctx context.Context) error {
			// Tokens last for minutes, of which the other measurements may have taken all.
			token, _, err := r.token(ctx)
			if err != nil {
				return err
			}
			return fulcioclient.Certify(ctx, r.Config.URL(config.Fulcio), token, r.Config.Email)
		}},
	}, nil
}

// view is what someone looks at.
type view struct{ name, path string }

// viewsOf are the stack, and of each log the newest entries, an entry in the middle, and a search.
func viewsOf(logs []pageLog) []view {
	views := []view{{"the stack", "/"}}
	for _, log := range logs {
		at := "/logs/" + log.name
		views = append(views, view{fmt.Sprintf("the newest of %d entries of %s", log.size, log.name), at},
			view{"an entry of " + log.name, fmt.Sprintf("%s/%d", at, log.size/2)})
		if log.digest != "" {
			views = append(views, view{"what a search of " + log.name + " finds by digest", at + "?q=" + log.digest})
		}
	}
	return views
}

// pageViews measures the first time that the page is asked for each view after its start, and the memory that it takes.
func (b *benchmark) pageViews(ctx context.Context, r *rig, logs []pageLog) error {
	views := viewsOf(logs)
	first, again := make([]Series, len(views)), make([]Series, len(views))
	worst := Series{Unit: "ms"}
	all, through := Series{Unit: "ms"}, Series{Unit: "ms"}
	started, used, open, searched := Series{Unit: "MB"}, Series{Unit: "MB"}, Series{Unit: "MB"}, Series{Unit: "MB"}
	for run := range b.Runs {
		b.step.Detail("views, run %d of %d", run+1, b.Runs)
		if _, _, err := r.Mage(ctx, "page:restart"); err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		started.Add(r.pageMemory(ctx))
		slowest := 0.0
		for i, one := range views {
			took, err := r.view(ctx, one.path)
			if err != nil {
				return err
			}
			first[i].Unit = "ms"
			first[i].Add(milliseconds(took))
			slowest = max(slowest, milliseconds(took))
		}
		worst.Add(slowest)
		const looks = 200
		for n := range looks {
			i := n % len(views)
			took, err := r.view(ctx, views[i].path)
			if err != nil {
				return err
			}
			again[i].Unit = "ms"
			again[i].Add(milliseconds(took))
		}
		used.Add(r.pageMemory(ctx))
		took, err := r.view(ctx, "/logs/rekor?q="+signedAll)
		if err != nil {
			return err
		}
		all.Add(milliseconds(took))
		if took, err = r.view(ctx, "/logs/"+logs[2].name+"?q="+r.Config.Email); err != nil {
			return err
		}
		through.Add(milliseconds(took))
		searched.Add(r.pageMemory(ctx))
		closed, err := r.listens(ctx, "/events", "/logs/"+logs[0].name+"/events", "/logs/"+logs[1].name+"/events")
		if err != nil {
			return err
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		open.Add(r.pageMemory(ctx))
		closed()
	}
	for i, one := range views {
		b.add("the page's first view of "+one.name, first[i], "", nil, atMost(pageView))
		b.add("later views of "+one.name, again[i], "", nil, atMost(pageView))
	}
	b.add("the slowest first view of each run", worst, "", nil, atMost(pageView))
	b.add(fmt.Sprintf("a search of rekor for who has signed all %d entries", b.Entries), all, "", nil, nil)
	b.add(fmt.Sprintf("a search of %s, through its %d entries", logs[2].name, certified), through, "", nil, nil)
	if started.median() > 0 {
		b.add("resident memory of the page at its start", started, "", nil, atMost(pageMemory))
		b.add("resident memory of the page after 200 views", used, "", nil, atMost(pageMemory))
		b.add("resident memory of the page after these searches", searched, "", nil, atMost(pageMemory))
		b.add("resident memory of the page with three streams of events open", open, "", nil, atMost(pageMemory))
	}
	return nil
}

// pageNews measures how long after the answer to an upload the page tells of the new entry, and shows it.
func (b *benchmark) pageNews(ctx context.Context, r *rig, logs []pageLog) error {
	for _, log := range logs {
		told, shown := Series{Unit: "ms"}, Series{Unit: "ms"}
		err := func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			type sized struct {
				size uint64
				at   time.Time
			}
			sizes := make(chan sized, 1000)
			broken := make(chan error, 1)
			go func() {
				broken <- r.events(ctx, "/logs/"+log.name+"/events", func(kind, data string) error {
					var of struct{ Size uint64 }
					if kind != "size" {
						return nil
					}
					if err := json.Unmarshal([]byte(data), &of); err != nil {
						return err
					}
					sizes <- sized{of.Size, time.Now()}
					return nil
				})
			}()
			await := func(least uint64) (sized, error) {
				end := time.After(10 * time.Second)
				for {
					select {
					case got := <-sizes:
						if got.size >= least {
							return got, nil
						}
					case err := <-broken:
						return sized{}, fmt.Errorf("the events of %s end: %w", log.name, err)
					case <-end:
						return sized{}, fmt.Errorf("the page does not tell in 10 s that %s has %d entries", log.name, least)
					}
				}
			}
			last, err := await(0)
			if err != nil {
				return err
			}
			const news = 8
			for n := range news * b.Runs {
				b.step.Detail("new entries of %s, %d of %d", log.name, n+1, news*b.Runs)
				// Not in step with what looks for new entries every so often.
				if err := pause(ctx, rand.N(time.Second)); err != nil {
					return err
				}
				if err := log.add(ctx); err != nil {
					return err
				}
				answered := time.Now()
				if last, err = await(last.size + 1); err != nil {
					return err
				}
				told.Add(max(0, milliseconds(last.at.Sub(answered))))
				if _, err := r.view(ctx, "/logs/"+log.name+"?rows"); err != nil {
					return err
				}
				shown.Add(milliseconds(time.Since(answered)))
			}
			return nil
		}()
		if err != nil {
			return err
		}
		name := "from the answer to an upload until the page "
		if log.digest == "" {
			name = "from a certificate until the page "
		}
		b.add(name+"tells of the new entry of "+log.name, told, "", nil, atMost(pageNew))
		b.add(name+"has sent the row of it in "+log.name, shown, "", nil, atMost(pageNew))
		b.add(name+"has sent the row of it in "+log.name+", the longest of "+fmt.Sprint(len(shown.Values)), Series{"ms", []float64{slices.Max(shown.Values)}}, "", nil, atMost(pageNew))
	}
	return nil
}

// pageIdle measures the processor time that the page, and all services, take while nobody looks and while one view of the stack is open.
func (b *benchmark) pageIdle(ctx context.Context, r *rig, _ []pageLog) error {
	const settle, while = 5 * time.Second, 20 * time.Second
	measure := func(page, all *Series) error {
		if err := pause(ctx, settle); err != nil {
			return err
		}
		began, before := time.Now(), r.processors(ctx)
		if err := pause(ctx, while); err != nil {
			return err
		}
		took, sum := time.Since(began), time.Duration(0)
		after := r.processors(ctx)
		for name := range after {
			sum += after[name] - before[name]
		}
		page.Add(100 * (after["page"] - before["page"]).Seconds() / took.Seconds())
		all.Add(100 * sum.Seconds() / took.Seconds())
		return nil
	}
	const unit = "% of one processor"
	closedPage, closedAll, openPage, openAll := Series{Unit: unit}, Series{Unit: unit}, Series{Unit: unit}, Series{Unit: unit}
	for run := range b.Runs {
		b.step.Detail("idle, run %d of %d", run+1, b.Runs)
		if err := measure(&closedPage, &closedAll); err != nil {
			return err
		}
		closed, err := r.listens(ctx, "/events")
		if err != nil {
			return err
		}
		err = measure(&openPage, &openAll)
		closed()
		if err != nil {
			return err
		}
	}
	if platform.ProcessorTime(r.pagePID(ctx)) == 0 {
		return nil // the system does not tell
	}
	b.add("processor time of the page when nobody looks", closedPage, "", nil, nil)
	b.add("processor time of the page with a view of the stack open", openPage, "", nil, nil)
	b.add("processor time of everything with a view of the stack open", openAll, "when nobody looks", &closedAll, nil)
	return nil
}

// pageBeside measures keyless signatures without the page, with it, and with a view of the stack open.
func (b *benchmark) pageBeside(ctx context.Context, r *rig, _ []pageLog) error {
	sign, err := r.signer(ctx)
	if err != nil {
		return err
	}
	// The three are measured in turn, a few signatures each, since a machine that others use is now faster and now slower.
	const rounds, count = 3, 8
	without, with, open := Series{Unit: "ms"}, Series{Unit: "ms"}, Series{Unit: "ms"}
	for run := range b.Runs {
		b.step.Detail("keyless signatures, run %d of %d", run+1, b.Runs)
		var loads [3]Load
		measure := func(into int) error {
			load, err := Drive(ctx, 1, count, sign)
			loads[into].Latencies = append(loads[into].Latencies, load.Latencies...)
			return err
		}
		for range rounds {
			if _, _, err := r.Mage(ctx, "page:stop"); err != nil {
				return err
			}
			if err := measure(0); err != nil {
				return err
			}
			if _, _, err := r.Mage(ctx, "page:start"); err != nil {
				return err
			}
			if err := measure(1); err != nil {
				return err
			}
			closed, err := r.listens(ctx, "/events")
			if err != nil {
				return err
			}
			err = measure(2)
			closed()
			if err != nil {
				return err
			}
		}
		for i, series := range []*Series{&without, &with, &open} {
			slices.Sort(loads[i].Latencies)
			series.Add(milliseconds(loads[i].Percentile(50)))
		}
	}
	b.add("keyless signature while the page runs and nobody looks", with, "without the page", &without, atMost(1.05))
	b.add("keyless signature with a view of the stack open", open, "without the page", &without, nil)
	return nil
}

// pagePID is the process of the page.
func (r *rig) pagePID(ctx context.Context) int {
	for _, one := range r.All() {
		if one.Name == "page" {
			return r.Engine.Status(ctx, one).PID
		}
	}
	return 0
}

// pageMemory is the resident memory of the page in MB; 0 where the system does not tell.
func (r *rig) pageMemory(ctx context.Context) float64 {
	for _, one := range r.All() {
		if one.Name == "page" {
			return float64(r.Engine.Status(ctx, one).Memory) / 1e6
		}
	}
	return 0
}

// view asks the page for a view, and says how long the whole answer took. One that says that something is wrong is an error.
func (r *rig) view(ctx context.Context, path string) (time.Duration, error) {
	began := time.Now()
	response, err := r.get(ctx, path)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	took := time.Since(began)
	if found := problem.FindSubmatch(text); err == nil && found != nil {
		err = fmt.Errorf("GET %s: the page says: %s", path, found[1])
	}
	return took, err
}

// problem matches what a view says of what is wrong.
var problem = regexp.MustCompile(`<p class="notice bad"[^>]*>([^<]*)`)

// get asks the page.
func (r *rig) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Config.PageURL()+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err == nil && response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		err = fmt.Errorf("GET %s: %s", request.URL, response.Status)
	}
	return response, err
}

// listens opens streams of events of the page, as a browser does, and reads them until they are closed.
func (r *rig) listens(ctx context.Context, paths ...string) (closed func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	for _, path := range paths {
		opened, told := make(chan error, 1), false
		go func() {
			err := r.events(ctx, path, func(string, string) error {
				if !told {
					told = true
					opened <- nil
				}
				return nil
			})
			if !told {
				opened <- fmt.Errorf("GET %s: the events end: %w", path, err)
			}
		}()
		if err := <-opened; err != nil {
			cancel()
			return nil, err
		}
	}
	return cancel, nil
}

// events hands the events of a stream of the page to each, until ctx ends or each returns an error.
func (r *rig) events(ctx context.Context, path string, each func(kind, data string) error) error {
	response, err := r.get(ctx, path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return readEvents(response.Body, each)
}

// readEvents reads a stream of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) as the page writes
// them, and hands each event to each. The end of the stream is the error io.EOF.
func readEvents(stream io.Reader, each func(kind, data string) error) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 1<<20)
	kind, data := "", []string(nil)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			kind = value
		case "data":
			data = append(data, value)
		case "":
			if len(data) == 0 {
				continue
			}
			if err := each(kind, strings.Join(data, "\n")); err != nil {
				return err
			}
			kind, data = "", nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}
