package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"
	"github.com/google/renameio/v2"
	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/platform"
)

// Demo signs and verifies a container image, at three levels.
type Demo mg.Namespace

// Keyed signs an image with a key and verifies it with the public key.
func (Demo) Keyed(ctx context.Context) error {
	if err := needs(ctx, Registry.Start); err != nil {
		return err
	}
	d, err := newDemo(ctx, client.Keys)
	if err != nil {
		return err
	}
	return keyed(d)
}

func keyed(d *demo) error {
	d.image()
	d.look("The image has a name by its digest, the hash of what is in it: whatever is signed below is about that and no other.")
	d.keyPair("cosign")
	d.step("Sign the image's digest with the private key. The signature goes into the registry, beside the image.",
		"cosign", "sign", "--key", d.key("cosign.key"), "--tlog-upload=false", d.imageRef)
	d.look("Nothing of the image was changed: its signature is an image of its own in the registry, under a tag that is made from the digest.")
	d.step("Verify it with the public key. There is no log yet, so nobody could notice a signature made with a stolen key.",
		"cosign", "verify", "--key", d.key("cosign.pub"), "--insecure-ignore-tlog=true", d.imageRef)
	d.look("What was signed is small: which digest, and under which name. Who signed it, and when, it does not say.")
	d.refused("An image that nobody signed is refused.", noSignature,
		"cosign", "verify", "--key", d.key("cosign.pub"), "--insecure-ignore-tlog=true", d.config.Image("base"))
	d.keyPair("other")
	d.refused("Another key did not sign this image, so verifying with it is refused.", wrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), "--insecure-ignore-tlog=true", d.imageRef)
	d.look("All depends on the key: that it is kept, that everybody has the right public half, that its theft is noticed.")
	return d.done("A key signed the image, and only that key verifies it.", "demo:rekor")
}

// Rekor signs with a key and makes it public in the transparency log.
func (Demo) Rekor(ctx context.Context) error {
	if err := needs(ctx, requireDatabase); err != nil {
		return err
	}
	if err := needs(ctx, Registry.Start, Rekor.Start); err != nil {
		return err
	}
	d, err := newDemo(ctx, client.Keys)
	if err != nil {
		return err
	}
	return logged(d)
}

func logged(d *demo) error {
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	server := "--rekor_server=" + d.config.URL(config.Rekor)
	d.keyPair("cosign")
	d.step("Sign a file with the private key.",
		"cosign", "sign-blob", "--key", d.key("cosign.key"), "--tlog-upload=false", "--b64=false", "--output-signature", artifact+".sig", artifact)
	entry := []string{server, "--store_tree_state=false", "--artifact", artifact, "--signature", artifact + ".sig", "--public-key", d.key("cosign.pub")}
	said := d.step("Upload the file's digest, its signature and the public key to the log: from now on everybody can see it.",
		append([]string{"rekor-cli", "upload"}, entry...)...)
	uuid := d.find(`/api/v1/log/entries/([0-9a-f]+)`, said)
	d.look("The log took only what verifies: it checked the signature before it made the entry. The file itself it never saw.")
	d.step("Show the entry as the log has it.",
		"rekor-cli", "get", server, "--store_tree_state=false", "--uuid", uuid)
	d.look("IntegratedTime is the log's word on when, Body what it keeps: a digest, a signature and who made it.")
	if d.lesson != nil {
		d.drawing(d.find(`index (\d+)`, said))
	}
	d.step("Verify that the entry is in the log: its inclusion proof leads to the root of the tree that the log has signed.",
		append([]string{"rekor-cli", "verify"}, entry...)...)
	d.look("A few hashes are enough, however many entries there are: each step up doubles how many the hash stands for.")
	d.image()
	d.step("Sign the image, this time with an entry in the log.",
		"cosign", "sign", "--key", d.key("cosign.key"), "--tlog-upload=true", d.imageRef)
	d.step("Verify the signature with the public key, and its entry with the log's.",
		"cosign", "verify", "--key", d.key("cosign.pub"), d.imageRef)
	d.look("One more check is in the list: the log's promise that it has the entry, which came with the signature. No server was asked.")
	d.refused("An image that nobody signed is refused.", noSignature,
		"cosign", "verify", "--key", d.key("cosign.pub"), d.config.Image("base"))
	d.keyPair("other")
	d.refused("Another key did not sign this image, so verifying with it is refused.", wrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), d.imageRef)
	d.look("Whoever steals the key must now leave a trace, which its owner finds by watching the log: `go tool mage rekor:monitor`.")
	return d.done("A key signed the image, and the log shows when.", "demo:keyless")
}

