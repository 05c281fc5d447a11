package main

import (
	"context"
	"fmt"
	"os"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// CT is the certificate transparency log, in which Fulcio logs each certificate before it is used.
type CT mg.Namespace

// Keys makes the key with which the log signs, unless it is there, and shows its public half.
func (CT) Keys(ctx context.Context) error {
	if err := needs(ctx, ctKeys); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	public, err := os.ReadFile(s.Config.Key("ctfe.pub"))
	if err != nil {
		return err
	}
	s.Console.Printf("The CT log signs with %s, whose public key is %s:", s.Config.Key("ctfe.pem"), s.Config.Key("ctfe.pub"))
	fmt.Printf("%s", public)
	return nil
}

func ctKeys(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	password, err := statedir.Secret(s.Config, config.CTKeyPassword)
	if err != nil {
		return err
	}
	if err := keys.Ensure(keys.ECDSA, s.Config.Key("ctfe.pem"), s.Config.Key("ctfe.pub"), password); err != nil {
		return fmt.Errorf("the CT log's key, whose password is in %s: %w", s.Config.SecretFile(config.CTKeyPassword), err)
	}
	return nil
}

// Start starts Trillian and then the CT log. It first makes the CA's root certificate, if there is none, since the log takes
// only certificates that chain to that.
func (CT) Start(ctx context.Context) error { return up(ctx, startCT, startLogSigner) }

// startCT starts the CT log without waiting for the log signer: the CT log speaks only to the log server.
func startCT(ctx context.Context) error {
	if err := needs(ctx, startLogServer, ctKeys, caRoot); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	tree, err := database.Tree(ctx, s.Config, ct(s.Config).Tree)
	if err != nil {
		return err
	}
	return start(ctx, ct, service.Values{"Tree": tree})
}

// Restart rebuilds the CT log if its source has changed, and restarts it, but not the services that use it.
func (CT) Restart(ctx context.Context) error { return restartOnly(ctx, CT.Start, ctComponent()) }

// Stop stops Fulcio, which needs the CT log, and then the CT log.
func (CT) Stop(ctx context.Context) error {
	if err := needs(ctx, Fulcio.Stop); err != nil {
		return err
	}
	return stop(ctx, ct)
}

func ctComponent() component {
	return component{describe: ct, start: CT.Start, stop: CT.Stop, prepare: []any{ctKeys, caRoot}}
}

func ct(c config.Config) service.Service {
	return service.Service{
		Name:  "ct",
		About: "the certificate transparency log",
		Uses: []service.Use{
			{Of: "log-server", To: "add certificates"},
			{Of: "keys/ca-root.pem", To: "take only what chains to it"},
			{Of: "keys/ctfe.pem", Signs: "certificate timestamps (SCTs), tree heads", Public: "keys/ctfe.pub"},
			{Of: "secrets/ct-key-password", To: "decrypt that key"},
		},
		Stacks:   []config.Stack{config.Tutorial},
		Tree:     "ct",
		Program:  c.Program("ct_server"),
		Packages: []string{"github.com/google/certificate-transparency-go/trillian/ctfe/ct_server"},
		Source: &config.Source{
			Name: "ct", Module: "github.com/google/certificate-transparency-go", Programs: map[string]string{"ct_server": "trillian/ctfe/ct_server"},
			Restart: "ct:restart", Demo: "demo:keyless",
		},
		Args: []string{
			"--log_config=" + c.ConfigFile("ct.cfg"),
			"--log_rpc_server=" + c.Address(config.LogServer),
			"--http_endpoint=" + c.ListenAddress(config.CT),
			"--logtostderr",
			// With this it logs its requests.
			"--vmodule=handlers=2",
		},
		Env:       threads(c),
		Templates: []string{"ct.cfg"},
		Listens:   []config.Port{config.CT},
		Address:   c.CTLog(),
		// Unlike /healthz, this asks Trillian for the tree's root.
		Ready: service.Answers(c.URL(config.CT) + "/sigstore/ct/v1/get-sth"),
		Passes: append(scts(c, config.TrillianCT, klog+`handlers\.go:\d+\] sigstore\{\d+\}: AddPreChain <= st=200$`), service.Passage{
			Line: klog + `handlers\.go:\d+\] sigstore\{\d+\}: Add(Pre)?Chain <= grpc\.QueueLeaves err=<nil>$`, From: "ct", To: "log-server", What: "certificate",
		}),
	}
}
