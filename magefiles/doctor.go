package main

import (
	"context"
	"fmt"

	"sigstore-local/magefiles/internal/doctor"
	"sigstore-local/magefiles/internal/stack"
)

// Doctor checks whether the stack can run here, changes nothing, and says how to fix what fails.
func Doctor(
	ctx context.Context,
	o *string, // the form of the output: table or json
) error {
	form, err := stack.Choice("o", o, "table", "json")
	if err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	return doctor.Show(ctx, s.Stack, form)
}

// Setup installs the programs and libraries that doctor finds missing, if no password is needed for that, and otherwise prints
// the command that installs them.
func Setup(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	if err := s.Require(ctx, s.Needs()...); err != nil {
		return err
	}
	s.Console.Printf("Nothing is missing.")
	return nil
}

// Support packs status, doctor's findings, versions, configuration and logs into an archive, without any secret.
func Support(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	file, err := doctor.Archive(ctx, s.Stack)
	if err != nil {
		return err
	}
	s.Console.Printf("It has no secret of the stack in it; read it before you pass it on all the same:")
	fmt.Println(file)
	return nil
}

// Bundle is the old name of support.
func Bundle(ctx context.Context) error {
	s, err := load()
	if err != nil {
		return err
	}
	s.Console.Printf("`bundle` is called `support` now, since a bundle is what a signature comes in; the old name still works.")
	return needs(ctx, Support)
}
