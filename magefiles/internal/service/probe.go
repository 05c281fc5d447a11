package service

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
)

// Answers is a probe that a GET of url succeeds, or is answered by one of the other statuses.
func Answers(url string, others ...int) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
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
		if response.StatusCode != http.StatusOK && !slices.Contains(others, response.StatusCode) {
			said, _ := io.ReadAll(io.LimitReader(response.Body, 300))
			return fmt.Errorf("GET %s: %s: %s", url, response.Status, said)
		}
		return nil
	}
}
