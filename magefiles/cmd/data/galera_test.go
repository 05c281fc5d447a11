package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/galera"
	"sigstore-local/magefiles/internal/platform"
)

// copies are three copies of a MariaDB, each run by the program as in a pod.
type copies struct {
	t     *testing.T
	dir   string
	hosts []string
	began time.Time

	mu      sync.Mutex
	running []*exec.Cmd
	ended   []chan struct{} // are closed at the end of copies that are to run; nil for others
}

func newCopies(t *testing.T) *copies {
	t.Helper()
	server := platform.FindMariaDB()
	if testing.Short() {
		t.Skip("runs three servers")
	}
	if _, err := os.Stat(galera.Provider); err != nil || server == "" {
		t.Skip("needs MariaDB and Galera")
	}
	dir, err := os.MkdirTemp("", "copies") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	c := &copies{t: t, dir: dir, running: make([]*exec.Cmd, 3), ended: make([]chan struct{}, 3), began: time.Now()}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// Galera's ports are fixed, so each copy has an address of its own.
	network := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(200), rand.IntN(250))
	for i := range c.running {
		c.hosts = append(c.hosts, fmt.Sprint(network, i+1))
		write(t, c.path(i, "dsn"), "root@unix("+c.path(i, "socket")+")/\n")
	}
	t.Cleanup(func() { c.kill(0, 1, 2) })
	// They have process groups of their own, which a signal to the tests' does not reach.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	t.Cleanup(func() { signal.Stop(signals); close(signals) })
	go func() {
		if _, told := <-signals; told {
			c.kill(0, 1, 2)
			_ = os.RemoveAll(dir)
			os.Exit(1)
		}
	}()
	install := exec.CommandContext(t.Context(), platform.FindMariaDBInstaller(server), append([]string{"--no-defaults", "--datadir=" + c.path(0, "data"), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--skip-name-resolve", "--force", "--innodb-log-file-size=4M"}, database.RootArgs()...)...)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return c
}

func (c *copies) path(i int, name string) string { return filepath.Join(c.dir, fmt.Sprint(name, i)) }

// start runs copies, each again and again until it is to end, as a kubelet does.
func (c *copies) start(all ...int) {
	c.t.Helper()
	for _, i := range all {
		log, err := os.OpenFile(c.path(i, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			c.t.Fatal(err)
		}
		ended := make(chan struct{})
		c.mu.Lock()
		c.ended[i] = ended
		c.mu.Unlock()
		go func() {
			defer close(ended)
			defer log.Close()
			for c.once(i, ended, log) {
				time.Sleep(time.Second)
			}
		}()
	}
}

// once runs a copy until its end, and says whether it is to be run again.
func (c *copies) once(i int, ended chan struct{}, log *os.File) bool {
	cmd := exec.Command(os.Args[0], append([]string{"galera", "-copies=" + strings.Join(c.hosts, ","), "-self=" + c.hosts[i], "-dsn-file=" + c.path(i, "dsn"), "-folder=" + c.path(i, "data"), "--",
		platform.FindMariaDB(), "--no-defaults", "--datadir=" + c.path(i, "data"), "--socket=" + c.path(i, "socket"),
		"--skip-name-resolve", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=1"}, database.RootArgs()...)...)
	cmd.Env = append(os.Environ(), "RUN_DATA=1", "TMPDIR="+c.dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.mu.Lock()
	wanted := c.ended[i] == ended
	if wanted {
		if err := cmd.Start(); err != nil {
			c.t.Error(err)
			wanted = false
		}
		c.running[i] = cmd
	}
	c.mu.Unlock()
	if !wanted {
		return false
	}
	_ = cmd.Wait() // it may have been killed
	c.mu.Lock()
	c.running[i] = nil
	c.mu.Unlock()
	return true
}

// kill ends copies, with the servers that they run, without warning.
func (c *copies) kill(all ...int) {
	c.end(all, func(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
}

func (c *copies) stop(all ...int) {
	c.end(all, func(cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) })
}

// end ends copies, and waits for their ends.
func (c *copies) end(all []int, signal func(*exec.Cmd)) {
	var waits []chan struct{}
	c.mu.Lock()
	for _, i := range all {
		if ended := c.ended[i]; ended != nil {
			waits = append(waits, ended)
			c.ended[i] = nil
			if c.running[i] != nil {
				signal(c.running[i])
			}
		}
	}
	c.mu.Unlock()
	for _, ended := range waits {
		<-ended
	}
}

// clustered waits until copies take writes.
func (c *copies) clustered(all ...int) {
	c.t.Helper()
	for _, i := range all {
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
			code, _, said := run(nil, "get", "-database", "-clustered", "-dsn-file="+c.path(i, "dsn"))
			if code == 0 {
				break
			}
			if strings.Contains(c.log(i), "ask the tables") || time.Now().After(end) {
				c.t.Fatalf("copy %d takes no writes: %s: %s", i, said, c.log(i))
			}
		}
	}
}

func (c *copies) log(i int) string {
	text, _ := os.ReadFile(c.path(i, "log"))
	return string(text[max(0, len(text)-60000):])
}

func (c *copies) open(i int) *sql.DB {
	c.t.Helper()
	settings := mysql.NewConfig()
	settings.User, settings.Net, settings.Addr = "root", "unix", c.path(i, "socket")
	settings.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		c.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	c.t.Cleanup(func() { _ = db.Close() })
	return db
}

// oneLeader waits until connections to each of the copies are led to the same one, and returns which.
func (c *copies) oneLeader(at ...int) (leader int) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		names := map[string]bool{}
		for _, i := range at {
			names[c.asked(c.hosts[i])] = true
		}
		for name := range names {
			if leader := slices.Index(c.hosts, name); len(names) == 1 && leader >= 0 {
				return leader
			}
		}
		if time.Now().After(end) {
			c.t.Fatalf("connections are led to %v", names)
		}
	}
}

// asked is the name of the copy that answers at an address, or an error in its place.
func (c *copies) asked(host string) (name string) {
	db, err := sql.Open("mysql", "client@tcp("+host+":3306)/?timeout=2s&readTimeout=2s")
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT @@wsrep_node_name").Scan(&name); err != nil {
		return err.Error()
	}
	return name
}

// rows are the numbers that a copy has.
func (c *copies) rows(i int) []int {
	c.t.Helper()
	rows, err := c.open(i).Query("SELECT id FROM kept.numbers ORDER BY id")
	if err != nil {
		c.t.Fatalf("copy %d: %v: %s", i, err, c.log(i))
	}
	defer rows.Close()
	var all []int
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, id)
	}
	if err := rows.Err(); err != nil {
		c.t.Fatal(err)
	}
	return all
}

// writers write numbers to all copies until they are told to end, and then return those that were acknowledged.
func (c *copies) writers(first int) (end func() []int) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []int
	for i := range c.hosts {
		db := c.open(i)
		wg.Go(func() {
			for id := first + i; ctx.Err() == nil; id += len(c.hosts) {
				limited, done := context.WithTimeout(ctx, 20*time.Second)
				_, err := db.ExecContext(limited, "INSERT INTO kept.numbers VALUES (?)", id)
				done()
				if err == nil {
					mu.Lock()
					all = append(all, id)
					mu.Unlock()
				} else {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	return func() []int {
		cancel()
		wg.Wait()
		return all
	}
}

// clients write numbers, two to a transaction, by way of whichever copy takes their connections, until they are told to end. They then return the
// numbers of the transactions that succeeded, and the errors of those that did not.
func (c *copies) clients(count, first int) (end func() (done []int, failed []string)) {
	settings := mysql.NewConfig()
	settings.User, settings.Net, settings.Addr = "client", "copies", "any:1"
	settings.Timeout, settings.ReadTimeout = 10*time.Second, 10*time.Second
	settings.Logger = &mysql.NopLogger{}
	mysql.RegisterDialContext("copies", func(ctx context.Context, _ string) (connection net.Conn, err error) {
		for _, i := range rand.Perm(len(c.hosts)) {
			if connection, err = (&net.Dialer{}).DialContext(ctx, "tcp", c.hosts[i]+":3306"); err == nil {
				return connection, nil
			}
		}
		return nil, err
	})
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		c.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(count)
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var done []int
	var failed []string
	for i := range count {
		wg.Go(func() {
			for id := first + 2*i; ctx.Err() == nil; id += 2 * count {
				err := twoOf(db, id)
				mu.Lock()
				if err == nil {
					done = append(done, id, id+1)
				} else {
					failed = append(failed, time.Now().Format(time.TimeOnly)+" "+err.Error())
				}
				mu.Unlock()
				time.Sleep(time.Duration(50+rand.IntN(100)) * time.Millisecond)
			}
		})
	}
	return func() ([]int, []string) {
		cancel()
		wg.Wait()
		_ = db.Close()
		return done, failed
	}
}

// twoOf writes a number and the next one in a transaction.
func twoOf(db *sql.DB, id int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	for i := range 2 {
		if _, err := tx.Exec("INSERT INTO kept.numbers VALUES (?)", id+i); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// have checks that all copies have the same, and everything that was acknowledged.
func (c *copies) have(what string, acknowledged []int) {
	c.t.Helper()
	c.clustered(0, 1, 2)
	all := c.rows(0)
	for i := range c.hosts {
		// A copy may be a moment behind.
		for end := time.Now().Add(10 * time.Second); !slices.Equal(c.rows(i), all); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				c.t.Errorf("%s: copy %d has %d numbers, and the first one %d", what, i, len(c.rows(i)), len(all))
				break
			}
		}
	}
	lost := slices.DeleteFunc(slices.Clone(acknowledged), func(id int) bool {
		_, found := slices.BinarySearch(all, id)
		return found
	})
	if len(lost) > 0 || len(acknowledged) == 0 {
		c.t.Errorf("%s: of %d acknowledged numbers %d are lost", what, len(acknowledged), len(lost))
	}
	c.t.Logf("%.1f s: %s: %d acknowledged numbers are in all copies", time.Since(c.began).Seconds(), what, len(acknowledged))
}

func TestCopiesOfMariaDBKeepWhatWasAcknowledged(t *testing.T) {
	c := newCopies(t)
	c.start(1, 2)
	time.Sleep(2 * time.Second)
	for _, i := range []int{1, 2} {
		if said := c.log(i); !strings.Contains(said, "no data") || strings.Contains(said, "starts the cluster\n") && strings.Contains(said, "this copy starts") {
			t.Errorf("copy %d starts a cluster without the first one's data: %s", i, said)
		}
	}
	c.start(0)
	c.clustered(0, 1, 2)
	for _, statement := range []string{"CREATE DATABASE kept", "CREATE USER client@'%'", "GRANT ALL ON kept.* TO client@'%'"} {
		if _, err := c.open(0).Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.open(1).Exec("CREATE TABLE kept.numbers (id INT PRIMARY KEY) ENGINE=InnoDB"); err != nil {
		t.Fatal(err)
	}
	c.oneLeader(0, 1, 2)
	var all []int
	number := 0
	while := func(what string, fault func()) {
		number += 1_000_000
		end := c.writers(number)
		time.Sleep(500 * time.Millisecond)
		fault()
		time.Sleep(500 * time.Millisecond)
		all = append(all, end()...)
		c.have(what, all)
	}
	while("nothing happens", func() {})
	while("one is killed", func() {
		c.kill(1)
		time.Sleep(time.Second)
		c.start(1)
		c.clustered(1)
	})
	first := c.oneLeader(0, 1, 2)
	while("the leader is killed", func() {
		c.kill(first)
		began := time.Now()
		others := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return i == first })
		next := c.oneLeader(others...)
		t.Logf("%.1f s after the leader was killed, others take its connections", time.Since(began).Seconds())
		c.start(first)
		c.clustered(first)
		if now := c.oneLeader(0, 1, 2); now != next || now == first {
			t.Errorf("the leader was %d, then %d, and is %d once the first is back", first, next, now)
		}
	})
	while("all are killed", func() {
		c.kill(2, 0, 1)
		c.start(0, 1, 2)
		c.clustered(0, 1, 2)
	})
	// What is planned costs clients nothing that their library does not repeat.
	while("each is replaced in turn", func() {
		end := c.clients(8, number+500_000)
		for _, i := range []int{2, 1, 0} {
			c.stop(i)
			c.start(i)
			c.clustered(i)
			c.oneLeader(0, 1, 2)
		}
		done, failed := end()
		// On a machine that is busy with other tests a transaction may take longer than a connection gets to end.
		if all = append(all, done...); len(failed) > 2 || len(done) < 20 {
			t.Errorf("clients wrote %d numbers, and %d transactions failed: %q", len(done), len(failed), failed)
		}
		t.Logf("clients wrote %d numbers, and %d transactions failed", len(done), len(failed))
	})
	while("one loses its folder", func() {
		c.kill(0)
		if err := os.RemoveAll(c.path(0, "data")); err != nil {
			t.Fatal(err)
		}
		c.start(0)
		c.clustered(0)
	})
	// The one that is left cannot know that the others do not go on without it, and they wait for it.
	while("most are killed", func() {
		c.kill(0, 2)
		c.start(0, 2)
		c.clustered(0, 1, 2)
	})
	// The last one to end has what the others do not.
	end := c.writers(number + 500_000)
	c.stop(0)
	time.Sleep(200 * time.Millisecond)
	c.stop(1)
	time.Sleep(200 * time.Millisecond)
	c.stop(2)
	all = append(all, end()...)
	c.start(0)
	time.Sleep(2 * time.Second)
	c.start(1, 2)
	c.have("all are ended", all)
}
