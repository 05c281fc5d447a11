// Package webserver serves HTTP for the small programs of this project.
package webserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Grace is how long requests that are under way get where a program has no reason for another time: somewhat less than a service has to
// end.
const Grace = 8 * time.Second

// Site is what is served at an address.
type Site struct {
	Address string // host:port
	Handler http.Handler
	// Listening is called with the address once connections are taken.
	Listening func(net.Addr)
}

// Run serves sites until ctx ends, or the process is told to end by SIGTERM or SIGINT, or one of them fails. Requests under way are
// finished, as far as they take no longer than grace.
func Run(ctx context.Context, grace time.Duration, sites ...Site) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var listeners []net.Listener
	for _, site := range sites {
		listener, err := net.Listen("tcp", site.Address)
		if err != nil {
			return err
		}
		defer listener.Close()
		listeners = append(listeners, listener)
	}
	failed := make(chan error, len(sites))
	servers := make([]*http.Server, len(sites))
	for i, site := range sites {
		site.Listening(listeners[i].Addr())
		servers[i] = &http.Server{Handler: site.Handler, ReadHeaderTimeout: 10 * time.Second}
		go func() { failed <- servers[i].Serve(listeners[i]) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(servers))
	for i, server := range servers {
		wg.Go(func() {
			if errs[i] = server.Shutdown(closing); errors.Is(errs[i], context.DeadlineExceeded) {
				errs[i] = server.Close()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
