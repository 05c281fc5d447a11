package page

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"
	"time"

	"sigstore-local/magefiles/internal/certificate"
	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/ctlog"
	"sigstore-local/magefiles/internal/logview"
	"sigstore-local/magefiles/internal/page/proof"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/tilelog"
)

// head is what a log has signed about itself.
type head struct {
	Size uint64
	Root []byte
	Text string
	Seen time.Time // by this page
}

// row is an entry in a list.
type row struct {
	Index   uint64
	Time    time.Time // zero if the log keeps none
	Kind    string
	Digests []string // of a certificate: none
	Who     []who
	Hint    string // what the reader has to know of it
}

// who is who has signed, or for whom a certificate is.
type who struct {
	Name, Issuer string
	Stranger     bool // another CA than the stack's says so
}

// entry is all that is shown of an entry.
type entry struct {
	row
	UUID         string
	Version      string
	TimeSource   string // by whose word it is what it says
	Certificates []shownCertificate
	Keys         []string // SHA-256 of the public keys of signers without a certificate
	Promise      string   // the signed entry timestamp, in base64
	PromiseHolds string   // what is wrong with it; empty if nothing is
	Body         string   // for people
	Proof        proof.Inclusion
	Wrong        string // why the entry is not in the log's tree; empty if it is
}

type shownCertificate struct {
	Title  string
	Fields []certificate.Field
}

// shownLog is a log of the stack as the page shows it.
type shownLog interface {
	head(ctx context.Context) (head, error)
	// rows are the entries from first up to, and without, end, the newest first.
	rows(ctx context.Context, first, end uint64) ([]row, error)
	entry(ctx context.Context, index uint64) (entry, error)
	consistency(ctx context.Context, older, newer head) ([][]byte, error)
}

// logAbout is a log in the list of logs.
type logAbout struct {
	Name, Title, About string
	Signatures         bool // it has an index, and can be searched
	UUIDs              bool // its entries have UUIDs
	Tiles              bool // it is read from files
}

// known lists the logs that the stack can have, in the order in which the page lists them.
var known = []logAbout{
	{"rekor", "Rekor v1", "the log of signatures, over Trillian and MariaDB", true, true, false},
	{"rekor-tiles", "Rekor v2", "the log of signatures as tiles in files", true, false, true},
	{"ct", "CT log", "the log of Fulcio's certificates, over Trillian and MariaDB", false, false, false},
	{"tesseract", "TesseraCT", "the log of Fulcio's certificates as tiles in files", false, false, true},
}

// logs lists those that the stack has.
func (s *Server) logs() []logAbout {
	names := stack.Names(s.stack.All())
	return slices.DeleteFunc(slices.Clone(known), func(l logAbout) bool { return !slices.Contains(names, l.Name) })
}

// log is the log of a name, if the stack has it.
func (s *Server) log(name string) (logAbout, bool) {
	logs := s.logs()
	at := slices.IndexFunc(logs, func(l logAbout) bool { return l.Name == name })
	if at < 0 {
		return logAbout{}, false
	}
	return logs[at], true
}

// open opens a log. Its keys are made when it is first started, so this is done for each request.
func (s *Server) open(name string) (shownLog, error) {
	c := s.stack.Config
	switch name {
	case "ct":
		log, err := ctlog.OpenRFC6962(c.TrillianCT(), c.Key("ctfe.pub"))
		return certificates{log}, err
	case "tesseract":
		return certificates{ctlog.OpenStaticCT(c.TesseraCT(), c.TesseraCTOrigin(), c.Key("tesseract.pub"))}, nil
	default:
		log, err := logview.Open(c, name)
		return signatures{log}, err
	}
}

// signatures shows a log of signatures.
type signatures struct{ log logview.Log }

func (l signatures) head(ctx context.Context) (head, error) {
	signed, err := l.log.Checkpoint(ctx)
	if errors.Is(err, tilelog.ErrEmpty) {
		return head{}, nil
	}
	return head{Size: signed.Size, Root: signed.Root, Text: signed.Text}, err
}

func (l signatures) rows(ctx context.Context, first, end uint64) ([]row, error) {
	var rows []row
	err := l.log.Entries(ctx, first, end, func(e rekorlog.Entry) error {
		rows = append(rows, l.row(e))
		return nil
	})
	slices.Reverse(rows)
	return rows, err
}

func (l signatures) row(e rekorlog.Entry) row {
	one := row{Index: e.Index, Time: e.Integrated}
	what, err := rekorlog.Describe(e.Body)
	if err != nil {
		one.Kind, one.Hint = "?", "this entry cannot be read"
		return one
	}
	one.Kind, one.Digests = bounded(40, what.Kind), what.Digests
	for _, signer := range what.Signers {
		if signer.Identity == "" {
			one.Who = append(one.Who, who{Name: "the key " + short(signer.Key)})
			continue
		}
		one.Who = append(one.Who, who{Name: bounded(200, signer.Identity), Issuer: bounded(200, signer.Issuer), Stranger: !l.log.Certified(signer)})
	}
	return one
}

