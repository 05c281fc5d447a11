//go:build !mage

package main

import (
	"os"

	"sigstore-local/magefiles/runner"
)

// main makes of these files, which mage compiles with a main of its own, a program for `go build`, `go vet` and
// `go test` too.
func main() { os.Exit(runner.Main()) }
