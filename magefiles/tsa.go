package main

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
)

// TSA is the timestamp authority, which signs the time at which it saw a signature.
type TSA mg.Namespace

// Start starts the timestamp authority.
func (TSA) Start(ctx context.Context) error {
	if err := needs(ctx, Build, tsaCertificates); err != nil {
		return err
	}
	return start(ctx, tsa, nil)
}

// tsaCertificates makes the key with which the authority signs, and its certificates.
func tsaCertificates(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	return keys.EnsureTimestamping(s.Config.Key("tsa"), time.Now())
}

// Restart rebuilds the timestamp authority if its source has changed, and restarts only the authority.
func (TSA) Restart(ctx context.Context) error { return restartOnly(ctx, TSA.Start, tsaComponent()) }

// Stop stops the timestamp authority.
func (TSA) Stop(ctx context.Context) error { return stop(ctx, tsa) }

func tsaComponent() component {
	return component{describe: tsa, start: TSA.Start, stop: TSA.Stop, prepare: []any{tsaCertificates}}
}

func tsa(c config.Config) service.Service {
	uses := []service.Use{
		{Of: "keys/tsa/key.pem", Signs: "timestamps", Public: "keys/tsa/chain.pem"},
		{Of: "keys/tsa/chain.pem", To: "show its certificates"},
	}
	signer := []string{"--timestamp-signer=file", "--file-signer-key-path=" + c.Key(filepath.Join("tsa", keys.TimestampingKey))}
	if c.Cluster != nil && c.Cluster.TSAKey != "" {
		uses, signer = uses[1:], []string{"--timestamp-signer=kms", "--kms-key-resource=" + c.Cluster.TSAKey}
	}
	one := service.Service{
		Name:     "tsa",
		About:    "the timestamp authority (RFC 3161)",
		Uses:     uses,
		Stacks:   []config.Stack{config.Tiles},
		Program:  c.Program("timestamp-server"),
		Packages: []string{project.Module + "/magefiles/cmd/timestamp-server"},
		Source: &config.Source{
			Name: "tsa", Module: "github.com/sigstore/timestamp-authority", Programs: map[string]string{"timestamp-server": "cmd/timestamp-server"},
			Restart: "tsa:restart", Demo: "demo:bundle",
		},
		Module: "github.com/sigstore/timestamp-authority/v2",
		Args: slices.Concat(
			[]string{"serve", "--host=" + c.ListenHost(config.TSA), "--port=" + strconv.Itoa(c.Port(config.TSA))}, signer,
			[]string{"--certificate-chain-path=" + c.Key(filepath.Join("tsa", keys.TimestampingChain)), "--disable-ntp-monitoring"},
		),
		Listens: []config.Port{config.TSA},
		Address: c.URL(config.TSA),
		Ready:   service.Answers(c.URL(config.TSA) + "/api/v1/timestamp/certchain"),
		Passes: []service.Passage{{
			Line: `^\{"severity":"info","ts":(?P<time>[0-9.]+),"caller":"[^"]+","message":"\[[^ ]*\] \\"POST \S+/api/v1/timestamp HTTP/[0-9.]+\\" from \S+ - 20[01] \d+B in (?P<took>\S+)"`,
			From: bundler(c), To: "tsa", What: "timestamp",
		}},
	}
	if _, ok := c.Checkouts["tsa"]; ok {
		one.Hint = "upstream's program ends unless it gets port 2112, which a Rekor holds, of this stack or another: `" + project.Command + " restart rekor` starts the two of this stack in the right order"
	}
	return one
}
