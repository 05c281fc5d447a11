package main

import (
	"context"
	"os"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/stack"
)

// Demo signs and verifies a container image, at three levels.
type Demo mg.Namespace

// Keyed signs an image with a key and verifies it with the public key.
func (Demo) Keyed(
	ctx context.Context,
	o *string, // the form of the output: text or json
) error {
	return tell(o, func(teller demo.Teller) error {
		s, err := load()
		if err != nil {
			return err
		}
		return teach(ctx, teller, client.Trusts(s.Config)[0], (*demo.Demo).Keyed, Registry.Start)
	})
}

// Rekor signs with a key and makes it public in the transparency log.
func (Demo) Rekor(
	ctx context.Context,
	o *string, // the form of the output: text or json
) error {
	return tell(o, func(teller demo.Teller) error {
		s, err := load()
		if err != nil {
			return err
		}
		requirements := any(requireDatabase)
		if !s.Config.HasDatabase() {
			requirements = requireAll
		}
		if err := needs(ctx, requirements); err != nil {
			return err
		}
		return teach(ctx, teller, client.Trusts(s.Config)[0], (*demo.Demo).Logged, append(signatureLog(s.Config), Registry.Start)...)
	})
}

// Keyless signs with an identity instead of a key, and verifies who signed.
func (Demo) Keyless(
	ctx context.Context,
	o *string, // the form of the output: text or json
) error {
	return tell(o, func(teller demo.Teller) error { return teachKeyless(ctx, teller, (*demo.Demo).Keyless) })
}

// Attest signs a statement about how an image was built, its provenance, and verifies the image with a policy on the provenance.
func (Demo) Attest(
	ctx context.Context,
	o *string, // the form of the output: text or json
) error {
	return tell(o, func(teller demo.Teller) error { return teachKeyless(ctx, teller, (*demo.Demo).Attest) })
}

// Tour is a lesson: the three levels and what they protect from, step by step. At a terminal it waits for Enter; with -o=json it
// waits, before each step but the first, for a line on standard input, until that ends.
func (Demo) Tour(
	ctx context.Context,
	o *string, // the form of the output: text or json
	chapter *int, // the number of the only chapter to take, from 1 to 4; all if not given
) error {
	return tell(o, func(teller demo.Teller) error {
		number, err := demo.ChapterNumber(chapter)
		if err != nil {
			return err
		}
		if err := needs(ctx, attackersAccount); err != nil {
			return err
		}
		return teachKeyless(ctx, teller, func(d *demo.Demo) error { return d.Tour(number) })
	})
}

// Tamper attacks images, certificates, the log and the sign-in in the ways that Sigstore protects from, and shows who notices
// each attack. It fails if nobody notices one.
func (Demo) Tamper(
	ctx context.Context,
	o *string, // the form of the output: text or json
	only *string, // the attacks to make, by their names, with commas between; all if not given
) error {
	return tell(o, func(teller demo.Teller) error {
		s, err := load()
		if err != nil {
			return err
		}
		attacks := attack.All(s.Config)
		if only != nil {
			if attacks, err = attack.Named(s.Config, *only); err != nil {
				return err
			}
		}
		if err := needs(ctx, attackersAccount); err != nil {
			return err
		}
		return teachKeyless(ctx, teller, func(d *demo.Demo) error { return d.TamperWith(attacks) })
	})
}

// Bundle signs a file into a Sigstore bundle, which holds the entry in the signature log and, with Rekor v2, a timestamp, and
// verifies the bundle offline.
func (Demo) Bundle(
	ctx context.Context,
	o *string, // the form of the output: text or json
) error {
	return tell(o, func(teller demo.Teller) error {
		if err := needs(ctx, requireAll); err != nil {
			return err
		}
		s, err := load()
		if err != nil {
			return err
		}
		log := []any{Rekor.Start, tufRepository}
		if s.Config.Stack.Includes(config.Tiles) {
			log = []any{TSA.Start, RekorTiles.Start, tufRepository}
		}
		return teach(ctx, teller, client.Root, (*demo.Demo).Bundle, append(log, Fulcio.Start)...)
	})
}

// Login signs in at Dex in a browser, as a person does, and signs a file with that identity.
func (Demo) Login(
	ctx context.Context,
	o *string, // the form of the output: text or json
	device *bool, // sign in by a code, as on a machine that is reached over ssh
) error {
	return tell(o, func(teller demo.Teller) error {
		if err := needs(ctx, requireAll); err != nil {
			return err
		}
		s, err := load()
		if err != nil {
			return err
		}
		return teach(ctx, teller, client.Trusts(s.Config)[0], func(d *demo.Demo) error { return d.Login(device != nil && *device) },
			append(signatureLog(s.Config), Fulcio.Start)...)
	})
}

// tell runs a demo, which tells what happens on standard output, in the form that the flag -o names. It tells the demo's failure
// too, also one before the first step.
func tell(o *string, run func(demo.Teller) error) error {
	form, err := stack.Choice("o", o, demo.Text, demo.JSON)
	if err != nil {
		return err
	}
	teller := demo.NewTeller(os.Stdout, form)
	return teller.TellFailure(run(teller))
}

// attackersAccount gives the attacker an account at Dex, as other users have one.
func attackersAccount(ctx context.Context) error {
	if err := needs(ctx, requireAll); err != nil {
		return err
	}
	if err := needs(ctx, Dex.Start); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	return s.haveAccounts(ctx, attack.Mallory)
}

// teachKeyless is teach for a demo that needs all services of the keyless level.
func teachKeyless(ctx context.Context, teller demo.Teller, lesson func(*demo.Demo) error) error {
	if err := needs(ctx, requireAll); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	return teach(ctx, teller, client.Trusts(s.Config)[0], lesson, append(signatureLog(s.Config), Registry.Start, Fulcio.Start)...)
}

// signatureLog are the targets that bring up the log for signatures of the levels: in a stack of tiles Rekor v2, which has
// signatures' times from the timestamp authority, and is found by the signing config.
func signatureLog(c config.Config) []any {
	if c.Stack == config.Tiles {
		return []any{TSA.Start, RekorTiles.Start, tufRepository}
	}
	return []any{Rekor.Start}
}

// bundleServices are the targets that bring up all that the signing config names, by which clients sign into bundles.
func bundleServices(c config.Config) []any {
	services := []any{Fulcio.Start, tufRepository}
	if c.Stack.Includes(config.Tiles) {
		services = append(services, TSA.Start, RekorTiles.Start)
	}
	if c.Stack.Includes(config.Tutorial) {
		services = append(services, Rekor.Start)
	}
	return services
}

// teach runs a demo after the targets that it depends on.
func teach(ctx context.Context, teller demo.Teller, trust client.Trust, lesson func(*demo.Demo) error, targets ...any) error {
	if err := needs(ctx, targets...); err != nil {
		return err
	}
	// This takes the stack's lock again if an earlier demo of this process has released it and the call of needs above started
	// nothing.
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	d, err := demo.New(ctx, s.Stack, trust, teller)
	if err != nil {
		return err
	}
	return lesson(d)
}
