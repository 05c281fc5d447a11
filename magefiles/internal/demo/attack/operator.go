package attack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/cryptobyte"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/logview"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
	"sigstore-local/magefiles/internal/tilelog"
)

// operated is the log of a throwaway stack, of which the attacker is the operator.
type operated struct {
	*stack.Throwaway
	kind logKind
}

// logKind is a signature log that an attacker operates.
type logKind struct {
	service string // by its name in logview
	start   string // the target that starts it
	data    string // the folder, below the stack's data, in which the log is kept
	url     func(config.Config) string
	upload  func(url string) (*rekorlog.Uploader, error)
}

var (
	rekorV1 = logKind{
		logview.Rekor, "rekor:start", "mariadb",
		func(c config.Config) string { return c.URL(config.Rekor) }, rekorlog.NewUploader,
	}
	rekorV2 = logKind{logview.RekorV2, "rekorTiles:start", "rekor-tiles", config.Config.RekorV2, rekorlog.NewUploaderV2}
)

// operate makes a log of the attacker's with so many entries, and runs it. It ends when the scratch folder is closed, or by stop.
func (t *Target) operate(ctx context.Context, kind logKind, entries int) (*operated, error) {
	t.made++
	own, err := t.Throwaway(t.scratch, fmt.Sprint("o", t.made), t.Config.Stack, config.TunedLocal, []string{kind.service})
	if err != nil {
		return nil, err
	}
	log := &operated{own, kind}
	return log, log.add(ctx, entries)
}

// add starts the log if it does not run, and adds entries.
func (o *operated) add(ctx context.Context, count int) error {
	if _, _, err := o.Mage(ctx, o.kind.start); err != nil {
		return err
	}
	uploader, err := o.kind.upload(o.kind.url(o.Config))
	for ; count > 0 && err == nil; count-- {
		_, err = uploader.Upload(ctx)
	}
	return err
}

func (o *operated) stop(ctx context.Context) error {
	_, _, err := o.Mage(ctx, "stop")
	return err
}

// data is the folder in which the log is kept, and older where a copy of it is.
func (o *operated) data() string  { return o.Config.Data(o.kind.data) }
func (o *operated) older() string { return o.data() + ".older" }

// remember copies the log, which is stopped for that.
func (o *operated) remember(ctx context.Context) error {
	if err := o.stop(ctx); err != nil {
		return err
	}
	return statedir.Copy(o.older(), o.data())
}

// goBack puts the copy in the place of the log, and runs that.
func (o *operated) goBack(ctx context.Context) error {
	if err := o.stop(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(o.data()); err != nil {
		return err
	}
	if err := os.Rename(o.older(), o.data()); err != nil {
		return err
	}
	return o.add(ctx, 0)
}

// look is what rekor:monitor does for somebody who keeps what they have seen of the log under a name of theirs.
func (o *operated) look(ctx context.Context, somebody string) error {
	log, err := logview.Open(o.Config, o.kind.service)
	if err != nil {
		return err
	}
	_, _, err = log.KeptIn(o.Config.Data("monitor-"+somebody)).Look(ctx, false, func(rekorlog.Entry) error { return nil })
	return err
}

// twoHistories shows a log of three entries to one person, goes back to a copy of it with two, and adds other ones, also to be
// shown to another person, who has not seen the log before. It returns what the first person notices.
func (t *Target) twoHistories(ctx context.Context, kind logKind, others int) (refusal error, err error) {
	log, err := t.operate(ctx, kind, 2)
	if err != nil {
		return nil, err
	}
	if err := log.remember(ctx); err != nil {
		return nil, err
	}
	if err := log.add(ctx, 1); err != nil {
		return nil, err
	}
	if err := log.look(ctx, "first"); err != nil {
		return nil, fmt.Errorf("the first history: %w", err)
	}
	if err := log.goBack(ctx); err != nil {
		return nil, err
	}
	if err := log.add(ctx, others); err != nil {
		return nil, err
	}
	if err := log.look(ctx, "second"); err != nil {
		return nil, fmt.Errorf("the second history, by itself: %w", err)
	}
	refusal = log.look(ctx, "first")
	return refusal, log.stop(ctx)
}

// rewriteTile replaces the first entry of a log by the second one, in the file that holds both.
func (t *Target) rewriteTile(ctx context.Context) (refusal error, err error) {
	log, err := t.operate(ctx, rekorV2, 2)
	if err != nil {
		return nil, err
	}
	shown, err := logview.Open(log.Config, rekorV2.service)
	if err != nil {
		return nil, err
	}
	if _, err := shown.Show(ctx, 0); err != nil {
		return nil, fmt.Errorf("the entry that nobody has touched: %w", err)
	}
	file := filepath.Join(log.data(), "tile", "entries", "000.p", "2")
	bundle, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, rest, ok := tilelog.TlogTiles.Next(bundle)
	if !ok {
		return nil, fmt.Errorf("%s holds no entry", file)
	}
	second, _, ok := tilelog.TlogTiles.Next(rest)
	if !ok {
		return nil, fmt.Errorf("%s holds one entry only", file)
	}
	var rewritten cryptobyte.Builder
	for range 2 {
		rewritten.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(second) })
	}
	content, err := rewritten.Bytes()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, err
	}
	_, refusal = shown.Show(ctx, 0)
	return refusal, log.stop(ctx)
}
