// Package traffic tells what passes between the parts of a stack while it is used, as the parts say in their logs.
package traffic

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/fsnotify/fsnotify"

	"sigstore-local/magefiles/internal/service"
)

// Event is something that has passed between two parts.
type Event struct {
	// At is when it was asked for, as far as the line of the log tells: when the line was written, less what the request took until
	// then. If it does not tell, At is when the line was read.
	At time.Time
	// From and To are the parts, and What is what passed, as service.Passage names them.
	From, To, What string
	// LeftOut is how many events, since the one before, were left out because there were too many. An event with an empty From tells
	// nothing else.
	LeftOut int
}

const (
	// hold is how long after its time an event is shown, so that one that came before it, and is logged later, can be shown before
	// it: Fulcio logs a request once it is done, after the CT log has logged the SCT that Fulcio got meanwhile.
	hold = 200 * time.Millisecond
	// gather is how long lines are waited for once there is a first one.
	gather = 20 * time.Millisecond
	// unwatched is how often logs are read of which the system does not tell that they have changed, and watched how often the others
	// are, should the system have told nothing.
	unwatched, watched = 100 * time.Millisecond, time.Second
	// most is how many events are shown in a second.
	most = 200
)

// Follow calls show for each event that the logs of services tell from now on, in the order of the events' times, until ctx ends or
// show returns an error, which Follow then returns. An event is shown a fifth of a second after its time, or as soon as its line is
// read if that is later: a request that takes longer is logged late, and its event can come after those of later requests. Of the events
// of a second, 200 are shown. logs is the path of a service's log, given its name; there need not be a log yet. Other errors are about a
// Passage whose expression is no RE2, or a log that cannot be read.
func Follow(ctx context.Context, services []service.Service, logs func(name string) string, show func(Event) error) error {
	f := follower{show: show}
	var readers []*service.LogReader
	var paths []string
	for _, one := range services {
		if len(one.Passes) == 0 {
			continue
		}
		known, err := compile(one)
		if err != nil {
			return err
		}
		path := filepath.Clean(logs(one.Name))
		reader := service.NewLogReader(path, 0)
		defer reader.Close()
		readers, paths, f.logs = append(readers, reader), append(paths, path), append(f.logs, known)
	}
	changed, every, stop := watch(paths)
	defer stop()
	for {
		// A log that a new start has moved away is read to its end first, and the new one at the second time.
		for range 2 {
			if err := service.ReadLogs(ctx, readers, false, f.line); err != nil {
				return err
			}
		}
		if err := f.showDue(time.Now()); err != nil {
			return err
		}
		next := every
		if wait, waiting := f.wait(time.Now()); waiting {
			next = min(next, wait)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-changed:
			timer.Stop()
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(gather):
			}
		}
	}
}

// watch tells when one of the files at paths changes, which need not be there. They have to be read each time after every in any case.
func watch(paths []string) (changed <-chan struct{}, every time.Duration, stop func()) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, unwatched, func() {}
	}
	// The folders are watched, since a file is a new one after a start.
	for _, path := range paths {
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			_ = watcher.Close()
			return nil, unwatched, func() {}
		}
	}
	told := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case event, open := <-watcher.Events:
				if !open {
					return
				}
				if !slices.Contains(paths, event.Name) {
					continue
				}
			case _, open := <-watcher.Errors: // some changes are not told
				if !open {
					return
				}
			}
			select {
			case told <- struct{}{}:
			default: // one is waiting
			}
		}
	}()
	return told, watched, func() { _ = watcher.Close() }
}

// passage is a service.Passage whose expression is compiled.
type passage struct {
	service.Passage
	line *regexp.Regexp
}

func compile(one service.Service) ([]passage, error) {
	var known []passage
	for _, said := range one.Passes {
		line, err := regexp.Compile(said.Line)
		if err != nil {
			return nil, fmt.Errorf("%s: how its log tells of the %s from %s to %s: %w", one.Name, said.What, said.From, said.To, err)
		}
		known = append(known, passage{said, line})
	}
	return known, nil
}

// follower turns lines into events.
type follower struct {
	logs [][]passage // for each reader
	show func(Event) error

	held    []Event   // those that are not shown yet
	second  time.Time // when the first event of those was shown that are counted
	shown   int       // how many were shown within a second from then on
	leftOut int       // how many were left out since the last one that was shown
}

