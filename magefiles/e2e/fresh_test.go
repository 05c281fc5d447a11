package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/config"
)

// freshDebian makes a Debian with nothing but what every Debian has, once for all tests: each gets a copy. The mounts that debootstrap
// makes end with it, even if it is killed.
var freshDebian = sync.OnceValues(func() (root string, err error) {
	root = filepath.Join(shared, "debian")
	cmd := exec.Command("unshare", "--mount", "debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("debootstrap: %w: %s", err, out[max(0, len(out)-2000):])
	}
	return root, nil
})

// machine is a Debian in a folder of a test's.
type machine struct {
	*stack
	root string
}

// newMachine makes a fresh machine, whose stack keeps its state in the folder state of the machine.
func (s *stack) newMachine(state string) machine {
	s.t.Helper()
	if os.Geteuid() != 0 {
		s.t.Skip("only root can make a Debian to try this on")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		s.t.Skip("debootstrap is not installed")
	}
	fresh, err := freshDebian()
	if err != nil {
		s.t.Fatal(err)
	}
	inside := *s
	on := machine{&inside, filepath.Join(s.home, "debian")}
	if out, err := exec.Command("cp", "-a", "--", fresh, on.root).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	// The fresh machine reaches the package registry as this one does.
	for _, setting := range []string{"/etc/hosts", "/etc/apt/apt.conf.d/.", "/etc/ssl/certs/."} {
		if out, err := exec.Command("cp", "-rLu", "--remove-destination", "--", setting, on.folder(setting)).CombinedOutput(); err != nil {
			s.t.Logf("%v: %s", err, out)
		}
	}
	inside.config.State, inside.env = on.folder(state), os.Environ()
	inside.endsWithTest()
	return on
}

// endsWithTest makes what runs on the machine end with the test, or when the tests are told to end.
func (s *stack) endsWithTest() {
	live.Store(s.config.State, s)
	s.t.Cleanup(func() { defer live.Delete(s.config.State); s.killAll() })
}

// folder is where a folder of the machine is on this one.
func (on machine) folder(path string) string { return filepath.Join(on.root, path) }

// enter runs a shell's command on the machine as a user, whose number and whose group's number are given, with the variables of env
// and no others. Each folder of this machine that shown names is where it says on that machine. The mounts end with the command.
func (on machine) enter(as string, shown map[string]string, env []string, command string) result {
	on.t.Helper()
	script := "set -eu\n"
	for from, to := range shown {
		script += shellescape.QuoteCommand([]string{"mount", "--bind", from, on.folder(to)}) + "\n"
	}
	script += shellescape.QuoteCommand([]string{"mount", "-t", "proc", "proc", on.folder("proc")}) + "\n" +
		shellescape.QuoteCommand([]string{"mount", "--rbind", "/dev", on.folder("dev")}) + "\n" +
		"exec " + shellescape.QuoteCommand(slices.Concat([]string{"chroot", "--userspec=" + as, on.root, "env", "-i",
		fmt.Sprint("SIGLOCAL_PORT_OFFSET=", on.config.Port(config.Registry)-1338)}, env, []string{"sh", "-c", command}))
	began := time.Now()
	r := on.run("/", "unshare", "--mount", "sh", "-c", script)
	on.t.Logf("%s took %s", command, time.Since(began).Round(100*time.Millisecond))
	return r
}

func TestAFreshDebianWithGoAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	const checkout = "user/My Projects/sigstore-local"
	on := s.newMachine(checkout + "/state")
	for _, folder := range []string{"usr/local/go", "modules", "cache", checkout} {
		if err := os.MkdirAll(on.folder(folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The files of the checkout as they are now, without those that git ignores.
	tracked, err := exec.Command("git", "-C", s.config.Root, "ls-files", "--cached", "--others", "--exclude-standard", "-z").Output()
	if err != nil {
		t.Fatal(err)
	}
	copied := exec.Command("cp", append([]string{"--parents", "-t", on.folder(checkout), "--"}, strings.Split(strings.TrimSuffix(string(tracked), "\x00"), "\x00")...)...)
	copied.Dir = s.config.Root
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	env := func(name string) string {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(value))
	}
	// Go and the module and build caches are those of the user who runs the tests, since the machine is tested, and not the compiler.
	shown := map[string]string{env("GOROOT"): "usr/local/go", env("GOMODCACHE"): "modules", env("GOCACHE"): "cache"}
	enter := func(as, cache, command string) result {
		t.Helper()
		return on.enter(as, shown, []string{"PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/user", "GOMODCACHE=/modules", "GOCACHE=" + cache, "GOFLAGS=-modcacherw"},
			"cd '/"+checkout+"' && "+command)
	}
	const paste = "apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev mariadb-server-core mariadb-client-core libsofthsm2"
	if r := enter("0:0", "/cache", "SIGLOCAL_INSTALL=never go tool mage demo:keyless"); r.code == 0 || !strings.Contains(r.stderr, paste) {
		t.Errorf("SIGLOCAL_INSTALL=never: %s", r)
	}
	r := enter("0:0", "/cache", "cd templates && go tool mage demo:keyless status stop")
	if r.code != 0 || !strings.Contains(r.stderr, "apt-get install") || strings.Count(r.stdout, "Refused, as it should be.") != 4 || strings.Count(r.stdout, " ready ") != len(tutorial) {
		t.Errorf("as root: %s", r)
	}
	on.killAll()
	// Now as an ordinary user. Of root's state folder only the built programs are kept.
	if out, err := exec.Command("sh", "-ec", `find "$1/$2/state" -mindepth 1 -maxdepth 1 ! -name bin ! -name .gitignore -exec rm -rf {} + && chown -R 12345:12345 "$1/user"`, "sh", on.root, checkout).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The user's build cache has root's packages, as links where these are possible: the machine is tested, and not the compiler.
	const cache = `mkdir "$2" && { cp -al "$1/." "$2" 2>/dev/null || rm -rf "$2"; mkdir -p "$2"; } && find "$2" -type d -exec chown 12345:12345 {} +`
	if out, err := exec.Command("sh", "-ec", cache, "sh", env("GOCACHE"), on.folder("usercache")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r = enter("12345:12345", "/usercache", "go tool mage start status stop")
	if r.code != 0 || strings.Count(r.stdout, " ready ") != len(names) {
		t.Errorf("as an ordinary user: %s", r)
	}
}

// installed finds, in what the targets say, how long an installation took.
var installed = regexp.MustCompile(`(?m)^✓ install +ran .* \(([\d.]+s)\)$`)

// worksOnAFreshDebian tries an archive of the stack of tiles, which is unpacked to a folder of the given name, on a machine without Go
// and without a compiler.
func (s *stack) worksOnAFreshDebian(file, name string) {
	s.t.Helper()
	on := s.newMachine("unpacked/" + name + "/state")
	shown := map[string]string{filepath.Dir(file): "media"}
	if err := os.MkdirAll(on.folder("unpacked"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Mkdir(on.folder("user"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(on.folder("user"), 12345, 12345); err != nil {
		s.t.Fatal(err)
	}
	enter := func(as, command string) (result, time.Duration) {
		s.t.Helper()
		began := time.Now()
		r := on.enter(as, shown, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/user", "SIGLOCAL_STACK=tiles", "DEBIAN_FRONTEND=noninteractive"}, "cd /unpacked && "+command)
		return r, time.Since(began)
	}
	const zstd = "apt-get update && apt-get install -y --no-install-recommends zstd"
	r, apt := enter("0:0", zstd)
	if r.code != 0 {
		s.t.Fatalf("%s", r)
	}
	r, rest := enter("0:0", shellescape.QuoteCommand([]string{"tar", "-xf", "/media/" + filepath.Base(file)}))
	if r.code != 0 {
		s.t.Fatalf("%s", r)
	}
	// The folder is root's, so an ordinary user keeps the state elsewhere.
	program := shellescape.Quote("./" + name + "/sigstore-local")
	ofUser := *on.stack
	ofUser.config.State = on.folder("user/state")
	ofUser.endsWithTest()
	asUser := "SIGLOCAL_STATE=/user/state " + program + " demo:keyless stop"
	const paste = "sudo apt-get update && sudo apt-get install -y --no-install-recommends libsofthsm2\n"
	if r, _ := enter("12345:12345", asUser); r.code == 0 || !strings.Contains(r.stderr, paste) {
		s.t.Errorf("an ordinary user without SoftHSM: %s", r)
	}
	if entries, err := os.ReadDir(on.folder("user")); err != nil || len(entries) > 0 {
		s.t.Errorf("before anything could be started there are %v, %v", entries, err)
	}
	signs := func(as, command string) (result, time.Duration) {
		s.t.Helper()
		r, took := enter(as, command)
		if r.code != 0 || strings.Count(r.stdout, "Refused, as it should be.") != 4 {
			s.t.Fatalf("%s: %s", as, r)
		}
		return r, took
	}
	r, took := signs("0:0", program+" demo:keyless")
	rest += took
	steps := installed.FindAllStringSubmatch(r.stderr, -1)
	if len(steps) != 2 {
		s.t.Errorf("SoftHSM was not installed, or otherwise than by two commands: %s", r)
	}
	for _, step := range steps {
		took, err := time.ParseDuration(step[1])
		if err != nil {
			s.t.Fatal(err)
		}
		apt, rest = apt+took, rest-took
	}
	all := (apt + rest).Round(100 * time.Millisecond)
	s.t.Logf("from the archive to a verified signature: %s, of which %s were apt's", all, apt.Round(100*time.Millisecond))
	// The aim is 30 seconds for all. How long apt takes is the mirror's, and slow machines run this beside other tests.
	if rest > 2*time.Minute {
		s.t.Errorf("from the archive to a verified signature it took %s without apt", rest)
	}
	if r, _ := enter("0:0", program+" stop"); r.code != 0 || len(on.pids()) > 0 {
		s.t.Errorf("left are %v: %s", on.pids(), r)
	}
	signs("12345:12345", asUser)
}
