// Data works inside of a cluster's pods: it waits for what the services of a pod need, receives data that is moved there, asks whether a
// service works, and lets requests wait for one that is being replaced. `data -h` says how it is called.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"sigstore-local/magefiles/internal/galera"
	"sigstore-local/magefiles/internal/move"
)

const usage = `usage:
  data await [-install [-copies=HOST,… -self=HOST]] [-database -dsn-file=FILE] [-folder=DIR]... [-address=HOST:PORT]... [-url=URL]...
  data receive -folder=DIR [-from=FILE]
  data receive -database -dsn-file=FILE [-patience=1m]
  data get [-status=STATUS]... URL
  data get -database -dsn-file=FILE [-clustered]
  data galera -copies=HOST,… -self=HOST -dsn-file=FILE -folder=DIR -- MARIADBD [ARGUMENT]...
  data pass -ready=PORT PORT=HOST:PORT...

await    ends once the database and the folders have received their data, the addresses take connections and the URLs are
         answered. With -install it first makes a MariaDB in its folder, and runs that until it has received its data.
receive  reads data from standard input or a file, and prints what it has received as JSON.
get      prints the answer of a URL, or asks whether the database answers; with -clustered, whether it takes writes as a copy among
         several.
galera   runs mariadbd as one of several copies that have the same data. HOSTs name all of them; -self is that of this one, or its first
         part.
pass     takes HTTP requests at each PORT and passes them on to the server at HOST:PORT. While that takes no connections they wait for
         it, for at most 25 seconds. At the port of -ready it answers that it works.

FILE holds the account of the database, as in USER:PASSWORD@tcp(HOST:PORT)/. It is never printed.
`

// list are the values of a flag that can be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ", ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

type options struct {
	install, database, clustered       bool
	dsnFile, from, copies, self, ready string
	folders, addresses, urls, statuses list
	patience                           time.Duration
	args                               []string
	passages                           []passage
}

// passage is a port at which requests are taken, and the server, as host:port, that they are passed on to.
type passage struct{ port, to string }

// readPassages reads what pass is told to do.
func (o *options) readPassages() error {
	if err := checkPort(o.ready); err != nil {
		return fmt.Errorf("-ready: %w", err)
	}
	for _, arg := range o.args {
		port, to, _ := strings.Cut(arg, "=")
		host, toPort, err := net.SplitHostPort(to)
		if err = errors.Join(err, checkPort(port), checkPort(toPort)); err != nil || host == "" {
			return fmt.Errorf("%q is none of PORT=HOST:PORT", arg)
		}
		o.passages = append(o.passages, passage{port, to})
	}
	return nil
}

func checkPort(text string) error {
	if number, err := strconv.ParseUint(text, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("%q is no port; accepted is a number from 1 to 65535", text)
	}
	return nil
}

