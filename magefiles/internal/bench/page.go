package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/stack"
)

// page measures the page of a stack with many entries in both logs of signatures: how long its views take the server, when it tells of a
// new entry, and what it takes.
func (b *benchmark) page(ctx context.Context) error {
	r, err := b.rig(ctx, setup{"page", config.Whole, config.TunedLocal})
	if err != nil {
		return err
	}
	b.step.Detail("writes a log of Rekor v2 with %d entries", b.Entries)
	digest, _, err := r.written(b.Entries)
	if err != nil {
		return err
	}
	if _, _, err := r.Mage(ctx, "start"); err != nil {
		return err
	}
	b.step.Detail("fills the log of Rekor v1 with %d entries", b.Entries)
	v1, err := rekorlog.NewUploader(r.Config.URL(config.Rekor))
	if err != nil {
		return err
	}
	if _, err := drive(ctx, 64, b.Entries, func(ctx context.Context) error { _, err := v1.Upload(ctx); return err }); err != nil {
		return err
	}
	if err := r.indexed(ctx, b.Entries); err != nil {
		return err
	}
	v2, err := rekorlog.NewUploaderV2(r.Config.RekorV2())
	if err != nil {
		return err
	}
	with := fmt.Sprintf(" with %d entries in each log", b.Entries)
	views := []struct{ name, path string }{
		{"the stack", "/"}, {"newest entries of Rekor v1", "/logs/rekor"}, {"newest entries of Rekor v2", "/logs/rekor-tiles"},
		{"an entry of Rekor v1", fmt.Sprintf("/logs/rekor/%d", b.Entries/2)}, {"an entry of Rekor v2", fmt.Sprintf("/logs/rekor-tiles/%d", b.Entries/2)},
		{"a search of Rekor v2", "/logs/rekor-tiles?q=" + digest}, {"lessons", "/lessons"},
	}
	first, again := make([]Series, len(views)), make([]Series, len(views))
	fresh, used := Series{Unit: "MB"}, Series{Unit: "MB"}
	idle, watched := Series{Unit: "% of one processor"}, Series{Unit: "% of one processor"}
	told := map[string]*Series{"rekor": {Unit: "ms"}, "rekor-tiles": {Unit: "ms"}}
	for run := range b.Runs {
		b.step.Detail("run %d of %d", run+1, b.Runs)
		for i, view := range views {
			first[i].Unit, again[i].Unit = "ms", "ms"
			// The first view is that of a page that has just been started.
			if _, _, err := r.Mage(ctx, "page:restart"); err != nil {
				return err
			}
			if i == 0 {
				fresh.Add(r.pageMemory(ctx))
			}
			took, err := r.view(ctx, view.path)
			if err != nil {
				return err
			}
			first[i].Add(milliseconds(took))
			for range 5 {
				if took, err = r.view(ctx, view.path); err != nil {
					return err
				}
				again[i].Add(milliseconds(took))
			}
		}
		for range 20 {
			for _, view := range views {
				if _, err := r.view(ctx, view.path); err != nil {
					return err
				}
			}
		}
		used.Add(r.pageMemory(ctx))
		for name, uploader := range map[string]*rekorlog.Uploader{"rekor": v1, "rekor-tiles": v2} {
			took, err := r.untilTold(ctx, name, uploader)
			if err != nil {
				return err
			}
			told[name].Add(milliseconds(took))
		}
		share, err := r.pageShare(ctx)
		if err != nil {
			return err
		}
		idle.Add(share)
		events, err := r.listen(ctx, "/events")
		if err != nil {
			return err
		}
		share, err = r.pageShare(ctx)
		events.Close()
		if err != nil {
			return err
		}
		watched.Add(share)
	}
	for i, view := range views {
		b.add("page: first view of "+view.name+with, first[i], "", nil, atMost(100))
		b.add("page: "+view.name+with, again[i], "", nil, nil)
	}
	for _, name := range []string{"rekor", "rekor-tiles"} {
		b.add("page: from the answer to an upload to "+name+" until the page tells of the entry", *told[name], "", nil, atMost(300))
	}
	if used.median() > 0 {
		b.add("page: resident memory after its start", fresh, "", nil, atMost(60))
		b.add("page: resident memory after 200 views"+with, used, "", nil, atMost(60))
		b.add("page: processor time while nobody looks", idle, "", nil, nil)
		b.add("page: processor time while somebody looks at the stack", watched, "", nil, nil)
	}
	_, _, err = r.Mage(ctx, "stop")
	return err
}

// view asks the page for a view.
func (r *rig) view(ctx context.Context, path string) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Config.PageURL()+path, nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	took := time.Since(began)
	if err == nil && (response.StatusCode != http.StatusOK || strings.Contains(string(text), "notice bad\" role=\"status\">")) {
		err = fmt.Errorf("GET %s: %s: the page shows a problem", path, response.Status)
	}
	return took, err
}

// pageMemory is the resident memory of the page in MB; 0 where the system does not tell.
func (r *rig) pageMemory(ctx context.Context) float64 {
	return float64(r.Engine.Status(ctx, stack.One(r.All(), "page")).Memory) / 1e6
}

// pageShare is the share of a processor, in percent, that the page takes for some seconds.
func (r *rig) pageShare(ctx context.Context) (float64, error) {
	pid := r.Engine.Status(ctx, stack.One(r.All(), "page")).PID
	began, before := time.Now(), platform.ProcessorTime(pid)
	if err := pause(ctx, 10*time.Second); err != nil {
		return 0, err
	}
	return 100 * (platform.ProcessorTime(pid) - before).Seconds() / time.Since(began).Seconds(), nil
}

// listen opens a stream of events of the page.
func (r *rig) listen(ctx context.Context, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Config.PageURL()+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// untilTold uploads an entry and returns how long after the log's answer the page tells whoever looks at the log.
func (r *rig) untilTold(ctx context.Context, log string, uploader *rekorlog.Uploader) (time.Duration, error) {
	events, err := r.listen(ctx, "/logs/"+log+"/events")
	if err != nil {
		return 0, err
	}
	defer events.Close()
	sizes := make(chan time.Time, 16)
	go func() {
		defer close(sizes)
		for lines := bufio.NewScanner(events); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: {") {
				sizes <- time.Now()
			}
		}
	}()
	next := func() (time.Time, error) {
		select {
		case at, ok := <-sizes:
			if !ok {
				return at, io.ErrUnexpectedEOF
			}
			return at, nil
		case <-time.After(10 * time.Second):
			return time.Time{}, os.ErrDeadlineExceeded
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
	// The first tells of the size that the log has.
	if _, err := next(); err != nil {
		return 0, err
	}
	if err := pause(ctx, time.Second); err != nil {
		return 0, err
	}
	if _, err := uploader.Upload(ctx); err != nil {
		return 0, err
	}
	uploaded := time.Now()
	at, err := next()
	return max(0, at.Sub(uploaded)), err
}
