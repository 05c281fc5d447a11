// Package demo signs and verifies as a person would, step by step: the three levels, bundles, attestations, a person's own
// sign-in, and the tour, which teaches the levels and the attacks.
package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"
	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/demo/event"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/registryclient"
	"sigstore-local/magefiles/internal/stack"
)

// Demo runs steps one after another. After the first failure the others do nothing, and done returns it.
type Demo struct {
	*stack.Stack
	ctx      context.Context
	env      []string
	trust    client.Trust
	teller   Teller
	secretIn string // a variable for the next command only, as NAME=value
	prefix   string // what a person would type before the next command to set that variable
	steps    int
	imageRef string
	lesson   *lesson // nil but in the tour
	err      error

	introduced bool // the demo has said how to make its commands work in a shell
}

// New begins a demo of a stack in which all services that it needs run, and gives the stack's lock up. The demo tells teller what
// happens, but for its failure, which its caller tells.
func New(ctx context.Context, s *stack.Stack, trust client.Trust, teller Teller) (*Demo, error) {
	env, err := s.ClientProcess(os.Environ(), trust)
	if err != nil {
		return nil, err
	}
	return &Demo{Stack: s, ctx: ctx, env: env, trust: trust, teller: teller}, s.Release()
}

// mage is the command that runs a target of this stack from any folder.
func (d *Demo) mage(target string) string {
	var set []string
	for _, setting := range d.Config.Settings {
		name, value, _ := strings.Cut(setting, "=")
		set = append(set, name+"="+shellescape.Quote(value)+" ")
	}
	call := strings.Join(set, "") + project.Command + " " + target
	if project.Packaged() {
		return call
	}
	return "cd " + shellescape.Quote(d.Config.Root) + " && " + call
}

func (d *Demo) key(name string) string { return d.Config.Key(name) }

// say tells what the next command is for, and the command. It returns whether the command is to run.
func (d *Demo) say(why, command string) bool {
	if !d.introduced {
		d.introduced = true
		option := map[client.Trust]string{client.Root: " -trust=root"}[d.trust]
		d.tell(event.Event{
			Kind: event.Intro, Command: fmt.Sprintf("eval \"$(%s)\"", d.mage("env"+option)),
			Text: "Each step shows the command that a person would type. To try these commands in a shell of yours, type this first:",
		})
	}
	d.next()
	if d.err == nil {
		d.tell(event.Event{Kind: event.Step, Why: why, Command: d.prefix + command})
	}
	return d.err == nil
}

// tell tells an event, and of which chapter and step it is.
func (d *Demo) tell(e event.Event) {
	if d.lesson != nil {
		e.Chapter = d.lesson.chapter
	}
	e.Step = d.steps
	if err := d.teller.Tell(e); d.err == nil {
		d.err = err
	}
}

// said tells what the command of the step has printed.
func (d *Demo) said(output string) {
	d.tell(event.Event{Kind: event.Said, Said: hostedTerms.ReplaceAllString(output, "")})
}

// run runs a program of the stack.
func (d *Demo) run(args []string) (string, error) {
	env := d.env
	if d.secretIn != "" {
		env = append(slices.Clip(env), d.secretIn)
	}
	d.secretIn, d.prefix = "", ""
	return command.Combined(d.ctx, command.New(d.ctx, d.Config.Home(), env, d.Config.Program(args[0]), args[1:]...))
}

// step runs a command that must succeed and returns what it said.
func (d *Demo) step(why string, args ...string) string {
	if d.err != nil {
		return ""
	}
	if !d.say(why, shellescape.QuoteCommand(args)) {
		return ""
	}
	said, err := d.run(args)
	if err != nil {
		d.err = fmt.Errorf("step %d: %w", d.steps, err)
		return ""
	}
	d.said(said)
	return said
}

// refused runs a command that must fail for the given reason.
func (d *Demo) refused(why string, reason *regexp.Regexp, args ...string) {
	if d.err != nil {
		return
	}
	if !d.say(why, shellescape.QuoteCommand(args)) {
		return
	}
	said, err := d.run(args)
	switch {
	case d.ctx.Err() != nil:
		d.err = context.Cause(d.ctx)
	case err == nil:
		d.err = fmt.Errorf("step %d: this had to be refused, and was not", d.steps)
	case !reason.MatchString(said):
		d.err = fmt.Errorf("step %d: this had to be refused for another reason: %w", d.steps, err)
	default:
		said = hostedTerms.ReplaceAllString(said, "")
		d.tell(event.Event{Kind: event.Said, Said: said, Refused: true, Line: strings.TrimSpace(reasonLine(reason, said))})
	}
}

// reasonLine is the line of said that matches reason.
func reasonLine(reason *regexp.Regexp, said string) string {
	for line := range strings.Lines(said) {
		if reason.MatchString(line) {
			return line
		}
	}
	return ""
}

// find is the first group of pattern in what a command said.
func (d *Demo) find(pattern, said string) string {
	if d.err != nil {
		return ""
	}
	found := regexp.MustCompile(pattern).FindStringSubmatch(said)
	if found == nil {
		d.err = fmt.Errorf("step %d: the output has no %s: %s", d.steps, pattern, said)
		return ""
	}
	return found[1]
}

