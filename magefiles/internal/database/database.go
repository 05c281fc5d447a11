// Package database makes what the stack's MariaDB needs: the data folder, the accounts, and Trillian's schema and trees. It also
// changes an entry of Rekor's, for the attack on the log.
package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// databases are those of the stack, each for the account of the same name.
var databases = []string{"trillian", "rekor", "dex"}

// Error numbers of MariaDB (https://mariadb.com/kb/en/mariadb-error-code-reference/).
const (
	errAccessDenied = 1045
	errDuplicateKey = 1061
)

// RootArgs are the arguments without which mariadbd refuses to run as root.
func RootArgs() []string {
	if os.Geteuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// newData is what a new data folder takes, its redo log of 96 MiB above all, with room for the first entries, in bytes.
const newData = 256_000_000

// Install makes MariaDB's data folder, unless it is there, with the program mariadb-install-db of the server.
func Install(ctx context.Context, c config.Config, server, installer string) error {
	data := c.Data("mariadb")
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	// The password is made before the data: if there is data and no password, then the password was lost.
	if _, err := statedir.Secret(c, config.DatabasePassword); err != nil {
		return err
	}
	if err := statedir.RoomFor(c, newData); err != nil {
		return fmt.Errorf("make MariaDB's data folder: %w", err)
	}
	// The folder is made under another name and then moved, so that an incomplete one does not pass for complete.
	fresh := data + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	args := append([]string{
		// Without --force the script would insist on resolving the host's name, which no account here needs. The folder's
		// path is relative to where the script runs, since as root the script splits the path at spaces.
		"--no-defaults", "--datadir=./" + filepath.Base(fresh), "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--force",
	}, RootArgs()...)
	env := []string{
		"PATH=" + filepath.Dir(server) + string(os.PathListSeparator) + os.Getenv("PATH") + string(os.PathListSeparator) + "/usr/sbin",
		"HOME=" + c.Home(), "TMPDIR=" + filepath.Join(c.State, "tmp"),
	}
	if _, err := command.Combined(ctx, command.New(ctx, filepath.Dir(fresh), env, installer, args...)); err != nil {
		return fmt.Errorf("make MariaDB's data folder: %w", err)
	}
	return os.Rename(fresh, data)
}

// connect opens the database name ("" for none) as root.
func connect(c config.Config, name, password string) (*sql.DB, error) {
	settings := mysql.NewConfig()
	settings.User, settings.Passwd, settings.DBName = "root", password, name
	settings.Net, settings.Addr = "unix", c.DatabaseSocket()
	// The driver's log is dropped: the driver returns the same as errors.
	settings.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// open connects as root. A server with new data lets root in without a password.
func open(ctx context.Context, c config.Config, name string) (*sql.DB, error) {
	password, err := statedir.Secret(c, config.DatabasePassword)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", service.ErrHopeless, err)
	}
	var denied error
	for _, attempt := range []string{password, ""} {
		db, err := connect(c, name, attempt)
		if err != nil {
			return nil, err
		}
		err = db.PingContext(ctx)
		if err == nil {
			return db, nil
		}
		_ = db.Close()
		if !isError(err, errAccessDenied) {
			return nil, err
		}
		denied = err
	}
	return nil, fmt.Errorf("MariaDB does not take the password in %s (%w): %w: put back the one that it was made with",
		c.SecretFile(config.DatabasePassword), denied, service.ErrHopeless)
}

func isError(err error, number uint16) bool {
	serverErr := (*mysql.MySQLError)(nil)
	return errors.As(err, &serverErr) && serverErr.Number == number
}

// Open opens the stack's database as its administrator.
func Open(ctx context.Context, c config.Config) (*sql.DB, error) { return open(ctx, c, "") }

// Names are the names of the stack's databases.
func Names() []string { return slices.Clone(databases) }

// Ping makes a request that the server answers only once clients can use it.
func Ping(ctx context.Context, c config.Config) error {
	db, err := open(ctx, c, "")
	if err != nil {
		return err
	}
	return db.Close()
}

// Prepare makes what is missing of accounts, databases and Trillian's schema.
func Prepare(ctx context.Context, c config.Config) error {
	db, err := open(ctx, c, "")
	if err != nil {
		return err
	}
	defer db.Close()
	password, err := statedir.Secret(c, config.DatabasePassword)
	if err != nil {
		return err
	}
	// On a cluster the programs come over the network. Root never does.
	from := "localhost"
	if c.Cluster != nil {
		from = "'%'"
	}
	// A secret holds no character that is special in SQL, which has no placeholders here.
	var statements []string
	for _, name := range databases {
		statements = append(statements,
			fmt.Sprintf("CREATE DATABASE IF NOT EXISTS %s CHARACTER SET utf8mb4", name),
			fmt.Sprintf("CREATE USER IF NOT EXISTS %s@%s IDENTIFIED BY '%s'", name, from, password),
			fmt.Sprintf("GRANT ALL ON %s.* TO %s@%s", name, name, from))
	}
	file := c.Program(build.Schema)
	if folder, ok := c.Checkouts["trillian"]; ok {
		file = filepath.Join(folder, build.SchemaSource)
	}
	schema, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	statements = append(statements, "USE trillian")
	statements = append(statements, split(string(schema))...)
	// root's password is set last: if this is interrupted, root still gets in without one, and all statements are executed again.
	statements = append(statements, fmt.Sprintf("ALTER USER root@localhost IDENTIFIED BY '%s'", password))
	strangers, err := strangers(ctx, db)
	if err != nil {
		return unreadable(c, err)
	}
	statements = append(strangers, statements...)
	// The statements take longer than MariaDB's own start, so a mark says that they were executed. It is in the folder of the
	// data that they changed.
	mark := filepath.Join(c.Data("mariadb"), "prepared")
	done := fmt.Sprintf("%x\n", sha256.Sum256([]byte(strings.Join(statements, "\n"))))
	if known, err := os.ReadFile(mark); err == nil && string(known) == done {
		return checkTables(ctx, c, db)
	}
	session, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	for _, statement := range statements {
		// Not every statement of the schema can say IF NOT EXISTS.
		if _, err := session.ExecContext(ctx, statement); err != nil && !isError(err, errDuplicateKey) {
			what, _, _ := strings.Cut(statement, "(")
			return fmt.Errorf("prepare MariaDB: %s: %w", strings.ReplaceAll(what, password, "…"), err)
		}
	}
	return renameio.WriteFile(mark, []byte(done), 0o600, renameio.WithTempDir(filepath.Dir(mark)))
}

// checkTables reads a row of each table, since MariaDB starts with tables whose files are damaged and finds that out only when
// somebody asks for what is in them.
func checkTables(ctx context.Context, c config.Config, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA IN ('"+
		strings.Join(databases, "', '")+"')")
	if err != nil {
		return fmt.Errorf("list MariaDB's tables: %w", err)
	}
	defer rows.Close()
	var selects []string
	for rows.Next() {
		var schema, table string
		if err := rows.Scan(&schema, &table); err != nil {
			return err
		}
		selects = append(selects, fmt.Sprintf("(SELECT 1 FROM `%s`.`%s` LIMIT 1)", schema, table))
	}
	if err := rows.Err(); err != nil || len(selects) == 0 {
		return err
	}
	if _, err := db.ExecContext(ctx, strings.Join(selects, " UNION ALL ")); err != nil {
		return unreadable(c, err)
	}
	return nil
}

// CheckClock is an error if the clock was set back since Trillian made its newest tree head. Trillian signs no tree head that is
// earlier than the one before, so clients would wait for their entries to be logged until the clock has caught up.
func CheckClock(ctx context.Context, c config.Config) error {
	db, err := open(ctx, c, "trillian")
	if err != nil {
		return err
	}
	defer db.Close()
	newest := int64(0) // in nanoseconds since 1970; 0 without a tree
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(TreeHeadTimestamp), 0) FROM TreeHead").Scan(&newest); err != nil {
		return unreadable(c, err)
	}
	return notBefore(time.Now(), time.Unix(0, newest))
}