func (l signatures) entry(ctx context.Context, index uint64) (entry, error) {
	e, err := l.log.Entry(ctx, index)
	if err != nil {
		return entry{}, err
	}
	return l.entryOf(e), nil
}

func (l signatures) entryOf(e rekorlog.Entry) entry {
	one := entry{
		row: l.row(e), UUID: e.UUID, Body: indented(e.Body),
		Proof: proof.Inclusion{Index: e.Index, Size: e.Proof.Size, Leaf: e.Body, Hashes: e.Proof.Hashes, Root: e.Proof.Root, Signed: e.Proof.Checkpoint},
	}
	if _, err := l.log.Check(e); err != nil {
		one.Wrong = err.Error()
	}
	one.TimeSource = "the log says so, and has signed it"
	if e.Integrated.IsZero() {
		one.TimeSource = "the log keeps no time; a timestamp authority's is in the signature's bundle"
	}
	if len(e.Promise) > 0 {
		one.Promise = base64.StdEncoding.EncodeToString(e.Promise)
		if err := rekorlog.CheckPromise(l.log.Log, e); err != nil {
			one.PromiseHolds = err.Error()
		}
	}
	what, err := rekorlog.Describe(e.Body)
	if err != nil {
		return one
	}
	one.Version = bounded(40, what.Version)
	for _, signer := range what.Signers {
		if c := signer.Certificate(); c != nil {
			one.Certificates = append(one.Certificates, shown("The signer's certificate", c))
		} else {
			one.Keys = append(one.Keys, signer.Key)
		}
	}
	return one
}

func (l signatures) consistency(ctx context.Context, older, newer head) ([][]byte, error) {
	return l.log.Consistency(ctx, older.Size, newer.Size)
}

// search finds the newest entries that have what a query asks for.
func (l signatures) search(ctx context.Context, query rekorlog.Query, limit int) ([]row, rekorlog.Found, error) {
	search := l.log.Search
	if v1, ok := l.log.Log.(rekorlog.V1); ok {
		search = v1.SearchSome
	}
	found, err := search(ctx, query, limit)
	var rows []row
	for _, e := range found.Entries {
		one := l.row(e)
		// An index can name what is not in the log, and what has nothing to do with the query.
		if _, err := l.log.Check(e); err != nil {
			one.Hint = err.Error()
		} else if what, err := rekorlog.Describe(e.Body); err == nil && !query.Names(what) {
			one.Hint = "only the log's index says that this entry has to do with what you search for"
		}
		rows = append(rows, one)
	}
	return rows, found, err
}

// certificates shows a log of certificates.
type certificates struct{ log ctlog.Log }

func (l certificates) head(ctx context.Context) (head, error) {
	signed, err := l.log.Head(ctx)
	if errors.Is(err, ctlog.ErrEmpty) {
		return head{}, nil
	}
	return head{Size: signed.Size, Root: signed.Root, Text: signed.Text}, err
}

func (l certificates) rows(ctx context.Context, first, end uint64) ([]row, error) {
	var rows []row
	err := l.log.Entries(ctx, first, end, func(e ctlog.Entry) error {
		rows = append(rows, certificateRow(e))
		return nil
	})
	slices.Reverse(rows)
	return rows, err
}

func certificateRow(e ctlog.Entry) row {
	one := row{Index: e.Index, Time: e.Time, Kind: "certificate"}
	if e.Precertificate {
		one.Kind = "precertificate"
	}
	if e.Certificate == nil {
		one.Hint = "this entry cannot be read: " + bounded(200, fmt.Sprint(e.Unreadable))
		return one
	}
	names := slices.Clone(e.Certificate.EmailAddresses)
	for _, uri := range e.Certificate.URIs {
		names = append(names, uri.String())
	}
	issuer := rekorlog.Issuer(e.Certificate)
	for _, name := range names {
		one.Who = append(one.Who, who{Name: bounded(200, name), Issuer: bounded(200, issuer)})
	}
	return one
}

func (l certificates) entry(ctx context.Context, index uint64) (entry, error) {
	e, err := l.log.Entry(ctx, index)
	if err != nil {
		return entry{}, err
	}
	one := entry{
		row: certificateRow(e), TimeSource: "the log says so, and has signed it: it is the time in the SCT",
		Proof: proof.Inclusion{Index: e.Index, Size: e.Size, Leaf: e.LeafInput, Hashes: e.Hashes, Root: e.Root, Signed: e.Head},
	}
	if err := l.log.Check(e); err != nil {
		one.Wrong = err.Error()
	}
	if e.Certificate != nil {
		title := "The certificate"
		if e.Precertificate {
			title = "What was to be certified: Fulcio logs it before it signs the certificate, since the SCT is part of what it signs"
		}
		one.Certificates = []shownCertificate{shown(title, e.Certificate)}
	}
	return one, nil
}

