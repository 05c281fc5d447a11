package main

import (
	"context"
	"os"

	"sigstore-local/magefiles/internal/completion"
	"sigstore-local/magefiles/internal/develop"
	"sigstore-local/magefiles/internal/stack"
)

// Completion prints a script with which a shell completes targets, their flags and their arguments. For bash, put this line into
// ~/.bashrc: eval "$(go -C CHECKOUT tool mage completion bash)". For zsh, put it into ~/.zshrc after compinit, with zsh in place
// of bash. For fish, put this line into ~/.config/fish/config.fish: go -C CHECKOUT tool mage completion fish | source.
func Completion(
	ctx context.Context,
	shell string, // bash, zsh or fish
) error {
	s, err := load()
	if err != nil {
		return err
	}
	words, err := argumentWords(s.Stack)
	if err != nil {
		return err
	}
	return completion.Print(os.Stdout, shell, s.Config.Root, words)
}

// argumentWords has, for the name of each target whose first argument is a name, the values of that argument.
func argumentWords(s *stack.Stack) (map[string][]string, error) {
	modules, err := pinned(s.Config).Names()
	if err != nil {
		return nil, err
	}
	services := append([]string{"all"}, s.ServiceNames()...)
	return map[string][]string{
		"logs": services, "restart": services, "debug": stack.Names(develop.AllDebuggable(s)), "watch": s.SourceNames(), "bump": modules,
	}, nil
}
