package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/service"
)

// Tamper attacks images, certificates, the log and the sign-in, each in the ways that Sigstore protects from, and shows
// who notices. It fails if nobody does.
func (Demo) Tamper(ctx context.Context) error {
	d, err := startKeyless(ctx)
	if err != nil {
		return err
	}
	return attackAll(d)
}

// mallory is the attacker, whom Dex knows as it knows anybody.
const mallory = "mallory@example.org"

// tamper runs the attacks.
type tamper struct {
	*demo
	stack  *stack
	dir    string // deleted at the end
	issuer string // what cosign expects of a certificate

	engine  *service.Engine // of the attacker's daemons
	daemons []service.Service
	image   string // signed by the stack's user
	index   uint64 // of its entry in the log
	other   uint64 // of an entry that is mallory's
	ran     string // the last command
}

// attackAll runs the attacks one after another, as steps of a demo for which the keyless level runs.
func attackAll(d *demo) error {
	s, err := load()
	if err != nil {
		return err
	}
	if err := addAccounts(d.ctx, s.config, []string{mallory}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sigstore-tamper")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := &tamper{demo: d, stack: s, dir: dir, issuer: "--certificate-oidc-issuer=" + d.config.Issuer()}
	// Also after Ctrl-C.
	defer t.end(context.WithoutCancel(d.ctx))
	for _, part := range []func() error{t.prepare, t.images, t.certificates, t.log, t.fork, t.tokens} {
		if err := part(); err != nil {
			if d.ctx.Err() != nil {
				return context.Cause(d.ctx)
			}
			return err
		}
	}
	return d.done(fmt.Sprintf("%d attacks, and each was noticed.", d.steps), "")
}

// prepare makes what the attacks need: an engine for the attacker's daemons, and an image that the stack's user signs.
func (t *tamper) prepare() error {
	fmt.Printf("\nAn attacker tries this stack in one way after another, and each time somebody notices. %s signs; %s attacks.\n", t.config.Email, mallory)
	quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	c, err := config.Load(t.config.Root, []string{"SIGLOCAL_STATE=" + filepath.Join(t.dir, "state")})
	if err != nil {
		return err
	}
	if err := service.MakeFolders(c); err != nil {
		return err
	}
	t.engine = &service.Engine{Config: c, Console: console.New(quiet, os.Getenv), StartTimeout: startTimeout}
	if t.image, err = t.push("signed"); err != nil {
		return err
	}
	t.index, err = t.sign(t.config.Email, t.image)
	return err
}

// sign signs an image as email, and returns the index of the signature's entry in the log.
func (t *tamper) sign(email, image string) (index uint64, err error) {
	signIn, err := t.as(email)
	if err != nil {
		return 0, err
	}
	said, err := t.cosign(signIn, "sign", image)
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`tlog entry created with index: (\d+)`).FindStringSubmatch(said)
	if found == nil {
		return 0, fmt.Errorf("cosign does not say which entry it made: %s", said)
	}
	return strconv.ParseUint(found[1], 10, 64)
}

// attack is one way to cheat.
type attack struct {
	did     string         // what the attacker did
	who     string         // who notices
	reason  *regexp.Regexp // in which words
	because string         // what gives it away, for the tour
	command string         // what shows it; the last command of cosign's if empty
}

// noticed prints what an attacker did and who noticed, by what that said and returned; what it said is the error itself if
// empty. It is an error if nobody noticed, or for another reason.
func (t *tamper) noticed(a attack, said string, err error) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	if t.next(); t.demo.err != nil {
		return t.demo.err
	}
	if err == nil {
		return fmt.Errorf("attack %d: %s Nobody noticed", t.steps, a.did)
	}
	if said == "" {
		said = err.Error()
	}
	if !a.reason.MatchString(said) {
		return fmt.Errorf("attack %d: %s It had to be noticed for another reason than %w", t.steps, a.did, err)
	}
	if a.command == "" {
		a.command = t.ran
	}
	line := cut(strings.TrimPrefix(strings.TrimSpace(reasonLine(a.reason, said)), "Error: "), 200)
	fmt.Printf("\n%d. %s\n", t.steps, a.did)
	if t.lesson == nil {
		fmt.Printf("   %s notices: %s\n", a.who, line)
		return nil
	}
	fmt.Printf("\n    $ %s\n    %s\n", a.command, line)
	t.look("%s notices. %s", a.who, a.because)
	return nil
}

// cosign runs cosign with variables beside the stack's.
func (t *tamper) cosign(variables []string, args ...string) (string, error) {
	env := append(append([]string{}, t.env...), variables...)
	t.ran = shellescape.QuoteCommand(append([]string{"cosign"}, args...))
	return command.Combined(t.ctx, command.New(t.ctx, t.dir, env, t.config.Program("cosign"), args...))
}

// as is the variable by which cosign signs in as email.
func (t *tamper) as(email string) ([]string, error) {
	token, err := idToken(t.ctx, t.config, email)
	return []string{"COSIGN_IDENTITY_TOKEN=" + token}, err
}

// elsewhere is the stack's configuration with other ports for Fulcio, the CT log and Dex.
func (t *tamper) elsewhere() (config.Config, error) {
	settings := []string{"SIGLOCAL_STATE=" + t.config.State, "SIGLOCAL_PKCS11_TOKEN=" + t.config.PKCS11Token, "SIGLOCAL_EMAIL=" + t.config.Email}
	for _, port := range config.PortNames() {
		number := t.config.Port(port)
		switch port {
		case config.Fulcio, config.FulcioGRPC, config.FulcioMetrics, config.CT, config.Dex:
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return config.Config{}, err
			}
			defer l.Close()
			number = l.Addr().(*net.TCPAddr).Port
		}
		settings = append(settings, fmt.Sprintf("%s=%d", port.Variable(), number))
	}
	return config.Load(t.config.Root, settings)
}

// serve starts a daemon of the attacker's.
func (t *tamper) serve(one service.Service) error {
	one.Templates = nil
	t.daemons = append(t.daemons, one)
	return t.engine.Start(t.ctx, one, nil)
}

// end ends the attacker's daemons.
func (t *tamper) end(ctx context.Context) {
	for len(t.daemons) > 0 {
		last := len(t.daemons) - 1
		_ = t.engine.Stop(ctx, t.daemons[last])
		t.daemons = t.daemons[:last]
	}
}

// edited copies a configuration file of the stack's with changes, each of which must find its place.
func (t *tamper) edited(name string, changes ...string) (string, error) {
	text, err := os.ReadFile(t.config.ConfigFile(name))
	if err != nil {
		return "", err
	}
	for i := 0; i < len(changes); i += 2 {
		if !bytes.Contains(text, []byte(changes[i])) {
			return "", fmt.Errorf("%s has no %q", t.config.ConfigFile(name), changes[i])
		}
		text = bytes.Replace(text, []byte(changes[i]), []byte(changes[i+1]), 1)
	}
	file := filepath.Join(t.dir, name)
	return file, os.WriteFile(file, text, 0o600)
}