// Keyless signs with an identity instead of a key, and verifies who signed.
func (Demo) Keyless(ctx context.Context) error {
	d, err := startKeyless(ctx)
	if err != nil {
		return err
	}
	return keyless(d)
}

// startKeyless begins a demo for which all services of the tutorial run.
func startKeyless(ctx context.Context) (*demo, error) {
	if err := needs(ctx, requireAll); err != nil {
		return nil, err
	}
	if err := needs(ctx, Registry.Start, Rekor.Start, Fulcio.Start); err != nil {
		return nil, err
	}
	return newDemo(ctx, client.Keys)
}

func keyless(d *demo) error {
	c := d.config
	d.image()
	d.secret("COSIGN_IDENTITY_TOKEN", d.mage("dex:token"), func() (string, error) { return idToken(d.ctx, c, c.Email) })
	d.step("Sign in at Dex as "+c.Email+". Fulcio gives a certificate for that identity and a key that is then thrown away, "+
		"once the certificate is in the CT log, whose promise (SCT) it carries; the signature goes into Rekor.",
		"cosign", "sign", d.imageRef)
	d.look("The key lived for as long as this command took. What is left is the certificate, which says who, and the log's entry, which says when.")
	issuer := "--certificate-oidc-issuer=" + c.Issuer()
	identity := "--certificate-identity=" + c.Email
	d.step("Verify who signed: the certificate's identity and issuer, its chain to Fulcio's root, its SCT, and the entry in the log.",
		"cosign", "verify", identity, issuer, d.imageRef)
	d.look("No key is named: an identity and who vouches for it are. The certificate ran out minutes after it was made; the log shows that it was valid then.")
	d.refused("An image that nobody signed is refused.", noSignature,
		"cosign", "verify", identity, issuer, c.Image("base"))
	d.refused("Somebody else did not sign it: another identity is refused.", wrongIdentity,
		"cosign", "verify", "--certificate-identity="+mallory, issuer, d.imageRef)
	d.refused("Who vouches matters as much as for whom: another issuer is refused.", wrongIdentity,
		"cosign", "verify", identity, "--certificate-oidc-issuer=https://accounts.example.org", d.imageRef)
	d.look("Without the issuer, anybody who runs an issuer could vouch for any address.")
	d.keyPair("other")
	d.refused("A key that did not sign it is refused.", wrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), d.imageRef)
	return d.done("No key was kept: "+c.Email+" signed the image, and everybody can check who and when.", "demo:tamper")
}

// Bundle signs a file into a Sigstore bundle, by Rekor v2 and a timestamp, and verifies it offline.
func (Demo) Bundle(ctx context.Context) error {
	if err := needs(ctx, requireAll); err != nil {
		return err
	}
	if err := needs(ctx, Fulcio.Start, TSA.Start, RekorTiles.Start, tufRepository); err != nil {
		return err
	}
	d, err := newDemo(ctx, client.Root)
	if err != nil {
		return err
	}
	c := d.config
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	changed := d.write("changed.txt", "An artifact that somebody changed.\n")
	bundle := artifact + ".sigstore.json"
	d.secret("COSIGN_IDENTITY_TOKEN", d.mage("dex:token"), func() (string, error) { return idToken(ctx, c, c.Email) })
	d.step("Sign a file. The signing config tells cosign where: Fulcio gives the certificate, the timestamp authority says when, "+
		"Rekor v2 keeps the entry. All that a verifier needs goes into one bundle.",
		"cosign", "sign-blob", "--signing-config", c.Trust("signing_config.json"), "--trusted-root", c.Trust("trusted_root.json"),
		"--new-bundle-format", "--bundle", bundle, artifact)
	verify := func(identity, file string) []string {
		return []string{"cosign", "verify-blob", "--certificate-identity=" + identity, "--certificate-oidc-issuer=" + c.Issuer(),
			"--trusted-root", c.Trust("trusted_root.json"), "--new-bundle-format", "--use-signed-timestamps", "--bundle", bundle, file}
	}
	d.step("Verify it with the trusted root alone, which names the CA, the logs and the timestamp authority with their keys. No service is "+
		"asked: after `go tool mage stop`, and without a network, this says the same.",
		verify(c.Email, artifact)...)
	d.refused("Another file is refused.", wrongFile, verify(c.Email, changed)...)
	d.refused("Another identity is refused.", wrongIdentity, verify(mallory, artifact)...)
	return d.done("The bundle "+bundle+" is all that anybody needs beside the trusted root.", "demo:attest")
}