// line takes a line of the log of a reader.
func (f *follower) line(reader int, line string) error {
	const longest = 4 << 10 // bytes; those that count are shorter
	if len(line) > longest {
		return nil
	}
	for _, known := range f.logs[reader] {
		if found := known.line.FindStringSubmatch(line); found != nil {
			// More than this are not shown in any case.
			if len(f.held) >= 2*most {
				f.leftOut++
			} else {
				f.held = append(f.held, Event{At: known.at(found, time.Now()), From: known.From, To: known.To, What: known.What})
			}
			return nil
		}
	}
	return nil
}

// showDue shows the events that have been held long enough at the time now.
func (f *follower) showDue(now time.Time) error {
	slices.SortStableFunc(f.held, func(a, b Event) int { return a.At.Compare(b.At) })
	if now.Sub(f.second) >= time.Second {
		f.shown = 0
	}
	for len(f.held) > 0 && now.Sub(f.held[0].At) >= hold {
		event := f.held[0]
		f.held = f.held[1:]
		if f.shown >= most {
			f.leftOut++
			continue
		}
		if err := f.tell(event, now); err != nil {
			return err
		}
	}
	if f.leftOut > 0 && len(f.held) == 0 && f.shown < most {
		return f.tell(Event{At: now}, now)
	}
	return nil
}

func (f *follower) tell(event Event, now time.Time) error {
	if f.shown == 0 {
		f.second = now
	}
	event.LeftOut, f.leftOut = f.leftOut, 0
	f.shown++
	return f.show(event)
}

// wait is how long it takes until there is something to show, and whether there will be anything if nothing is read.
func (f *follower) wait(now time.Time) (time.Duration, bool) {
	switch {
	case len(f.held) > 0:
		first := slices.MinFunc(f.held, func(a, b Event) int { return a.At.Compare(b.At) })
		return max(time.Millisecond, first.At.Add(hold).Sub(now)), true
	case f.leftOut > 0:
		return max(time.Millisecond, f.second.Add(time.Second).Sub(now)), true
	}
	return 0, false
}

// at is when the request came whose line, which was read at now, has these submatches.
func (p passage) at(found []string, now time.Time) time.Time {
	group := func(name string) string {
		if i := p.line.SubexpIndex(name); i >= 0 {
			return found[i]
		}
		return ""
	}
	written, ok := stamp(group("time"), now)
	if !ok {
		return now
	}
	took, err := time.ParseDuration(cmp.Or(group("took"), cmp.Or(group("ms"), "0")+"ms"))
	const longest = time.Minute // no request takes longer
	if err != nil || took < 0 || took > longest {
		return written
	}
	return written.Add(-took)
}

// layouts are the forms of times in logs.
var layouts = []string{
	time.RFC3339Nano,             // log/slog, and zap as Rekor uses it
	"2006-01-02T15:04:05Z0700",   // zap, in lines of text
	"2006/01/02 15:04:05.000000", // log, with log.Lmicroseconds
	"0102 15:04:05.000000",       // klog, which leaves out the year
}

// fraction matches the fraction of a second in a time, which is not relied on if it has no milliseconds.
var fraction = regexp.MustCompile(`\.(\d{3,})(?:Z|[+-]\d{2}:?\d{2})?$`)

// stamp reads the time in a line that was read at now, and says whether it can be relied on: not if it has another form than those
// above, and not if it is far from now, as that of a daemon with another time zone is.
func stamp(text string, now time.Time) (time.Time, bool) {
	digits := fraction.FindStringSubmatch(text)
	written, ok := parse(text, now)
	const far = 5 * time.Second
	if !ok || digits == nil || written.Sub(now).Abs() > far {
		return time.Time{}, false
	}
	// A time in milliseconds is cut. The latest moment that it may stand for is not before what led to it, which another log has in
	// microseconds.
	if len(digits[1]) == 3 {
		written = written.Add(time.Millisecond - time.Nanosecond)
	}
	if written.After(now) {
		written = now
	}
	return written, true
}

func parse(text string, now time.Time) (time.Time, bool) {
	for _, layout := range layouts {
		// What names no zone is in the daemon's, which is this process's: daemons get its TZ.
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			if at.Year() == 0 {
				at = at.AddDate(now.Year(), 0, 0)
			}
			return at, true
		}
	}
	// zap in JSON: seconds since 1970.
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1<<40 {
		return time.UnixMicro(int64(seconds * 1e6)), true
	}
	return time.Time{}, false
}
