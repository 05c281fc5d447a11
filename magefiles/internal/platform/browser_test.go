package platform

import (
	"os"
	"path/filepath"
	"testing"
)

func TestABrowserIsOpenedOnlyWhereTheUserSeesIt(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	opener := func(name string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	desktop := map[string]string{"DISPLAY": ":0"}
	if got := browser("linux", func(name string) string { return desktop[name] }); got != "" {
		t.Errorf("without a program that opens one: got %q", got)
	}
	xdgOpen, open := opener("xdg-open"), opener("open")
	for _, test := range []struct {
		goos string
		env  map[string]string
		want string
	}{
		{"linux", desktop, xdgOpen},
		{"linux", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, xdgOpen},
		{"freebsd", desktop, xdgOpen},
		{"linux", nil, ""},
		{"linux", map[string]string{"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, ""},
		{"darwin", nil, open},
		{"darwin", map[string]string{"SSH_TTY": "/dev/ttys001"}, ""},
	} {
		if got := browser(test.goos, func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("%s %v: got %q, want %q", test.goos, test.env, got, test.want)
		}
	}
}
