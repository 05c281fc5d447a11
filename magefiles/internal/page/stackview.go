package page

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/explain"
	"sigstore-local/magefiles/internal/explain/diagram"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
	"sigstore-local/magefiles/internal/traffic"
)

// part is a service or client as the page shows it.
type part struct {
	Name    string        `json:"name"`
	State   service.State `json:"state"`
	Mood    diagram.Mood  `json:"mood"`
	Memory  string        `json:"memory"`
	Version string        `json:"version"`
	Address string        `json:"address"`
	Since   string        `json:"since"`
	PID     int           `json:"pid"`
	Error   string        `json:"error"`
	About   string        `json:"about"`
}

// parts asks every service how it is.
func (s *Server) parts(ctx context.Context) []part {
	all := s.stack.All()
	parts := make([]part, len(all))
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { parts[i] = s.part(ctx, one) })
	}
	wg.Wait()
	return parts
}

func (s *Server) part(ctx context.Context, one service.Service) part {
	status := s.stack.Engine.Status(ctx, one)
	p := part{
		Name: one.Name, State: status.State, Mood: explain.Mood(status.State), About: one.About, PID: status.PID,
		Address: strings.TrimPrefix(one.Address, s.stack.Config.State+"/"), Version: s.versions.of(ctx, s.stack, one, status.From),
	}
	if status.Memory > 0 {
		p.Memory = console.Size(status.Memory)
	}
	if !status.Since.IsZero() {
		p.Since = status.Since.UTC().Format(time.DateTime) + " UTC"
	}
	if status.Err != nil {
		p.Error = bounded(300, status.Err.Error())
	}
	return p
}

// versions remembers the versions of programs: reading one takes longer than all else that a view of the stack needs.
type versions struct {
	mu    sync.Mutex
	known map[string]string // by path and time of change
}

func (v *versions) of(ctx context.Context, s *stack.Stack, one service.Service, from string) string {
	if from != "" {
		return from
	}
	key := one.Program
	if info, err := os.Stat(one.Program); err == nil {
		key += info.ModTime().String()
	}
	v.mu.Lock()
	version, ok := v.known[key]
	v.mu.Unlock()
	if ok {
		return version
	}
	version = s.Version(ctx, one)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil {
		v.known = map[string]string{}
	}
	v.known[key] = version
	return version
}

// showStack shows the drawing of the stack and how its parts are.
func (s *Server) showStack(w http.ResponseWriter, r *http.Request) {
	parts := s.parts(r.Context())
	drawing := explain.Draw(s.stack.Config, s.stack.Descriptions)
	running := 0
	for _, one := range parts {
		drawing.SetState(one.Name, one.State)
		if one.State == service.Ready {
			running++
		}
	}
	whole := drawing.Whole()
	whole.Title, whole.Links, whole.Down = "", "/parts/", true
	s.render(w, r, http.StatusOK, "stack", view{
		Title: "The stack", Section: "stack", Scripts: []string{"stack.js"},
		Content: struct {
			Drawing template.HTML
			Parts   []part
			Running int
			Demo    string
		}{template.HTML(diagram.SVG(whole)), parts, running, project.Command + " demo:keyless"}, // the SVG escapes what it shows
	})
}

// stackEvents sends, as long as the browser listens, how the parts are whenever that changes, and what passes between them.
func (s *Server) stackEvents(w http.ResponseWriter, r *http.Request) {
	ctx, out, end := s.stream(w, r)
	if out == nil {
		return
	}
	defer end()
	out.more.Go(func() {
		err := traffic.Follow(ctx, s.stack.All(), s.stack.Config.Log, func(event traffic.Event) error {
			if event.From == "" {
				event.What = fmt.Sprintf("%d more, too many to show", event.LeftOut)
			}
			text, err := json.Marshal(struct {
				At   string `json:"at"`
				From string `json:"from"`
				To   string `json:"to"`
				What string `json:"what"`
			}{event.At.UTC().Format("15:04:05.000"), event.From, event.To, event.What})
			if err == nil {
				out.send("passed", string(text))
			}
			return err
		})
		if err != nil {
			log.Printf("what passes cannot be shown: %v", err)
		}
	})
	last := ""
	for {
		text, err := json.Marshal(s.parts(ctx))
		if ctx.Err() != nil || err != nil {
			return
		}
		if string(text) != last {
			last = string(text)
			out.send("parts", last)
		}
		select {
		case <-time.After(askedEvery):
		case <-ctx.Done():
			return
		}
	}
}

// askedEvery is how often services are asked how they are. A service may write a line into its log each time.
const askedEvery = 2 * time.Second

// use is a line of what a part uses, or of who uses it.
type use struct {
	Name string // what it is used for, or by whom
	To   string
	Link string // to a part; empty for a file
}

// file is a file of a part's; Public is its text if that is no secret.
type file struct {
	Name, For, Public string
}

