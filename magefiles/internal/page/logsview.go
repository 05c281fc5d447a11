package page

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"sigstore-local/magefiles/internal/page/proof"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/traffic"
)

// rowsAPage is how many entries a page of a log lists.
const rowsAPage = 20

// showLogs leads to the first log that runs.
func (s *Server) showLogs(w http.ResponseWriter, r *http.Request) {
	logs := s.logs()
	chosen := logs[0]
	for _, one := range logs {
		if s.available(one.Name) == nil {
			chosen = one
			break
		}
	}
	http.Redirect(w, r, "/logs/"+chosen.Name, http.StatusSeeOther)
}

// logContent is what the page of a log shows.
type logContent struct {
	About   logAbout
	Logs    []logAbout
	Problem string // why nothing is shown
	Head    head
	Rows    []row
	Live    bool   // it is the newest entries that are shown
	Newer   string // the query of the page of newer entries; empty if there is none
	Older   string
	First   uint64 // the entries that are shown
	Last    uint64
	Query   string // what was searched for
	Total   uint64 // how many have it
	Notes   []string
}

// showLog lists entries of a log, the newest first, or those that a search finds.
func (s *Server) showLog(w http.ResponseWriter, r *http.Request) {
	about, ok := s.log(r.PathValue("log"))
	if !ok {
		s.fail(w, r, http.StatusNotFound, "The stack has no log %q.", bounded(100, r.PathValue("log")))
		return
	}
	content := logContent{About: about, Logs: s.logs(), Query: r.URL.Query().Get("q")}
	to, err := s.list(r, &content)
	switch {
	case err != nil:
		content.Problem = err.Error()
	case to != "":
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	if r.URL.Query().Has("rows") {
		// Only the rows, for the script that adds new ones to a page.
		s.renderRows(w, content)
		return
	}
	s.render(w, r, http.StatusOK, "log", view{Title: about.Title, Section: "logs", Scripts: []string{"log.js"}, Content: content})
}

// renderRows sends the rows of a list alone.
func (s *Server) renderRows(w http.ResponseWriter, content logContent) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if content.Problem != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	_ = s.pages["log"].ExecuteTemplate(w, "rows", content)
}

// list fills in what is shown of a log. If to is not empty, the answer is on another page.
func (s *Server) list(r *http.Request, content *logContent) (to string, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	name := content.About.Name
	if err := s.available(name); err != nil {
		return "", err
	}
	log, err := s.open(name)
	if err != nil {
		return "", err
	}
	if content.Head, err = s.headOf(ctx, name, log); err != nil {
		return "", err
	}
	if content.Query != "" {
		return s.search(ctx, content, log)
	}
	size := content.Head.Size
	before := size
	if text := r.URL.Query().Get("before"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 63); err != nil || before > size {
			before = size
		}
	}
	first := before - min(rowsAPage, before)
	if content.Rows, err = log.rows(ctx, first, before); err != nil {
		return "", err
	}
	content.Live, content.First = before == size, first
	if before > 0 {
		content.Last = before - 1
	}
	if first > 0 {
		content.Older = "?before=" + strconv.FormatUint(first, 10)
	}
	if before < size {
		content.Newer = "?before=" + strconv.FormatUint(min(size, before+rowsAPage), 10)
		if before+rowsAPage >= size {
			content.Newer = "?"
		}
	}
	return "", nil
}

// mostFound is how many entries a search lists.
const mostFound = 100

