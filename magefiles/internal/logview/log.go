// Package logview shows the signature logs to people: an entry with its way to the root, new entries, and what a search finds.
package logview

import (
	"crypto/x509"
	"fmt"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/rekorlog"
)

// The services that keep a signature log.
const (
	Rekor   = "rekor"
	RekorV2 = "rekor-tiles"
)

// Log is a signature log of a stack.
type Log struct {
	rekorlog.Log
	name   string // of the service that keeps it
	url    string
	folder string            // where the monitor keeps what it has seen of the log
	ca     *x509.Certificate // the stack's
}

// Open returns the log that the service name keeps.
func Open(c config.Config, name string) (Log, error) {
	ca, err := keys.Certificate(c.Key("ca-root.pem"))
	if err != nil {
		return Log{}, err
	}
	switch name {
	case Rekor:
		log, err := rekorlog.Open(c.URL(config.Rekor), c.Key("rekor.pub"))
		return Log{log, name, c.URL(config.Rekor), c.Data("monitor"), ca}, err
	case RekorV2:
		log := rekorlog.OpenV2(c.RekorV2(), c.RekorV2Origin(), c.Key("rekor-tiles.pub"))
		return Log{log, name, c.RekorV2(), c.Data("monitor-rekor-tiles"), ca}, nil
	default:
		return Log{}, fmt.Errorf("the log is %q; accepted are %s and %s", name, Rekor, RekorV2)
	}
}

// KeptIn is the log with another folder for what the monitor keeps of it.
func (log Log) KeptIn(folder string) Log {
	log.folder = folder
	return log
}
