package stack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/statedir"
)

// Description is a stack as data, for a program that is handed its descriptions rather than making them.
type Description struct {
	Root     string   `json:"root"`     // the checkout
	Settings []string `json:"settings"` // the variables that the stack was made of, NAME=value, without secret ones
	Environ  []string `json:"environ"`  // further variables for programs that the program runs, NAME=value
	Targets  string   `json:"targets"`  // the compiled targets
	Self     string   `json:"self"`     // the service that the program itself is

	Parts    []config.Part     `json:"parts"` // all that the settings can be about
	Services []service.Service `json:"services"`
	Clients  []service.Service `json:"clients"`
}

// Describe writes the description of s to a file, which only its owner can read, for the program that the service self runs.
func (s *Stack) Describe(file, self string, environ []string) error {
	targets, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(Description{
		Root: s.Config.Root, Settings: s.Config.Settings, Environ: environ, Targets: targets, Self: self,
		Parts: s.Parts(), Services: s.All(), Clients: s.Clients(s.Config),
	}, "", "  ")
	if err != nil {
		return err
	}
	// A file that has this content already is not written again, as with configuration files: a disk that is full keeps no service from
	// starting that runs already.
	if there, err := os.ReadFile(file); err == nil && bytes.Equal(there, text) {
		return nil
	}
	return statedir.WriteSecret(file, text)
}

// ReadDescription reads what Describe wrote, and opens the stack that it describes.
func ReadDescription(file string) (*Stack, Description, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, Description{}, err
	}
	var d Description
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, Description{}, fmt.Errorf("%s: %w", file, err)
	}
	c, err := config.Load(d.Root, d.Settings, d.Parts...)
	if err != nil {
		return nil, d, err
	}
	s := newStack(c, console.New(os.Stderr, os.Getenv), Descriptions{
		Services: func(config.Config) []service.Service { return d.Services },
		Clients:  func(config.Config) []service.Service { return d.Clients },
	})
	s.Engine.Self = d.Self
	return s, d, nil
}
