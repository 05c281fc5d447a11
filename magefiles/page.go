package main

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/magefile/mage/mg"

	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// Page is the page in the browser that shows the stack, its logs and every signature.
type Page mg.Namespace

// PAGE starts the page that shows the stack in the browser, and prints its address, with the token that lets the reader run lessons. Its
// name is in capitals since a type has it in lower case; mage calls both page.
func PAGE(ctx context.Context) error {
	if err := needs(ctx, Page.Start); err != nil {
		return err
	}
	s, err := load()
	if err != nil {
		return err
	}
	token, err := statedir.Secret(s.Config, config.PageToken)
	if err != nil {
		return err
	}
	fmt.Printf("%s/?token=%s\n", s.Config.PageURL(), token)
	return nil
}

// Start starts the page. It shows what runs, whatever that is.
func (Page) Start(ctx context.Context) error {
	if err := needs(ctx, Build); err != nil {
		return err
	}
	s, err := acquire(ctx)
	if err != nil {
		return err
	}
	if _, err := statedir.Secret(s.Config, config.PageToken); err != nil {
		return err
	}
	// The lessons build an image by go(1), which has its folders below the user's HOME.
	var folders []string
	if _, err := exec.LookPath("go"); err == nil {
		if folders, err = client.GoFolders(ctx, s.Config.Root); err != nil {
			return err
		}
	}
	if err := s.Describe(s.Config.Run("page.json"), page(s.Config).Name, folders); err != nil {
		return err
	}
	return start(ctx, page, nil)
}

// Restart rebuilds the page's server if its source has changed, and restarts only the page.
func (Page) Restart(ctx context.Context) error { return restartOnly(ctx, Page.Start, pageComponent()) }

// Stop stops the page.
func (Page) Stop(ctx context.Context) error { return stop(ctx, page) }

func pageComponent() component {
	return component{describe: page, start: Page.Start, stop: Page.Stop}
}

func page(c config.Config) service.Service {
	return service.Service{
		Name:  "page",
		About: "this stack in the browser",
		Uses: []service.Use{
			{Of: "secrets/page-token", To: "run lessons for who has it"},
		},
		Stacks:   []config.Stack{config.Tutorial, config.Tiles},
		Program:  c.Program("page"),
		Packages: []string{project.Module + "/magefiles/cmd/page"},
		Module:   "github.com/sigstore/sigstore-go",
		Here:     true,
		Args: []string{
			"-stack=" + c.Run("page.json"), "-address=" + c.ListenAddress(config.Page), "-token-file=" + c.SecretFile(config.PageToken),
		},
		// It holds much for a moment and little for long, so that collecting garbage often is worth it.
		Env: []string{"GOGC=50", "GOMEMLIMIT=40MiB"},
		// The page shows a stack as it was described when the page was started.
		For:     string(c.Stack) + " " + string(c.CTLogService),
		Listens: []config.Port{config.Page},
		Address: c.PageURL(),
		Ready:   service.Answers(c.URL(config.Page) + "/ready"),
	}
}
