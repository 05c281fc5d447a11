// Package attack has the attacks that Sigstore protects from. Each says who has to notice it, and in which words. No attack
// relies on another one: each makes what it needs and ends what it has started.
package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/registryclient"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// Mallory is the attacker, who has an account at Dex as other users have.
const Mallory = "mallory@example.org"

// Attack is one way to cheat.
type Attack struct {
	Name    string         // by which -only chooses the attack
	Did     string         // what the attacker did; {signer} stands for the stack's user, {attacker} for Mallory, "entry {entry}" for the one at Attempt.Entry
	Who     string         // who has to notice the attack
	Words   *regexp.Regexp // matches the words in which the attack has to be noticed
	Because string         // why the attack is noticed
	// Try makes the attempt. An error says that it could not be made.
	Try func(context.Context, *Target) (Attempt, error)
}

// Attempt is the outcome of an attack.
type Attempt struct {
	Command string // what a person types to see that the attack is noticed
	Said    string // what the command printed; if empty, Refusal holds the words
	Refusal error  // why the command failed; nil if nobody noticed the attack
	Entry   uint64 // the index of the log entry that the attack is about; 0 if it is about none
}

// All lists the attacks on the stack of c, in the order in which they are taught.
func All(c config.Config) []Attack {
	attacks := slices.Concat(onImages(), onCertificates(c))
	if c.Stack.Includes(config.Tutorial) {
		attacks = append(attacks, onRekor()...)
	}
	if c.Stack.Includes(config.Tiles) {
		attacks = append(attacks, onTiles()...)
	}
	return append(attacks, onTokens()...)
}

