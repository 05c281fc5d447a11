package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/platform"
	"sigstore-local/magefiles/internal/project"
)

// Require installs the needs that the system lacks, if that is allowed without asking. Otherwise the error says how to
// install them.
func (s *Stack) Require(ctx context.Context, needs ...platform.Need) error {
	s.installing.Lock()
	defer s.installing.Unlock()
	missing := s.Missing(needs)
	if len(missing) == 0 {
		return nil
	}
	names := make([]string, len(missing))
	for i, need := range missing {
		names[i] = string(need)
	}
	lacks := "this system lacks " + strings.Join(names, ", ")
	system, err := platform.Current()
	if err != nil {
		return fmt.Errorf("%s: %w: install that, or name it with SIGLOCAL_MARIADBD and SIGLOCAL_PKCS11_MODULE", lacks, err)
	}
	root := os.Geteuid() == 0
	paste := fmt.Errorf("%s. On %s this installs it:\n\n    %s", lacks, system.Name, system.Paste(missing, root))
	if s.Config.Install == config.InstallNever || !system.MayInstall(ctx, missing, root) {
		return paste
	}
	for _, args := range system.Commands(missing, root) {
		if args[0] == "sudo" {
			args = append([]string{"sudo", "-n"}, args[1:]...)
		}
		step := s.Console.Step("install")
		step.Detail("runs %s", strings.Join(args, " "))
		env := append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if _, err := command.Combined(ctx, command.New(ctx, s.Config.Root, env, args[0], args[1:]...)); err != nil {
			step.Fail()
			return fmt.Errorf("%w\n%w", err, paste)
		}
		step.Done("ran %s", strings.Join(args, " "))
	}
	if missing := s.Missing(needs); len(missing) > 0 {
		return fmt.Errorf("%s was installed and is still not found", missing[0])
	}
	return nil
}

// Needs are what the stack needs of the system. What was built elsewhere needs no compiler here.
func (s *Stack) Needs() []platform.Need {
	return slices.DeleteFunc(platform.Needs(), func(need platform.Need) bool {
		return need == platform.MariaDB && !s.Config.HasDatabase() || need == platform.CCompiler && project.Packaged()
	})
}

// Missing lists those of needs that neither the system nor the user's own settings meet.
func (s *Stack) Missing(needs []platform.Need) []platform.Need {
	var open []platform.Need
	for _, need := range needs {
		named := need == platform.MariaDB && s.Config.MariaDB != "" || need == platform.PKCS11Module && s.Config.PKCS11Module != ""
		if !named {
			open = append(open, need)
		}
	}
	return platform.Missing(open)
}

var errNoInstaller = errors.New("mariadb-install-db, which comes with mariadbd, is not found beside it or on the PATH")

// MariaDBPrograms are the paths of mariadbd and mariadb-install-db.
func MariaDBPrograms(c config.Config) (server, installer string, err error) {
	if c.Cluster != nil {
		// Where Debian's packages, of which an image is made, have them.
		return "/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db", nil
	}
	server = c.MariaDB
	if server == "" {
		server = platform.FindMariaDB()
	}
	installer = platform.FindMariaDBInstaller(server)
	if installer == "" {
		return "", "", errNoInstaller
	}
	return server, installer, nil
}

// KnownMariaDB calls CheckMariaDB once for each server program and remembers the result, since the check takes half as long as a
// warm start of MariaDB.
func KnownMariaDB(ctx context.Context, c config.Config, server string) error {
	info, err := os.Stat(server)
	if err != nil {
		return CheckMariaDB(ctx, server)
	}
	this := fmt.Sprintf("%s, %d bytes of %s\n", server, info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
	if known, err := os.ReadFile(c.Run("mariadbd.checked")); err == nil && string(known) == this {
		return nil
	}
	if err := CheckMariaDB(ctx, server); err != nil {
		return err
	}
	return renameio.WriteFile(c.Run("mariadbd.checked"), []byte(this), 0o600)
}

// CheckMariaDB refuses a server that is not MariaDB, or is too old.
func CheckMariaDB(ctx context.Context, server string) error {
	const accepted = "accepted is MariaDB 10.5 or newer, which SIGLOCAL_MARIADBD can name"
	out, err := exec.CommandContext(ctx, server, "--no-defaults", "--version").CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return fmt.Errorf("%s --version: %w: %s; %s", server, err, said, accepted)
	}
	release := mariaDBRelease.FindStringSubmatch(said)
	if release == nil {
		return fmt.Errorf("%s says that it is %q; %s", server, said, accepted)
	}
	major, _ := strconv.Atoi(release[1])
	minor, _ := strconv.Atoi(release[2])
	if major < 10 || major == 10 && minor < 5 {
		return fmt.Errorf("%s is MariaDB %d.%d; %s", server, major, minor, accepted)
	}
	return nil
}

// mariaDBRelease finds the release in what mariadbd --version prints, such as "Ver 10.11.14-MariaDB-0+deb12u2 for …".
var mariaDBRelease = regexp.MustCompile(`Ver (\d{1,3})\.(\d{1,3})\.\d+-MariaDB`)

// PKCS11Module is the path of the module that holds the CA's key.
func PKCS11Module(c config.Config) string {
	if c.PKCS11Module != "" {
		return c.PKCS11Module
	}
	return platform.FindPKCS11Module()
}
