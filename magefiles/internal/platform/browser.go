package platform

import (
	"os/exec"
	"runtime"
)

// Browser is the program that opens a URL in the user's browser. It is "" where there is no desktop, or where the user
// sits at another one, at the other end of ssh.
func Browser(getenv func(string) string) string { return browser(runtime.GOOS, getenv) }

func browser(goos string, getenv func(string) string) string {
	if getenv("SSH_CONNECTION") != "" || getenv("SSH_TTY") != "" {
		return ""
	}
	openers := []string{"xdg-open", "x-www-browser"}
	switch {
	case goos == "darwin":
		openers = []string{"open"}
	case getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "":
		return ""
	}
	for _, opener := range openers {
		if path, err := exec.LookPath(opener); err == nil {
			return path
		}
	}
	return ""
}
