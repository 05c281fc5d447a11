package demo

import (
	"context"
	"errors"
	"fmt"

	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/demo/event"
)

// Tamper makes every attack.
func (d *Demo) Tamper() error { return d.TamperWith(attack.All(d.Config)) }

// TamperWith makes attacks one after another and shows who notices each. It returns an error if an attack is not noticed.
func (d *Demo) TamperWith(attacks []attack.Attack) (err error) {
	target, err := attack.NewTarget(d.ctx, d.Stack)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	d.tell(event.Event{Kind: event.Intro, Text: fmt.Sprintf("An attacker tries this stack in one way after another, and each time somebody notices. %s signs; %s attacks.", d.Config.Email, attack.Mallory)})
	for _, one := range attacks {
		attempt, err := one.Try(d.ctx, target)
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		if d.next(); d.err != nil {
			return d.err
		}
		did := target.Did(one, attempt)
		if err != nil {
			return fmt.Errorf("attack %d could not be made: %s %w", d.steps, did, err)
		}
		line, err := one.Noticed(attempt)
		if err != nil {
			return fmt.Errorf("attack %d: %s %w", d.steps, did, err)
		}
		d.tell(event.Event{
			Kind: event.Attack, Attack: one.Name, Did: did, Command: attempt.Command, Said: attempt.Output(), Line: line, Who: one.Who, Because: one.Because,
		})
	}
	if len(attacks) == 1 {
		return d.done("The attack was noticed.", "")
	}
	return d.done(fmt.Sprintf("%d attacks, and each was noticed.", len(attacks)), "")
}
