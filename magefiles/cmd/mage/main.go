// Mage is what `go tool mage` runs: it runs this project's compiled targets from any folder below the project's. It is the
// smaller of two programs, since each call of `go tool` reads all packages that its tool imports. The other one,
// magefiles/cmd/magefile, holds mage itself and is called only when something must be compiled or mage's own flags are used.
package main

import (
	"os"

	"sigstore-local/magefiles/runner"
)

func main() { os.Exit(runner.Main()) }
