package demo

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"al.essio.dev/pkg/shellescape"
	"github.com/google/renameio/v2"
	"golang.org/x/term"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/demo/event"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// Login signs in at Dex as a person does, in a browser, or by a code as on a device without one, and signs a file with that
// identity.
func (d *Demo) Login(device bool) error {
	how := byBrowser
	if device {
		how = byDevice
	}
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	changed := d.write("changed.txt", "An artifact that somebody changed.\n")
	bundle := artifact + ".login.json"
	identity := d.signIn(how, artifact, bundle)
	verify := func(identity, file string) []string {
		return []string{"cosign", "verify-blob", "--certificate-identity=" + identity, "--certificate-oidc-issuer=" + d.Config.Issuer(), "--bundle", bundle, file}
	}
	d.step("The certificate is for "+identity+", who signed in. Verify this identity, the issuer that vouches for it, and the entry in the log.", verify(identity, artifact)...)
	d.refused("Somebody else did not sign in: another identity is refused.", cosign.WrongIdentity, verify(attack.Mallory, artifact)...)
	d.refused("Another file is refused.", cosign.WrongFile, verify(identity, changed)...)
	return d.done(identity+" signed in and signed. Only Dex saw the password; cosign got a token, and no key was kept.", "")
}

// flow is a way to sign in.
type flow struct {
	name  string        // what cosign calls this way
	limit time.Duration // how long cosign or Dex waits for the person
	ports []config.Port // the ports of this machine that the browser has to reach
}

var (
	byBrowser = flow{"normal", 2 * time.Minute, []config.Port{config.Dex, config.Callback}}
	byDevice  = flow{"device", 5 * time.Minute, []config.Port{config.Dex}}
)

// signIn has cosign sign artifact with the identity of the person who signs in at the page that it prints, and returns that
// identity.
func (d *Demo) signIn(how flow, artifact, bundle string) (identity string) {
	if d.err != nil {
		return ""
	}
	// On a machine in a cloud, cosign would take the identity that the cloud gives to the machine. The second flag prevents that.
	sign := []string{"cosign", "sign-blob", "--fulcio-auth-flow=" + how.name, "--oidc-disable-ambient-providers"}
	if how.name == byBrowser.name {
		sign = append(sign, "--oidc-redirect-url=http://"+d.Config.Localhost(config.Callback)+"/auth/callback")
		if d.err = service.PortFree(d.Config, config.Callback); d.err != nil {
			return ""
		}
	}
	sign = append(sign, "--bundle", bundle, artifact)
	env, err := d.withoutBrowser()
	if err != nil {
		d.err = err
		return ""
	}
	if !d.say("Sign a file. cosign waits until somebody has signed in, and goes on with the token that Dex gives it.", shellescape.QuoteCommand(sign)) {
		return ""
	}
	// This limit is shorter than cosign's own: at its own limit, cosign asks for a code at the terminal, and there may be no
	// terminal.
	ctx, cancel := context.WithTimeoutCause(d.ctx, how.limit-5*time.Second, fmt.Errorf("nobody signed in within %s", console.Duration(how.limit)))
	defer cancel()
	page := &pageFinder{page: regexp.MustCompile(regexp.QuoteMeta(d.Config.Issuer()) + `/\S+\n`), found: func(page string) { d.invite(how, page) }}
	_, err = command.Combined(ctx, command.New(ctx, d.Config.Home(), env, d.Config.Program(sign[0]), sign[1:]...), page)
	if err == nil {
		d.said(string(page.said))
		identity, err = emailOf(bundle)
	}
	if err != nil {
		d.err = fmt.Errorf("step %d: %w", d.steps, err)
	}
	return identity
}

// pageFinder is a writer that calls found with the first page that the written text names, and keeps the text after that.
type pageFinder struct {
	page  *regexp.Regexp
	found func(page string)
	said  []byte
}

func (p *pageFinder) Write(text []byte) (int, error) {
	p.said = append(p.said, text...)
	if at := p.page.FindIndex(p.said); at != nil && p.found != nil {
		p.found(strings.TrimSpace(string(p.said[at[0]:at[1]])))
		p.found, p.said = nil, p.said[at[1]:]
	}
	return len(text), nil
}

// invite says where to sign in, and as whom. It opens the page in the user's browser if standard output is a terminal.
func (d *Demo) invite(how flow, page string) {
	c := d.Config
	// The password is printed on a terminal only: other output may be a log that is kept and passed on.
	watched := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("CI") == ""
	password := "in " + c.SecretFile(config.DexPassword)
	if secret, err := statedir.Secret(c, config.DexPassword); err == nil && watched {
		password = secret
	}
	opened := how.name == byBrowser.name && watched && open(page)
	what := "Open this page in a browser"
	if opened {
		what = "Your browser opens this page"
	}
	if _, code, ok := strings.Cut(page, "?user_code="); ok {
		what += ", and check that it has the code " + code
	}
	people := strings.Join(append([]string{c.Email}, c.Users...), " or ")
	text := fmt.Sprintf("%s:\n\n%s\n\nSign in as %s; the password is %s.\n", what, page, people, password)
	if !opened {
		forward := ""
		for _, port := range how.ports {
			forward += fmt.Sprintf(" -L %d:%s", c.Port(port), c.Address(port))
		}
		host, err := os.Hostname()
		if err != nil {
			host = "THIS-MACHINE"
		}
		text += fmt.Sprintf("If the browser is on another machine, run this there first:\n\nssh -N%s %s\n\n", forward, host)
	}
	text += fmt.Sprintf("This waits for %s; Ctrl-C ends it.", console.Duration(how.limit))
	d.tell(event.Event{Kind: event.SignIn, Text: text})
}

// open opens a page in the user's browser, if there is one. The browser outlives this process.
func open(page string) bool {
	program := platform.Browser(os.Getenv)
	if program == "" {
		return false
	}
	cmd := exec.Command(program, page)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start() == nil
}

// withoutBrowser is an environment in which the programs that open a browser do nothing and succeed. invite opens the browser in
// place of cosign, but cosign waits for the sign-in only if it believes that it has opened one.
func (d *Demo) withoutBrowser() ([]string, error) {
	folder := d.Config.Run("no-browser")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{"xdg-open", "open"} {
		if err := renameio.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
			return nil, err
		}
	}
	return append(slices.Clip(d.env), "PATH="+folder), nil
}

// emailOf is the email address in the certificate of a bundle, in the form of cosign v2 or of Sigstore.
func emailOf(bundle string) (string, error) {
	content, err := os.ReadFile(bundle)
	if err != nil {
		return "", err
	}
	var held struct {
		Cert                 []byte // PEM
		VerificationMaterial struct{ Certificate struct{ RawBytes []byte } }
	}
	if err := json.Unmarshal(content, &held); err != nil {
		return "", fmt.Errorf("%s: %w", bundle, err)
	}
	der := held.VerificationMaterial.Certificate.RawBytes
	if block, _ := pem.Decode(held.Cert); block != nil {
		der = block.Bytes
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return "", fmt.Errorf("%s: %w", bundle, err)
	}
	if len(certificate.EmailAddresses) != 1 {
		return "", fmt.Errorf("the certificate in %s is for %q, which is not one email address", bundle, certificate.EmailAddresses)
	}
	return certificate.EmailAddresses[0], nil
}