// notBefore is an error if now is well before head, the time of the newest tree head.
func notBefore(now, head time.Time) error {
	const short = 10 * time.Second // within a client's patience
	if head.Sub(now) <= short {
		return nil
	}
	const form = "2006-01-02 15:04:05 UTC"
	return fmt.Errorf("the clock says %s, and the logs' newest tree head is of %s: Trillian logs nothing at a time before that, so set the clock right, or wait %s",
		now.UTC().Format(form), head.UTC().Format(form), head.Sub(now).Round(time.Second))
}

// unreadable says how to go on with tables whose files are damaged.
func unreadable(c config.Config, err error) error {
	return fmt.Errorf("MariaDB cannot read its tables: %w: put back a copy of %s, or wipe the stack's data and keys with `"+project.Command+" reset`; its log is %s",
		err, c.Data("mariadb"), c.Log("mariadb"))
}

// strangers are the statements that drop the accounts that mariadb-install-db makes beside root's, without a password.
func strangers(ctx context.Context, db *sql.DB) ([]string, error) {
	rows, err := db.QueryContext(ctx,
		"SELECT CONCAT('DROP USER ', QUOTE(User), '@', QUOTE(Host)) FROM mysql.user "+
			"WHERE (User, Host) <> ('root', 'localhost') AND User NOT IN ('mariadb.sys', 'trillian', 'rekor', 'dex')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var statements []string
	for rows.Next() {
		var statement string
		if err := rows.Scan(&statement); err != nil {
			return nil, err
		}
		statements = append(statements, statement)
	}
	return statements, rows.Err()
}

// split takes a script apart into its statements, without comments.
func split(script string) []string {
	var code strings.Builder
	for line := range strings.Lines(script) {
		line, _, _ = strings.Cut(line, "--")
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			code.WriteString(line + "\n")
		}
	}
	var statements []string
	for statement := range strings.SplitSeq(code.String(), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}

// Tree is the ID of the Trillian tree that is displayed as name. It is made, over the log server's admin API, if there
// is none, or only one that was never finished: a tree has a head as soon as it can be used.
func Tree(ctx context.Context, c config.Config, name string) (int64, error) {
	db, err := open(ctx, c, "trillian")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	find := func() (id int64, err error) {
		err = db.QueryRowContext(ctx,
			"SELECT TreeId FROM Trees JOIN TreeHead USING (TreeId) WHERE DisplayName = ? ORDER BY CreateTimeMillis LIMIT 1", name).Scan(&id)
		return id, err
	}
	id, err := find()
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	cmd := command.New(ctx, c.Home(), []string{"HOME=" + c.Home()}, c.Program("createtree"),
		"--admin_server="+c.Address(config.LogServer), "--display_name="+name, "--logtostderr")
	made, err := command.Output(ctx, cmd)
	if err != nil {
		return 0, fmt.Errorf("make the tree of %s: %w", name, err)
	}
	if _, err := strconv.ParseInt(strings.TrimSpace(made), 10, 64); err != nil {
		return 0, fmt.Errorf("make the tree of %s: createtree printed %q, not an ID", name, made)
	}
	return find()
}
