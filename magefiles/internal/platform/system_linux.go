package platform

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

// BootTime is when the system was started, or the zero time if it does not tell.
func BootTime() time.Time {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var seconds int64
		if _, err := fmt.Sscanf(lines.Text(), "btime %d", &seconds); err == nil {
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
}

// Memory is the resident memory of a process in bytes, or 0 if it is not known.
func Memory(pid int) int64 {
	// Sizes in pages; the second is the resident one (proc(5)).
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var total, resident int64
	if _, err := fmt.Sscan(string(content), &total, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