// requireDatabase and requireAll install at once what is missing for all that a demo starts.
func requireDatabase(ctx context.Context) error {
	return requireToRun(ctx, platform.CCompiler, platform.MariaDB)
}

func requireAll(ctx context.Context) error { return requireToRun(ctx, platform.Needs()...) }

// requireToRun is require without the C compiler if the programs are built: to try one takes as long as a daemon's start.
func requireToRun(ctx context.Context, needs ...platform.Need) error {
	s, err := load()
	if err != nil {
		return err
	}
	built, err := s.builder().Built()
	if err != nil {
		return err
	}
	if built && len(s.config.Checkouts) == 0 {
		needs = slices.DeleteFunc(needs, func(need platform.Need) bool { return need == platform.CCompiler })
	}
	return require(ctx, needs...)
}

// What cosign says when it refuses for the reason that a demo is about. Another failure is no refusal.
var (
	noSignature   = regexp.MustCompile(`no signatures found`)
	wrongKey      = regexp.MustCompile(`invalid signature when validating|comparing public key PEMs|public key and certificate were provided but did not match`)
	wrongFile     = regexp.MustCompile(`could not verify message: invalid signature|matching bundle to payload`)
	wrongPolicy   = regexp.MustCompile(`conflicting values`)
	noAttestation = regexp.MustCompile(`(?m)no matching attestations:\s*$`)
	wrongIdentity = regexp.MustCompile(`none of the expected identities matched|expected SAN value`)
)

// demo runs steps one after another. After the first failure the others do nothing, and done returns it.
type demo struct {
	ctx      context.Context
	config   config.Config
	env      []string
	trust    client.Trust
	secretIn string // a variable of the next command alone, NAME=value
	prefix   string // how a person would set it
	steps    int
	imageRef string
	lesson   *lesson // nil but in the tour
	err      error

	introduced bool // how to make the commands work in a shell was said
}

