package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/magefile/mage/mage"
	"github.com/magefile/mage/parse"

	"sigstore-local/magefiles/internal/targets"
)

// list reads the targets from the magefiles of the project in the folder root, as mage does when it compiles them.
func list(root, gocmd string) (targets.List, error) {
	folder := filepath.Join(root, mage.MagefilesDirName)
	files, err := mage.Magefiles(folder, "", "", true)
	if err != nil {
		return nil, fmt.Errorf("find the magefiles: %w", err)
	}
	for i, file := range files {
		files[i] = filepath.Base(file)
	}
	info, err := parse.PrimaryPackage(gocmd, folder, files, false)
	// Another mage that compiles meanwhile has a file there for a moment.
	for tries := 0; errors.Is(err, fs.ErrNotExist) && tries < 20; tries++ {
		time.Sleep(100 * time.Millisecond)
		info, err = parse.PrimaryPackage(gocmd, folder, files, false)
	}
	if err != nil {
		return nil, fmt.Errorf("read the targets of %s: %w", folder, err)
	}
	functions := info.Funcs
	for _, imported := range info.Imports {
		functions = append(functions, imported.Info.Funcs...)
	}
	var known targets.List
	for _, function := range functions {
		target := targets.Target{Name: listed(function.TargetName()), Synopsis: function.Synopsis, Comment: function.Comment}
		for _, arg := range function.Args {
			target.Params = append(target.Params, targets.Param{Name: arg.Name, Type: arg.Type, Flag: arg.Optional, Comment: arg.Comment})
		}
		known = append(known, target)
	}
	slices.SortFunc(known, func(a, b targets.Target) int { return strings.Compare(a.Name, b.Name) })
	return known, nil
}

// A word in a name that begins with an upper-case letter, and with several of them, before the next word.
var firstWord, firstAbbreviation = regexp.MustCompile(`^\p{Lu}\P{Lu}+\p{Lu}`), regexp.MustCompile(`^\p{Lu}+\p{Lu}\P{Lu}`)

// listed is a target's name as `mage -l` writes it: RekorTiles:Start is rekorTiles:start, and CAKey is caKey.
func listed(name string) string {
	parts := strings.Split(name, ":")
	for i, part := range parts {
		end := len(part)
		if match := firstWord.FindString(part); match != "" {
			end = len(match) - 1
		} else if match := firstAbbreviation.FindString(part); match != "" {
			end = len(match) - 2
		}
		parts[i] = strings.ToLower(part[:end]) + part[end:]
	}
	return strings.Join(parts, ":")
}