// search fills in what a search finds. An entry's number or UUID leads to its page.
func (s *Server) search(ctx context.Context, content *logContent, log shownLog) (to string, err error) {
	about := content.About
	query, index, uuid, err := searchFor(content.Query, about)
	if err != nil {
		content.Notes = append(content.Notes, err.Error())
		return "", nil
	}
	if uuid != "" {
		found, err := log.(signatures).log.Log.(rekorlog.V1).EntryByUUID(ctx, uuid)
		if err != nil {
			content.Notes = append(content.Notes, fmt.Sprintf("%s has no entry with this UUID: %v", about.Title, err))
			return "", nil
		}
		index = found.Index
	}
	if uuid != "" || query.String() == "" {
		if index >= content.Head.Size {
			content.Notes = append(content.Notes, fmt.Sprintf("%s has no entry %d: it has %d, and the first is 0.", about.Title, index, content.Head.Size))
			return "", nil
		}
		return fmt.Sprintf("/logs/%s/%d", about.Name, index), nil
	}
	if !about.Signatures {
		return "", s.searchCertificates(ctx, content, log, query)
	}
	rows, found, err := log.(signatures).search(ctx, query, mostFound)
	if err != nil {
		content.Notes = append(content.Notes, err.Error())
		return "", nil
	}
	content.Rows, content.Total = rows, found.Total
	switch {
	case found.Newest < len(rows):
		content.Notes = append(content.Notes, fmt.Sprintf("These are %d of them. The log's index names them in no order, and to fetch all would take "+
			"long, so the newest %d entries of the log were looked through: %d of these are the newest, and the others are some of the rest. "+
			"go tool mage rekor:search fetches all.", len(rows), mostFound, found.Newest))
	case found.Total > uint64(len(rows)):
		content.Notes = append(content.Notes, fmt.Sprintf("These are the newest %d of them.", len(rows)))
	}
	if found.Behind > 0 {
		note := fmt.Sprintf("The log's index lacks %d entries, which were not searched.", found.Behind)
		if found.Problem != "" {
			note += " " + found.Problem
		}
		content.Notes = append(content.Notes, note)
	}
	return "", nil
}

// lookedThrough is how many of a CT log's newest entries a search looks through: such a log has no index.
const lookedThrough = 2000

// searchCertificates looks through the newest entries of a CT log.
func (s *Server) searchCertificates(ctx context.Context, content *logContent, log shownLog, query rekorlog.Query) error {
	if query.Identity == "" {
		content.Notes = append(content.Notes, "A CT log is about certificates, and has no artifacts: search it for an email address, a URI or an entry's number.")
		return nil
	}
	size := content.Head.Size
	rows, err := log.rows(ctx, size-min(lookedThrough, size), size)
	if err != nil {
		return err
	}
	content.Rows = slices.DeleteFunc(rows, func(one row) bool {
		return !slices.ContainsFunc(one.Who, func(w who) bool { return w.Name == query.Identity })
	})
	content.Total = uint64(len(content.Rows))
	content.Rows = content.Rows[:min(mostFound, len(content.Rows))]
	if size > lookedThrough {
		content.Notes = append(content.Notes, fmt.Sprintf("A CT log has no index: only its newest %d of %d entries were looked through.", lookedThrough, size))
	}
	return nil
}

