// Package bench measures the stack: load on it, and figures of several runs beside what they are compared with.
package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sigstore-local/magefiles/internal/jsonapi"
)

// Load is what came of many requests.
type Load struct {
	Latencies []time.Duration // of each that succeeded, sorted
	Took      time.Duration   // from the first to the end of the last
}

// Rate is how many requests succeeded in a second.
func (l Load) Rate() float64 { return float64(len(l.Latencies)) / l.Took.Seconds() }

// Percentile is the latency that p of 100 requests do not exceed.
func (l Load) Percentile(p int) time.Duration {
	if len(l.Latencies) == 0 {
		return 0
	}
	return l.Latencies[min(len(l.Latencies)-1, len(l.Latencies)*p/100)]
}

// Drive calls request count times in all, from so many callers at a time. The first error ends it.
func Drive(ctx context.Context, callers, count int, request func(context.Context) error) (Load, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		load  Load
		mu    sync.Mutex
		wg    sync.WaitGroup
		taken atomic.Int64
	)
	began := time.Now()
	for range callers {
		wg.Go(func() {
			for int(taken.Add(1)) <= count && ctx.Err() == nil {
				sent := time.Now()
				if err := request(ctx); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				load.Latencies = append(load.Latencies, time.Since(sent))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	load.Took = time.Since(began)
	slices.Sort(load.Latencies)
	return load, context.Cause(ctx)
}

// Uploader makes entries for Rekor v1 and uploads them by its API, without a client's own cost.
type Uploader struct {
	url    string
	key    *ecdsa.PrivateKey
	public []byte // PEM
	client *http.Client
}

// NewUploader returns an uploader to the Rekor at url.
func NewUploader(url string) (*Uploader, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 128}
	return &Uploader{
		url: url + "/api/v1/log/entries", key: key, client: &http.Client{Transport: transport},
		public: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	}, nil
}

// Upload signs something new and uploads it as a hashedrekord of version 0.0.1, and returns the entry's UUID when the log
// has it.
func (u *Uploader) Upload(ctx context.Context) (string, error) {
	blob := make([]byte, 32)
	if _, err := rand.Read(blob); err != nil {
		return "", err
	}
	digest := sha256.Sum256(blob)
	signature, err := ecdsa.SignASN1(rand.Reader, u.key, digest[:])
	if err != nil {
		return "", err
	}
	type object = map[string]any
	entry := object{"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": object{
		"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
		"signature": object{"content": signature, "publicKey": object{"content": u.public}},
	}}
	var made map[string]any
	if err := jsonapi.Ask(ctx, u.client, http.MethodPost, u.url, entry, &made); err != nil {
		return "", err
	}
	for uuid := range made {
		return uuid, nil
	}
	return "", fmt.Errorf("POST %s: the answer names no entry", u.url)
}