// write writes a file of the demo's, in the state folder.
func (d *Demo) write(name, text string) string {
	file := d.Config.Data(name)
	if d.err == nil {
		d.err = renameio.WriteFile(file, []byte(text), 0o600)
	}
	return file
}

// logIndex is the index of the entry in the signature log that a bundle holds.
func (d *Demo) logIndex(bundle string) string {
	if d.err != nil {
		return ""
	}
	var held struct {
		VerificationMaterial struct {
			TlogEntries []struct{ LogIndex string }
		}
	}
	content, err := os.ReadFile(bundle)
	if err == nil {
		err = json.Unmarshal(content, &held)
	}
	if err == nil && len(held.VerificationMaterial.TlogEntries) != 1 {
		err = errors.New("it does not hold one entry")
	}
	if err != nil {
		d.err = fmt.Errorf("step %d: %s: %w", d.steps, bundle, err)
		return ""
	}
	// The bundle leaves out the index of the first entry, which is 0.
	return cmp.Or(held.VerificationMaterial.TlogEntries[0].LogIndex, "0")
}

// ImagePackage is the program in the image of the demos, one that the stack has built for itself, so that its packages are in
// the build cache.
func ImagePackage(c config.Config) string {
	if c.Stack == config.Tiles {
		return "github.com/sigstore/cosign/v3/cmd/cosign"
	}
	return "github.com/sigstore/rekor/cmd/rekor-cli"
}

// tiles says that the stack has no other logs than such of tiles. Its cosign is version 3.
func (d *Demo) tiles() bool { return d.Config.Stack == config.Tiles }

// buildImage builds the image of a program and pushes it.
func (d *Demo) buildImage() {
	if d.err != nil {
		return
	}
	if project.Packaged() {
		d.smallImage()
		return
	}
	args := []string{"ko", "build", "--base-import-paths", "--platform=linux/" + runtime.GOARCH, "--sbom=none", ImagePackage(d.Config)}
	if !d.say("Build "+path.Base(ImagePackage(d.Config))+"'s source into an image and push it to the local registry: something to sign.",
		fmt.Sprintf("(cd %s && GOFLAGS=%s %s)", shellescape.Quote(d.Config.Root), shellescape.Quote(build.ImageFlags), shellescape.QuoteCommand(args))) {
		return
	}
	folders, err := client.GoFolders(d.ctx, d.Config.Root)
	if err != nil {
		d.err = err
		return
	}
	env := append(append(build.Env(d.env, false), "GOFLAGS="+build.ImageFlags), folders...)
	said, err := command.Output(d.ctx, command.New(d.ctx, d.Config.Root, env, d.Config.Program(args[0]), args[1:]...))
	if err != nil {
		d.err = fmt.Errorf("step %d: %w", d.steps, err)
		return
	}
	d.said(said)
	d.imageRef = strings.TrimSpace(said)
}

// smallImage stores a small image where there is no Go that builds one. Its repository has the name that the built one would have.
func (d *Demo) smallImage() {
	name := path.Base(ImagePackage(d.Config))
	if !d.say("Store a small image in the local registry: something to sign.", d.mage("registry:image "+name)) {
		return
	}
	if d.imageRef, d.err = registryclient.NewImage(d.ctx, d.Config, name, "An image to sign"); d.err == nil {
		d.said(d.imageRef + "\n")
	}
}

// unsigned makes a new image, which therefore nobody has signed.
func (d *Demo) unsigned() (reference string) {
	if d.err == nil {
		reference, d.err = registryclient.NewImage(d.ctx, d.Config, "unsigned", "An image that nobody has signed")
	}
	return reference
}

// keyPair makes a key pair, unless it is there.
func (d *Demo) keyPair(name string) {
	if d.err != nil {
		return
	}
	if cosign.HasKeyPair(d.key(name)) {
		d.err = cosign.KeyPair(d.ctx, d.Config, d.env, d.key(name))
		return
	}
	why := "Make a key pair. The password that protects the private key is in " + d.Config.SecretFile(config.CosignPassword) + "."
	if name == "other" {
		why = "Make another key pair, which has nothing to do with the first."
	}
	d.step(why, "cosign", "generate-key-pair", "--output-key-prefix", d.key(name))
}

// secret sets an environment variable for the next command. Other users of the machine can see the arguments of a command but not
// the values of its variables. A person gets the value from the command printedBy.
func (d *Demo) secret(variable, printedBy string, value func() (string, error)) {
	if d.err != nil {
		return
	}
	secret, err := value()
	if err != nil {
		d.err = err
		return
	}
	d.secretIn = variable + "=" + secret
	d.prefix = fmt.Sprintf("%s=\"$(%s)\" ", variable, printedBy)
}

// done ends the demo, or a chapter of the tour, with what it has shown, and names the next one, if there is one.
func (d *Demo) done(what, next string) error {
	if d.err != nil {
		return d.err
	}
	if next != "" && d.lesson == nil {
		what += " Next: `" + project.Command + " " + next + "`."
	}
	d.end(what)
	return d.err
}

// end tells that the demo, or a chapter, has ended as it should. It is no part of a step.
func (d *Demo) end(what string) {
	d.steps = 0
	d.tell(event.Event{Kind: event.Done, Text: what})
}
