package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Includes says whether a service that belongs to the stacks in is part of the stack s. Each service is part of the whole
// stack. Without a stack, as in a configuration that only serves for the names of services, each counts.
func (s Stack) Includes(in ...Stack) bool {
	return s == "" || s == Whole || slices.Contains(in, s)
}

// with is the stack that has the services of both.
func (s Stack) with(other Stack) Stack {
	if s == other || s == "" {
		return other
	}
	return Whole
}

// HasDatabase says whether the stack has a MariaDB.
func (c Config) HasDatabase() bool { return c.Stack != Tiles }

// StackFile is the file in which a state folder keeps the stack that it was made for.
func (c Config) StackFile() string { return filepath.Join(c.State, "stack") }

// MadeFor is the stack that the state folder was made for; empty if none has been started in it. If the file is gone, or was
// never there since the folder is older than the setting, the logs that the folder holds tell.
func (c Config) MadeFor() (Stack, error) {
	content, err := os.ReadFile(c.StackFile())
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(c.Data("mariadb")); err == nil {
			return Whole, nil
		}
		if _, err := os.Stat(c.Data("tesseract")); err == nil {
			return Tiles, nil
		}
		return "", nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return "", nil // another user's folder, which is refused before anything is done in it
	}
	if err != nil {
		return "", err
	}
	made := Stack(strings.TrimSpace(string(content)))
	if !slices.Contains([]Stack{Tutorial, Tiles, Whole}, made) {
		return "", fmt.Errorf("%s holds %q; accepted is \"tutorial\", \"tiles\" or \"all\": set it to the stack that the folder was made for", c.StackFile(), made)
	}
	return made, nil
}

// Remembered is the stack that the state folder has to remember once c is started in it: what it was made for, and what c
// adds.
func (c Config) Remembered() (Stack, error) {
	made, err := c.Keeper().MadeFor()
	return made.with(c.Stack), err
}

// chooseStack takes the stack that the state folder was made for if the user has named none, and the stack's own CT log if the
// user has named no other. It refuses a CT log that is not part of the stack.
func (c *Config) chooseStack() error {
	if c.Stack == "" {
		made, err := c.MadeFor()
		if err != nil {
			return err
		}
		if c.Stack = made; made == "" {
			c.Stack = Whole
		}
	}
	own := map[Stack]CTLogService{Tutorial: TrillianCT, Tiles: TesseraCT}[c.Stack]
	switch {
	case c.CTLogService == "" && own == "":
		c.CTLogService = TrillianCT
	case c.CTLogService == "":
		c.CTLogService = own
	case own != "" && c.CTLogService != own:
		return fmt.Errorf("SIGLOCAL_CT_LOG is %q, and the stack %q has no other CT log than %q: choose that, or the stack \"all\" with SIGLOCAL_STACK",
			c.CTLogService, c.Stack, own)
	}
	return nil
}
