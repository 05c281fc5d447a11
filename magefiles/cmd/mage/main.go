// Mage is what `go tool mage` runs here: mage, which finds this project's magefiles from any folder below it.
package main

import (
	"os"

	"sigstore-local/magefiles/runner"
)

func main() { os.Exit(runner.Main()) }
