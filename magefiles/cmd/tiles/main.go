// Tiles makes logs of tiles readable over HTTP. Servers of such logs take entries and write files; reading those files is left
// to a web server, which this is.
//
// Usage: tiles serve DESCRIPTION
//
// DESCRIPTION is a JSON file, whose form is the type description.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"strings"

	"sigstore-local/magefiles/internal/webserver"
)

// description says which logs to serve. Paths are absolute.
type description struct {
	Logs []served `json:"logs"`
}

// served is a log, and how it is served.
type served struct {
	Name        string   `json:"name"`        // the service that takes the log's entries, for messages
	Address     string   `json:"address"`     // host:port to serve on
	Folder      string   `json:"folder"`      // where the log's files are
	Layout      string   `json:"layout"`      // the format, one of layouts
	Prefixes    []string `json:"prefixes"`    // below which paths the format's own begin, such as / or /api/v2/
	Submissions string   `json:"submissions"` // the URL of the server that gets every request that is for no file

	Index  string `json:"index"`  // the folder of the index of the log's entries; empty for a log that is not searched
	Origin string `json:"origin"` // what the checkpoints begin with, for the index
	Key    string `json:"key"`    // the PEM file of the public key that verifies them, for the index
}

func main() {
	if len(os.Args) != 3 || os.Args[1] != "serve" {
		fmt.Fprintln(os.Stderr, "usage: tiles serve DESCRIPTION")
		os.Exit(2)
	}
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	d, err := read(os.Args[2])
	if err == nil {
		err = serve(d)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(file string) (d description, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return d, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return d, fmt.Errorf("%s: %w", file, err)
	}
	if len(d.Logs) == 0 {
		return d, fmt.Errorf("%s: logs is empty; accepted is a list of at least one log", file)
	}
	for _, one := range d.Logs {
		if err := one.check(); err != nil {
			return d, fmt.Errorf("%s: the log %q: %w", file, one.Name, err)
		}
	}
	return d, nil
}

func (s served) check() error {
	if _, ok := layouts[s.Layout]; !ok {
		return fmt.Errorf("layout is %q; accepted are %q and %q", s.Layout, tlogTiles, staticCT)
	}
	if len(s.Prefixes) == 0 {
		return errors.New("prefixes is empty; accepted is a list of at least one path")
	}
	for _, prefix := range s.Prefixes {
		if !strings.HasPrefix(prefix, "/") || !strings.HasSuffix(prefix, "/") {
			return fmt.Errorf("a prefix is %q; accepted is a path that begins and ends with a slash", prefix)
		}
	}
	if s.Index != "" && s.Layout != tlogTiles {
		return fmt.Errorf("index is %q and layout is %q; accepted is an index of a log of the layout %q", s.Index, s.Layout, tlogTiles)
	}
	if to, err := url.Parse(s.Submissions); err != nil || to.Scheme != "http" || to.Host == "" {
		return fmt.Errorf("submissions is %q; accepted is the URL of a server, such as http://127.0.0.1:3002", s.Submissions)
	}
	return nil
}

// serve serves the logs until it is told to end.
func serve(d description) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var sites []webserver.Site
	for _, one := range d.Logs {
		handler, err := newHandler(one)
		if err != nil {
			return err
		}
		if handler.index != nil {
			go handler.index.follow(ctx)
		}
		sites = append(sites, webserver.Site{
			Address: one.Address, Handler: handler,
			Listening: func(at net.Addr) { log.Printf("serving %s, the log of %s, on %s", one.Folder, one.Name, at) },
		})
	}
	return webserver.Run(ctx, webserver.Grace, sites...)
}
