// Package platform knows the systems that the stack runs on: where they keep the programs and libraries that the stack needs,
// and how these are installed.
package platform

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const unknownListener = "a process that this user cannot see"

// Need is something of the system that the stack is built with or runs.
type Need string

// The needs of the stack.
const (
	CCompiler    Need = "a C compiler"
	MariaDB      Need = "mariadbd and mariadb-install-db"
	PKCS11Module Need = "the SoftHSM 2 module"
)

// RootFS is what only an image of the stack needs: a program that makes a root file system of Debian's packages.
const RootFS Need = "mmdebstrap"

// Needs lists every need.
func Needs() []Need { return []Need{CCompiler, MariaDB, PKCS11Module} }

// System is an operating system or a family of Linux distributions with one package manager.
type System struct {
	Name string
	// update refreshes the lists of packages where install would not.
	update  []string
	install []string
	// compiler is the command that installs a C compiler, if that is no package. It asks the user.
	compiler []string
	// asRoot says that the package manager wants root.
	asRoot   bool
	packages map[Need][]string
	modules  []string
}

var systems = map[string]System{
	"arch": {
		Name: "Arch Linux", install: []string{"pacman", "-S", "--needed", "--noconfirm"}, asRoot: true,
		packages: map[Need][]string{CCompiler: {"gcc"}, MariaDB: {"mariadb"}, PKCS11Module: {"softhsm"}},
		modules:  []string{"/usr/lib/softhsm/libsofthsm2.so"},
	},
	"debian": {
		Name:   "Debian or Ubuntu",
		update: []string{"apt-get", "update"}, install: []string{"apt-get", "install", "-y", "--no-install-recommends"}, asRoot: true,
		// The core packages hold the programs and start no service.
		packages: map[Need][]string{CCompiler: {"gcc", "libc6-dev"}, MariaDB: {"mariadb-server-core", "mariadb-client-core"}, PKCS11Module: {"libsofthsm2"}, RootFS: {"mmdebstrap", "uidmap"}},
		modules:  []string{"/usr/lib/softhsm/libsofthsm2.so"},
	},
	"fedora": {
		Name: "Fedora", install: []string{"dnf", "install", "-y"}, asRoot: true,
		packages: map[Need][]string{CCompiler: {"gcc"}, MariaDB: {"mariadb-server"}, PKCS11Module: {"softhsm"}},
		modules:  []string{"/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"},
	},
	"gentoo": {
		Name: "Gentoo", install: []string{"emerge", "--noreplace"}, asRoot: true,
		packages: map[Need][]string{CCompiler: {"sys-devel/gcc"}, MariaDB: {"dev-db/mariadb"}, PKCS11Module: {"dev-libs/softhsm"}},
		modules:  []string{"/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib/softhsm/libsofthsm2.so"},
	},
	"freebsd": {
		Name: "FreeBSD", install: []string{"pkg", "install", "-y"}, asRoot: true,
		packages: map[Need][]string{CCompiler: {"llvm"}, MariaDB: {"mariadb1011-server"}, PKCS11Module: {"softhsm2"}},
		modules:  []string{"/usr/local/lib/softhsm/libsofthsm2.so"},
	},
	"netbsd": {
		Name: "NetBSD", install: []string{"pkgin", "-y", "install"}, asRoot: true,
		packages: map[Need][]string{CCompiler: {"gcc12"}, MariaDB: {"mariadb-server"}, PKCS11Module: {"softhsm"}},
		modules:  []string{"/usr/pkg/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"},
	},
	"openbsd": {
		Name: "OpenBSD", install: []string{"pkg_add"}, asRoot: true,
		packages: map[Need][]string{CCompiler: {"gcc%11"}, MariaDB: {"mariadb-server"}, PKCS11Module: {"softhsm2"}},
		modules:  []string{"/usr/local/lib/softhsm/libsofthsm2.so"},
	},
	"macos": {
		Name: "macOS", install: []string{"brew", "install"}, compiler: []string{"xcode-select", "--install"},
		packages: map[Need][]string{MariaDB: {"mariadb"}, PKCS11Module: {"softhsm"}},
		modules:  []string{"/opt/homebrew/opt/softhsm/lib/softhsm/libsofthsm2.so", "/usr/local/opt/softhsm/lib/softhsm/libsofthsm2.so"},
	},
}

// errUnknownSystem says that the system is none of those whose package manager is known here.
var errUnknownSystem = errors.New("this system's package manager is not known here")

// DebianPackages are the names of Debian's packages that hold needs.
func DebianPackages(needs []Need) []string {
	var packages []string
	for _, need := range needs {
		packages = append(packages, systems["debian"].packages[need]...)
	}
	return packages
}

// DebianRelease is the codename of the Debian that this process runs on, such as bookworm (VERSION_CODENAME in os-release(5)); empty on
// other systems.
func DebianRelease() string {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	fields := releaseFields(string(release))
	if fields["ID"] != "debian" {
		return ""
	}
	return fields["VERSION_CODENAME"]
}

// releaseFields are the fields of an os-release(5) file, by name.
func releaseFields(release string) map[string]string {
	fields := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(release)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			fields[name] = strings.Trim(value, `"'`)
		}
	}
	return fields
}

// Current is the system that this process runs on.
func Current() (System, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		release = nil
	}
	return current(runtime.GOOS, string(release))
}

// current finds the system for a GOOS and the text of an os-release(5) file.
func current(goos, release string) (System, error) {
	switch goos {
	case "darwin":
		return systems["macos"], nil
	case "freebsd", "netbsd", "openbsd":
		return systems[goos], nil
	}
	fields := releaseFields(release)
	// A distribution's own ID first, then those that it takes after, the closest first.
	for _, id := range append([]string{fields["ID"]}, strings.Fields(fields["ID_LIKE"])...) {
		switch id {
		case "ubuntu":
			id = "debian"
		case "rhel", "centos":
			id = "fedora"
		}
		if system, ok := systems[id]; ok {
			return system, nil
		}
	}
	return System{}, errUnknownSystem
}

