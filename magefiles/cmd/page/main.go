// Page serves a stack in the browser: its services, its logs and every signature.
//
// Usage: page -stack=DESCRIPTION -address=HOST:PORT -token-file=FILE
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/page"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/webserver"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	described := flag.String("stack", "", "the `file` that describes the stack")
	address := flag.String("address", "", "the `host:port` to serve on")
	tokenFile := flag.String("token-file", "", "the `file` with the token that allows to change something")
	flag.Parse()
	s, d, err := stack.ReadDescription(*described)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		return err
	}
	// Streams and lessons end when the page is told to end.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	served, err := page.New(ctx, s, d, strings.TrimSpace(string(token)))
	if err != nil {
		return err
	}
	err = webserver.Run(ctx, 100*time.Millisecond, webserver.Site{
		Address: *address, Handler: served,
		Listening: func(at net.Addr) { log.Printf("serving the stack in %s on %s", s.Config.State, at) },
	})
	stop()
	// A lesson may have to clear away what attackers have started.
	served.Wait(5 * time.Second)
	return err
}
