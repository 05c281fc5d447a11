// Package jsonapi asks services that take and give JSON over HTTP.
package jsonapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Ask sends a request, with body as JSON unless it is nil, and reads the answer into answer, a pointer, unless that is nil.
// Any status but 200 to 299 is an error with what the service said.
func Ask(ctx context.Context, client *http.Client, method, url string, body, answer any) error {
	return Read(ctx, client, method, url, body, func(said io.Reader) error {
		text, err := io.ReadAll(said)
		if err != nil || answer == nil {
			return err
		}
		return json.Unmarshal(text, answer)
	})
}

// Read is Ask for answers that may be large: read reads one while it comes.
func Read(ctx context.Context, client *http.Client, method, url string, body any, read func(io.Reader) error) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		text, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		return fmt.Errorf("%s %s: %s: %s", method, url, response.Status, message(text))
	}
	return read(response.Body)
}

// message is what an answer says in words, the whole of it if it has no message.
func message(text []byte) string {
	var said struct{ Message string }
	if json.Unmarshal(text, &said) == nil && said.Message != "" {
		return said.Message
	}
	return strings.TrimSpace(string(text))
}
