//go:build !linux

package platform

import (
	"encoding/binary"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is when the system was started, or the zero time if it does not tell.
func BootTime() time.Time {
	// A struct timeval (or timespec), which begins with the seconds.
	raw, err := unix.SysctlRaw("kern.boottime")
	if err != nil || len(raw) < 8 {
		return time.Time{}
	}
	return time.Unix(int64(binary.NativeEndian.Uint64(raw)), 0)
}

// Memory is the resident memory of a process in bytes, or 0 if it is not known.
func Memory(pid int) int64 {
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0
	}
	kilobytes, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return 0
	}
	return kilobytes * 1024
}

// ProcessorTime is 0: what ps tells of it differs from system to system.
func ProcessorTime(int) time.Duration { return 0 }

// Program is "": there is no portable way to the path of a process's program.
func Program(int) string { return "" }
