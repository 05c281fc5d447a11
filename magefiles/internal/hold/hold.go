// Package hold passes HTTP requests on to a server that is away for some seconds now and then, since it has one copy that is replaced:
// they wait for it rather than fail.
package hold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// Most is how long requests wait until a server takes them. Clients of Rekor v2 wait for 30 seconds for an answer
// (https://pkg.go.dev/github.com/sigstore/rekor-tiles/v2/pkg/client/write), and others for longer.
const Most = 25 * time.Second

// noticed is the size in bytes of the largest request that is read before it waits. Of a client that leaves, net/http tells only once
// all of its request is read.
const noticed = 1 << 20

// Handler passes requests on to a server at an address of the form host:port, with all of their headers. While it takes no connections
// they wait, each for at most a while, and then get status 503; one whose client has left is dropped. What the server has taken is not
// sent a second time, whatever becomes of it.
func Handler(address string, most time.Duration) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values := r.In.Header.Values(name); len(values) > 0 {
					r.Out.Header[name] = values
				}
			}
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				connection, _ := ctx.Value(waitedFor{}).(net.Conn) // which the request has
				return connection, nil
			},
			// Each request has a connection of its own: a kept one may be about to be closed, and it is then not known whether the
			// server has seen the request.
			DisableKeepAlives:  true,
			DisableCompression: true,
		},
		FlushInterval: -1, // at once
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, context.Canceled) { // the client has not gone
				http.Error(w, fmt.Sprintf("%s: %v", address, err), http.StatusBadGateway)
			}
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if 0 < r.ContentLength && r.ContentLength <= noticed {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // the client has gone
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		connection, err := wait(r.Context(), address, most)
		if err != nil {
			if r.Context().Err() == nil { // the client has not gone
				http.Error(w, fmt.Sprintf("%s has taken no connection for %s: %v", address, most, err), http.StatusServiceUnavailable)
			}
			return
		}
		defer connection.Close()
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), waitedFor{}, connection)))
	})
}

// waitedFor is the key of a request's connection to the server.
type waitedFor struct{}

// wait connects to an address, again and again until that succeeds.
func wait(ctx context.Context, address string, most time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for end := time.Now().Add(most); ; {
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil || time.Now().After(end) {
			return connection, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
