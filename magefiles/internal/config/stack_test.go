package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAStateFolderRemembersItsStack(t *testing.T) {
	state := t.TempDir()
	load := func(settings ...string) Config {
		t.Helper()
		c, err := Load("/checkout", append(settings, "SIGLOCAL_STATE="+state))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := load(); c.Stack != Whole || c.CTLogService != TrillianCT {
		t.Errorf("an empty folder is for %s with %s", c.Stack, c.CTLogService)
	}
	for _, test := range []struct{ made, setting, stack, log, remembered string }{
		{"", "tiles", "tiles", "tesseract", "tiles"},
		{"tiles", "", "tiles", "tesseract", "tiles"},
		{"tiles", "tiles", "tiles", "tesseract", "tiles"},
		{"tiles", "tutorial", "tutorial", "ct", "all"},
		{"tutorial", "tiles", "tiles", "tesseract", "all"},
		{"tutorial", "", "tutorial", "ct", "tutorial"},
		{"tiles", "all", "all", "ct", "all"},
		{"all", "tiles", "tiles", "tesseract", "all"},
	} {
		if err := os.WriteFile(filepath.Join(state, "stack"), []byte(test.made+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if test.made == "" {
			if err := os.Remove(filepath.Join(state, "stack")); err != nil {
				t.Fatal(err)
			}
		}
		c := load("SIGLOCAL_STACK=" + test.setting)
		remembered, err := c.Remembered()
		if err != nil || string(c.Stack) != test.stack || string(c.CTLogService) != test.log || string(remembered) != test.remembered {
			t.Errorf("%+v: got %s, %s, %s, %v", test, c.Stack, c.CTLogService, remembered, err)
		}
	}
}

func TestAStackIsKnownByItsLogsIfTheFileIsGone(t *testing.T) {
	for folder, want := range map[string]Stack{"mariadb": Whole, "tesseract": Tiles, "registry": Whole} {
		state := t.TempDir()
		if err := os.MkdirAll(filepath.Join(state, "data", folder), 0o700); err != nil {
			t.Fatal(err)
		}
		if c, err := Load("/checkout", []string{"SIGLOCAL_STATE=" + state}); err != nil || c.Stack != want {
			t.Errorf("with data/%s it is %s, %v", folder, c.Stack, err)
		}
	}
}

func TestAStackThatThereIsNotIsRefused(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "stack"), []byte("til"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("/checkout", []string{"SIGLOCAL_STATE=" + state}); err == nil || !strings.Contains(err.Error(), filepath.Join(state, "stack")) {
		t.Errorf("a damaged file: %v", err)
	}
	for _, settings := range [][]string{
		{"SIGLOCAL_STACK=both"}, {"SIGLOCAL_CT_LOG=trillian"}, {"SIGLOCAL_STACK=tiles", "SIGLOCAL_CT_LOG=ct"}, {"SIGLOCAL_STACK=tutorial", "SIGLOCAL_CT_LOG=tesseract"},
	} {
		name, value, _ := strings.Cut(settings[len(settings)-1], "=")
		if _, err := Load("/checkout", settings); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), value) {
			t.Errorf("%v: %v", settings, err)
		}
	}
}
