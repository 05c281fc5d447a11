package attack

import (
	"context"
	"fmt"
	"regexp"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/rekorlog"
)

// onRekor are attacks by the operator of Rekor v1.
func onRekor() []Attack {
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
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				refusal, err := t.twoHistories(ctx, rekorV1, 2)
				return Attempt{Command: project.Command + " rekor:monitor", Refusal: refusal}, err
			},
		},
	}
}

// onTiles are attacks by the operator of Rekor v2. The log is one of the attacker's own, so that the stack's is never changed.
func onTiles() []Attack {
	monitor := project.Command + " rekor:monitor -log=rekor-tiles"
	return []Attack{
		{
			Name: "rewritten-tile", Did: "The operator of a log of tiles rewrites entry {entry} in the file that holds it.",
			Who: "Whoever reads the entry", Words: regexp.MustCompile(regexp.QuoteMeta(rekorlog.ErrNotInTree.Error())),
			Because: "A reader hashes what the file holds, and the hashes in the other tiles, up to the root of the checkpoint, are those of the entry as it was before.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				refusal, err := t.rewriteTile(ctx)
				return Attempt{Command: project.Command + " rekor:show -log=rekor-tiles 0", Refusal: refusal}, err
			},
		},
		{
			Name: "cut-off-log", Did: "The operator of a log of tiles puts an older copy of its files back, and so cuts the newest entry off.",
			Who: "rekor:monitor", Words: regexp.MustCompile(`it had 3 entries and now has 2`),
			Because: "It keeps the checkpoint that it saw last, and a log never gets smaller.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				refusal, err := t.twoHistories(ctx, rekorV2, 0)
				return Attempt{Command: monitor, Refusal: refusal}, err
			},
		},
		{
			Name: "split-view", Did: "The operator of a log of tiles shows one history to one person and another to the next, and each is sound by itself.",
			Who: "rekor:monitor, which compares the two checkpoints,", Words: regexp.MustCompile(`no proof leads from the 3 entries`),
			Because: "The log's key has signed both checkpoints, and no proof leads from one to the other. A witness signs a checkpoint only if it continues the one before, so that a client who wants a witness's signature sees the history that all others see.",
			Try: func(ctx context.Context, t *Target) (Attempt, error) {
				refusal, err := t.twoHistories(ctx, rekorV2, 2)
				return Attempt{Command: monitor, Refusal: refusal}, err
			},
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
	return Attempt{Command: fmt.Sprintf("%s rekor:show %d", project.Command, signed.index), Refusal: noticed, Entry: signed.index}, nil
}
