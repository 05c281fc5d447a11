//go:build !linux

package platform

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
)

// Listener names the process that listens on the port of address, as far as lsof(8) is there and tells.
func Listener(address string) string {
	pid, name := listener(address)
	if pid == 0 {
		return unknownListener
	}
	return fmt.Sprintf("process %d (%s)", pid, name)
}

// ListenerPID is the process that listens on the port of address, or 0 if lsof(8) does not tell.
func ListenerPID(address string) int {
	pid, _ := listener(address)
	return pid
}

func listener(address string) (pid int, name string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, ""
	}
	out, err := exec.Command("lsof", "-nP", "-iTCP:"+port, "-sTCP:LISTEN", "-Fpc").Output()
	if err != nil {
		return 0, ""
	}
	for _, field := range strings.Fields(string(out)) {
		switch {
		case field[0] == 'p' && pid == 0:
			pid, _ = strconv.Atoi(field[1:])
		case field[0] == 'c' && name == "":
			name = field[1:]
		}
	}
	return pid, name
}
