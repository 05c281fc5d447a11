package platform

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener names the process that listens on the port of address, as far as this user may see it.
func Listener(address string) string {
	pid := ListenerPID(address)
	if pid == 0 {
		return unknownListener
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
}

// ListenerPID is the process that listens on the port of address, or 0 if this user may not see it.
func ListenerPID(address string) int {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return 0
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, inode := range listeningInodes(table, host, port) {
			if pid, err := strconv.Atoi(socketOwner(inode)); err == nil {
				return pid
			}
		}
	}
	return 0
}

// locals has, for an address that a client connects to, the local addresses of sockets that accept this connection, in the form
// of proc(5): the address itself, 0.0.0.0 or ::, and for 127.0.0.1 also ::ffff:127.0.0.1.
var locals = map[string][]string{
	"127.0.0.1": {"0100007F", "00000000", strings.Repeat("0", 32), "0000000000000000FFFF00000100007F"},
	"::1":       {"00000000000000000000000001000000", strings.Repeat("0", 32)},
}

// listeningInodes reads the inodes of the sockets that listen on port of host from a table such as /proc/net/tcp; proc(5)
// has its columns.
func listeningInodes(table, host string, port int) []string {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close()
	const local, state, inode, listening = 1, 3, 9, "0A"
	wanted := fmt.Sprintf("%04X", port)
	var inodes []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) <= inode || fields[state] != listening {
			continue
		}
		if address, number, _ := strings.Cut(fields[local], ":"); number == wanted && slices.Contains(locals[host], address) {
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
