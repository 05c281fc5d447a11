package main

import (
	"context"
	"testing"
)

func TestNeedsLeavesItsCallersSliceAsItIs(t *testing.T) {
	ran := 0
	targets := []any{
		func(context.Context) error { ran++; return nil },
		func(context.Context) error { return nil },
	}
	// The slice itself becomes the parameter of needs, as with component.prepare.
	if err := needs(t.Context(), targets...); err != nil {
		t.Fatal(err)
	}
	if ran != 1 {
		t.Errorf("the target ran %d times", ran)
	}
	for i, target := range targets {
		if _, ok := target.(func(context.Context) error); !ok {
			t.Errorf("target %d is a %T now", i, target)
		}
	}
}