// showPart shows all that is known of a part.
func (s *Server) showPart(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	all := s.stack.All()
	known := slices.Concat(all, s.stack.Clients(s.stack.Config))
	at := slices.IndexFunc(known, func(one service.Service) bool { return one.Name == name })
	if at < 0 && name != service.Token {
		s.fail(w, r, http.StatusNotFound, "The stack has no part %q.", bounded(100, name))
		return
	}
	content := struct {
		part
		Client  bool
		Program string
		Uses    []use
		UsedBy  []use
		Files   []file
		Log     string
		LogFile string
	}{}
	if name == service.Token {
		content.part = part{Name: name, About: "the PKCS#11 token " + s.stack.Config.PKCS11Token + ", which holds the CA's key and never gives it away"}
		content.Client = true
	} else {
		one := known[at]
		if content.Client = at >= len(all); content.Client {
			content.part = part{Name: one.Name, About: one.About}
		} else {
			content.part = s.part(r.Context(), one)
			content.LogFile = s.stack.Config.Log(name)
			content.Log = s.logTail(name)
		}
		content.Program = strings.Join(append([]string{filepath.Base(one.Program)}, one.Args...), "\n")
		if content.Client {
			content.Program = ""
		}
		content.Uses, content.Files = s.uses(one)
	}
	for _, other := range known {
		for _, one := range other.Uses {
			if used, _, _ := strings.Cut(one.Of, "/"); used == name {
				content.UsedBy = append(content.UsedBy, use{other.Name, purpose(one), "/parts/" + other.Name})
			}
		}
	}
	v := view{Title: name, Section: "stack", Content: content}
	if !content.Client {
		v.Scripts = []string{"part.js"}
	}
	s.render(w, r, http.StatusOK, "part", v)
}

// logLines is how many of a log's last lines are shown.
const logLines = 40

// logTail is the end of a service's log, without secrets: whoever uses this machine can look at this page, and only the stack's owner
// into its folder.
func (s *Server) logTail(name string) string {
	tail := strings.ReplaceAll("\n"+service.LogTail(s.stack.Config.Log(name), logLines), "\n  | ", "\n")[1:]
	redact, err := statedir.Redactor(s.stack.Config)
	if err != nil {
		return "The log cannot be shown: " + err.Error()
	}
	return string(redact([]byte(tail)))
}

// purpose is what a use is for, without the number that it has among the steps of a signature.
func purpose(one service.Use) string { return strings.TrimLeft(explain.Words(one), "0123456789 ") }

// uses are what a part uses of other parts, and its files.
func (s *Server) uses(one service.Service) (uses []use, files []file) {
	for _, used := range one.Uses {
		if to := explain.At(used.Of); to != "" {
			uses = append(uses, use{explain.Place(s.stack.Config, used.Of), purpose(used), "/parts/" + to})
			if used.Signs != "" && used.Public != "" {
				files = append(files, file{Name: used.Public, For: "verifies " + used.Signs, Public: s.public(used.Public)})
			}
			continue
		}
		files = append(files, file{Name: used.Of, For: explain.Words(used), Public: s.public(used.Of)})
		if used.Public != "" {
			files = append(files, file{Name: used.Public, For: "verifies " + used.Signs, Public: s.public(used.Public)})
		}
	}
	return uses, files
}

// public is the text of a file below the state folder if it is a public key or a certificate; empty if it is anything else.
func (s *Server) public(name string) string {
	if !slices.Contains([]string{".pub", ".pem"}, filepath.Ext(name)) {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(s.stack.Config.State, filepath.FromSlash(name)))
	const most = 20_000
	if err != nil || len(text) > most {
		return ""
	}
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return ""
		}
		if block, rest = pem.Decode(rest); block == nil || block.Type != "PUBLIC KEY" && block.Type != "CERTIFICATE" {
			return ""
		}
	}
	return string(text)
}

// partEvents sends, as long as the browser listens, how a service is whenever that changes, the end of its log, and then each line that
// is added to it.
func (s *Server) partEvents(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	all := s.stack.All()
	if !slices.Contains(stack.Names(all), name) {
		http.NotFound(w, r)
		return
	}
	redact, err := statedir.Redactor(s.stack.Config)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ctx, out, end := s.stream(w, r)
	if out == nil {
		return
	}
	defer end()
	out.more.Go(func() {
		readers := []*service.LogReader{service.NewLogReader(s.stack.Config.Log(name), 0)}
		defer readers[0].Close()
		// What is added from here on follows the end of the log.
		err := service.ReadLogs(ctx, readers, false, func(int, string) error { return nil })
		if err == nil {
			out.send("log", s.logTail(name))
			err = service.ReadLogs(ctx, readers, true, func(_ int, line string) error {
				out.send("line", bounded(400, string(redact([]byte(service.WithoutColor(line))))))
				return ctx.Err()
			})
		}
		if err != nil && ctx.Err() == nil {
			out.send("line", "The log cannot be read: "+err.Error())
		}
	})
	last := ""
	for {
		asking, done := context.WithTimeout(ctx, askedEvery)
		text, err := json.Marshal(s.part(asking, stack.One(all, name)))
		done()
		if ctx.Err() != nil || err != nil {
			return
		}
		if string(text) != last {
			last = string(text)
			out.send("part", last)
		}
		select {
		case <-time.After(askedEvery):
		case <-ctx.Done():
			return
		}
	}
}
