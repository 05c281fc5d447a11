package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sigstore-local/magefiles/internal/logview"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/stack"
)

// Show prints an entry of the log in readable form: what was signed, by whom and when, and how its inclusion proof leads to the
// tree's root.
func (Rekor) Show(
	ctx context.Context,
	index string, // the entry's number, from 0
	log *string, // the log: rekor or rekor-tiles
) error {
	number, err := logview.Index(index)
	if err != nil {
		return err
	}
	_, shown, err := openLog(ctx, log)
	if err != nil {
		return err
	}
	text, err := shown.Show(ctx, number)
	fmt.Print(text)
	return err
}

// Monitor verifies that the log has only grown since the last call of this target, and lists the new entries. Its exit code is 6
// if the log has shown two histories, or an entry that is not in its tree.
func (Rekor) Monitor(
	ctx context.Context,
	identity *string, // list what this email address or URI has signed, since the log's beginning
	watch *bool, // repeat this every second, until Ctrl-C
	log *string, // the log: rekor or rekor-tiles
) error {
	s, watched, err := openLog(ctx, log)
	if err != nil {
		return err
	}
	if err := s.Release(); err != nil {
		return err
	}
	return watched.Watch(ctx, s.Console, text(identity), watch != nil && *watch)
}

// Search lists the newest entries of the log that have all that its flags ask for, once their inclusion proofs have been verified.
// Its exit code is 6 if a proof does not hold.
func (Rekor) Search(
	ctx context.Context,
	identity *string, // an email address or URI that has signed
	digest *string, // of what was signed, such as sha256:0123…
	key *string, // a PEM file with a public key or certificate, or the SHA-256 of the public key
	log *string, // the log: rekor or rekor-tiles
	n *int, // how many entries to list; 20 if not given
	o *string, // the form of the output: table or json
) error {
	form, err := stack.Choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	const most = 10_000
	limit := 20
	if n != nil {
		limit = *n
	}
	if limit < 1 || limit > most {
		return fmt.Errorf("-n is %d; accepted is a number of entries from 1 to %d", limit, most)
	}
	file := text(key)
	// A file is named as the user sees it, who may be in another folder.
	if from := filepath.Join(os.Getenv(project.CalledFrom), file); file != "" && !filepath.IsAbs(file) {
		if _, err := os.Stat(from); err == nil {
			file = from
		}
	}
	query, err := rekorlog.NewQuery(text(identity), text(digest), file)
	if err != nil {
		return err
	}
	s, searched, err := openLog(ctx, log)
	if err != nil {
		return err
	}
	return searched.Find(ctx, s.Console, query, limit, form)
}

// text is the value of a flag, empty if it was not given.
func text(flag *string) string {
	if flag == nil {
		return ""
	}
	return *flag
}

// openLog starts the signature log that a flag names, by default the first of those that the stack has, and opens it.
func openLog(ctx context.Context, flag *string) (*shared, logview.Log, error) {
	s, err := load()
	if err != nil {
		return nil, logview.Log{}, err
	}
	starts := map[string]any{logview.Rekor: Rekor.Start, logview.RekorV2: RekorTiles.Start}
	kept := slices.DeleteFunc([]string{logview.Rekor, logview.RekorV2}, func(name string) bool {
		return !slices.Contains(stack.Names(s.All()), name)
	})
	name, err := stack.Choice("log", flag, kept...)
	if err != nil {
		return nil, logview.Log{}, err
	}
	if err := needs(ctx, starts[name]); err != nil {
		return nil, logview.Log{}, err
	}
	log, err := logview.Open(s.Config, name)
	return s, log, err
}
