package traffic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/service"
)

// parts are services whose logs have such lines as "2006/01/02 15:04:05.000000 10ms NAME".
func parts(names ...string) []service.Service {
	all := []service.Service{{Name: "silent"}}
	for _, name := range names {
		all = append(all, service.Service{Name: name, Passes: []service.Passage{
			{Line: `^(?P<time>\S+ \S+) (?P<took>\S+) ` + name + `$`, From: "client", To: name, What: "it"},
			{Line: `^` + name + ` without a time$`, From: "client", To: name, What: "something"},
		}})
	}
	return all
}

// following is Follow that runs, on the logs of a folder.
type following struct {
	t     *testing.T
	dir   string
	ended chan error

	mu     sync.Mutex
	events []Event
	early  int // how many came within nine tenths of a second of the first
	first  time.Time
}

func follow(t *testing.T, services []service.Service, prepare func(f *following)) *following {
	t.Helper()
	f := &following{t: t, dir: t.TempDir(), ended: make(chan error, 1)}
	prepare(f)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { f.ended <- Follow(ctx, services, f.log, f.show) }()
	t.Cleanup(func() {
		cancel()
		if err := <-f.ended; err != nil {
			t.Error(err)
		}
	})
	time.Sleep(50 * time.Millisecond) // what is there by then is not new
	return f
}

func (f *following) log(name string) string { return filepath.Join(f.dir, name+".log") }

func (f *following) show(event Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.events = append(f.events, event); len(f.events) == 1 {
		f.first = time.Now()
	}
	if time.Since(f.first) < 900*time.Millisecond {
		f.early = len(f.events)
	}
	return nil
}

