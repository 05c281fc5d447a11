package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/tilelog"
)

// RekorTiles is Rekor v2, a signature transparency log that keeps its tree as tiles in files and needs no database.
type RekorTiles mg.Namespace

// Start starts Rekor v2, and the web server by which clients reach it.
func (RekorTiles) Start(ctx context.Context) error { return up(ctx, startRekorTiles, Tiles.Start) }

// startRekorTiles starts Rekor v2 without waiting for the web server, which Rekor v2 itself does not need.
func startRekorTiles(ctx context.Context) error {
	if err := needs(ctx, Build, rekorTilesKey, rekorTilesLog); err != nil {
		return err
	}
	return start(ctx, rekorTiles, nil)
}

// rekorTilesKey makes the key with which the log signs: Ed25519, the only kind that witnesses take
// (https://c2sp.org/tlog-witness).
func rekorTilesKey(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	return keys.Ensure(keys.Ed25519, s.Config.Key("rekor-tiles.pem"), s.Config.Key("rekor-tiles.pub"), "")
}

// rekorTilesLog returns an error if the log's files are damaged so that the server, once started, would lose or corrupt the log.
func rekorTilesLog(ctx context.Context) error {
	if err := needs(ctx, rekorTilesKey); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	log := tilelog.Log{Files: tilelog.Folder(s.Config.Data("rekor-tiles")), Origin: s.Config.RekorV2Origin(), Key: s.Config.Key("rekor-tiles.pub")}
	if err := log.Check(); err != nil {
		return fmt.Errorf("rekor-tiles: %w", err)
	}
	return nil
}

// Restart rebuilds Rekor v2 if its source has changed, and restarts only Rekor v2.
func (RekorTiles) Restart(ctx context.Context) error {
	return restartOnly(ctx, RekorTiles.Start, rekorTilesComponent())
}

// Stop stops Rekor v2.
func (RekorTiles) Stop(ctx context.Context) error { return stop(ctx, rekorTiles) }

// Ports that only Rekor v2's own description uses.
var (
	rekorTilesGRPC    = config.Port{Name: "REKOR_TILES_GRPC", Default: 3001}
	rekorTilesMetrics = config.Port{Name: "REKOR_TILES_METRICS", Default: 2114}
)

func rekorTilesComponent() component {
	return component{describe: rekorTiles, start: RekorTiles.Start, stop: RekorTiles.Stop, prepare: []any{rekorTilesKey, rekorTilesLog}}
}

func rekorTiles(c config.Config) service.Service {
	return service.Service{
		Name:  "rekor-tiles",
		About: "Rekor v2, the signature log as tiles in files",
		Uses: []service.Use{
			{Of: "keys/rekor-tiles.pem", Signs: "checkpoints", Public: "keys/rekor-tiles.pub"},
			{Of: "data/rekor-tiles", To: "keep the tiles"},
		},
		Single:   "two copies that write into the folder of one log would sign two histories of it",
		Stacks:   []config.Stack{config.Tiles},
		Program:  c.Program("rekor-tiles"),
		Packages: []string{"rekor-tiles=github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix"},
		Source: &config.Source{
			Name: "rekor-tiles", Module: "github.com/sigstore/rekor-tiles", Programs: map[string]string{"rekor-tiles": "cmd/rekor-server/posix"},
			Restart: "rekorTiles:restart", Demo: "demo:bundle",
		},
		Args: []string{
			"serve",
			"--http-address=" + c.ListenHost(config.RekorTilesHTTP), "--http-port=" + strconv.Itoa(c.Port(config.RekorTilesHTTP)),
			"--grpc-address=" + c.ListenHost(rekorTilesGRPC), "--grpc-port=" + strconv.Itoa(c.Port(rekorTilesGRPC)),
			"--http-metrics-port=" + strconv.Itoa(c.Port(rekorTilesMetrics)),
			"--hostname=" + c.RekorV2Origin(), "--signer-filepath=" + c.Key("rekor-tiles.pem"), "--storage-dir=" + c.Data("rekor-tiles"),
			// An upload is acknowledged once a checkpoint covers it. With upstream's defaults that takes 10 seconds. Rekor v2
			// checks for a new checkpoint once a second, which no setting changes: checkpoints at shorter intervals than this
			// would make no upload faster, and looking whether one is due is most of what the server does when idle.
			"--batch-max-age=50ms", "--checkpoint-interval=500ms",
			// With this it logs its requests, and nothing else beside what it logs otherwise.
			"--log-level=debug",
		},
		Env:     threads(c),
		Listens: []config.Port{config.RekorTilesHTTP, rekorTilesGRPC, rekorTilesMetrics},
		Address: c.URL(config.RekorTilesHTTP),
		// Rekor v2 serves HTTP once the log's storage is open.
		Ready: service.Answers(c.URL(config.RekorTilesHTTP) + "/healthz"),
		Passes: []service.Passage{{
			Line: `^time=(?P<time>\S+) level=INFO msg="finished call" .*grpc\.method=CreateEntry .*grpc\.code=OK grpc\.time_ms=(?P<ms>[0-9.]+)$`,
			From: "tiles", To: "rekor-tiles", What: "entry",
		}},
	}
}
