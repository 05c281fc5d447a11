package service

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
)

// Probe is a request that shows whether a service works. It is data, so that everything that runs or shows a service asks the same.
type Probe struct {
	URL      string // is asked for by GET
	Statuses []int  // of an answer that shows that the service works, beside 200
	Database bool   // the service is the stack's database, and asked as Engine.Database does, in place of a URL
}

// Answers is a probe that a GET of url succeeds, or is answered by one of the other statuses.
func Answers(url string, others ...int) Probe { return Probe{URL: url, Statuses: others} }

// Ask returns an error unless s works.
func (e *Engine) Ask(ctx context.Context, s Service) error {
	if s.Ready.Database {
		return e.Database(ctx)
	}
	return s.Ready.ask(ctx)
}

func (p Probe) ask(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return err
	}
	// The services are on loopback, so no proxy is used, and the connection is closed after the answer.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && !slices.Contains(p.Statuses, response.StatusCode) {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return fmt.Errorf("GET %s: %s: %s", p.URL, response.Status, said)
	}
	return nil
}
