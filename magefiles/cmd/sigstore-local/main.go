// Sigstore-local runs the targets of this project where they were handed out without their sources: those in the folder of this
// program.
package main

import (
	"os"

	"sigstore-local/magefiles/runner"
)

func main() { os.Exit(runner.Packaged()) }
