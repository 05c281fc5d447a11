//go:build !mage

package main

import (
	"os"

	"sigstore-local/magefiles/runner"
)

// main makes this package complete for `go build`, `go vet` and `go test`. Mage compiles it with a main of its own instead.
func main() { os.Exit(runner.Main()) }
