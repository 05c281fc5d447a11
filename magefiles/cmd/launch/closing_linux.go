package main

import (
	"math"

	"golang.org/x/sys/unix"
)

// closeOnExec makes execve(2) close all descriptors from fd on.
func closeOnExec(fd uint) {
	if unix.CloseRange(fd, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil {
		closeEachOnExec(fd) // Linux before 5.11
	}
}
