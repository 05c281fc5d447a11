package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/tilelog"
)

// handler serves one log.
type handler struct {
	served
	layout      layout
	submissions http.Handler
	index       *index // nil if the log is not searched
}

func newHandler(s served) (*handler, error) {
	to, err := url.Parse(s.Submissions)
	if err != nil {
		return nil, err
	}
	// Of two prefixes that fit a path, the longer one counts.
	s.Prefixes = slices.SortedFunc(slices.Values(s.Prefixes), func(a, b string) int { return len(b) - len(a) })
	h := &handler{served: s, layout: layouts[s.Layout], submissions: passOn(s.Name, to)}
	if s.Index != "" {
		h.index, err = openIndex(tilelog.Log{Files: tilelog.Folder(s.Folder), Origin: s.Origin, Key: s.Key}, s.Index)
	}
	return h, err
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if clean := path.Clean(r.URL.Path); clean != r.URL.Path && clean+"/" != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	if h.index != nil && r.URL.Path == rekorlog.SearchPath {
		h.index.serveSearch(w, r)
		return
	}
	for _, prefix := range h.Prefixes {
		name, below := strings.CutPrefix(r.URL.Path, prefix)
		if !below {
			continue
		}
		found, ok, reserved := h.layout.find(name)
		switch {
		case ok:
			h.serveFile(w, r, found)
			return
		case reserved:
			http.NotFound(w, r)
			return
		}
	}
	h.submit(w, r)
}

// submit passes a request on, and logs it if it may have added an entry.
func (h *handler) submit(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		h.submissions.ServeHTTP(w, r)
		return
	}
	came := time.Now()
	answer := answer{ResponseWriter: w}
	h.submissions.ServeHTTP(&answer, r)
	if answer.status != 0 { // the client has not gone before
		log.Printf("%s: %.20q %.100q: %d in %s", h.Name, r.Method, r.URL.Path, answer.status, time.Since(came))
	}
}

// answer knows the status of what is answered.
type answer struct {
	http.ResponseWriter
	status int // 0 if nothing was answered
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Values of Cache-Control.
const (
	forGood = "public, max-age=31536000, immutable"
	never   = "no-cache"
)

// serveFile serves a file of the log.
func (h *handler) serveFile(w http.ResponseWriter, r *http.Request, found resource) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", never)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, fmt.Sprintf("the method is %s; accepted are GET and HEAD", r.Method), http.StatusMethodNotAllowed)
		return
	}
	content, err := h.content(found)
	switch {
	case errors.Is(err, fs.ErrNotExist) && found.changes:
		http.Error(w, fmt.Sprintf("the log of %s has no checkpoint yet", h.Name), http.StatusNotFound)
		return
	case errors.Is(err, fs.ErrNotExist):
		http.NotFound(w, r)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header.Set("Content-Type", found.contentType)
	if !found.changes {
		header.Set("Cache-Control", forGood)
	}
	if found.compressed {
		header.Set("Vary", "Accept-Encoding")
		if takesGzip(r) {
			serveCompressed(w, r, content)
			return
		}
	}
	// Without a time: a checkpoint changes more often than once a second, which is as exact as Last-Modified is.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// content reads a file of the log. If it is a partial one that is gone, it is read from the full one: the server of the log
// deletes partial files once there is a full one.
func (h *handler) content(found resource) ([]byte, error) {
	root, err := os.OpenRoot(h.Folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := found.file
	content, err := readRegular(root, name)
	if errors.Is(err, fs.ErrNotExist) && found.full != "" {
		name = found.full
		content, err = readRegular(root, name)
	}
	if err != nil {
		return nil, err
	}
	part, err := found.cut(content)
	if err == nil && name != found.full && len(part) != len(content) {
		err = fmt.Errorf("it goes on after number %d: %w", found.width, errShort)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(h.Folder, filepath.FromSlash(name)), err)
	}
	return part, nil
}

// readRegular reads a regular file below root. What is something else, or is reached by a link that leads out of root, is none.
func readRegular(root *os.Root, name string) ([]byte, error) {
	info, err := root.Stat(name)
	if err == nil && !info.Mode().IsRegular() || err != nil && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EIO) {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return root.ReadFile(name)
}

// takesGzip says whether a client takes content in gzip.
func takesGzip(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept-Encoding") {
		for offer := range strings.SplitSeq(value, ",") {
			name, weight, weighted := strings.Cut(strings.ReplaceAll(offer, " ", ""), ";q=")
			if !strings.EqualFold(name, "gzip") {
				continue
			}
			q, err := strconv.ParseFloat(weight, 64)
			return !weighted || err == nil && q > 0
		}
	}
	return false
}

func serveCompressed(w http.ResponseWriter, r *http.Request, content []byte) {
	var out bytes.Buffer
	compressor, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // fails for no level that there is
	_, _ = compressor.Write(content)                           // no write to a Buffer fails
	_ = compressor.Close()
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	if r.Method != http.MethodHead {
		_, _ = w.Write(out.Bytes())
	}
}

// passOn passes requests on to the server of the log called name.
func passOn(name string, to *url.URL) http.Handler {
	// As many connections are kept as there are uploads at a time. The server is on this machine, so that no proxy is used.
	transport := &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512, IdleConnTimeout: 10 * time.Second, DisableCompression: true}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return // the client has gone
			}
			http.Error(w, fmt.Sprintf("%s, which takes the entries of this log, does not answer at %s: %v: `"+project.Command+" start` starts it", name, to, err), http.StatusBadGateway)
		},
	}
}
