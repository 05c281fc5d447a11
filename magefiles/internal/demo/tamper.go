package demo

import (
	"context"
	"errors"
	"fmt"

	"sigstore-local/magefiles/internal/demo/attack"
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
	fmt.Printf("\nAn attacker tries this stack in one way after another, and each time somebody notices. %s signs; %s attacks.\n", d.Config.Email, attack.Mallory)
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
		d.report(one, attempt, did, cut(line, 200))
	}
	if len(attacks) == 1 {
		return d.done("The attack was noticed.", "")
	}
	return d.done(fmt.Sprintf("%d attacks, and each was noticed.", len(attacks)), "")
}

// report prints an attack that was noticed, and who said what.
func (d *Demo) report(one attack.Attack, attempt attack.Attempt, did, line string) {
	fmt.Printf("\n%d. %s\n", d.steps, did)
	if d.lesson == nil {
		fmt.Printf("   %s notices: %s\n", one.Who, line)
		return
	}
	fmt.Printf("\n    $ %s\n    %s\n", attempt.Command, line)
	d.look("%s notices. %s", one.Who, one.Because)
}
