//go:build !linux

package platform

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
)

// Listener names the process that listens on the port of address, as far as lsof(8) is there and tells.
func Listener(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return unknownListener
	}
	out, err := exec.Command("lsof", "-nP", "-iTCP:"+port, "-sTCP:LISTEN", "-Fpc").Output()
	if err != nil {
		return unknownListener
	}
	pid, name := "", ""
	for _, field := range strings.Fields(string(out)) {
		switch {
		case field[0] == 'p' && pid == "":
			pid = field[1:]
		case field[0] == 'c' && name == "":
			name = field[1:]
		}
	}
	if pid == "" {
		return unknownListener
	}
	return fmt.Sprintf("process %s (%s)", pid, name)
}