func (l certificates) consistency(ctx context.Context, older, newer head) ([][]byte, error) {
	return l.log.Consistency(ctx, older.Size, newer.Size)
}

func shown(title string, c *x509.Certificate) shownCertificate {
	return shownCertificate{title, certificate.Describe(c)}
}

// mostBody is how many characters of an entry's body are shown.
const mostBody = 20_000

// indented is JSON for people, not longer than mostBody.
func indented(body []byte) string {
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return bounded(mostBody, strings.ToValidUTF8(string(body), "\uFFFD"))
	}
	return bounded(mostBody, strings.ToValidUTF8(out.String(), "\uFFFD"))
}

// heads remembers what logs have signed while this page looked, to prove that they have only grown since.
type heads struct {
	mu   sync.Mutex
	seen map[string][]head // by log, the newest last
}

// keptHeads is how many are remembered of a log.
const keptHeads = 50

// add remembers a head of a log that is newer than the last.
func (h *heads) add(name string, one head) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[string][]head{}
	}
	seen := h.seen[name]
	if one.Size == 0 || len(seen) > 0 && seen[len(seen)-1].Size >= one.Size {
		return
	}
	one.Seen = time.Now()
	if len(seen) == keptHeads {
		// The oldest stays: it proves most.
		seen = slices.Delete(seen, 1, 2)
	}
	h.seen[name] = append(seen, one)
}

func (h *heads) of(name string) []head {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen[name])
}

// headOf asks a log for its head and remembers it.
func (s *Server) headOf(ctx context.Context, name string, log shownLog) (head, error) {
	one, err := log.head(ctx)
	if err == nil {
		s.heads.add(name, one)
	}
	return one, err
}

// monitored is the checkpoint that rekor:monitor has kept of a log of signatures, if it has.
func (s *Server) monitored(name string, log shownLog) (head, bool) {
	signed, ok := log.(signatures)
	if !ok {
		return head{}, false
	}
	var kept checkpoint.Checkpoint
	kept, err := signed.log.Kept()
	return head{Size: kept.Size, Root: kept.Root, Text: kept.Text}, err == nil && kept.Size > 0
}

// proofHTML is a proof as a fragment of a page.
func proofHTML(p interface{ HTML() (template.HTML, error) }) template.HTML {
	html, err := p.HTML()
	if err != nil {
		return template.HTML(template.HTMLEscapeString("This proof cannot be shown: " + err.Error()))
	}
	return html
}

// searchFor reads what a reader types into the search: an entry's number, a UUID, a digest, an identity or, after "key:", a key's digest.
func searchFor(text string, about logAbout) (query rekorlog.Query, index uint64, uuid string, err error) {
	text = strings.TrimSpace(text)
	if number, err := logview.Index(text); err == nil {
		return query, number, "", nil
	}
	if key, ok := strings.CutPrefix(text, "key:"); ok {
		query.Key, err = rekorlog.ParseKeyDigest(strings.TrimSpace(key))
		return query, 0, "", err
	}
	// A UUID of Rekor v1 has 16 hex digits of the tree's ID before the 64 of the entry's hash.
	if about.UUIDs && len(text) == 80 && strings.Trim(text, "0123456789abcdef") == "" {
		return query, 0, text, nil
	}
	if query.Digest, err = rekorlog.ParseDigest(text); err == nil {
		return query, 0, "", nil
	}
	if strings.ContainsAny(text, "@/:") && len(text) <= 1000 {
		return rekorlog.Query{Identity: text}, 0, "", nil
	}
	return query, 0, "", fmt.Errorf("%q is nothing that can be searched for; accepted are an entry's number, an email address or URI, "+
		"a digest such as sha256:0123…, key: and the SHA-256 of a public key, and a UUID of Rekor v1", bounded(100, text))
}

// target is the namespace of a service's targets.
func target(service string) string {
	if service == logview.RekorV2 {
		return "rekorTiles"
	}
	return service
}

// available is an error, for people, unless the service that shows a log runs.
func (s *Server) available(name string) error {
	serves := name
	if config.CTLogService(name) == config.TesseraCT || name == logview.RekorV2 {
		serves = "tiles"
	}
	all := s.stack.All()
	if runs, err := s.stack.Engine.Runs(stack.One(all, serves)); err != nil || !runs {
		return fmt.Errorf("%s is stopped. `%s %s:start` starts it, and this page comes back with it", serves, project.Command, target(serves))
	}
	return nil
}

// Prev and Next are the numbers of the entries beside this one, as text; the first entry has none before it.
func (r row) Prev() string {
	if r.Index == 0 {
		return ""
	}
	return fmt.Sprint(r.Index - 1)
}

// Next is described at Prev.
func (r row) Next() string { return fmt.Sprint(r.Index + 1) }
