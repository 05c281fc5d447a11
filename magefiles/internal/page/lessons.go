package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sigstore-local/magefiles/internal/demo"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/demo/event"
	"sigstore-local/magefiles/internal/project"
)

// lesson is something that a reader can run: a chapter of the tour, or an attack.
type lesson struct {
	Name, Title, About string
	Command            string // as a person types it
	args               []string
}

// chapters are those of the tour.
func (s *Server) chapters() []lesson {
	var all []lesson
	for i, chapter := range demo.Chapters() {
		flag := fmt.Sprintf("-chapter=%d", i+1)
		all = append(all, lesson{
			Name: fmt.Sprintf("chapter-%d", i+1), Title: fmt.Sprintf("%d. %s", i+1, chapter.Title), About: chapter.About,
			Command: project.Command + " demo:tour " + flag, args: []string{"demo:tour", flag, "-o=json"},
		})
	}
	return all
}

// attacks are those on this stack.
func (s *Server) attacks() []lesson {
	var all []lesson
	for _, one := range attack.All(s.stack.Config) {
		flag := "-only=" + one.Name
		all = append(all, lesson{
			Name: one.Name, Title: one.Plan(s.stack.Config), About: one.Who + " notices. " + one.Because,
			Command: project.Command + " demo:tamper " + flag, args: []string{"demo:tamper", flag, "-o=json"},
		})
	}
	return all
}

// lessons are the runs of lessons, of which one at a time is under way.
type lessons struct {
	server *Server

	mu     sync.Mutex
	runs   []*run
	last   int // the number of the last run
	ending sync.WaitGroup
}

func newLessons(s *Server) *lessons { return &lessons{server: s} }

// keptRuns is how many runs are remembered.
const keptRuns = 50

// The states of a run.
const (
	running = "running"
	waiting = "waiting" // for the reader
	done    = "done"
	failed  = "failed"
	stopped = "stopped"
)

// run is a lesson that was begun.
type run struct {
	Number int
	Lesson lesson

	mu      sync.Mutex
	state   string
	steps   []*step
	intro   event.Event   // what holds for all steps
	ending  string        // the last words
	changed chan struct{} // is closed when something of the run changes, and then replaced
	next    io.WriteCloser
	stop    context.CancelFunc
}

// step is a step of a lesson, or an attack.
type step struct {
	Number       int
	Why, Command string
	Said         string
	Refused      bool
	Line         string // the words in which it was refused
	Done         bool
	Looks        []string
	Notices      string // who notices an attack, and in which words
	Changes      []change
}

// New says whether the step has added something to a log.
func (s step) New() bool {
	return slices.ContainsFunc(s.Changes, func(c change) bool { return strings.HasPrefix(c.Link, "/logs/") })
}

// change is something in the stack that a step has changed.
type change struct{ Text, Link string }

// snapshot is what the page shows of a run.
type snapshot struct {
	Number   int
	Lesson   lesson
	State    string
	Steps    []step
	Intro    *event.Event
	Ending   string
	Admitted bool
}

func (r *run) snapshot() (shown snapshot, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	shown = snapshot{Number: r.Number, Lesson: r.Lesson, State: r.state, Ending: r.ending}
	if intro := r.intro; intro.Text != "" {
		shown.Intro = &intro
	}
	for _, one := range r.steps {
		copied := *one
		copied.Looks, copied.Changes = slices.Clone(one.Looks), slices.Clone(one.Changes)
		shown.Steps = append(shown.Steps, copied)
	}
	return shown, r.changed
}

// change changes a run and tells those who wait for it.
func (r *run) change(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (l *lessons) find(number string) *run {
	wanted, err := strconv.Atoi(number)
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.runs {
		if one.Number == wanted {
			return one
		}
	}
	return nil
}

// underWay is the run that has not ended; nil if there is none.
func (l *lessons) underWay() *run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notEnded()
}

// notEnded is what underWay returns. The caller holds the lock.
func (l *lessons) notEnded() *run {
	for _, one := range l.runs {
		if shown, _ := one.snapshot(); shown.State == running || shown.State == waiting {
			return one
		}
	}
	return nil
}

