package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// freshMachine is a script that enters the Debian at ROOT with Go and with the module and build caches of the user who runs
// the tests, since the machine is tested, and not the compiler. Its mounts end with it.
const freshMachine = `
set -eu
mount --bind "$GOROOT_HERE" "$ROOT/usr/local/go"
mount --bind "$GOMODCACHE_HERE" "$ROOT/modules"
mount --bind "$GOCACHE_HERE" "$ROOT/cache"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
exec chroot --userspec="$AS" "$ROOT" env -i PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	HOME="$HOME_THERE" GOMODCACHE=/modules GOCACHE="$CACHE_THERE" GOFLAGS=-modcacherw \
	SIGLOCAL_PORT_OFFSET="$OFFSET" sh -c "$COMMAND"
`

func TestAFreshDebianWithGoAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can make a Debian to try this on")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		t.Skip("debootstrap is not installed")
	}
	root := filepath.Join(s.home, "debian")
	const checkout = "user/My Projects/sigstore-local"
	if out, err := exec.CommandContext(t.Context(), "debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root).CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v: %s", err, out[max(0, len(out)-2000):])
	}
	for _, folder := range []string{"usr/local/go", "modules", "cache", checkout} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The fresh machine reaches the package registry as this one does.
	for _, setting := range []string{"/etc/hosts", "/etc/apt/apt.conf.d/.", "/etc/ssl/certs/."} {
		if out, err := exec.Command("cp", "-rLu", "--remove-destination", "--", setting, filepath.Join(root, setting)).CombinedOutput(); err != nil {
			t.Logf("%v: %s", err, out)
		}
	}
	// The files of the checkout as they are now, without those that git ignores.
	tracked, err := exec.Command("git", "-C", s.config.Root, "ls-files", "--cached", "--others", "--exclude-standard", "-z").Output()
	if err != nil {
		t.Fatal(err)
	}
	copied := exec.Command("cp", append([]string{"--parents", "-t", filepath.Join(root, checkout), "--"}, strings.Split(strings.TrimSuffix(string(tracked), "\x00"), "\x00")...)...)
	copied.Dir = s.config.Root
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	inside := *s
	inside.config.State = filepath.Join(root, checkout, "state")
	t.Cleanup(inside.killAll)
	env := func(name string) string {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(value))
	}
	enter := func(as, cache, command string) result {
		inside.env = append(slices.Clone(os.Environ()), "ROOT="+root, "AS="+as, "CACHE_THERE="+cache, "HOME_THERE=/user", "COMMAND=cd '/"+checkout+"' && "+command,
			"GOROOT_HERE="+env("GOROOT"), "GOMODCACHE_HERE="+env("GOMODCACHE"), "GOCACHE_HERE="+env("GOCACHE"), fmt.Sprint("OFFSET=", s.config.Port(config.Registry)-1338))
		inside.t.Helper()
		defer func(began time.Time) { t.Logf("%s took %s", command, time.Since(began).Round(100*time.Millisecond)) }(time.Now())
		return inside.run("/", "unshare", "--mount", "sh", "-c", freshMachine)
	}
	const paste = "apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev mariadb-server-core mariadb-client-core libsofthsm2"
	if r := enter("0:0", "/cache", "SIGLOCAL_INSTALL=never go tool mage demo:keyless"); r.code == 0 || !strings.Contains(r.stderr, paste) {
		t.Errorf("SIGLOCAL_INSTALL=never: %s", r)
	}
	r := enter("0:0", "/cache", "cd templates && go tool mage demo:keyless status stop")
	if r.code != 0 || !strings.Contains(r.stderr, "apt-get install") || strings.Count(r.stdout, "Refused, as it should be.") != 4 || strings.Count(r.stdout, " ready ") != len(tutorial) {
		t.Errorf("as root: %s", r)
	}
	inside.killAll()
	// Now as an ordinary user. Of root's state folder only the built programs are kept.
	if out, err := exec.Command("sh", "-ec", `find "$1/$2/state" -mindepth 1 -maxdepth 1 ! -name bin ! -name .gitignore -exec rm -rf {} + && chown -R 12345:12345 "$1/user"`, "sh", root, checkout).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The user's build cache has root's packages, as links where these are possible: the machine is tested, and not the compiler.
	const cache = `mkdir "$2" && { cp -al "$1/." "$2" 2>/dev/null || rm -rf "$2"; mkdir -p "$2"; } && find "$2" -type d -exec chown 12345:12345 {} +`
	if out, err := exec.Command("sh", "-ec", cache, "sh", env("GOCACHE"), filepath.Join(root, "usercache")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r = enter("12345:12345", "/usercache", "go tool mage start status stop")
	if r.code != 0 || strings.Count(r.stdout, " ready ") != len(names) {
		t.Errorf("as an ordinary user: %s", r)
	}
}
