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
	"sigstore-local/magefiles/internal/stack"
)

// Trillian keeps the Merkle trees of both logs, in a MariaDB of its own.
type Trillian mg.Namespace

// Start runs MariaDB, the log server and the log signer.
func (Trillian) Start(ctx context.Context) error {
	return up(ctx, startLogServer, startLogSigner)
}

// Restart builds what has changed of Trillian and restarts that alone.
func (Trillian) Restart(ctx context.Context) error {
	return restartOnly(ctx, Trillian.Start, logSignerComponent(), logServerComponent())
}

// Stop ends the log signer, the log server and MariaDB, once Rekor, CT, Dex and Fulcio have ended, which depend on them.
func (Trillian) Stop(ctx context.Context) error { return needs(ctx, stopMariaDB) }

func startMariaDB(ctx context.Context) error {
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if err := needs(ctx, knowMariaDB); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	server, installer, err := stack.MariaDBPrograms(s.Config)
	if err != nil {
		return err
	}
	if err := database.Install(ctx, s.Config, server, installer); err != nil {
		return err
	}
	if err := start(ctx, mariaDB, nil); err != nil {
		return err
	}
	if err := database.Prepare(ctx, s.Config); err != nil {
		return err
	}
	return database.CheckClock(ctx, s.Config)
}

// knowMariaDB installs MariaDB if there is none, and checks that the stack can run the one that there is.
func knowMariaDB(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if err := s.Require(ctx, platform.MariaDB); err != nil {
		return err
	}
	server, _, err := stack.MariaDBPrograms(s.Config)
	if err != nil {
		return err
	}
	return stack.KnownMariaDB(ctx, s.Config, server)
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

func mariaDBComponent() component {
	return component{describe: mariaDB, start: startMariaDB, stop: stopMariaDB, prepare: []any{knowMariaDB}}
}

func mariaDB(c config.Config) service.Service {
	server, _, err := stack.MariaDBPrograms(c)
	if err != nil {
		// There is no MariaDB to start: this description serves for its name only.
		server = "mariadbd"
	}
	return service.Service{
		Name:  "mariadb",
		About: "a MariaDB of the stack's own",
		Uses: []service.Use{
			{Of: "data/mariadb", To: "keep its tables"},
		},
		Tutorial:  true,
		Program:   server,
		Args:      append([]string{"--defaults-file=" + c.ConfigFile("mariadb.cnf")}, database.RootArgs()...),
		Templates: []string{"mariadb.cnf"},
		Address:   c.DatabaseSocket(),
		Ready:     func(ctx context.Context) error { return database.Ping(ctx, c) },
		// A clean shutdown writes all changed pages.
		Grace: time.Minute,
	}
}

// threads limits how many threads of a log's daemon run at a time to a quarter of the processors, since about four daemons
// work on an entry. With Go's default, as many as processors, handing work from thread to thread takes a third of their
// processor time.
func threads(c config.Config) []string {
	if c.Tuning != config.TunedLocal {
		return nil
	}
	return []string{"GOMAXPROCS=" + strconv.Itoa(max(1, runtime.GOMAXPROCS(0)/4))}
}

// Ports that nobody but Trillian has to know.
var (
	logServerHTTP = config.Port{Name: "LOG_SERVER_HTTP", Default: 8090}
	logSignerGRPC = config.Port{Name: "LOG_SIGNER", Default: 8191}
	logSignerHTTP = config.Port{Name: "LOG_SIGNER_HTTP", Default: 8190}
)

// trillian is the source of the log server, the log signer and createtree, which makes trees.
func trillian() *config.Source {
	return &config.Source{
		Name: "trillian", Module: "github.com/google/trillian",
		Programs: map[string]string{
			"trillian_log_server": "cmd/trillian_log_server", "trillian_log_signer": "cmd/trillian_log_signer", "createtree": "cmd/createtree",
		},
		Restart: "trillian:restart", Demo: "demo:rekor",
	}
}

func logServerComponent() component {
	return component{describe: logServer, start: startLogServer, stop: stopLogServer}
}

func logServer(c config.Config) service.Service {
	return service.Service{
		Name:  "log-server",
		About: "Trillian's log server",
		Uses: []service.Use{
			{Of: "mariadb/trillian", To: "queue entries, read trees"},
			{Of: "secrets/database-password", To: "log in there"},
		},
		Tutorial:         true,
		Program:          c.Program("trillian_log_server"),
		Packages:         []string{"github.com/google/trillian/cmd/trillian_log_server", "github.com/google/trillian/cmd/createtree"},
		Source:           trillian(),
		Args:             []string{"--config=" + c.ConfigFile("trillian_log_server.flags")},
		Env:              threads(c),
		Templates:        []string{"trillian_log_server.flags"},
		Listens:          []config.Port{config.LogServer, logServerHTTP},
		Address:          c.Address(config.LogServer),
		Ready:            service.Answers(c.URL(logServerHTTP) + "/healthz"),
		EndsOnSecondTerm: true,
	}
}

func logSignerComponent() component {
	return component{describe: logSigner, start: startLogSigner, stop: stopLogSigner}
}

func logSigner(c config.Config) service.Service {
	return service.Service{
		Name:  "log-signer",
		About: "Trillian's log signer",
		Uses: []service.Use{
			{Of: "mariadb/trillian", To: "add entries to the trees"},
			{Of: "secrets/database-password", To: "log in there"},
		},
		Tutorial:         true,
		Program:          c.Program("trillian_log_signer"),
		Packages:         []string{"github.com/google/trillian/cmd/trillian_log_signer"},
		Source:           trillian(),
		Args:             []string{"--config=" + c.ConfigFile("trillian_log_signer.flags")},
		Env:              threads(c),
		Templates:        []string{"trillian_log_signer.flags"},
		Listens:          []config.Port{logSignerGRPC, logSignerHTTP},
		Address:          c.Address(logSignerGRPC),
		Ready:            service.Answers(c.URL(logSignerHTTP) + "/healthz"),
		EndsOnSecondTerm: true,
	}
}
