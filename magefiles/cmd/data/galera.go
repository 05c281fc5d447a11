package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"sigstore-local/magefiles/internal/galera"
)

// copyOf is the copy that the flags name, of the MariaDB that has its data in dir.
func (o options) copyOf(dir string) (galera.Copy, error) {
	c := galera.Copy{Copies: strings.Split(o.copies, ","), Dir: dir, Server: o.args, Out: os.Stderr}
	c.Self = slices.IndexFunc(c.Copies, func(host string) bool { return host == o.self || strings.HasPrefix(host, o.self+".") })
	if c.Self < 0 {
		return c, fmt.Errorf("-self is %q; accepted is one of %s", o.self, strings.Join(c.Copies, ", "))
	}
	c.Clustered = func(ctx context.Context) bool { return o.inCluster(ctx) == nil }
	return c, nil
}

func runCopy(ctx context.Context, o options) error {
	c, err := o.copyOf(o.folders[0])
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// inCluster is an error unless the server takes writes as a copy among several.
func (o options) inCluster(ctx context.Context) error {
	db, err := o.open()
	if err != nil {
		return err
	}
	defer db.Close()
	// wsrep_ready is ON in a cluster that has most of its copies, once this one has what they have.
	name, value := "", ""
	if err := db.QueryRowContext(ctx, "SHOW STATUS LIKE 'wsrep_ready'").Scan(&name, &value); err != nil {
		return err
	}
	if value != "ON" {
		return fmt.Errorf("%s is %s", name, value)
	}
	return nil
}

// transfer is what mariadbd calls this program for.
func transfer() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := galera.Transfer(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "galera:", err)
		os.Exit(1)
	}
}