// Named are the attacks on the stack of c that names, with commas between them, lists.
func Named(c config.Config, names string) ([]Attack, error) {
	all := All(c)
	var known []string
	for _, one := range all {
		known = append(known, one.Name)
	}
	var chosen []Attack
	for name := range strings.SplitSeq(names, ",") {
		at := slices.Index(known, name)
		if at < 0 {
			return nil, fmt.Errorf("-only has %q; accepted are %s, with commas between them", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

// Output is what the command printed, with the words in which the attack was refused; empty if it was not.
func (a Attempt) Output() string {
	if a.Said == "" && a.Refusal != nil {
		return a.Refusal.Error()
	}
	return a.Said
}

// Noticed returns the line of the attempt's output that has the attack's Words. It returns an error if nobody noticed the
// attempt, or if it was refused in other words.
func (a Attack) Noticed(attempt Attempt) (string, error) {
	if attempt.Refusal == nil {
		return "", errors.New("nobody noticed")
	}
	for line := range strings.Lines(attempt.Output()) {
		if line = service.WithoutColor(line); a.Words.MatchString(line) {
			return strings.TrimPrefix(strings.TrimSpace(line), "Error: "), nil
		}
	}
	return "", fmt.Errorf("it had to be noticed for another reason than %w", attempt.Refusal)
}

// Target is a stack that is attacked, with what the attacker has made so far. Its services are those that the keyless level
// needs.
type Target struct {
	*stack.Stack
	scratch *stack.Scratch
	env     []string             // of the clients
	signed  map[string]signature // by who signed
	made    int                  // how many stacks of the attacker's have been made
}

// signature is an image with a signature.
type signature struct {
	image string
	index uint64 // of the signature's entry in Rekor v1; 0 with version 3 of cosign, which does not tell it
}

// NewTarget prepares attacks on s, at whose Dex Mallory has an account. What they leave is gone after Close, or when this process ends.
func NewTarget(ctx context.Context, s *stack.Stack) (*Target, error) {
	env, err := s.ClientProcess(os.Environ(), client.Trusts(s.Config)[0])
	if err != nil {
		return nil, err
	}
	scratch, err := s.NewScratch()
	return &Target{Stack: s, scratch: scratch, env: env, signed: map[string]signature{}}, err
}

// Close ends what the attacks have started and deletes what they have made.
func (t *Target) Close() error { return t.scratch.Close() }

// Did says what the attacker did.
func (t *Target) Did(a Attack, attempt Attempt) string {
	return did(t.Config, a, "entry "+strconv.FormatUint(attempt.Entry, 10))
}

// Plan says what the attacker is about to do to the stack of c, before it is known which entry of a log the attack is about.
func (a Attack) Plan(c config.Config) string { return did(c, a, "an entry") }

func did(c config.Config, a Attack, entry string) string {
	return strings.NewReplacer("{signer}", c.Email, "{attacker}", Mallory, "entry {entry}", entry).Replace(a.Did)
}

// tiles says that the stack has no other logs than such of tiles. Its cosign is version 3.
func (t *Target) tiles() bool { return t.Config.Stack == config.Tiles }

// issuer is cosign's flag for the issuer to expect in a certificate.
func (t *Target) issuer() string { return "--certificate-oidc-issuer=" + t.Config.Issuer() }

// signer is cosign's flag for the identity to expect in a certificate.
func (t *Target) signer() string { return "--certificate-identity=" + t.Config.Email }

// file writes a file of the attacker's.
func (t *Target) file(name, content string) (string, error) {
	path := filepath.Join(t.scratch.Dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// artifact is a file to sign.
func (t *Target) artifact() (string, error) { return t.file("artifact", "An artifact to sign.\n") }

// cosign runs cosign with variables beside the stack's, as an attempt at what must be refused.
func (t *Target) cosign(ctx context.Context, variables []string, args ...string) Attempt {
	env := append(slices.Clip(t.env), variables...)
	said, err := command.Combined(ctx, command.New(ctx, t.scratch.Dir, env, t.Config.Program("cosign"), args...))
	return Attempt{Command: shellescape.QuoteCommand(append([]string{"cosign"}, args...)), Said: said, Refusal: err}
}

// verify verifies that the stack's user has signed an image.
func (t *Target) verify(ctx context.Context, image string) Attempt {
	return t.cosign(ctx, nil, "verify", t.signer(), t.issuer(), image)
}

// as is the variable by which cosign signs in as email.
func (t *Target) as(ctx context.Context, email string) ([]string, error) {
	token, err := stack.IDToken(ctx, t.Config, email)
	return []string{"COSIGN_IDENTITY_TOKEN=" + token}, err
}

// image stores a new image and returns its reference.
func (t *Target) image(ctx context.Context, title string) (string, error) {
	return registryclient.NewImage(ctx, t.Config, repository, title)
}

// repository is the name of the repository of the attacks' images.
const repository = "tamper"

var newEntry = regexp.MustCompile(`tlog entry created with index: (\d+)`)

// signedBy is an image that email has signed keyless, once for all attacks.
func (t *Target) signedBy(ctx context.Context, email string) (signature, error) {
	if known, ok := t.signed[email]; ok {
		return known, nil
	}
	image, err := t.image(ctx, "signed by "+email)
	if err != nil {
		return signature{}, err
	}
	signIn, err := t.as(ctx, email)
	if err != nil {
		return signature{}, err
	}
	made := t.cosign(ctx, signIn, "sign", image)
	if made.Refusal != nil {
		return signature{}, made.Refusal
	}
	one := signature{image: image}
	if found := newEntry.FindStringSubmatch(made.Said); found != nil {
		if one.index, err = strconv.ParseUint(found[1], 10, 64); err != nil {
			return signature{}, err
		}
	} else if !t.tiles() {
		return signature{}, fmt.Errorf("cosign does not say which entry it made: %s", made.Said)
	}
	t.signed[email] = one
	return one, nil
}

// edited is text with changes, which are pairs: a part of the text and what replaces it. A part that is not there is an
// error.
func edited(text []byte, changes ...string) ([]byte, error) {
	for i := 0; i < len(changes); i += 2 {
		if !bytes.Contains(text, []byte(changes[i])) {
			return nil, fmt.Errorf("there is no %q to be changed", changes[i]) // the text may hold secrets
		}
		text = bytes.Replace(text, []byte(changes[i]), []byte(changes[i+1]), 1)
	}
	return text, nil
}