// write adds lines to the log of name.
func (f *following) write(name string, lines ...string) {
	f.t.Helper()
	file, err := os.OpenFile(f.log(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.WriteString(strings.Join(lines, "\n") + "\n")
	}
	if err := errors.Join(err, file.Close()); err != nil {
		f.t.Fatal(err)
	}
}

// tells waits until there are count events, and returns those that there are a moment later.
func (f *following) tells(count int) []Event {
	f.t.Helper()
	events := func() []Event {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.events
	}
	for end := time.Now().Add(time.Minute); len(events()) < count && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	return events()
}

func names(events []Event) string {
	var all []string
	for _, event := range events {
		all = append(all, event.To)
	}
	return strings.Join(all, " ")
}

func line(at time.Time, took time.Duration, name string) string {
	return fmt.Sprintf("%s %s %s", at.Format("2006/01/02 15:04:05.000000"), took, name)
}

func TestEventsOfSeveralLogsComeInTheirOrder(t *testing.T) {
	f := follow(t, parts("ca", "ct", "log"), func(f *following) {
		f.write("ca", line(time.Now(), 0, "ca"), "ca without a time") // before
	})
	at := time.Now()
	// The CA logs its request once it is done, and the CT log has logged what the CA asked it for before that.
	f.write("ct", line(at.Add(9*time.Millisecond), 0, "ct"))
	time.Sleep(60 * time.Millisecond) // more than one reading
	f.write("ca", line(at.Add(50*time.Millisecond), 49*time.Millisecond, "ca"))
	f.write("log", "something else", line(at.Add(60*time.Millisecond), time.Millisecond, "log"))
	got := f.tells(3)
	if names(got) != "ca ct log" {
		t.Errorf("got %+v", got)
	}
	if want := at.Add(time.Millisecond); len(got) > 0 && got[0].At.Sub(want).Abs() > time.Millisecond {
		t.Errorf("the first is of %s, not %s", got[0].At, want)
	}
}

func TestALineWithoutATimeThatCanBeReliedOnIsOfTheMomentWhenItIsRead(t *testing.T) {
	f := follow(t, parts("a"), func(*following) {})
	before := time.Now()
	f.write("a",
		"a without a time",
		line(before.Add(time.Hour), 0, "a"), // of another time zone
		strings.Replace(line(before, 0, "a"), ".", ",", 1),
		line(before, 0, "a")+" and more",
		strings.Repeat("x", 1<<20),
	)
	got := f.tells(3)
	if len(got) != 3 {
		t.Fatalf("got %+v", got)
	}
	for _, event := range got {
		if event.At.Before(before) || event.At.After(time.Now()) {
			t.Errorf("%+v", event)
		}
	}
}

func TestALogIsFollowedThroughRestarts(t *testing.T) {
	f := follow(t, parts("a"), func(*following) {})
	for range 3 { // at first there is no log
		f.write("a", line(time.Now(), 0, "a"))
		time.Sleep(30 * time.Millisecond)
		f.write("a", line(time.Now(), 0, "a"))
		if err := os.Rename(f.log("a"), f.log("a")+".1"); err != nil {
			t.Fatal(err)
		}
	}
	f.write("a", line(time.Now(), 0, "a"))
	if got := f.tells(7); len(got) != 7 {
		t.Errorf("got %+v", got)
	}
}

func TestALogMayBeMadeLaterAndALineBeWrittenInParts(t *testing.T) {
	f := follow(t, parts("later/a"), func(*following) {})
	if err := os.Mkdir(filepath.Join(f.dir, "later"), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(f.log("later/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for part := range strings.FieldsSeq("later/a_ without_ a_ time") {
		_, _ = file.WriteString(strings.ReplaceAll(part, "_", " "))
		time.Sleep(150 * time.Millisecond)
	}
	_, _ = file.WriteString("\n")
	if got := f.tells(1); names(got) != "later/a" {
		t.Errorf("got %+v", got)
	}
}

func TestAFloodIsCutAndCounted(t *testing.T) {
	f := follow(t, parts("a"), func(*following) {})
	const lines = 5000
	var all []string
	for range lines {
		all = append(all, line(time.Now(), 0, "a"))
	}
	f.write("a", all...)
	f.tells(most)
	// What was left out is said although no event follows.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := f.tells(0); len(got) > 0 && got[len(got)-1].From == "" {
			break
		}
	}
	shown, left := 0, 0
	for _, event := range f.tells(0) {
		left += event.LeftOut
		if event.From != "" {
			shown++
		}
	}
	if shown+left != lines || shown < most || f.early > most {
		t.Errorf("%d were shown, %d of them within a second, and %d left out, of %d", shown, f.early, left, lines)
	}
	time.Sleep(time.Second)
	count := len(f.tells(0))
	f.write("a", line(time.Now(), 0, "a"))
	if got := f.tells(count + 1); len(got) != count+1 || got[count].LeftOut != 0 {
		t.Errorf("after the flood: %+v", got[count:])
	}
}

func TestTheTimesOfLogsAreRead(t *testing.T) {
	now := time.Date(2026, 11, 26, 11, 43, 0, 163_400_000, time.Local)
	_, zone := now.Zone()
	for text, want := range map[string]time.Duration{ // before now; -1 if it cannot be read
		now.Format("0102 15:04:05") + ".161430":             1970 * time.Microsecond,
		now.Format("2006/01/02 15:04:05") + ".161430":       1970 * time.Microsecond,
		now.UTC().Format("2006-01-02T15:04:05") + ".16143Z": 1970 * time.Microsecond,
		// The latest moment that milliseconds stand for, at most now.
		now.UTC().Format("2006-01-02T15:04:05") + ".161Z":      1400*time.Microsecond + 1,
		now.UTC().Format("2006-01-02T15:04:05") + ".163Z":      0,
		now.Format("2006-01-02T15:04:05.000-0700"):             0,
		fmt.Sprintf("%.6f", float64(now.UnixMicro()-1970)/1e6): 1970 * time.Microsecond,
		now.Format("2006/01/02 15:04:05"):                      -1,
		"1795693":                                              -1,
		"":                                                     -1,
		now.Add(-time.Hour).Format("0102 15:04:05.000000"):     -1,
		now.AddDate(-1, 0, 0).Format(time.RFC3339Nano):         -1,
		"99999999999999999999.123456":                          -1,
	} {
		got, ok := stamp(text, now)
		if ok != (want >= 0) || ok && (now.Sub(got)-want).Abs() > time.Microsecond {
			t.Errorf("%q is %s before now, %t; zone %d", text, now.Sub(got), ok, zone)
		}
	}
}

func TestAnExpressionThatCannotBeReadIsNamed(t *testing.T) {
	bad := []service.Service{{Name: "a", Passes: []service.Passage{{Line: "(", From: "b", To: "a", What: "it"}}}}
	if err := Follow(t.Context(), bad, func(string) string { return "" }, nil); err == nil || !strings.Contains(err.Error(), "a: ") {
		t.Errorf("got %v", err)
	}
}

func TestFollowEndsWithTheErrorOfWhatShows(t *testing.T) {
	dir, want := t.TempDir(), errors.New("the client has gone")
	log := func(name string) string { return filepath.Join(dir, name) }
	time.AfterFunc(50*time.Millisecond, func() { _ = os.WriteFile(log("a"), []byte("a without a time\n"), 0o600) })
	if err := Follow(t.Context(), parts("a"), log, func(Event) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}
