package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/galera"
	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/move"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

func await(ctx context.Context, o options) error {
	if o.install {
		if err := awaitMariaDB(ctx, o); err != nil {
			return err
		}
	}
	if o.database {
		if err := poll(ctx, os.Stdout, "the data of the database", o.databaseReceived); err != nil {
			return err
		}
	}
	for _, dir := range o.folders {
		if err := poll(ctx, os.Stdout, "the data of "+dir, func(context.Context) (bool, error) { return move.FolderReceived(dir) }); err != nil {
			return err
		}
	}
	for _, address := range o.addresses {
		err := poll(ctx, os.Stdout, address, func(ctx context.Context) (bool, error) {
			connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return false, err
			}
			return true, connection.Close()
		})
		if err != nil {
			return err
		}
	}
	for _, url := range o.urls {
		// A log that is still empty has no checkpoint.
		accepted := []int{http.StatusOK, http.StatusNotFound}
		err := poll(ctx, os.Stdout, url, func(ctx context.Context) (bool, error) {
			err := ask(ctx, url, accepted, io.Discard)
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// databaseReceived opens the database anew each time, since the file with its account may come later, or change.
func (o options) databaseReceived(ctx context.Context) (bool, error) {
	db, err := o.open()
	if err != nil {
		return false, err
	}
	defer db.Close()
	there, err := move.DatabaseReceived(ctx, db)
	if err != nil {
		err = errors.New(o.clean(err.Error()))
	}
	return there, err
}

// poll asks until the answer is yes. It says to out what it waits for, and again once that changes from a place that cannot be asked to one that
// can.
func poll(ctx context.Context, out io.Writer, what string, ask func(context.Context) (bool, error)) error {
	const interval = 500 * time.Millisecond
	said := ""
	for {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		ok, err := ask(limited)
		cancel()
		if ok && err == nil {
			fmt.Fprintf(out, "There is %s.\n", what)
			return nil
		}
		kind, message := "empty", fmt.Sprintf("Waiting for %s.", what)
		if err != nil {
			kind, message = "unknown", fmt.Sprintf("Waiting for %s: %v", what, err)
		}
		if ctx.Err() == nil && kind != said {
			fmt.Fprintln(out, message)
			said = kind
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ended while waiting for %s", what)
		case <-time.After(interval):
		}
	}
}

// awaitMariaDB makes a MariaDB in its folder, as start does on a machine, and runs it, for no one but this container, until its databases
// have received their data. A copy of a MariaDB that already has data somewhere has nothing to wait for.
func awaitMariaDB(ctx context.Context, o options) error {
	c, err := config.Load(image.Folder, []string{"SIGLOCAL_STATE=" + image.State, "SIGLOCAL_STACK=" + string(config.Tutorial)})
	if err != nil {
		return err
	}
	c = c.InCluster(config.Cluster{Root: image.Folder, State: image.State})
	password, err := statedir.Secret(c, config.DatabasePassword)
	if err != nil {
		return err
	}
	dsn := mysql.NewConfig()
	dsn.User, dsn.Passwd, dsn.Net, dsn.Addr = "root", password, "unix", c.DatabaseSocket()
	root := filepath.Join(c.State, filepath.FromSlash(cluster.RootDSN))
	// Who is to receive data, or asks whether the server works, has this account.
	account := func() error { return statedir.WriteSecret(root, []byte(dsn.FormatDSN()+"\n")) }
	// Starting a server to ask it takes seconds, for which nobody could sign when the pod is replaced.
	mark := filepath.Join(c.Data("mariadb"), "received")
	if _, err := os.Stat(mark); err == nil {
		if o.copies == "" {
			err = galera.Alone(c.Data("mariadb"))
		}
		return errors.Join(err, account())
	}
	if o.copies != "" {
		elsewhere, err := o.hasDataElsewhere(ctx, c.Data("mariadb"))
		if err != nil {
			return err
		}
		if elsewhere {
			return account()
		}
	}
	server, installer, err := stack.MariaDBPrograms(c)
	if err != nil {
		return err
	}
	if err := database.Install(ctx, c, server, installer); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, server, "--defaults-file="+c.ConfigFile("mariadb.cnf"), "--skip-networking")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 30 * time.Second
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := command.Wait()
		end(fmt.Errorf("mariadbd ended: %w", errors.Join(err, errors.New("its log is above"))))
		ended <- err
	}()
	err = func() error {
		err := poll(running, os.Stdout, "MariaDB", func(ctx context.Context) (bool, error) {
			err := database.Ping(ctx, c)
			return err == nil, err
		})
		if err != nil {
			return err
		}
		if err := database.Prepare(running, c); err != nil {
			return err
		}
		// It is there once there is a database to receive data.
		if err := account(); err != nil {
			return err
		}
		return poll(running, os.Stdout, "the data of MariaDB", options{database: true, dsnFile: root}.databaseReceived)
	}()
	if cause := context.Cause(running); err != nil && cause != nil {
		err = cause
	}
	if stop := command.Process.Signal(syscall.SIGTERM); stop != nil {
		return errors.Join(err, stop)
	}
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	return errors.Join(galera.Alone(c.Data("mariadb")), os.WriteFile(mark, nil, 0o600))
}

// hasDataElsewhere says whether this copy of a MariaDB gets its data from another one, and not from who moves a stack: the first copy receives
// it if no other one has any.
func (o options) hasDataElsewhere(ctx context.Context, dir string) (elsewhere bool, err error) {
	self, err := o.copyOf(dir)
	if err != nil || self.Self > 0 {
		return true, err
	}
	err = poll(ctx, os.Stdout, "an answer of the other copies", func(ctx context.Context) (bool, error) {
		elsewhere, err = self.AnyHasData(ctx)
		return err == nil, err
	})
	return elsewhere, err
}
