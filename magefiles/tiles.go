package main

import (
	"context"
	"net/http"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
)

// Tiles is the web server by which clients read the logs of tiles, and add entries to them.
type Tiles mg.Namespace

// Start starts the web server. It serves what the logs have, whether their own servers run or not.
func (Tiles) Start(ctx context.Context) error {
	if err := needs(ctx, Build); err != nil {
		return err
	}
	return start(ctx, tiles, nil)
}

// Restart rebuilds the web server if its source has changed, and restarts only the web server.
func (Tiles) Restart(ctx context.Context) error {
	return restartOnly(ctx, Tiles.Start, tilesComponent())
}

// Stop stops Rekor v2, which clients reach through the web server, and then the web server.
func (Tiles) Stop(ctx context.Context) error {
	if err := needs(ctx, RekorTiles.Stop); err != nil {
		return err
	}
	return stop(ctx, tiles)
}

func tilesComponent() component {
	return component{describe: tiles, start: Tiles.Start, stop: Tiles.Stop}
}

func tiles(c config.Config) service.Service {
	return service.Service{
		Name:  "tiles",
		About: "a web server for the logs of tiles",
		Uses: []service.Use{
			{Of: "rekor-tiles", To: "pass entries on"},
			{Of: "data/rekor-tiles", To: "serve the tiles"},
			{Of: "tesseract", To: "pass certificates on"},
			{Of: "data/tesseract", To: "serve the tiles"},
			{Of: "data/rekor-index", To: "find entries"},
			{Of: "keys/rekor-tiles.pub", To: "check what it indexes"},
		},
		Derived:   []string{"data/rekor-index"},
		Single:    "it reads the folders of the logs, which are where the logs' only copies are",
		Stacks:    []config.Stack{config.Tiles},
		Program:   c.Program("tiles"),
		Packages:  []string{project.Module + "/magefiles/cmd/tiles"},
		Args:      []string{"serve", c.ConfigFile("tiles.json")},
		Templates: []string{"tiles.json"},
		Listens:   []config.Port{config.RekorTiles, config.CTTiles},
		Address:   c.RekorV2(),
		// A log that is still empty has no checkpoint.
		Ready: service.Answers(c.URL(config.RekorTiles)+"/checkpoint", http.StatusNotFound),
		Passes: []service.Passage{
			{Line: goLog + `rekor-tiles: "POST" "/api/v2/log/entries": 20[01] in (?P<took>\S+)$`, From: bundler(c), To: "tiles", What: "entry"},
			{Line: goLog + `tesseract: "POST" "/sigstore/ct/v1/add-chain": 200 in (?P<took>\S+)$`, From: "tiles", To: "tesseract", What: "certificate"},
		},
	}
}
