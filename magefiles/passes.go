package main

import (
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// How lines of logs begin, for service.Passage.
const (
	// klog is what k8s.io/klog begins a line of its level INFO with, as in "I1126 11:43:00.161430   13165 ".
	klog = `^I(?P<time>\d{4} \d\d:\d\d:\d\d\.\d{6}) +\d+ `
	// goLog is what Go's package log begins a line with, if it is told to write microseconds.
	goLog = `^(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6}) `
)

// bundler is the client that signs into bundles: by version 2 of Fulcio's API, the timestamp authority and Rekor v2. No log says which
// program it is.
func bundler(c config.Config) string {
	switch c.Stack {
	case config.Tutorial, config.Tiles:
		return "cosign"
	default:
		return "bundle" // cosign is of version 2, which does that in another way
	}
}

// scts are the SCTs that Fulcio gets at the CT log that it uses, if that is log. Only Fulcio has precertificates, which the log's line
// matches.
func scts(c config.Config, log config.CTLogService, line string) []service.Passage {
	if c.CTLogService != log {
		return nil
	}
	return []service.Passage{{Line: line, From: "fulcio", To: string(log), What: "SCT"}}
}
