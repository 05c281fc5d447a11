//go:build ignore

// The zero-install runner: `go run magefile.go TARGET` is `go tool mage TARGET`.
package main

import (
	"os"

	"sigstore-local/magefiles/runner"
)

func main() { os.Exit(runner.Main()) }
