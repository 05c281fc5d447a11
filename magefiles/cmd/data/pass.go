package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"sigstore-local/magefiles/internal/hold"
	"sigstore-local/magefiles/internal/webserver"
)

// runProxy passes requests on as the arguments of o, each PORT=HOST:PORT, say.
func runProxy(ctx context.Context, o options) error {
	works := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "it works") })
	sites := []webserver.Site{{Address: ":" + o.ready, Handler: works, Listening: func(net.Addr) {}}}
	for _, one := range o.passages {
		sites = append(sites, webserver.Site{
			Address: ":" + one.port, Handler: hold.Handler(one.to, hold.Most),
			Listening: func(net.Addr) { log.Printf("requests at port %s go to %s", one.port, one.to) },
		})
	}
	// Also those that have just begun to wait get all of their time.
	return webserver.Run(ctx, hold.Most+5*time.Second, sites...)
}
