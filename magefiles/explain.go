package main

import (
	"context"

	"sigstore-local/magefiles/internal/explain"
	"sigstore-local/magefiles/internal/stack"
)

// Explain draws the running stack: who talks to whom, which keys sign what, and where they are kept.
func Explain(
	ctx context.Context,
	o *string, // the form of the output: text, svg or mermaid
) error {
	form, err := stack.Choice("o", o, "text", "svg", "mermaid")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	return explain.Show(ctx, s.Stack, form)
}
