package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// HSM is the PKCS#11 token that holds the CA's key: SoftHSM 2, or any module that SIGLOCAL_PKCS11_MODULE names.
type HSM mg.Namespace

// Init makes the token, and the CA's key on it, unless they are there.
func (HSM) Init(ctx context.Context) error {
	if err := needs(ctx, Build); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if err := s.Require(ctx, platform.PKCS11Module); err != nil {
		return err
	}
	for _, secret := range []config.Secret{config.HSMPIN, config.HSMSOPIN} {
		if _, err := statedir.Secret(s.Config, secret); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.Config.Data("hsm"), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"softhsm2.conf", "crypto11.json"} {
		if err := service.Configure(s.Config, name, service.Values{"Module": stack.PKCS11Module(s.Config)}); err != nil {
			return err
		}
	}
	if err := s.token(ctx); err != nil {
		return fmt.Errorf("hsm: %w (SoftHSM keeps its tokens in %s)", err, s.Config.Data("hsm"))
	}
	return nil
}

// token makes the token and the CA's key on it, if the stack has no CA certificate yet. If the stack has one, token returns an
// error unless the token holds that certificate: a new token in place of a lost one would hold another key than the
// certificate's.
func (s *shared) token(ctx context.Context) (err error) {
	step := s.Console.Step("hsm")
	known, err := os.ReadFile(s.Config.Key("ca-root.pem"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err = makeToken(ctx, s.Config); err == nil {
			step.Done("the token %q holds the CA's key", s.Config.PKCS11Token)
			return nil
		}
	case err == nil:
		// Nothing is started on a disk that is full, so the token need not be right there.
		if statedir.RoomFor(s.Config, statedir.Spare) != nil {
			step.Drop()
			return nil
		}
		var root string
		root, err = hsm(ctx, s.Config, "certificate")
		if err == nil && root != string(known) {
			err = fmt.Errorf("the CA's certificate in %s is not the one on the token %q: put back the file or the token's data, or wipe the stack's data and keys with `"+project.Command+" reset`",
				s.Config.Key("ca-root.pem"), s.Config.PKCS11Token)
		}
		if _, first := s.calledBy(ctx); err == nil && first {
			step.Done("the token %q holds the CA's key", s.Config.PKCS11Token)
			return nil
		}
	}
	if err != nil {
		step.Fail()
		return err
	}
	step.Drop()
	return nil
}

// makeToken makes the token and the CA's key on it. SoftHSM writes the two halves of a key one after the other, and a token that was
// left with one half alone would get a second key pair beside it. So SoftHSM's first token is made in a folder that gets its
// name when the token is complete.
func makeToken(ctx context.Context, c config.Config) error {
	folder := c.Data("hsm")
	if tokens, err := os.ReadDir(folder); err != nil || len(tokens) > 0 {
		if err == nil {
			_, err = hsm(ctx, c, "init")
		}
		return err
	}
	fresh := folder + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := service.Configure(c, "softhsm2.conf", service.Values{"Tokens": fresh}); err != nil {
		return err
	}
	if _, err := hsm(ctx, c, "init"); err != nil {
		return err
	}
	if err := os.Remove(folder); err != nil {
		return err
	}
	if err := os.Rename(fresh, folder); err != nil {
		return err
	}
	return service.Configure(c, "softhsm2.conf", nil)
}

// List shows the module's slots and tokens, and the objects of the stack's token.
func (HSM) List(ctx context.Context) error {
	if err := needs(ctx, HSM.Init); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	said, err := hsm(ctx, s.Config, "list")
	fmt.Print(said)
	return err
}

// hsm runs the program hsm, which logs in to the token. SoftHSM writes the token's file anew whenever somebody logs in, and empties the
// file first: on a disk that is full, that could be the end of the token.
func hsm(ctx context.Context, c config.Config, action string) (string, error) {
	if err := statedir.RoomFor(c, statedir.Spare); err != nil {
		return "", err
	}
	args := []string{action, "-module", stack.PKCS11Module(c), "-token", c.PKCS11Token, "-pin-file", c.SecretFile(config.HSMPIN)}
	if action == "init" {
		args = append(args, "-so-pin-file", c.SecretFile(config.HSMSOPIN))
	}
	return command.OwnOutput(ctx, command.New(ctx, c.Home(), append(os.Environ(), softHSMEnv(c)), c.Program("hsm"), args...))
}

// softHSMEnv is the variable, as NAME=value, that makes SoftHSM keep its tokens in the stack's state folder. Other modules ignore
// it.
func softHSMEnv(c config.Config) string { return "SOFTHSM2_CONF=" + c.ConfigFile("softhsm2.conf") }
