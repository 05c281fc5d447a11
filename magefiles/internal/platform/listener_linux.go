package platform

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Listener names the process that listens on the port of address, as far as this user may see it.
func Listener(address string) string {
	_, portText, err := net.SplitHostPort(address)
	if err != nil {
		return unknownListener
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return unknownListener
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, inode := range listeningInodes(table, port) {
			if pid := socketOwner(inode); pid != "" {
				name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
				if err != nil {
					return "process " + pid
				}
				return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
			}
		}
	}
	return unknownListener
}

// listeningInodes reads the inodes of the sockets that listen on port from a table such as /proc/net/tcp; proc(5) has
// its columns.
func listeningInodes(table string, port int) []string {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close()
	const local, state, inode, listening = 1, 3, 9, "0A"
	suffix := fmt.Sprintf(":%04X", port)
	var inodes []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > inode && fields[state] == listening && strings.HasSuffix(fields[local], suffix) {
			inodes = append(inodes, fields[inode])
		}
	}
	return inodes
}

// socketOwner is the PID of a process that has the socket open, or "" if this user may not see it.
func socketOwner(inode string) string {
	descriptors, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, descriptor := range descriptors {
		if target, err := os.Readlink(descriptor); err == nil && target == "socket:["+inode+"]" {
			return strings.Split(descriptor, "/")[2]
		}
	}
	return ""
}