// logEvents sends the size of a log whenever it has grown, as long as the browser listens.
func (s *Server) logEvents(w http.ResponseWriter, r *http.Request) {
	about, ok := s.log(r.PathValue("log"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	ctx, out, end := s.stream(w, r)
	if out == nil {
		return
	}
	defer end()
	// Reading a checkpoint of tiles costs nothing. The other logs are asked when a log of the stack tells that something has come,
	// since each of them writes a line for each request.
	pause, came := 100*time.Millisecond, make(chan struct{}, 1)
	if !about.Tiles {
		pause = 2 * time.Second
		out.more.Go(func() {
			_ = traffic.Follow(ctx, s.stack.All(), s.stack.Config.Log, func(event traffic.Event) error {
				if event.To == about.Name {
					select {
					case came <- struct{}{}:
					default:
					}
				}
				return nil
			})
		})
	}
	last := ""
	var log shownLog
	for {
		message := map[string]any{"runs": false}
		if err := s.available(about.Name); err != nil {
			message["problem"] = err.Error()
			log = nil
		} else {
			if log == nil {
				log, err = s.open(about.Name)
			}
			if err == nil {
				var one head
				if one, err = s.headOf(ctx, about.Name, log); err == nil {
					message["runs"], message["size"] = true, one.Size
				}
			}
			if err != nil {
				message["problem"] = err.Error()
			}
		}
		text, err := json.Marshal(message)
		if ctx.Err() != nil || err != nil {
			return
		}
		if string(text) != last {
			last = string(text)
			out.send("size", last)
		}
		select {
		case <-time.After(pause):
		case <-came:
		case <-ctx.Done():
			return
		}
	}
}

// showEntry shows an entry as people read it, with the proof that it is in the log.
func (s *Server) showEntry(w http.ResponseWriter, r *http.Request) {
	about, ok := s.log(r.PathValue("log"))
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 63)
	if !ok || err != nil {
		s.fail(w, r, http.StatusNotFound, "There is no such entry: an entry's page is /logs/LOG/NUMBER.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	content := struct {
		About   logAbout
		Entry   entry
		Proof   template.HTML
		Newest  uint64
		Problem string
	}{About: about}
	err = s.available(about.Name)
	var log shownLog
	if err == nil {
		log, err = s.open(about.Name)
	}
	if err == nil {
		var signed head
		if signed, err = s.headOf(ctx, about.Name, log); err == nil && index >= signed.Size {
			s.fail(w, r, http.StatusNotFound, "%s has no entry %d: it has %d, and the first is 0.", about.Title, index, signed.Size)
			return
		}
		content.Newest = signed.Size - 1
	}
	if err == nil {
		content.Entry, err = log.entry(ctx, index)
	}
	if err != nil {
		content.Problem = err.Error()
	} else {
		content.Proof = proofHTML(content.Entry.Proof)
	}
	s.render(w, r, http.StatusOK, "entry", view{
		Title: fmt.Sprintf("Entry %d of %s", index, about.Title), Section: "logs", Scripts: []string{"proof.js"}, Content: content,
	})
}

// showConsistency shows that a log has only grown from one signed root to another that this page has seen.
func (s *Server) showConsistency(w http.ResponseWriter, r *http.Request) {
	about, ok := s.log(r.PathValue("log"))
	if !ok {
		s.fail(w, r, http.StatusNotFound, "The stack has no log %q.", bounded(100, r.PathValue("log")))
		return
	}
	content := struct {
		About        logAbout
		Heads        []head
		Older, Newer head
		Proof        template.HTML
		Problem      string
	}{About: about}
	if err := s.consistency(r, about, &content.Heads, &content.Older, &content.Newer, &content.Proof); err != nil {
		content.Problem = err.Error()
	}
	s.render(w, r, http.StatusOK, "consistency", view{Title: about.Title + " has only grown", Section: "logs", Scripts: []string{"proof.js"}, Content: content})
}

func (s *Server) consistency(r *http.Request, about logAbout, heads *[]head, older, newer *head, shown *template.HTML) error {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	if err := s.available(about.Name); err != nil {
		return err
	}
	log, err := s.open(about.Name)
	if err != nil {
		return err
	}
	if _, err := s.headOf(ctx, about.Name, log); err != nil {
		return err
	}
	all := s.heads.of(about.Name)
	if kept, ok := s.monitored(about.Name, log); ok && !slices.ContainsFunc(all, func(h head) bool { return h.Size == kept.Size }) {
		all = append(all, kept)
	}
	slices.SortFunc(all, func(a, b head) int { return int(int64(a.Size) - int64(b.Size)) })
	*heads = all
	if len(all) < 2 {
		return nil
	}
	*older, *newer = chosen(all, r.URL.Query(), "older", all[0]), chosen(all, r.URL.Query(), "newer", all[len(all)-1])
	if older.Size > newer.Size {
		*older, *newer = *newer, *older
	}
	hashes, err := log.consistency(ctx, *older, *newer)
	if err != nil {
		return err
	}
	*shown = proofHTML(proof.Consistency{
		Older: older.Size, Newer: newer.Size, OlderRoot: older.Root, NewerRoot: newer.Root, Hashes: hashes, OlderSigned: older.Text, NewerSigned: newer.Text,
	})
	return nil
}

// chosen is the one of heads whose size a parameter names; other if it names none.
func chosen(heads []head, query url.Values, parameter string, other head) head {
	for _, one := range heads {
		if strconv.FormatUint(one.Size, 10) == query.Get(parameter) {
			return one
		}
	}
	return other
}