// newDemo begins once all that the demo needs runs, and lets other processes change the stack again.
func newDemo(ctx context.Context, trust client.Trust) (*demo, error) {
	// Again, if a demo before this one has let others, and nothing had to be started since.
	s, err := acquire(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.prepareClients(); err != nil {
		return nil, err
	}
	if err := s.release(); err != nil {
		return nil, err
	}
	env, err := client.Values(s.config, os.Environ(), client.Environment(s.config, trust))
	if err != nil {
		return nil, err
	}
	return &demo{ctx: ctx, config: s.config, env: env, trust: trust}, nil
}

// mage is the command that runs a target of this stack from any folder.
func (d *demo) mage(target string) string {
	var set []string
	for _, v := range config.Variables() {
		if value := os.Getenv(v.Name); value != "" && !v.Secret {
			set = append(set, v.Name+"="+shellescape.Quote(value)+" ")
		}
	}
	return fmt.Sprintf("cd %s && %sgo tool mage %s", shellescape.Quote(d.config.Root), strings.Join(set, ""), target)
}

func (d *demo) key(name string) string { return d.config.Key(name) }

// say prints what the next command is for, and the command.
func (d *demo) say(why, command string) {
	if !d.introduced {
		d.introduced = true
		option := map[client.Trust]string{client.Root: " -trust=root"}[d.trust]
		fmt.Printf("\nEach step shows what a person would type. In a shell of yours, this makes those commands work:\n\n    $ eval \"$(%s)\"\n", d.mage("env"+option))
	}
	d.next()
	if d.err == nil {
		fmt.Printf("\n%d. %s\n\n    $ %s%s\n", d.steps, why, d.prefix, command)
	}
}

// hostedTerms is what cosign says before it signs, which is true of the public Sigstore and not of this one.
var hostedTerms = regexp.MustCompile(`(?ms)^\s*The sigstore service, hosted by .*?^By typing 'y', [^\n]*\n`)

// show prints a command's output, cut to what fits.
func show(output string) {
	const lines, columns = 16, 140
	all := strings.Split(strings.TrimSpace(hostedTerms.ReplaceAllString(output, "")), "\n")
	for i, line := range all {
		if i == lines {
			fmt.Printf("    … %d more lines\n", len(all)-lines)
			return
		}
		if strings.TrimSpace(line) != "" {
			fmt.Printf("    %s\n", cut(line, columns))
		}
	}
}

// cut is a line with at most so many characters.
func cut(line string, most int) string {
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return line
}

// run runs a program of the stack.
func (d *demo) run(args []string) (string, error) {
	env := d.env
	if d.secretIn != "" {
		env = append(slices.Clip(env), d.secretIn)
	}
	d.secretIn, d.prefix = "", ""
	return command.Combined(d.ctx, command.New(d.ctx, d.config.Home(), env, d.config.Program(args[0]), args[1:]...))
}

// step runs a command that must succeed and returns what it said.
func (d *demo) step(why string, args ...string) string {
	if d.err != nil {
		return ""
	}
	d.say(why, shellescape.QuoteCommand(args))
	said, err := d.run(args)
	if err != nil {
		d.err = fmt.Errorf("step %d: %w", d.steps, err)
		return ""
	}
	show(said)
	return said
}

// refused runs a command that must fail for the given reason.
func (d *demo) refused(why string, reason *regexp.Regexp, args ...string) {
	if d.err != nil {
		return
	}
	d.say(why, shellescape.QuoteCommand(args))
	said, err := d.run(args)
	switch {
	case d.ctx.Err() != nil:
		d.err = context.Cause(d.ctx)
	case err == nil:
		d.err = fmt.Errorf("step %d: this had to be refused, and was not", d.steps)
	case !reason.MatchString(said):
		d.err = fmt.Errorf("step %d: this had to be refused for another reason: %w", d.steps, err)
	default:
		// cosign says why once for each signature on the image; the demo is about one.
		show(strings.TrimSpace(reasonLine(reason, said)))
		fmt.Println("    Refused, as it should be.")
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
func (d *demo) find(pattern, said string) string {
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

// write writes a file of the demo's, in the stack's folder.
func (d *demo) write(name, text string) string {
	file := d.config.Data(name)
	if d.err == nil {
		d.err = renameio.WriteFile(file, []byte(text), 0o600)
	}
	return file
}

// imagePackage is the program in the image of the demos.
const imagePackage = "github.com/sigstore/rekor/cmd/rekor-cli"

// image builds rekor-cli's image and pushes it.
func (d *demo) image() {
	if d.err != nil {
		return
	}
	args := []string{"ko", "build", "--base-import-paths", "--platform=linux/" + runtime.GOARCH, "--sbom=none", imagePackage}
	d.say("Build rekor-cli's source into an image and push it to the local registry: something to sign.",
		fmt.Sprintf("(cd %s && GOFLAGS=%s %s)", shellescape.Quote(d.config.Root), shellescape.Quote(build.Flags), shellescape.QuoteCommand(args)))
	folders, err := client.GoFolders(d.ctx, d.config.Root)
	if err != nil {
		d.err = err
		return
	}
	env := append(build.Env(d.env, false), folders...)
	said, err := command.Output(d.ctx, command.New(d.ctx, d.config.Root, env, d.config.Program(args[0]), args[1:]...))
	if err != nil {
		d.err = fmt.Errorf("step %d: %w", d.steps, err)
		return
	}
	show(said)
	d.imageRef = strings.TrimSpace(said)
}

// keyPair makes a key pair, unless it is there.
func (d *demo) keyPair(name string) {
	if d.err != nil {
		return
	}
	if _, err := os.Stat(d.key(name + ".pub")); err == nil {
		return
	}
	why := "Make a key pair. The password that protects the private key is in " + d.config.SecretFile(config.CosignPassword) + "."
	if name == "other" {
		why = "Make another key pair, which has nothing to do with the first."
	}
	d.step(why, "cosign", "generate-key-pair", "--output-key-prefix", d.key(name))
}

// secret gives the next command a value by its environment, where no other user sees it.
func (d *demo) secret(variable, shown string, value func() (string, error)) {
	if d.err != nil {
		return
	}
	secret, err := value()
	if err != nil {
		d.err = err
		return
	}
	d.secretIn = variable + "=" + secret
	d.prefix = fmt.Sprintf("%s=\"$(%s)\" ", variable, shown)
}

// done ends the demo with what it has shown, and names the next one, if there is one.
func (d *demo) done(what, next string) error {
	if d.err != nil {
		return d.err
	}
	if next != "" && d.lesson == nil {
		what += " Next: `go tool mage " + next + "`."
	}
	_, err := fmt.Printf("\n%s\n", what)
	return err
}