// begin runs a lesson with the targets that a person would call. It returns the one that runs already, if there is one.
func (l *lessons) begin(chosen lesson) (begun *run, already bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.notEnded(); one != nil {
		return one, true, nil
	}
	about := l.server.about
	ctx, cancel := context.WithCancel(l.server.ctx)
	cmd := exec.CommandContext(ctx, about.Targets, chosen.args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Dir = about.Root
	cmd.Env = slices.Concat(environ(), about.Settings, about.Environ, []string{project.CalledFrom + "=" + about.Root})
	var problems lastWords
	cmd.Stderr = &problems
	in, err := cmd.StdinPipe()
	if err == nil {
		var out io.Reader
		if out, err = cmd.StdoutPipe(); err == nil {
			if err = cmd.Start(); err == nil {
				l.last++
				begun = &run{Number: l.last, Lesson: chosen, state: running, changed: make(chan struct{}), next: in, stop: cancel}
				l.runs = append(l.runs, begun)
				if len(l.runs) > keptRuns {
					l.runs = l.runs[1:]
				}
				l.ending.Go(func() {
					defer cancel()
					l.follow(ctx, begun, out)
					err := cmd.Wait()
					begun.end(ctx, err, string(problems))
				})
				return begun, false, nil
			}
		}
	}
	cancel()
	return nil, false, err
}

// environ is this process's environment for another program. How this process collects garbage is its own: compilers, which a lesson
// runs, would hardly do anything else in so little memory.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "GOGC=") || strings.HasPrefix(variable, "GOMEMLIMIT=")
	})
}

// lastWords keeps the last bytes of what is written to it: a program that fails says why at its end.
type lastWords []byte

func (l *lastWords) Write(text []byte) (int, error) {
	const most = 2000
	*l = append(*l, text...)
	*l = (*l)[max(0, len(*l)-most):]
	return len(text), nil
}

// follow takes in what a run tells.
func (l *lessons) follow(ctx context.Context, r *run, out io.Reader) {
	sizes := l.server.sizes(ctx)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var told event.Event
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			r.change(func() { r.ending = "The lesson said something that is no event: " + bounded(300, lines.Text()) })
			continue
		}
		var changes []change
		if told.Kind == event.Said || told.Kind == event.Attack {
			now := l.server.sizes(ctx)
			changes = l.server.changes(sizes, now, r.lastCommand()+"\n"+told.Command)
			sizes = now
		}
		r.change(func() { r.take(told, changes) })
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		r.change(func() { r.ending = fmt.Sprintf("What the lesson said next could not be read: %v.", err) })
	}
	// A program that goes on writing must not block.
	_, _ = io.Copy(io.Discard, out)
}

func (r *run) lastCommand() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.steps) == 0 {
		return ""
	}
	return r.steps[len(r.steps)-1].Command
}

// take takes in an event. The caller holds the lock.
func (r *run) take(told event.Event, changes []change) {
	r.state = running
	var last *step
	if len(r.steps) > 0 {
		last = r.steps[len(r.steps)-1]
	}
	switch told.Kind {
	case event.Step:
		r.steps = append(r.steps, &step{Number: told.Step, Why: told.Why, Command: told.Command})
	case event.Said:
		if last != nil {
			last.Said, last.Refused, last.Line, last.Done, last.Changes = told.Said, told.Refused, told.Line, true, changes
		}
	case event.Look:
		if last != nil {
			last.Looks = append(last.Looks, told.Text)
		}
	case event.Attack:
		r.steps = append(r.steps, &step{
			Number: told.Step, Why: told.Did, Command: told.Command, Said: told.Said, Line: told.Line, Done: true, Changes: changes,
			Notices: told.Who + " notices. " + told.Because,
		})
	case event.Intro:
		r.intro = told
	case event.Wait:
		r.state = waiting
	case event.Done, event.Failed:
		r.ending = strings.TrimSpace(r.ending + "\n" + told.Text)
	}
}

// end says how a run has ended.
func (r *run) end(ctx context.Context, err error, problems string) {
	r.change(func() {
		switch {
		case ctx.Err() != nil:
			r.state, r.ending = stopped, "This lesson was stopped."
		case err != nil:
			r.state = failed
			if r.ending == "" {
				r.ending = strings.TrimSpace(strings.ToValidUTF8(problems, ""))
			}
			r.ending = strings.TrimSpace(r.ending + "\n" + err.Error())
		default:
			r.state = done
		}
	})
}

// sizes are the sizes of the stack's logs that run.
func (s *Server) sizes(ctx context.Context) map[string]uint64 {
	sizes := map[string]uint64{}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, about := range s.logs() {
		if s.available(about.Name) != nil {
			continue
		}
		log, err := s.open(about.Name)
		if err != nil {
			continue
		}
		if one, err := s.headOf(ctx, about.Name, log); err == nil {
			sizes[about.Name] = one.Size
		}
	}
	return sizes
}

var (
	imageReference = regexp.MustCompile(`localhost:\d+/[\w./-]+(?:@sha256:[0-9a-f]{64}|:[\w.-]+)`)
	bundleFile     = regexp.MustCompile(`[\w./-]+\.sigstore\.json`)
)

