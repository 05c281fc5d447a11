package platform

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestEachSystemIsToldItsOwnCommand(t *testing.T) {
	for _, test := range []struct {
		goos, release string
		root          bool
		want          string
	}{
		{"linux", "ID=arch\n", false, "sudo pacman -S --needed --noconfirm gcc mariadb softhsm"},
		{"linux", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n", true,
			"apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev mariadb-server-core mariadb-client-core libsofthsm2"},
		{"linux", "ID=ubuntu\nID_LIKE=debian\n", false,
			"sudo apt-get update && sudo apt-get install -y --no-install-recommends gcc libc6-dev mariadb-server-core mariadb-client-core libsofthsm2"},
		{"linux", "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", true,
			"apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev mariadb-server-core mariadb-client-core libsofthsm2"},
		{"linux", "ID=fedora\n", false, "sudo dnf install -y gcc mariadb-server softhsm"},
		{"linux", "ID='rocky'\nID_LIKE='rhel centos fedora'\n", true, "dnf install -y gcc mariadb-server softhsm"},
		{"linux", "ID=gentoo\n", true, "emerge --noreplace sys-devel/gcc dev-db/mariadb dev-libs/softhsm"},
		{"freebsd", "", true, "pkg install -y llvm mariadb1011-server softhsm2"},
		{"netbsd", "", true, "pkgin -y install gcc12 mariadb-server softhsm"},
		{"openbsd", "", true, "pkg_add gcc%11 mariadb-server softhsm2"},
		{"darwin", "", false, "xcode-select --install && brew install mariadb softhsm"},
	} {
		system, err := current(test.goos, test.release)
		if err != nil {
			t.Errorf("%s %q: %v", test.goos, test.release, err)
			continue
		}
		if got := system.Paste(Needs(), test.root); got != test.want {
			t.Errorf("%s %q:\n got %s\nwant %s", test.goos, test.release, got, test.want)
		}
	}
}

func TestOnlyWhatIsMissingIsInstalled(t *testing.T) {
	if got, want := systems["fedora"].Paste([]Need{PKCS11Module}, true), "dnf install -y softhsm"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnUnknownSystemIsNamed(t *testing.T) {
	for _, release := range []string{"", "ID=plan9\n", "ID=\nID_LIKE=\n"} {
		if _, err := current("linux", release); !errors.Is(err, errUnknownSystem) {
			t.Errorf("%q: got %v", release, err)
		}
	}
}

func TestListenerNamesTheProcess(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Skip(err)
		}
		defer l.Close()
		if got, want := Listener(l.Addr().String()), fmt.Sprintf("process %d", os.Getpid()); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}

func TestTheSystemWasStartedBeforeThisTest(t *testing.T) {
	boot := BootTime()
	if boot.IsZero() || !boot.Before(time.Now()) {
		t.Errorf("got %s", boot)
	}
}
