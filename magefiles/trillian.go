package main

import (
	"context"
	"runtime"
	"strconv"
	"time"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/service"
)

// Trillian keeps the Merkle trees of both logs, in a MariaDB of its own.
type Trillian mg.Namespace

// Start runs MariaDB, the log server and the log signer.
func (Trillian) Start(ctx context.Context) error {
	return needs(ctx, startLogServer, startLogSigner)
}

// Restart builds what has changed of Trillian and restarts that alone.
func (Trillian) Restart(ctx context.Context) error {
	return restartOnly(ctx, Trillian.Start, logSigner, logServer)
}

// Stop ends the log signer, the log server and MariaDB, once Rekor, CT, Dex and Fulcio have ended, which stand on them.
func (Trillian) Stop(ctx context.Context) error { return needs(ctx, stopMariaDB) }

func startMariaDB(ctx context.Context) error {
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if err := require(ctx, platform.MariaDB); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	server, installer, err := mariaDBPrograms(s.config)
	if err != nil {
		return err
	}
	if err := knownMariaDB(ctx, s.config, server); err != nil {
		return err
	}
	if err := database.Install(ctx, s.config, server, installer); err != nil {
		return err
	}
	if err := start(ctx, mariaDB, nil); err != nil {
		return err
	}
	return database.Prepare(ctx, s.config)
}

func stopMariaDB(ctx context.Context) error {
	if err := needs(ctx, stopLogServer, stopLogSigner, Dex.Stop); err != nil {
		return err
	}
	return stop(ctx, mariaDB)
}

func startLogServer(ctx context.Context) error {
	if err := needs(ctx, startMariaDB); err != nil {
		return err
	}
	return start(ctx, logServer, nil)
}

func startLogSigner(ctx context.Context) error {
	if err := needs(ctx, startMariaDB); err != nil {
		return err
	}
	return start(ctx, logSigner, nil)
}

func stopLogServer(ctx context.Context) error {
	if err := needs(ctx, Rekor.Stop, CT.Stop); err != nil {
		return err
	}
	return stop(ctx, logServer)
}

func stopLogSigner(ctx context.Context) error {
	if err := needs(ctx, Rekor.Stop, CT.Stop); err != nil {
		return err
	}
	return stop(ctx, logSigner)
}

func mariaDB(c config.Config) service.Service {
	server, _, err := mariaDBPrograms(c)
	if err != nil {
		// Only the service's name matters then: it cannot be started.
		server = "mariadbd"
	}
	return service.Service{
		Name:  "mariadb",
		About: "a MariaDB of the stack's own",
		Uses: []service.Use{
			{Of: "data/mariadb", To: "keep its tables"},
		},
		Program:   server,
		Args:      append([]string{"--defaults-file=" + c.ConfigFile("mariadb.cnf")}, database.RootArgs()...),
		Templates: []string{"mariadb.cnf"},
		Address:   c.DatabaseSocket(),
		Ready:     func(ctx context.Context) error { return database.Ping(ctx, c) },
		// A clean shutdown writes all changed pages.
		Grace: time.Minute,
	}
}

// threads bounds how many threads of a daemon of the logs run at a time. By default it is one for each processor, and a
// third of their work is to hand it from one to the other; about four daemons are at work on an entry.
func threads(c config.Config) []string {
	if c.Tuning != config.TunedLocal {
		return nil
	}
	return []string{"GOMAXPROCS=" + strconv.Itoa(max(1, runtime.GOMAXPROCS(0)/4))}
}

func logServer(c config.Config) service.Service {
	return service.Service{
		Name:  "log-server",
		About: "Trillian's log server",
		Uses: []service.Use{
			{Of: "mariadb/trillian", To: "queue entries, read trees"},
			{Of: "secrets/database-password", To: "log in there"},
		},
		Program:          c.Program("trillian_log_server"),
		Args:             []string{"--config=" + c.ConfigFile("trillian_log_server.flags")},
		Env:              threads(c),
		Templates:        []string{"trillian_log_server.flags"},
		Listens:          []config.Port{config.LogServer, config.LogServerHTTP},
		Address:          c.Address(config.LogServer),
		Ready:            service.Answers(c.URL(config.LogServerHTTP) + "/healthz"),
		EndsOnSecondTerm: true,
	}
}

func logSigner(c config.Config) service.Service {
	return service.Service{
		Name:  "log-signer",
		About: "Trillian's log signer",
		Uses: []service.Use{
			{Of: "mariadb/trillian", To: "add entries to the trees"},
			{Of: "secrets/database-password", To: "log in there"},
		},
		Program:          c.Program("trillian_log_signer"),
		Args:             []string{"--config=" + c.ConfigFile("trillian_log_signer.flags")},
		Env:              threads(c),
		Templates:        []string{"trillian_log_signer.flags"},
		Listens:          []config.Port{config.LogSigner, config.LogSignerHTTP},
		Address:          c.Address(config.LogSigner),
		Ready:            service.Answers(c.URL(config.LogSignerHTTP) + "/healthz"),
		EndsOnSecondTerm: true,
	}
}