// changes are what has changed between two states of the logs, and the images and bundles that a command names.
func (s *Server) changes(before, after map[string]uint64, command string) []change {
	var changes []change
	for _, about := range s.logs() {
		was, now := before[about.Name], after[about.Name]
		const most = 5
		for index := max(was, now-min(most, now)); index < now; index++ {
			changes = append(changes, change{fmt.Sprintf("Entry %d of %s", index, about.Title), fmt.Sprintf("/logs/%s/%d", about.Name, index)})
		}
	}
	add := func(one change) {
		if !slices.Contains(changes, one) {
			changes = append(changes, one)
		}
	}
	for _, reference := range imageReference.FindAllString(command, -1) {
		add(change{"Verify " + short(strings.TrimPrefix(reference, s.stack.Config.Image(""))), "/verify?image=" + reference})
	}
	for _, bundle := range bundleFile.FindAllString(command, -1) {
		if name := filepath.Base(bundle); s.bundle(name) != "" {
			add(change{"Verify " + name, "/verify?bundle=" + name})
		}
	}
	return changes
}

// showLessons lists the lessons.
func (s *Server) showLessons(w http.ResponseWriter, r *http.Request) {
	content := struct {
		Chapters, Attacks []lesson
		UnderWay          *snapshot
		Admitted          bool
	}{Chapters: s.chapters(), Attacks: s.attacks(), Admitted: s.admitted(r)}
	if one := s.lessons.underWay(); one != nil {
		shown, _ := one.snapshot()
		content.UnderWay = &shown
	}
	s.render(w, r, http.StatusOK, "lessons", view{Title: "Lessons", Section: "lessons", Content: content})
}

// mayChange refuses whoever does not have the token.
func (s *Server) mayChange(w http.ResponseWriter, r *http.Request) bool {
	if !s.admitted(r) {
		s.fail(w, r, http.StatusForbidden, "Lessons are run by whoever has the stack's token. `%s page` prints the address of this page with it.", project.Command)
		return false
	}
	return true
}

func (s *Server) startRun(w http.ResponseWriter, r *http.Request) {
	if !s.mayChange(w, r) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	name := r.PostFormValue("lesson")
	all := slices.Concat(s.chapters(), s.attacks())
	at := slices.IndexFunc(all, func(one lesson) bool { return one.Name == name })
	if at < 0 {
		s.fail(w, r, http.StatusBadRequest, "There is no lesson %q.", bounded(100, name))
		return
	}
	begun, already, err := s.lessons.begin(all[at])
	if err != nil {
		s.fail(w, r, http.StatusInternalServerError, "The lesson could not be begun: %v.", err)
		return
	}
	to := fmt.Sprintf("/lessons/%d", begun.Number)
	if already {
		to += "?already"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// found is the run of a request.
func (s *Server) found(w http.ResponseWriter, r *http.Request) *run {
	one := s.lessons.find(r.PathValue("run"))
	if one == nil {
		s.fail(w, r, http.StatusNotFound, "This run of a lesson is not known any more. Its lesson can be run again from the list of lessons.")
	}
	return one
}

func (s *Server) showRun(w http.ResponseWriter, r *http.Request) {
	one := s.found(w, r)
	if one == nil {
		return
	}
	shown, _ := one.snapshot()
	shown.Admitted = s.admitted(r)
	content := struct {
		snapshot
		Already bool
	}{shown, r.URL.Query().Has("already")}
	s.render(w, r, http.StatusOK, "run", view{Title: shown.Lesson.Title, Section: "lessons", Scripts: []string{"run.js"}, Content: content})
}

// runEvents sends the steps of a run whenever they change, as long as the browser listens.
func (s *Server) runEvents(w http.ResponseWriter, r *http.Request) {
	ctx, out, end := s.stream(w, r)
	if out == nil {
		return
	}
	defer end()
	one := s.lessons.find(r.PathValue("run"))
	if one == nil {
		return // the stream's first event has told a page of an earlier server's that it is one
	}
	for {
		shown, changed := one.snapshot()
		shown.Admitted = s.admitted(r)
		var html bytes.Buffer
		if err := s.pages["run"].ExecuteTemplate(&html, "steps", shown); err != nil {
			return
		}
		message, err := json.Marshal(map[string]string{"state": shown.State, "html": html.String()})
		if err != nil {
			return
		}
		out.send("steps", string(message))
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) nextStep(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(one *run) {
		// A line that comes before the lesson waits would make it go on later, when nobody has asked for that.
		waited := false
		one.change(func() {
			if waited = one.state == waiting; waited {
				one.state = running
			}
		})
		if waited {
			_, _ = io.WriteString(one.next, "\n")
		}
	})
}

func (s *Server) stopRun(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(one *run) { one.stop() })
}

func (s *Server) act(w http.ResponseWriter, r *http.Request, do func(*run)) {
	if !s.mayChange(w, r) {
		return
	}
	if one := s.found(w, r); one != nil {
		do(one)
		http.Redirect(w, r, fmt.Sprintf("/lessons/%d", one.Number), http.StatusSeeOther)
	}
}
