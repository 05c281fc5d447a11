// Package project finds this project's folder. It imports little, since each call of `go tool` reads all that its tool
// imports.
package project

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Module is the name in this project's go.mod, by which Root recognises its folder.
const Module = "sigstore-local"

// CalledFrom is the variable by which targets learn the folder in which the user is; they run in the project's.
const CalledFrom = "MAGEFILE_CALLED_FROM"

// Command is what a person types before the name of a target. The linker sets it in programs that are handed out without their
// sources (go tool link, -X).
var Command = checkoutCommand

const checkoutCommand = "go tool mage"

// Packaged says whether this program was handed out without its sources: it builds nothing, and all that it needs is beside it.
func Packaged() bool { return Command != checkoutCommand }

// Root is the folder of the checkout that holds dir: the nearest one at or above it whose go.mod is this project's. It
// refuses a checkout whose path the programs could not use.
func Root(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module "+Module+"\n") {
			return at, checkRoot(at)
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in a checkout of %s: no folder above it has its go.mod", dir, Module)
		}
	}
}

func checkRoot(root string) error {
	if Legible(root) && !strings.ContainsAny(root, `:\`) {
		return nil
	}
	return fmt.Errorf("the checkout is at %q; accepted is a path in UTF-8 without a colon, which would end its programs' folder in PATH, "+
		"without a backslash, with which Go embeds no files, and without control and other invisible characters: move it", root)
}

// Legible says whether path is the same in every configuration file and on a terminal: UTF-8 without control and other
// invisible characters. Those that join letters stay, which some languages are written with.
func Legible(path string) bool {
	return utf8.ValidString(path) && !strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsGraphic(r) && !unicode.Is(unicode.Join_Control, r) })
}
