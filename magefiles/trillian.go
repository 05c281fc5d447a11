package main

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/galera"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

// Trillian keeps the Merkle trees of Rekor and of the CT log, in a MariaDB that only this stack uses.
type Trillian mg.Namespace

// Start starts MariaDB, and then the log server and the log signer.
func (Trillian) Start(ctx context.Context) error {
	return up(ctx, startLogServer, startLogSigner)
}

// Restart rebuilds Trillian if its source has changed, and restarts the log server and the log signer, but not the services that
// use them.
func (Trillian) Restart(ctx context.Context) error {
	return restartOnly(ctx, Trillian.Start, logSignerComponent(), logServerComponent())
}

// Stop stops Fulcio, Dex, Rekor and the CT log, which need Trillian or MariaDB, and then the log signer, the log server and
// MariaDB.
func (Trillian) Stop(ctx context.Context) error { return needs(ctx, stopMariaDB) }

func startMariaDB(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	if err := s.has(mariaDB(s.Config)); err != nil {
		return err
	}
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if err := needs(ctx, knowMariaDB); err != nil {
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

// knowMariaDB installs MariaDB if the system has none, and checks that the stack can use the MariaDB that is installed.
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
		// No MariaDB is installed, so none is started, and nobody runs this program: only the rest of the description is used.
		server = "mariadbd"
	}
	one := service.Service{
		Name:  "mariadb",
		About: "a MariaDB of the stack's own",
		Uses: []service.Use{
			{Of: "data/mariadb", To: "keep its tables"},
		},
		Stacks:    []config.Stack{config.Tutorial},
		Program:   server,
		Single:    "a second copy would be another database",
		Args:      append([]string{"--defaults-file=" + c.ConfigFile("mariadb.cnf")}, database.RootArgs()...),
		Templates: []string{"mariadb.cnf"},
		Address:   c.DatabaseSocket(),
		Ready:     service.Probe{Database: true},
		// Longer than the default: at a clean shutdown MariaDB writes all changed pages to the disk.
		Grace: time.Minute,
	}
	if c.Cluster != nil {
		one.Args, one.Listens = one.Args[:1], []config.Port{config.MariaDB}
		one.Single, one.Peers = "", galera.Ports()
	}
	if hosts := c.DatabaseHosts(); len(hosts) > 0 {
		command := append([]string{"--", one.Program}, one.Args...)
		one.Program = c.Program("data")
		one.Args = append([]string{"galera", "-copies=" + strings.Join(hosts, ","), "-self=$(" + service.PodName + ")", "-dsn-file=" + c.Run("root.dsn"), "-folder=" + c.Data("mariadb")}, command...)
	}
	return one
}

// threads sets, with GOMAXPROCS, how many threads of a log's daemon run Go code at the same time: a quarter of the number of
// processors, since about four daemons work on an entry at the same time. With Go's default, the number of processors, the
// daemons spend a third of their processor time on handing work from thread to thread, and the logs of tiles, which look around
// many times a second when nobody uses them, a quarter.
func threads(c config.Config) []string {
	if c.Tuning != config.TunedLocal || c.Cluster != nil {
		return nil
	}
	return []string{"GOMAXPROCS=" + strconv.Itoa(max(1, runtime.GOMAXPROCS(0)/4))}
}

// Ports that only Trillian's own descriptions use.
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
		Stacks:           []config.Stack{config.Tutorial},
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
	args := []string{"--config=" + c.ConfigFile("trillian_log_signer.flags")}
	if c.Cluster != nil {
		// In a lease it then is the name of its pod.
		args = append(args, "--lock_holder_identity=$("+service.PodName+")")
	}
	return service.Service{
		Name:  "log-signer",
		About: "Trillian's log signer",
		Uses: []service.Use{
			{Of: "mariadb/trillian", To: "add entries to the trees"},
			{Of: "secrets/database-password", To: "log in there"},
		},
		Stacks:    []config.Stack{config.Tutorial},
		Program:   c.Program("trillian_log_signer"),
		Packages:  []string{"github.com/google/trillian/cmd/trillian_log_signer"},
		Source:    trillian(),
		Args:      args,
		Env:       threads(c),
		Templates: []string{"trillian_log_signer.flags"},
		Listens:   []config.Port{logSignerGRPC, logSignerHTTP},
		Address:   c.Address(logSignerGRPC),
		Ready:     service.Answers(c.URL(logSignerHTTP) + "/healthz"),
		Elects:    true,
		Passes: []service.Passage{
			{Line: klog + `operation_manager\.go:\d+\] \d+: processed [1-9]\d* items `, From: "log-signer", To: "mariadb", What: "entries"},
		},
		EndsOnSecondTerm: true,
	}
}
