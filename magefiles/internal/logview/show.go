package logview

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/rekorlog"
)

// Index reads the index of an entry.
func Index(text string) (uint64, error) {
	number, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("the index is %q; accepted is an entry's number, a whole number from 0", text)
	}
	return number, nil
}

// Show draws an entry of the log: what was signed, by whom and when, and its way to the root. If its inclusion proof does not
// hold, it returns an error, beside the text if the log has shown what can be drawn.
func (log Log) Show(ctx context.Context, number uint64) (string, error) {
	checkpoint, err := log.Checkpoint(ctx)
	if err != nil {
		return "", err
	}
	if number >= checkpoint.Size {
		return "", fmt.Errorf("the index is %d, and the log has %s", number, entries(checkpoint.Size))
	}
	entry, err := log.Entry(ctx, number)
	if err != nil {
		return "", broken(err)
	}
	what, err := rekorlog.Describe(entry.Body)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("entry", "%d, a %s of version %s", entry.Index, what.Kind, what.Version)
	if entry.UUID != "" {
		line("UUID", "%s", entry.UUID)
	}
	for _, digest := range what.Digests {
		line("artifact", "%s", digest)
	}
	for _, signer := range what.Signers {
		line("signer", "%s", log.whoSigned(signer))
		if signer.Identity != "" {
			line("", "by a certificate that is valid from %s to %s UTC", signer.From.Format(time.DateTime), signer.To.Format(time.DateTime))
		}
	}
	if entry.Integrated.IsZero() {
		line("logged", "the log keeps no time; a timestamp authority's is in the signature's bundle")
	} else {
		line("logged", "%s UTC", entry.Integrated.Format(time.DateTime))
	}
	fmt.Fprintf(&out, "\nIts way to the root of the tree, hashed at each step with the sibling that the log names:\n\n  %x  this entry\n", entry.Leaf())
	for _, step := range entry.Path() {
		side := "right"
		if step.Left {
			side = "left"
		}
		fmt.Fprintf(&out, "  ├─ %x…  on its %s\n  %x\n", step.Sibling[:8], side, step.Parent)
	}
	fmt.Fprintln(&out)
	if _, err := log.Check(entry); err != nil {
		line("root", "✗ %v", err)
		return out.String(), broken(err)
	}
	line("root", "✓ the log's key has signed this root, of %d entries", entry.Proof.Size)
	return out.String(), nil
}

// entries says how many entries a log has, and which.
func entries(size uint64) string {
	switch size {
	case 0:
		return "no entry yet"
	case 1:
		return "one entry, 0"
	default:
		return fmt.Sprintf("%d entries, 0 to %d", size, size-1)
	}
}

// Certified says whether the stack's CA has certified a signer's identity.
func (log Log) Certified(signer rekorlog.Signer) bool {
	return log.ca != nil && signer.CertifiedBy(log.ca)
}

// whoSigned describes a signer, with a warning if another CA than the stack's has certified the identity.
func (log Log) whoSigned(signer rekorlog.Signer) string {
	if signer.Identity == "" || log.Certified(signer) {
		return signer.String()
	}
	return signer.String() + " (by a CA that is not this stack's: anybody can say that)"
}
