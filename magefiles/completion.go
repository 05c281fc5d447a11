package main

import (
	"context"
	"os"

	"sigstore-local/magefiles/internal/completion"
	"sigstore-local/magefiles/internal/develop"
	"sigstore-local/magefiles/internal/stack"
)

// Completion prints what makes a shell complete targets, their flags and names. In ~/.bashrc, or in ~/.zshrc after compinit:
// eval "$(go -C CHECKOUT tool mage completion bash)", or zsh. In ~/.config/fish/config.fish:
// go -C CHECKOUT tool mage completion fish | source.
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

// argumentWords lists the values that the first argument of a target can have, by the target's name.
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
