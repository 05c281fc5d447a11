package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/service"
)

// HSM is the PKCS#11 token that holds the CA's key: SoftHSM 2, or any module that SIGLOCAL_PKCS11_MODULE names.
type HSM mg.Namespace

// Init makes the token and the CA's key on it, and leaves what is there.
func (HSM) Init(ctx context.Context) error {
	if err := needs(ctx, Build); err != nil {
		return err
	}
	if err := require(ctx, platform.PKCS11Module); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	for _, secret := range []config.Secret{config.HSMPIN, config.HSMSOPIN} {
		if _, err := service.Secret(s.config, secret); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.config.Data("hsm"), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"softhsm2.conf", "crypto11.json"} {
		if err := service.Configure(s.config, name, service.Values{"Module": pkcs11Module(s.config)}); err != nil {
			return err
		}
	}
	step := s.console.Step("hsm")
	// A token that is not found once there is a CA is a lost one: another with another key would be no help.
	if _, err = os.Stat(s.config.Key("ca-root.pem")); err == nil {
		s.certificate, err = hsm(ctx, s.config, "certificate")
	} else {
		s.certificate = ""
		_, err = hsm(ctx, s.config, "init")
	}
	if err != nil {
		step.Fail()
		return fmt.Errorf("hsm: %w (SoftHSM keeps its tokens in %s)", err, s.config.Data("hsm"))
	}
	step.Done("the token %q holds the CA's key", s.config.PKCS11Token)
	return nil
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
	said, err := hsm(ctx, s.config, "list")
	fmt.Print(said)
	return err
}

// hsm runs the program hsm.
func hsm(ctx context.Context, c config.Config, action string) (string, error) {
	args := []string{action, "-module", pkcs11Module(c), "-token", c.PKCS11Token, "-pin-file", c.SecretFile(config.HSMPIN)}
	if action == "init" {
		args = append(args, "-so-pin-file", c.SecretFile(config.HSMSOPIN))
	}
	out, err := command.Output(ctx, command.New(ctx, c.Home(), append(os.Environ(), softHSMEnv(c)), c.Program("hsm"), args...))
	if failure := (*command.Error)(nil); errors.As(err, &failure) && failure.Output != "" {
		// What this project's own program says needs no frame.
		err = errors.New(strings.TrimSpace(failure.Output))
	}
	return out, err
}

// softHSMEnv makes SoftHSM keep its tokens in the stack's state folder; other modules pay no heed to it.
func softHSMEnv(c config.Config) string { return "SOFTHSM2_CONF=" + c.ConfigFile("softhsm2.conf") }
