// Package bench measures the stack: load on it, and figures of several runs beside what they are compared with.
package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Load is the result of many requests.
type Load struct {
	Latencies []time.Duration // of the requests that succeeded, sorted
	Took      time.Duration   // from the beginning of the first request to the end of the last
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