func main() {
	actions := map[string]func(context.Context, options) error{"await": await, "receive": receive, "get": get, "galera": runCopy, "pass": runProxy}
	if galera.IsTransfer() {
		transfer()
		return
	}
	if len(os.Args) > 1 && slices.Contains([]string{"-h", "-help", "--help"}, os.Args[1]) {
		fmt.Print(usage)
		return
	}
	if len(os.Args) < 2 || actions[os.Args[1]] == nil {
		misused("the first argument is await, receive, get, galera or pass")
	}
	var o options
	flags := flag.NewFlagSet("data", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	flags.BoolVar(&o.install, "install", false, "make a MariaDB")
	flags.BoolVar(&o.database, "database", false, "the database")
	flags.StringVar(&o.dsnFile, "dsn-file", "", "the `file` that holds the account of the database")
	flags.BoolVar(&o.clustered, "clustered", false, "whether it takes writes as a copy among several")
	flags.StringVar(&o.copies, "copies", "", "the `hosts` of all copies of a MariaDB, with commas between them")
	flags.StringVar(&o.self, "self", "", "the `host` of this copy, or the host's first part")
	flags.StringVar(&o.from, "from", "", "a `file` to read in place of standard input")
	flags.StringVar(&o.ready, "ready", "", "the `port` at which pass answers that it works")
	flags.Var(&o.folders, "folder", "a `folder`")
	flags.Var(&o.addresses, "address", "an `address` that takes connections")
	flags.Var(&o.urls, "url", "a `URL` that is answered")
	flags.Var(&o.statuses, "status", "a `status` that is accepted beside 200")
	flags.DurationVar(&o.patience, "patience", time.Minute, "how long receive waits for the database")
	_ = flags.Parse(os.Args[2:]) // ends the process if it fails
	o.args = flags.Args()
	things := len(o.folders)
	if o.database {
		things++
	}
	waits := things + len(o.addresses) + len(o.urls)
	switch action := os.Args[1]; {
	case action == "galera" && (o.dsnFile == "" || o.copies == "" || len(o.folders) != 1 || len(o.args) == 0):
		misused("galera takes the copies, this one, a file with an account, a folder, and the command of the server")
	case (o.copies != "") != (o.self != ""):
		misused("-copies and -self go together")
	case action == "galera":
	case action == "pass":
		others := false
		flags.Visit(func(given *flag.Flag) { others = others || given.Name != "ready" })
		if others || len(o.args) == 0 {
			misused("pass takes a port to say that it works, and PORT=HOST:PORT for each server")
		}
		if err := o.readPassages(); err != nil {
			misused(err.Error())
		}
	case o.ready != "":
		misused("-ready is for pass alone")
	case o.database != (o.dsnFile != ""):
		misused("-database and -dsn-file go together")
	case o.clustered && !(action == "get" && o.database), o.copies != "" && !o.install:
		misused("a flag is for another action than " + action)
	case action != "await" && (waits > things || o.install) || action != "get" && len(o.statuses) > 0 || action != "receive" && o.from != "":
		misused("a flag is for another action than " + action)
	case action == "get" && (len(o.folders) > 0 || o.database == (len(o.args) == 1) || len(o.args) > 1):
		misused("get takes one URL or the database")
	case action == "receive" && (things != 1 || len(o.args) > 0):
		misused("receive takes the database or one folder")
	case action == "await" && (waits == 0 && !o.install || len(o.args) > 0):
		misused("await takes what it waits for, by flags")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := actions[os.Args[1]](ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "data:", o.clean(err.Error()))
		os.Exit(1)
	}
}

func misused(message string) {
	fmt.Fprintf(os.Stderr, "data: %s: see data -h\n", message)
	os.Exit(2)
}

// dsn reads the file that holds it.
func (o options) dsn() (*mysql.Config, string, error) {
	content, err := os.ReadFile(o.dsnFile)
	if err != nil {
		return nil, "", err
	}
	text := strings.TrimSpace(string(content))
	settings, err := mysql.ParseDSN(text)
	if err != nil || settings.Net != "tcp" && settings.Net != "unix" { // an error may have parts of the text
		return nil, text, fmt.Errorf("%s holds no DSN of the form USER:PASSWORD@tcp(HOST:PORT)/", o.dsnFile)
	}
	return settings, text, nil
}

// clean is a message without what is secret.
func (o options) clean(message string) string {
	settings, text, err := o.dsn()
	if err != nil || settings.Passwd == "" {
		return message
	}
	return strings.NewReplacer(text, "…", settings.Passwd, "…").Replace(message)
}

// open opens the database, without a request to it.
func (o options) open() (*sql.DB, error) {
	settings, _, err := o.dsn()
	if err != nil {
		return nil, err
	}
	settings.ParseTime = false    // times are moved as they are
	settings.MaxAllowedPacket = 0 // is asked for
	settings.InterpolateParams = false
	settings.Logger = &mysql.NopLogger{} // the driver returns the same as errors
	if settings.Timeout == 0 {
		settings.Timeout = 10 * time.Second
	}
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// ping is an error unless the database answers.
func (o options) ping(ctx context.Context) error {
	db, err := o.open()
	if err != nil {
		return err
	}
	defer db.Close()
	return db.PingContext(ctx)
}

func receive(ctx context.Context, o options) (err error) {
	in := os.Stdin
	if o.from != "" {
		if in, err = os.Open(o.from); err != nil {
			return err
		}
		defer in.Close()
	}
	var digest move.Digest
	if o.database {
		// A database that is being made at the moment is waited for.
		waiting, cancel := context.WithTimeout(ctx, o.patience)
		defer cancel()
		err := poll(waiting, os.Stderr, "the database", func(ctx context.Context) (bool, error) {
			err := o.ping(ctx)
			if err != nil {
				err = errors.New(o.clean(err.Error()))
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
		db, err := o.open()
		if err != nil {
			return err
		}
		defer db.Close()
		if digest, err = move.ReceiveDatabase(ctx, db, in); err != nil {
			return err
		}
	} else if digest, err = move.ReceiveFolder(ctx, o.folders[0], in); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(digest)
}

func get(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if o.clustered {
		return o.inCluster(ctx)
	}
	if o.database {
		return o.ping(ctx)
	}
	accepted := []int{http.StatusOK}
	for _, status := range o.statuses {
		number, err := strconv.Atoi(status)
		if err != nil {
			return fmt.Errorf("-status is %q; accepted is a number such as 404", status)
		}
		accepted = append(accepted, number)
	}
	return ask(ctx, o.args[0], accepted, os.Stdout)
}

// ask asks for a URL, without a proxy, and copies the answer to out.
func ask(ctx context.Context, url string, accepted []int, out io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if !slices.Contains(accepted, response.StatusCode) {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return fmt.Errorf("GET %s: %s: %s", url, response.Status, said)
	}
	_, err = io.Copy(out, response.Body)
	return err
}
