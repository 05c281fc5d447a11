// Package page serves a stack in the browser: the stack as a drawing that lives, its logs, proofs that one can see, the checks that a
// verifier makes, and lessons. All is rendered here; scripts add what happens while one looks.
package page

import (
	"bytes"
	"context"
	"crypto/subtle"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/explain/diagram"
	"sigstore-local/magefiles/internal/page/proof"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
)

//go:embed templates
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// Server shows a stack.
type Server struct {
	ctx     context.Context // lasts as long as the server
	stack   *stack.Stack
	about   stack.Description
	token   string
	hosts   []string // by which a browser may name this server, with the port
	started string   // tells this server from others that were, or will be, at its address
	handler http.Handler
	pages   map[string]*template.Template
	lessons *lessons

	versions versions
	heads    heads
	streams  atomic.Int64 // of events, that are open
}

// New serves the stack s, which d describes, until ctx ends. Who has token can change something by the page.
func New(ctx context.Context, s *stack.Stack, d stack.Description, token string) (*Server, error) {
	server := &Server{
		started: strconv.FormatInt(time.Now().UnixNano(), 36),
		ctx:     ctx, stack: s, about: d, token: token, pages: map[string]*template.Template{},
		hosts: []string{s.Config.Localhost(config.Page), s.Config.Address(config.Page), s.Config.Public(config.Page)},
	}
	server.lessons = newLessons(server)
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "templates/"), ".html")
		if name == "layout" {
			continue
		}
		parsed, err := template.New("layout.html").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, err
		}
		server.pages[name] = parsed
	}
	files, err := server.files()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ready") })
	mux.Handle("GET /static/", files)
	mux.HandleFunc("GET /{$}", server.showStack)
	mux.HandleFunc("GET /events", server.stackEvents)
	mux.HandleFunc("GET /parts/{name}", server.showPart)
	mux.HandleFunc("GET /parts/{name}/events", server.partEvents)
	mux.HandleFunc("GET /logs/{$}", server.showLogs)
	mux.HandleFunc("GET /logs/{log}", server.showLog)
	mux.HandleFunc("GET /logs/{log}/events", server.logEvents)
	mux.HandleFunc("GET /logs/{log}/consistency", server.showConsistency)
	mux.HandleFunc("GET /logs/{log}/{index}", server.showEntry)
	mux.HandleFunc("GET /verify", server.showVerify)
	mux.HandleFunc("POST /verify", server.verifyBundle)
	mux.HandleFunc("GET /lessons", server.showLessons)
	mux.HandleFunc("GET /lessons/{run}", server.showRun)
	mux.HandleFunc("GET /lessons/{run}/events", server.runEvents)
	mux.HandleFunc("POST /lessons", server.startRun)
	mux.HandleFunc("POST /lessons/{run}/next", server.nextStep)
	mux.HandleFunc("POST /lessons/{run}/stop", server.stopRun)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		server.fail(w, r, http.StatusNotFound, "There is no such page.")
	})
	server.handler = server.guard(mux)
	return server, nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Wait returns when the lesson that was under way when the server's context ended has ended too, or after most.
func (s *Server) Wait(most time.Duration) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.lessons.ending.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(most):
	}
}

// files serves what pages load: style sheets and scripts.
func (s *Server) files() (http.Handler, error) {
	own, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, err
	}
	drawn := []byte(diagram.StyleSheet())
	return http.StripPrefix("/static/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		if r.URL.Path == "diagram.css" {
			http.ServeContent(w, r, r.URL.Path, time.Time{}, bytes.NewReader(drawn))
			return
		}
		if _, err := fs.Stat(proof.Files(), r.URL.Path); err == nil && r.URL.Path != "." {
			http.ServeFileFS(w, r, proof.Files(), r.URL.Path)
			return
		}
		if info, err := fs.Stat(own, r.URL.Path); err != nil || info.IsDir() {
			http.NotFound(w, r)
			return
		}
		http.ServeFileFS(w, r, own, r.URL.Path)
	})), nil
}

// guard refuses requests that a page of somebody else's has a browser make, and tells the browser to load nothing from elsewhere.
func (s *Server) guard(next http.Handler) http.Handler {
	// Requests that may change something have to come from this server's own pages, by the headers Sec-Fetch-Site or Origin.
	protected := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		// Somebody else's name that leads to this machine (DNS rebinding) would make their page and this one the same site.
		if !s.named(r.Host) {
			http.Error(w, fmt.Sprintf("The Host is %q; accepted are %s.", r.Host, strings.Join(s.hosts, " and ")), http.StatusMisdirectedRequest)
			return
		}
		if foreign(r) {
			http.Error(w, "This is for this server's own pages.", http.StatusForbidden)
			return
		}
		if given := r.URL.Query().Get("token"); r.Method == http.MethodGet && given != "" {
			s.admit(w, r, given)
			return
		}
		protected.ServeHTTP(w, r)
	})
}

