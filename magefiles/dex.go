package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/accounts"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// Dex is the OpenID Connect issuer that says who signs.
type Dex mg.Namespace

// Start starts MariaDB, if the stack has one, and then Dex, and adds the stack's accounts to Dex.
func (Dex) Start(ctx context.Context) error {
	if err := needs(ctx, dexStorage); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	runs, err := s.Engine.Runs(dex(s.Config))
	if err != nil {
		return err
	}
	if !runs {
		if err := needs(ctx, dexConnectors); err != nil {
			return err
		}
	}
	emails := append([]string{s.Config.Email}, s.Config.Users...)
	if !s.Config.HasDatabase() {
		if err := s.accountsInFile(ctx, emails...); err != nil {
			return err
		}
		return start(ctx, dex, nil)
	}
	if err := start(ctx, dex, nil); err != nil {
		return err
	}
	return stack.AddAccounts(ctx, s.Config, emails...)
}

// dexStorage brings up the database in which Dex keeps accounts and keys, if the stack has one. Without one, Dex keeps its keys
// in memory, and makes others when it is started again; what was signed does not depend on them.
func dexStorage(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	switch {
	case s.Config.HasDatabase():
		return needs(ctx, startMariaDB)
	default:
		return needs(ctx, Build)
	}
}

// accountsInFile makes accounts for emails for a Dex without a database. Dex reads them when it starts, so a Dex that lacks one
// is ended.
func (s *shared) accountsInFile(ctx context.Context, emails ...string) error {
	changed, err := accounts.Add(s.Config, emails...)
	if err != nil || !changed {
		return err
	}
	return stop(ctx, dex)
}

// haveAccounts gives the running Dex accounts for emails.
func (s *shared) haveAccounts(ctx context.Context, emails ...string) error {
	if s.Config.HasDatabase() {
		return stack.AddAccounts(ctx, s.Config, emails...)
	}
	if err := s.accountsInFile(ctx, emails...); err != nil {
		return err
	}
	if runs, err := s.Engine.Runs(dex(s.Config)); err != nil || runs {
		return err
	}
	return start(ctx, dex, nil)
}

// Restart rebuilds Dex if its source has changed, and restarts it, but not the services that use it.
func (Dex) Restart(ctx context.Context) error {
	if err := needs(ctx, dexStorage); err != nil {
		return err
	}
	return restartOnly(ctx, Dex.Start, dexComponent())
}

// dexConnectors checks the user's file of connectors before the stack's Dex is started or stopped: it runs another Dex with that
// file, for a moment. Dex opens its database before its connectors, so without a running MariaDB nothing is checked here, and
// mistakes show when the stack's Dex is started.
func dexConnectors(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil || s.Config.DexConnectors == "" {
		return err
	}
	if s.Config.HasDatabase() {
		if runs, err := s.Engine.Runs(mariaDB(s.Config)); err != nil || !runs {
			return err
		}
	}
	if err := service.Configure(s.Config, "dex.yaml", nil); err != nil {
		return err
	}
	one := dex(s.Config)
	// Dex opens its connectors, and then ends because it cannot listen on an address without a port.
	args := append(one.Args, "--web-http-addr=nowhere")
	said, err := command.Combined(ctx, command.New(ctx, s.Config.Home(), s.Engine.Env(one), one.Program, args...))
	if strings.Contains(said, "address nowhere: missing port") {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	if words := strings.TrimSpace(logLine.ReplaceAllString(said, "")); words != "" {
		err = errors.New(words)
	}
	return fmt.Errorf("SIGLOCAL_DEX_CONNECTORS is %q; accepted is a YAML list of connectors with which Dex starts, and it says: %w", s.Config.DexConnectors, err)
}

// logLine matches a line of Dex's log. What remains of Dex's output without these lines says what is wrong.
var logLine = regexp.MustCompile(`(?m)^time=.*\n`)

// Stop stops Fulcio, which needs Dex, and then Dex.
func (Dex) Stop(ctx context.Context) error {
	if err := needs(ctx, Fulcio.Stop); err != nil {
		return err
	}
	return stop(ctx, dex)
}

// Token prints an ID token for the variable SIGSTORE_ID_TOKEN: of the stack's user, or of anybody else.
func (Dex) Token(
	ctx context.Context,
	email *string, // the email address whose token is printed, such as alice@example.org; the stack's user if not given
) error {
	s, err := load()
	if err != nil {
		return err
	}
	who := s.Config.Email
	if email != nil {
		who = *email
		if config.CheckEmail(who) != nil {
			return fmt.Errorf("-email is %q; accepted is an email address in lower case such as alice@example.org", who)
		}
	}
	if err := needs(ctx, Dex.Start); err != nil {
		return err
	}
	if s, err = acquire(ctx); err != nil {
		return err
	}
	if err := s.haveAccounts(ctx, who); err != nil {
		return err
	}
	token, err := stack.IDToken(ctx, s.Config, who)
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}

func dexComponent() component {
	return component{describe: dex, start: Dex.Start, stop: Dex.Stop, prepare: []any{dexConnectors}}
}

func dex(c config.Config) service.Service {
	return service.Service{
		Name:     "dex",
		About:    "Dex, the OpenID Connect issuer",
		Uses:     dexUses(c),
		Single:   map[bool]string{false: "without a database it keeps its keys in memory, where no other copy has them"}[c.HasDatabase()],
		For:      map[bool]string{true: "database", false: "memory"}[c.HasDatabase()],
		Stacks:   []config.Stack{config.Tutorial, config.Tiles},
		Program:  c.Program("dex"),
		Packages: []string{"github.com/dexidp/dex/cmd/dex"},
		Source: &config.Source{
			Name: "dex", Module: "github.com/dexidp/dex", Programs: map[string]string{"dex": "cmd/dex"},
			Restart: "dex:restart", Demo: "demo:keyless",
		},
		Args: []string{"serve", c.ConfigFile("dex.yaml")},
		// Values in the file of connectors are taken as they are, also with a dollar sign. A connector that does not work
		// ends Dex rather than being skipped.
		Env:       []string{"DEX_EXPAND_ENV=false", "DEX_CONTINUE_ON_CONNECTOR_FAILURE=false"},
		Templates: []string{"dex.yaml"},
		Listens:   []config.Port{config.Dex},
		Address:   c.Issuer(),
		// To answer, Dex reads its keys from its storage.
		Ready: service.Answers(c.URL(config.Dex) + "/keys"),
		// Dex does not log that it gives a token, only that a person has signed in.
		Passes: []service.Passage{
			{Line: `^time=(?P<time>\S+) level=INFO msg="login successful" `, From: "browser", To: "dex", What: "sign-in"},
		},
	}
}

func dexUses(c config.Config) []service.Use {
	if !c.HasDatabase() {
		return []service.Use{{Of: "data/dex-accounts.json", To: "know accounts", Signs: "ID tokens, by keys in memory"}}
	}
	return []service.Use{
		{Of: "mariadb/dex", To: "keep accounts and keys", Signs: "ID tokens"},
		{Of: "secrets/database-password", To: "log in there"},
	}
}
