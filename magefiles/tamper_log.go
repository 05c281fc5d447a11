package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/rekorlog"
)

// What gives a log away.
var (
	anotherLeaf  = regexp.MustCompile(regexp.QuoteMeta(rekorlog.ErrNotInTree.Error()))
	twoHistories = regexp.MustCompile(regexp.QuoteMeta(rekorlog.ErrInconsistent.Error()))
)

// log puts mallory's entry in the place of the stack's user's in MariaDB, and puts that back.
func (t *tamper) log() error {
	log, err := rekorlog.Open(t.config.URL(config.Rekor), t.config.Key("rekor.pub"))
	if err != nil {
		return err
	}
	look := func() error {
		entry, err := log.Entry(t.ctx, t.index)
		if err == nil {
			_, err = log.Check(entry)
		}
		return err
	}
	if err := look(); err != nil {
		return fmt.Errorf("the entry that nobody has touched: %w", err)
	}
	// Rekor shows nothing that is not a signature in itself, so it has to be one.
	other, err := log.Entry(t.ctx, t.other)
	if err != nil {
		return err
	}
	if err := database.Rewrite(t.ctx, t.config, t.index, other.Body); err != nil {
		return err
	}
	noticed := look()
	// Whatever came of it, and after Ctrl-C too.
	if err := database.PutBack(context.WithoutCancel(t.ctx), t.config); err != nil {
		return err
	}
	if err := t.noticed(attack{
		did: fmt.Sprintf("The log's operator rewrites entry %d in MariaDB: it now is %s's.", t.index, mallory),
		who: "Whoever checks the inclusion proof", reason: anotherLeaf, command: t.mage(fmt.Sprintf("rekor:show %d", t.index)),
		because: "The root that the log has signed is a hash over all entries as they were.",
	}, "", noticed); err != nil {
		return err
	}
	if err := look(); err != nil {
		return fmt.Errorf("the entry that was put back: %w", err)
	}
	return nil
}

// fork shows two people different logs, by an older copy of the database, on a throwaway stack.
func (t *tamper) fork() (err error) {
	r, err := t.stack.throwaway(filepath.Join(t.dir, "fork"), config.TunedLocal, []string{"rekor"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.remove(context.WithoutCancel(t.ctx))) }()
	data := r.config.Data("mariadb")
	add := func(count int) error {
		if _, err := r.mage(t.ctx, "rekor:start"); err != nil {
			return err
		}
		_, err := r.fill(t.ctx, 1, count)
		return err
	}
	stop := func() error {
		_, err := r.mage(t.ctx, "stop")
		return err
	}
	look := func(m *monitor) error {
		_, _, err := m.look(t.ctx, false, func(rekorlog.Entry) error { return nil })
		return err
	}
	if err := add(2); err != nil {
		return err
	}
	if err := stop(); err != nil {
		return err
	}
	if err := os.CopyFS(data+".older", os.DirFS(data)); err != nil {
		return err
	}
	if err := add(1); err != nil {
		return err
	}
	m, err := newMonitor(r.config)
	if err != nil {
		return err
	}
	if err := look(m); err != nil {
		return fmt.Errorf("the log before the fork: %w", err)
	}
	if err := stop(); err != nil {
		return err
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.Rename(data+".older", data); err != nil {
		return err
	}
	if err := add(2); err != nil {
		return err
	}
	noticed := look(m)
	return t.noticed(attack{
		did: "The log's operator shows one history to one person, then, from an older copy of the database, another to the next.",
		who: "rekor:monitor", reason: twoHistories, command: "go tool mage rekor:monitor",
		because: "It keeps the checkpoint that it saw last, and no proof leads from that to a tree that has other entries.",
	}, "", noticed)
}
