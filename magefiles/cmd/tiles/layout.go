package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sigstore-local/magefiles/internal/tilelog"
)

// The formats of logs, by the names of their specifications.
const (
	tlogTiles = "tlog-tiles" // https://c2sp.org/tlog-tiles
	staticCT  = "static-ct"  // https://c2sp.org/static-ct-api
)

// layout is what differs between the formats.
type layout struct {
	entries  string // the folder of the entries below tile/
	levels   int    // how many levels of tiles a log can have
	issuers  bool   // certificates of issuers are files too
	entryEnd func(content []byte) (int, error)
}

var layouts = map[string]layout{
	tlogTiles: {entries: "entries", levels: 64, entryEnd: endOfEntry(tilelog.TlogTiles)},
	staticCT:  {entries: "data", levels: 6, issuers: true, entryEnd: endOfEntry(tilelog.StaticCT)},
}

// resource is a file of a log, as a path names it.
type resource struct {
	file        string
	contentType string
	changes     bool // its content is another when the log has grown

	width      int                               // of a tile or a bundle of entries: how many hashes or entries it has
	full       string                            // of a partial one: the file of the full one, which begins with the same content
	entry      func(content []byte) (int, error) // where the first hash or entry of content ends
	compressed bool                              // clients that take gzip get that
}

const (
	fullWidth = 256
	hashSize  = 32
)

// What the specifications say of paths.
var (
	tilePath   = regexp.MustCompile(`^tile/(0|[1-9][0-9]?|[a-z]+)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?$`)
	issuerPath = regexp.MustCompile(`^issuer/[0-9a-f]{64}$`)
)

// find returns the file that a path below a prefix names. If there is no such file in the format, ok is false, and reserved says
// whether the path is nevertheless one of the log's files and folders, so that no other server gets it.
func (l layout) find(path string) (r resource, ok, reserved bool) {
	first, _, _ := strings.Cut(path, "/")
	reserved = first == "checkpoint" || first == "tile" || first == "issuer" && l.issuers || strings.HasPrefix(first, ".")
	if path == "checkpoint" {
		return resource{file: path, contentType: "text/plain; charset=utf-8", changes: true}, true, true
	}
	if l.issuers && issuerPath.MatchString(path) {
		return resource{file: path, contentType: "application/pkix-cert"}, true, true
	}
	parts := tilePath.FindStringSubmatch(path)
	if parts == nil || strings.HasPrefix(parts[2], "x000/") {
		return resource{}, false, reserved
	}
	r = resource{file: path, contentType: "application/octet-stream", width: fullWidth}
	if parts[1] == l.entries {
		r.entry, r.compressed = l.entryEnd, true
	} else {
		level, err := strconv.Atoi(parts[1])
		if err != nil || level >= l.levels {
			return resource{}, false, reserved
		}
		r.entry = endOfHash
	}
	if parts[3] != "" {
		r.width, _ = strconv.Atoi(parts[3]) // three digits at most
		if r.width >= fullWidth {
			return resource{}, false, reserved
		}
		r.full = strings.TrimSuffix(path, ".p/"+parts[3])
	}
	return r, true, reserved
}

// cut returns the part of content that is the resource: all of it, or the beginning of the full file of a partial one.
func (r resource) cut(content []byte) ([]byte, error) {
	if r.entry == nil {
		return content, nil
	}
	end := 0
	for i := range r.width {
		length, err := r.entry(content[end:])
		if err != nil {
			return nil, fmt.Errorf("it ends before number %d of %d: %w", i, r.width, err)
		}
		end += length
	}
	return content[:end], nil
}

var errShort = errors.New("the file is damaged")

func endOfHash(content []byte) (int, error) {
	if len(content) < hashSize {
		return 0, errShort
	}
	return hashSize, nil
}

// endOfEntry finds the ends of entries as a format has them.
func endOfEntry(format tilelog.Layout) func(content []byte) (int, error) {
	return func(content []byte) (int, error) {
		_, rest, ok := format.Next(content)
		if !ok {
			return 0, errShort
		}
		return len(content) - len(rest), nil
	}
}
