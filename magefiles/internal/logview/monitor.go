package logview

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/checkpoint"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/exitcode"
	"sigstore-local/magefiles/internal/rekorlog"
)

// Watch verifies that the log has only grown since the last call, and prints what is new; if identity is not empty, it prints
// what identity has signed since the log's beginning. With on it does so once a second until ctx ends.
func (log Log) Watch(ctx context.Context, out *console.Console, identity string, on bool) error {
	if on {
		out.Printf("Watching the log at %s, until Ctrl-C.", log.url)
	}
	silent := ""
	for all := identity != ""; ; {
		older, newer, err := log.Look(ctx, all, func(entry rekorlog.Entry) error { return log.list(entry, identity) })
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (!on || unkept(err)):
			return broken(err)
		case err != nil:
			// The log may be restarted while it is watched.
			if err.Error() != silent {
				silent = err.Error()
				out.Printf("The log does not answer, and is asked again: %s", silent)
			}
		case older.Text == "":
			out.Printf("The first look at the log: it has %s. What it shows from now on has to agree with this.", entries(newer.Size))
		case newer.Size > older.Size:
			out.Printf("The log has only grown since the last look, from %d to %d entries.", older.Size, newer.Size)
		case !on:
			out.Printf("Nothing is new since the last look: the log has %s.", entries(newer.Size))
		}
		if !on {
			return nil
		}
		if err == nil {
			all, silent = false, ""
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// unkept says whether err means that the log has not kept its promise to show every entry, unchanged, to everybody.
func unkept(err error) bool {
	return errors.Is(err, rekorlog.ErrNotInTree) || errors.Is(err, rekorlog.ErrInconsistent)
}

// broken gives err the exit code BrokenLog if unkept is true for it.
func broken(err error) error {
	if unkept(err) {
		return exitcode.New(exitcode.BrokenLog, "%w", err)
	}
	return err
}

// list prints an entry in a line, unless identity is not empty and has not signed it.
func (log Log) list(entry rekorlog.Entry, identity string) error {
	what, err := rekorlog.Describe(entry.Body)
	if err != nil {
		return err
	}
	if identity == "" || (rekorlog.Query{Identity: identity}).Names(what) {
		_, err = fmt.Println(log.line(entry, what))
	}
	return err
}

// line is an entry as a line: index, time, kind, digests and signers.
func (log Log) line(entry rekorlog.Entry, what rekorlog.Description) string {
	logged := "-" // Rekor v2 keeps no time
	if !entry.Integrated.IsZero() {
		logged = entry.Integrated.Format(time.RFC3339)
	}
	var signers []string
	for _, signer := range what.Signers {
		signers = append(signers, log.whoSigned(signer))
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s\t%s", entry.Index, logged, what.Kind, strings.Join(what.Digests, " "), strings.Join(signers, "; "))
}

// Look compares the log's newest checkpoint with the one that was kept (zero if there is none), hands each new entry, or
// all of them, to each once its proof holds, and keeps the newest. A checkpoint with which the log disagrees is never
// given up: both are put into a file beside it, and the error wraps rekorlog.ErrInconsistent.
func (log Log) Look(ctx context.Context, all bool, each func(rekorlog.Entry) error) (older, newer checkpoint.Checkpoint, err error) {
	if err := os.MkdirAll(log.folder, 0o700); err != nil {
		return older, newer, err
	}
	if older, err = log.Kept(); err != nil {
		return older, newer, err
	}
	if newer, err = log.Checkpoint(ctx); err != nil {
		return older, newer, err
	}
	if err := log.agree(ctx, older, newer); err != nil {
		return older, newer, err
	}
	first := older.Size
	if all {
		first = 0
	}
	// Each entry comes with the log's checkpoint of that moment, which has to be of the same tree.
	shown := newer
	err = log.Entries(ctx, first, newer.Size, func(entry rekorlog.Entry) error {
		signed, err := log.Check(entry)
		if err != nil {
			return err
		}
		if signed.Text != shown.Text {
			smaller, larger := shown, signed
			if smaller.Size > larger.Size {
				smaller, larger = larger, smaller
			}
			if err := log.agree(ctx, smaller, larger); err != nil {
				return err
			}
			shown = larger
		}
		return each(entry)
	})
	if err != nil {
		return older, newer, err
	}
	return older, newer, renameio.WriteFile(log.kept(), []byte(newer.Text), 0o600)
}

// kept is the file of the checkpoint that the last look has kept.
func (log Log) kept() string { return filepath.Join(log.folder, "checkpoint") }

// Kept is the checkpoint that the last look has kept; zero if there was none.
func (log Log) Kept() (checkpoint.Checkpoint, error) {
	text, err := os.ReadFile(log.kept())
	if errors.Is(err, os.ErrNotExist) {
		return checkpoint.Checkpoint{}, nil
	}
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	older, err := log.Parse(string(text))
	if err != nil {
		return older, fmt.Errorf("%s: %w: it was kept of another log, or damaged; without it the next look is a first one", log.kept(), err)
	}
	return older, nil
}

// agree finds out whether two checkpoints are of one history, and keeps both in a file as evidence if they are not.
func (log Log) agree(ctx context.Context, older, newer checkpoint.Checkpoint) error {
	err := log.Consistent(ctx, older, newer)
	if !errors.Is(err, rekorlog.ErrInconsistent) {
		return err
	}
	evidence := filepath.Join(log.folder, "evidence-"+time.Now().UTC().Format("20060102T150405.000")+".txt")
	if err := renameio.WriteFile(evidence, []byte(older.Text+"\n"+newer.Text), 0o600); err != nil {
		return err
	}
	return fmt.Errorf("%w. Its key has signed both checkpoints, which are in %s", err, evidence)
}
