package main

import (
	"context"

	"sigstore-local/magefiles/internal/develop"
)

// Watch builds and restarts a part of the stack each time that a file of its checkout is saved, and runs the demo that uses it.
func Watch(
	ctx context.Context,
	name string, // a service, as status lists them, or the name of its source, such as trillian, cosign or ko
) error {
	s, err := load()
	if err != nil {
		return err
	}
	return develop.Watch(ctx, s.Stack, name)
}
