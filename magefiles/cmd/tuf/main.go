// Tuf makes and serves the files by which clients trust the stack: the trusted root, the signing configuration, and a TUF
// repository that holds both. It is a program of its own because the libraries for these formats are large, and the magefiles
// do without them.
//
// Usage:
//
//	tuf publish DESCRIPTION
//	tuf rotate DESCRIPTION
//	tuf serve DESCRIPTION
//
// publish writes the trusted root and the signing configuration, and makes, updates or renews the repository, as far as
// need be. rotate gives the repository a new root with new keys, signed by the old and the new ones. serve serves the
// repository over HTTP, with the files that clients trust and the index that names them. DESCRIPTION is a JSON file, whose form is the type description.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sigstore-local/magefiles/internal/webserver"
)

// description says what to publish and where. Paths are absolute.
type description struct {
	Address    string `json:"address"`    // host:port to serve on
	Keys       string `json:"keys"`       // the folder of the repository's keys
	Repository string `json:"repository"` // the folder of the repository
	Trust      string `json:"trust"`      // the folder for what clients trust
	Origin     string `json:"origin"`     // what the checkpoints of Rekor v2 begin with
	services
	// Here are the services by which clients on this machine sign, if they need other URLs than clients elsewhere.
	Here *services `json:"here"`
}

// services are those of the stack. Of the optional ones, it has those that the stack has, or had when something was signed.
type services struct {
	Issuer     string    `json:"issuer"`     // the URL of the OIDC issuer
	Fulcio     endpoint  `json:"fulcio"`     // File is the CA's chain
	TrillianCT *endpoint `json:"trillianCT"` // File is the log's public key
	Tesseract  *endpoint `json:"tesseract"`  // File is the log's public key
	Rekor      *endpoint `json:"rekor"`      // File is the log's public key
	RekorV2    *endpoint `json:"rekorV2"`    // File is the log's public key
	TSA        *endpoint `json:"tsa"`        // File is the authority's chain, its leaf first
}

// endpoint is a service's URL, and the PEM file that its signatures are verified with.
type endpoint struct {
	URL  string `json:"url"`
	At   string `json:"at"` // where clients sign; URL if empty, which the trusted root has in any case
	File string `json:"file"`
	// Signs says that the stack now has the service, so that clients can use it to sign.
	Signs bool `json:"signs"`
}

// address is the URL at which clients sign.
func (e endpoint) address() string { return cmp.Or(e.At, e.URL) }

func main() {
	actions := map[string]func(description) error{
		"publish": func(d description) error { _, err := publish(d, time.Now()); return err },
		"rotate":  func(d description) error { return rotate(d, time.Now()) },
		"serve":   serve,
	}
	if len(os.Args) != 3 || actions[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tuf publish|rotate|serve DESCRIPTION")
		os.Exit(2)
	}
	d, err := read(os.Args[2])
	if err == nil {
		err = actions[os.Args[1]](d)
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
	if err := json.Unmarshal(content, &d); err != nil {
		return d, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// publish brings what clients trust, and the repository that holds it, up to date.
func publish(d description, now time.Time) (*repository, error) {
	files, err := trust(d)
	if err != nil {
		return nil, err
	}
	r, err := open(d, files, now)
	if err != nil {
		return nil, err
	}
	return r, r.update()
}

// rotate gives the repository a new root.
func rotate(d description, now time.Time) error {
	r, err := publish(d, now)
	if err != nil {
		return err
	}
	if err := r.rotate(); err != nil {
		return err
	}
	if err := r.update(); err != nil {
		return err
	}
	fmt.Printf("The root has version %d and new keys.\n", r.root.Signed.Version)
	return nil
}

// handler serves the repository, below /trust/ the files that clients trust, and at / the index of both.
func handler(d description) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		http.ServeFile(w, r, filepath.Join(d.Trust, "index.json"))
	})
	mux.Handle("GET /trust/", http.StripPrefix("/trust/", http.FileServer(http.Dir(d.Trust))))
	mux.Handle("GET /", http.FileServer(http.Dir(d.Repository)))
	return mux
}

// serve serves the repository until it is told to end.
func serve(d description) error {
	return webserver.Run(context.Background(), webserver.Grace, webserver.Site{
		Address: d.Address, Handler: handler(d),
		Listening: func(at net.Addr) { log.Printf("serving %s on %s", d.Repository, at) },
	})
}