// foreign says whether a page of somebody else's has the browser load something, as opposed to leading to it: it could not read the
// answer, but have this server search logs and registries without end. Browsers tell this server since its address is this machine's;
// what sends no such header is no browser.
func foreign(r *http.Request) bool {
	header := r.Header
	if site := header.Get("Sec-Fetch-Site"); site == "" || site == "same-origin" || site == "none" {
		return false
	}
	return r.Method != http.MethodGet || header.Get("Sec-Fetch-Mode") != "navigate" || header.Get("Sec-Fetch-Dest") != "document"
}

// mostStreams limits how many streams of events there are at a time: each follows logs.
const mostStreams = 64

// stream begins a stream of events, which is to go on until ctx ends: when the browser does not listen any longer, or this server ends.
// It refuses, and out is nil, if there are too many.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) (ctx context.Context, out *stream, end func()) {
	if r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		http.Error(w, "Events are for scripts.", http.StatusForbidden)
		return nil, nil, nil
	}
	if s.streams.Add(1) > mostStreams {
		s.streams.Add(-1)
		http.Error(w, fmt.Sprintf("There are %d streams of events already.", mostStreams), http.StatusServiceUnavailable)
		return nil, nil, nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.ctx, cancel)
	out = newStream(w)
	// The first event tells a page that is still open from before whether this is another server than the one that has made it.
	out.send("open", s.started)
	return ctx, out, func() {
		stop()
		cancel()
		// Nothing may be sent once the request's handler has returned.
		out.more.Wait()
		out.deadline(time.Time{})
		s.streams.Add(-1)
	}
}

func (s *Server) named(host string) bool {
	for _, one := range s.hosts {
		if strings.EqualFold(host, one) {
			return true
		}
	}
	return false
}

// cookie is the name of the cookie that holds the token. Cookies are shared by all ports of a host, so it has this one's.
func (s *Server) cookie() string {
	return fmt.Sprintf("page-token-%d", s.stack.Config.Port(config.Page))
}

// admit gives the browser a token that it has named in a URL as a cookie, and leads it to the same URL without the token.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, given string) {
	if !s.isToken(given) {
		s.fail(w, r, http.StatusForbidden, "This is not the token of this stack. `%s page` prints the address with the right one.", project.Command)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: s.cookie(), Value: given, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	query := r.URL.Query()
	query.Del("token")
	r.URL.RawQuery = query.Encode()
	// Not a path that begins with two slashes: that would lead elsewhere.
	http.Redirect(w, r, "/"+strings.TrimLeft(r.URL.RequestURI(), "/"), http.StatusSeeOther)
}

func (s *Server) isToken(given string) bool {
	return subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) == 1
}

// admitted says whether the browser has the token.
func (s *Server) admitted(r *http.Request) bool {
	cookie, err := r.Cookie(s.cookie())
	return err == nil && s.isToken(cookie.Value)
}

// view is what the layout shows of every page; Content is the page's own.
type view struct {
	Title    string
	Section  string // which of the navigation's links is current
	Admitted bool
	State    string // the state folder
	Server   string // by which a page knows whether it is still that server that answers
	Scripts  []string
	Content  any
}

// render shows a page.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Admitted, v.State, v.Server = s.admitted(r), s.stack.Config.State, s.started
	var out bytes.Buffer
	if err := s.pages[name].Execute(&out, v); err != nil {
		log.Printf("%s: %v", r.URL.Path, err)
		http.Error(w, "This page could not be made; the page's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = out.WriteTo(w)
}

// fail shows what is wrong.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, status int, format string, args ...any) {
	s.render(w, r, status, "problem", view{Title: http.StatusText(status), Content: fmt.Sprintf(format, args...)})
}

// functions are what templates call.
var functions = template.FuncMap{
	"time":   func(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" },
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"short":  short,
	"target": target,
	"cut":    bounded,
	"mage":   func() string { return project.Command },
	"hex":    func(b []byte) string { return fmt.Sprintf("%x", b) },
	"title": func(text string) string {
		if text == "" {
			return text
		}
		return strings.ToUpper(text[:1]) + text[1:]
	},
}

// short is the beginning of a long text without spaces, such as a digest.
func short(text string) string {
	const most = 24
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// bounded is a text with at most so many characters.
func bounded(most int, text string) string {
	if runes := []rune(text); len(runes) > most {
		return fmt.Sprintf("%s… (%d more characters)", string(runes[:most]), len(runes)-most)
	}
	return text
}

// stream sends events to the browser as they come (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type stream struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	more sync.WaitGroup // what sends beside the request's handler
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	return &stream{w: w}
}

// deadline is until when the browser has to take what is sent.
func (s *stream) deadline(until time.Time) {
	_ = http.NewResponseController(s.w).SetWriteDeadline(until)
}

// send sends an event of a kind. Its data is text. If the browser takes nothing for long, the request's context ends.
func (s *stream) send(kind, data string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(s.w, "event: %s\n", kind)
	for line := range strings.SplitSeq(data, "\n") {
		fmt.Fprintf(s.w, "data: %s\n", strings.ReplaceAll(line, "\r", ""))
	}
	fmt.Fprint(s.w, "\n")
	_ = http.NewResponseController(s.w).Flush()
}
