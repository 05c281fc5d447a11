package platform

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
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

// ProcessorTime is the time that a process has spent on processors, or 0 if it is not known.
func ProcessorTime(pid int) time.Duration {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name may hold spaces and parentheses. utime and stime are the 14th and 15th fields, in hundredths of a second
	// wherever Go runs (proc(5)).
	text := string(content)
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if len(fields) < 13 {
		return 0
	}
	sum := time.Duration(0)
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum
}

// Program is the path of the program of a process, or "" if this user may not see it.
func Program(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	// Linux adds this to the path of a file that was deleted, as when the program was built again after the process started.
	return strings.TrimSuffix(path, " (deleted)")
}
