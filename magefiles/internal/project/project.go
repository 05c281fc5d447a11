// Package project finds this project's folder. It imports little, since each call of `go tool` reads all that its tool
// imports.
package project

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Module is the name in this project's go.mod, by which Root recognises its folder.
const Module = "sigstore-local"

// CalledFrom is the variable by which targets learn the folder in which the user is; they run in the project's.
const CalledFrom = "MAGEFILE_CALLED_FROM"

// Root is the folder of the checkout that holds dir: the nearest one at or above it whose go.mod is this project's.
func Root(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module "+Module+"\n") {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in a checkout of %s: no folder above it has its go.mod", dir, Module)
		}
	}
}