// Commands are the commands that install needs, each a list of arguments, run by root if root is true and with sudo
// where the package manager wants root otherwise.
func (s System) Commands(needs []Need, root bool) [][]string {
	var packages []string
	for _, need := range needs {
		packages = append(packages, s.packages[need]...)
	}
	var commands [][]string
	if s.compiler != nil && slices.Contains(needs, CCompiler) {
		commands = append(commands, s.compiler)
	}
	if len(packages) == 0 {
		return commands
	}
	for _, command := range [][]string{s.update, append(slices.Clone(s.install), packages...)} {
		if command == nil {
			continue
		}
		if s.asRoot && !root {
			command = append([]string{"sudo"}, command...)
		}
		commands = append(commands, command)
	}
	return commands
}

// Paste is Commands as one line for a shell.
func (s System) Paste(needs []Need, root bool) string {
	var parts []string
	for _, command := range s.Commands(needs, root) {
		parts = append(parts, strings.Join(command, " "))
	}
	return strings.Join(parts, " && ")
}

// serverFolders are where mariadbd is kept by systems that do not have it on an ordinary user's PATH.
var serverFolders = []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/libexec", "/usr/local/bin", "/usr/pkg/libexec", "/usr/pkg/bin",
	"/opt/homebrew/opt/mariadb/bin", "/usr/local/opt/mariadb/bin"}

// FindMariaDB is the path of mariadbd, or "" if there is none.
func FindMariaDB() string { return find("mariadbd") }

// FindMariaDBInstaller is the path of mariadb-install-db, which makes a data folder, or "" if there is none. It is
// looked for beside the server first, so that the two are of one version.
func FindMariaDBInstaller(server string) string {
	for _, folder := range []string{filepath.Dir(server), filepath.Join(filepath.Dir(filepath.Dir(server)), "bin")} {
		if path := filepath.Join(folder, "mariadb-install-db"); executable(path) {
			return path
		}
	}
	return find("mariadb-install-db")
}

func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, folder := range serverFolders {
		if path := filepath.Join(folder, program); executable(path) {
			return path
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// FindPKCS11Module is the path of SoftHSM's module, or "" if there is none.
func FindPKCS11Module() string {
	var all []string
	for _, id := range []string{"debian", "fedora", "gentoo", "freebsd", "netbsd", "macos"} {
		all = append(all, systems[id].modules...)
	}
	for _, path := range all {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// FindCCompiler is the name of a C compiler that can find the C library's headers, or "" if there is none.
func FindCCompiler() string {
	names := []string{"gcc", "clang", "cc"}
	if runtime.GOOS != "linux" {
		// As go(1) does where the system's own compiler is Clang.
		names = []string{"clang", "cc", "gcc"}
	}
	for _, name := range names {
		if compiles(name) {
			return name
		}
	}
	return ""
}

// compiles says whether a C compiler is there and can find the C library's headers.
func compiles(compiler string) bool {
	check := exec.Command(compiler, "-fsyntax-only", "-x", "c", "-")
	check.Stdin = strings.NewReader("#include <stdlib.h>\n")
	return check.Run() == nil
}

// crossCompilers are the C compilers for Linux on other architectures than this machine's, by Go's names of these, with the
// packages of Debian and Ubuntu.
var crossCompilers = map[string]struct {
	program  string
	packages []string
}{
	"amd64": {"x86_64-linux-gnu-gcc", []string{"gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"}},
	"arm64": {"aarch64-linux-gnu-gcc", []string{"gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"}},
}

// CrossArchitectures are the architectures that FindCrossCompiler knows a compiler for.
func CrossArchitectures() []string { return slices.Sorted(maps.Keys(crossCompilers)) }

// FindCrossCompiler is the name of a C compiler for Linux on another architecture than this machine's, one of
// CrossArchitectures. Without it, the error says how to get it.
func FindCrossCompiler(arch string) (string, error) {
	compiler := crossCompilers[arch]
	if compiles(compiler.program) {
		return compiler.program, nil
	}
	return "", fmt.Errorf("this system lacks %s with the C library for %s, which on Debian or Ubuntu are the packages %s",
		compiler.program, arch, strings.Join(compiler.packages, " and "))
}

// Missing lists those of needs that the system lacks.
func Missing(needs []Need) []Need {
	return slices.DeleteFunc(slices.Clone(needs), func(need Need) bool {
		switch need {
		case CCompiler:
			return FindCCompiler() != ""
		case MariaDB:
			return FindMariaDB() != "" && FindMariaDBInstaller(FindMariaDB()) != ""
		case PKCS11Module:
			return FindPKCS11Module() != ""
		case RootFS:
			// An ordinary user unpacks packages in a user namespace, with IDs that newuidmap gives.
			_, err := exec.LookPath("mmdebstrap")
			_, mapping := exec.LookPath("newuidmap")
			return err == nil && (mapping == nil || os.Geteuid() == 0)
		default:
			panic(fmt.Sprintf("platform: no such need: %q", need))
		}
	})
}

// MayInstall says whether packages can be installed without asking anybody: by root, with a sudo(8) that wants no
// password, or by a package manager that does not need either.
func (s System) MayInstall(ctx context.Context, needs []Need, root bool) bool {
	if s.compiler != nil && slices.Contains(needs, CCompiler) {
		return false
	}
	if _, err := exec.LookPath(s.install[0]); err != nil {
		return false
	}
	return root || !s.asRoot || exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil
}
