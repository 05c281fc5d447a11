// Package bench measures the stack: load on it, and figures of several runs beside what they are compared with.
package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
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
	body, err := json.Marshal(object{"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": object{
		"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
		"signature": object{"content": signature, "publicKey": object{"content": u.public}},
	}})
	if err != nil {
		return "", err
	}
	entries := map[string]entry{}
	if err := u.ask(ctx, http.MethodPost, u.url, http.StatusCreated, body, &entries); err != nil {
		return "", err
	}
	for uuid := range entries {
		return uuid, nil
	}
	return "", fmt.Errorf("POST %s: the answer names no entry", u.url)
}

// entry is what Rekor tells of one (https://github.com/sigstore/rekor/blob/main/openapi.yaml, LogEntry).
type entry struct {
	Body         []byte
	Verification struct {
		InclusionProof struct {
			LogIndex, TreeSize uint64
			RootHash           string
			Hashes             []string
		}
	}
}

// Check finds out whether the log has an entry, and its inclusion proof leads to the root that the log shows.
func (u *Uploader) Check(ctx context.Context, uuid string) error {
	address := u.url + "/" + uuid
	entries := map[string]entry{}
	if err := u.ask(ctx, http.MethodGet, address, http.StatusOK, nil, &entries); err != nil {
		return err
	}
	for _, entry := range entries {
		shown := entry.Verification.InclusionProof
		var path [][]byte
		for _, text := range append(shown.Hashes, shown.RootHash) {
			hash, err := hex.DecodeString(text)
			if err != nil {
				return fmt.Errorf("GET %s: %w", address, err)
			}
			path = append(path, hash)
		}
		last := len(path) - 1
		leaf := rfc6962.DefaultHasher.HashLeaf(entry.Body)
		err := proof.VerifyInclusion(rfc6962.DefaultHasher, shown.LogIndex, shown.TreeSize, leaf, path[:last], path[last])
		if err != nil {
			return fmt.Errorf("GET %s: %w", address, err)
		}
		return nil
	}
	return fmt.Errorf("GET %s: the answer holds no entry", address)
}

func (u *Uploader) ask(ctx context.Context, method, address string, want int, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := u.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != want {
		return fmt.Errorf("%s %s: %s: %s", method, address, response.Status, said)
	}
	return json.Unmarshal(said, answer)
}
