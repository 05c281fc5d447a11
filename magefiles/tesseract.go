package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/tilelog"
)

// Tesseract is TesseraCT, a certificate transparency log that keeps its tree as tiles in files and needs no database.
type Tesseract mg.Namespace

// Start makes the CA's root certificate, to which entries must chain, unless it is there, and starts TesseraCT.
func (Tesseract) Start(ctx context.Context) error {
	if err := needs(ctx, Build, tesseractKey, tesseractLog, caRoot); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	// Of the first entries that come at the same time, each makes this folder if it is not there, and TesseraCT refuses those that come second.
	if err := os.MkdirAll(filepath.Join(s.Config.Data("tesseract"), "issuer"), 0o700); err != nil {
		return err
	}
	return start(ctx, tesseract, nil)
}

// tesseractKey makes the key with which the log signs: ECDSA, the only kind that Fulcio takes SCTs of beside RSA.
func tesseractKey(ctx context.Context) error {
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	return keys.Ensure(keys.SEC1, s.Config.Key("tesseract.pem"), s.Config.Key("tesseract.pub"), "")
}

// tesseractLog returns an error if the log's files are damaged so that the server, once started, would lose or corrupt the log.
func tesseractLog(ctx context.Context) error {
	if err := needs(ctx, tesseractKey); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	log := tilelog.Log{Files: tilelog.Folder(s.Config.Data("tesseract")), Origin: s.Config.TesseraCTOrigin(), Key: s.Config.Key("tesseract.pub"), Layout: tilelog.StaticCT}
	if err := log.Check(); err != nil {
		return fmt.Errorf("tesseract: %w", err)
	}
	return nil
}

// Restart rebuilds TesseraCT if its source has changed, and restarts only TesseraCT.
func (Tesseract) Restart(ctx context.Context) error {
	return restartOnly(ctx, Tesseract.Start, tesseractComponent())
}

// Stop stops Fulcio, which may need TesseraCT, and then TesseraCT.
func (Tesseract) Stop(ctx context.Context) error {
	if err := needs(ctx, Fulcio.Stop); err != nil {
		return err
	}
	return stop(ctx, tesseract)
}

func tesseractComponent() component {
	return component{describe: tesseract, start: Tesseract.Start, stop: Tesseract.Stop, prepare: []any{tesseractKey, tesseractLog, caRoot}}
}

func tesseract(c config.Config) service.Service {
	return service.Service{
		Name:  "tesseract",
		About: "TesseraCT, the CT log as tiles in files",
		Uses: []service.Use{
			{Of: "keys/ca-root.pem", To: "take only what chains to it"},
			{Of: "keys/tesseract.pem", Signs: "SCTs, checkpoints", Public: "keys/tesseract.pub"},
			{Of: "data/tesseract", To: "keep the tiles"},
		},
		// Which certificates it has already, which it learns from the log; the files are as large as their database may become.
		Derived:  []string{"data/tesseract/.state/antispam"},
		Single:   "two copies that write into the folder of one log would sign two histories of it",
		Stacks:   []config.Stack{config.Tiles},
		Program:  c.Program("tesseract"),
		Packages: []string{"tesseract=github.com/transparency-dev/tesseract/cmd/tesseract/posix"},
		Source: &config.Source{
			Name: "tesseract", Module: "github.com/transparency-dev/tesseract", Programs: map[string]string{"tesseract": "cmd/tesseract/posix"},
			Restart: "tesseract:restart", Demo: "demo:keyless",
		},
		Args: []string{
			"--http_endpoint=" + c.ListenAddress(config.TesseractHTTP), "--path_prefix=sigstore", "--origin=" + c.TesseraCTOrigin(),
			"--private_key=" + c.Key("tesseract.pem"), "--roots_pem_file=" + c.Key("ca-root.pem"), "--ext_key_usages=CodeSigning",
			"--storage_dir=" + c.Data("tesseract"),
			// A certificate's SCT comes once a checkpoint covers its entry. With upstream's defaults that takes 1.5 seconds. An
			// entry that comes this interval or more after the last checkpoint is covered at once. Looking whether a checkpoint
			// is due is a third of what the server does when idle at an interval of 100 ms.
			"--batch_max_age=10ms", "--checkpoint_interval=500ms",
			"--logtostderr",
			// With this it logs its requests.
			"--vmodule=handlers=2",
		},
		Env:     threads(c),
		Listens: []config.Port{config.TesseractHTTP},
		Address: c.URL(config.TesseractHTTP) + "/sigstore",
		// TesseraCT serves HTTP once the log's storage is open.
		Ready:  service.Answers(c.URL(config.TesseractHTTP) + "/sigstore/ct/v1/get-roots"),
		Passes: scts(c, config.TesseraCT, klog+`handlers\.go:\d+\] \S+: AddPreChain <= st=200$`),
	}
}
