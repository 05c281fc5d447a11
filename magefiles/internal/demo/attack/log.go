package attack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/logview"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/statedir"
)

// onTheLog are attacks by the log's operator.
func onTheLog() []Attack {
	return []Attack{
		{
			Name: "rewritten-entry", Did: "The log's operator rewrites entry {entry} in MariaDB: it now is {attacker}'s.",
			Who: "Whoever checks the inclusion proof", Words: regexp.MustCompile(regexp.QuoteMeta(rekorlog.ErrNotInTree.Error())),
			Because: "The root that the log has signed is a hash over all entries, with this one as it was before.",
			Try:     rewrite,
		},
		{
			Name: "two-histories", Did: "The log's operator shows one history to one person, then, from an older copy of the database, another to the next.",
			Who: "rekor:monitor", Words: regexp.MustCompile(regexp.QuoteMeta(rekorlog.ErrInconsistent.Error())),
			Because: "It keeps the checkpoint that it saw last, and no proof leads from that checkpoint to a tree with other entries.",
			Try:     fork,
		},
	}
}

// rewrite replaces an entry of the stack's user in MariaDB by Mallory's, checks it, and puts the original back.
func rewrite(ctx context.Context, t *Target) (Attempt, error) {
	signed, err := t.signedBy(ctx, t.Config.Email)
	if err != nil {
		return Attempt{}, err
	}
	log, err := rekorlog.Open(t.Config.URL(config.Rekor), t.Config.Key("rekor.pub"))
	if err != nil {
		return Attempt{}, err
	}
	check := func() error {
		entry, err := log.Entry(ctx, signed.index)
		if err == nil {
			_, err = log.Check(entry)
		}
		return err
	}
	if err := check(); err != nil {
		return Attempt{}, fmt.Errorf("the entry that nobody has touched: %w", err)
	}
	// Rekor shows only valid entries, so the replacement is a valid entry too.
	mallorys, err := t.signedBy(ctx, Mallory)
	if err != nil {
		return Attempt{}, err
	}
	other, err := log.Entry(ctx, mallorys.index)
	if err != nil {
		return Attempt{}, err
	}
	if err := database.Rewrite(ctx, t.Config, signed.index, other.Body); err != nil {
		return Attempt{}, err
	}
	noticed := check()
	// The entry is put back whatever the check says, and after Ctrl-C too.
	if err := database.PutBack(context.WithoutCancel(ctx), t.Config); err != nil {
		return Attempt{}, err
	}
	if err := check(); err != nil {
		return Attempt{}, fmt.Errorf("the entry that was put back: %w", err)
	}
	return Attempt{Command: fmt.Sprintf("go tool mage rekor:show %d", signed.index), Refusal: noticed, Entry: signed.index}, nil
}

// fork shows two histories of the log of a throwaway stack: the second one begins from an older copy of its database.
func fork(ctx context.Context, t *Target) (attempt Attempt, err error) {
	forked, err := t.Throwaway(t.scratch, "fork", config.TunedLocal, []string{"rekor"})
	if err != nil {
		return Attempt{}, err
	}
	mage := func(targets ...string) error {
		_, _, err := forked.Mage(ctx, targets...)
		return err
	}
	defer func() { err = errors.Join(err, mage("stop")) }()
	add := func(count int) error {
		if err := mage("rekor:start"); err != nil {
			return err
		}
		uploader, err := rekorlog.NewUploader(forked.Config.URL(config.Rekor))
		for ; count > 0 && err == nil; count-- {
			_, err = uploader.Upload(ctx)
		}
		return err
	}
	data := forked.Config.Data("mariadb")
	if err := add(2); err != nil {
		return Attempt{}, err
	}
	if err := mage("stop"); err != nil {
		return Attempt{}, err
	}
	if err := statedir.Copy(data+".older", data); err != nil {
		return Attempt{}, err
	}
	if err := add(1); err != nil {
		return Attempt{}, err
	}
	watched, err := logview.Open(forked.Config, logview.Rekor)
	if err != nil {
		return Attempt{}, err
	}
	check := func() error {
		_, _, err := watched.Look(ctx, false, func(rekorlog.Entry) error { return nil })
		return err
	}
	if err := check(); err != nil {
		return Attempt{}, fmt.Errorf("the log before the fork: %w", err)
	}
	if err := mage("stop"); err != nil {
		return Attempt{}, err
	}
	if err := os.RemoveAll(data); err != nil {
		return Attempt{}, err
	}
	if err := os.Rename(data+".older", data); err != nil {
		return Attempt{}, err
	}
	if err := add(2); err != nil {
		return Attempt{}, err
	}
	return Attempt{Command: "go tool mage rekor:monitor", Refusal: check()}, nil
}
