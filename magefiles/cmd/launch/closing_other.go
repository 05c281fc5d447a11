//go:build !linux

package main

// closeOnExec makes execve(2) close all descriptors from fd on.
func closeOnExec(fd uint) { closeEachOnExec(fd) }
