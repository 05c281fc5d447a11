package e2e

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// rounds is how often a fault is repeated. With FAULT_ROUNDS=full, which `go tool mage test -faults` sets, that is full, the number
// in docs/numbers.md; otherwise it is a tenth of that, and at least 2.
func rounds(full int) int {
	if os.Getenv("FAULT_ROUNDS") == "full" {
		return full
	}
	return max(2, full/10)
}

// dice returns random numbers, which are the same in every run of a test.
func dice(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// figures collects durations, whose median and maximum a test logs at its end.
type figures []time.Duration

func (f figures) String() string {
	if len(f) == 0 {
		return "none"
	}
	slices.Sort(f)
	return fmt.Sprintf("median %s, longest %s", f[len(f)/2].Round(time.Millisecond), f[len(f)-1].Round(time.Millisecond))
}

// crashed asks the compiled targets for the services that status says have crashed.
func (s *stack) crashed() []string {
	s.t.Helper()
	r := s.run(s.config.Root, s.config.Program("targets"), "status", "-o=json")
	var rows []struct{ Service, State string }
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil {
		s.t.Fatalf("%v: %s", err, r)
	}
	var names []string
	for _, row := range rows {
		if row.State == "crashed" {
			names = append(names, row.Service)
		}
	}
	return names
}

func TestFaultOneDaemonIsKilledWhileClientsSign(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("start")
	clients := s.sign(4)
	random := dice(1)
	var named, healed figures
	count := rounds(100)
	for range count {
		time.Sleep(time.Duration(300+random.IntN(500)) * time.Millisecond)
		noticed, gone := s.kill(names[random.IntN(len(names))])
		named, healed = append(named, noticed), append(healed, gone)
	}
	// At the end the clients have to sign again, with all services running.
	clients.more(t, 4)
	signed := clients.end()
	s.verifyEach(signed)
	slices.Sort(named)
	if named[len(named)/2] > 3*time.Second {
		t.Errorf("it takes status more than three seconds to name who died: %s", named)
	}
	t.Logf("%d daemons killed, %d signatures acknowledged and %d not, all acknowledged ones verify; status named the dead: %s; start healed: %s",
		count, len(signed), len(clients.failed), named, healed)
}

// kill ends a service without warning, and starts the stack. It checks that status names this service as crashed and no other, and
// that only it is started. It returns how long status and start take.
func (s *stack) kill(victim string) (named, healed time.Duration) {
	s.t.Helper()
	before := s.pids()
	began := time.Now()
	if err := syscall.Kill(before[victim], syscall.SIGKILL); err != nil {
		s.t.Fatalf("%s: %v", victim, err)
	}
	for s.pids()[victim] == before[victim] {
		time.Sleep(time.Millisecond)
	}
	if got := s.crashed(); !slices.Equal(got, []string{victim}) {
		s.t.Errorf("%s was killed, and status says that %v crashed", victim, got)
	}
	named = time.Since(began)
	began = time.Now()
	s.must("start")
	healed = time.Since(began)
	after := s.pids()
	if after[victim] == 0 {
		s.t.Errorf("%s was not started again", victim)
	}
	delete(before, victim)
	delete(after, victim)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		s.t.Errorf("after %s was killed the others are %v, not %v", victim, after, before)
	}
	return named, healed
}

// snapshot returns the signatures that were made until now.
func (c *signers[T]) snapshot() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.signed)
}

// more waits until count more signatures are made.
func (c *signers[T]) more(t *testing.T, count int) {
	t.Helper()
	end := time.Now().Add(deadline)
	for have := len(c.snapshot()); len(c.snapshot()) < have+count; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody can sign any more")
		}
	}
}

func TestFaultAllDaemonsAreKilledWhileClientsSign(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("start")
	clients := s.sign(4)
	random := dice(2)
	var healed figures
	count := rounds(20)
	for range count {
		time.Sleep(time.Duration(1000+random.IntN(1000)) * time.Millisecond)
		s.killAll()
		if got := s.crashed(); !slices.Equal(got, names) {
			t.Errorf("status says that %v crashed", got)
		}
		began := time.Now()
		s.must("start")
		healed = append(healed, time.Since(began))
	}
	// On a busy machine nobody may have signed between two kills.
	clients.more(t, 4)
	signed := clients.end()
	s.verifyEach(signed)
	t.Logf("all daemons killed %d times, %d signatures acknowledged and %d not, all acknowledged ones verify; start healed: %s",
		count, len(signed), len(clients.failed), healed)
}

func TestFaultSeveralStartsAtTheSameInstant(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("start")
	count := rounds(20)
	for round := range count {
		for _, together := range []int{2, 5} {
			s.killAll()
			var wg sync.WaitGroup
			results := make([]result, together)
			for i := range together {
				wg.Go(func() { results[i] = s.run(s.config.Root, "go", "tool", "mage", "start") })
			}
			wg.Wait()
			running := s.pids()
			ready := 0
			for _, r := range results {
				if r.code != 0 {
					t.Errorf("round %d: %s", round, r)
				}
				ready += strings.Count(r.stderr, "is ready at")
			}
			// Each service was started by exactly one of the commands.
			if ready != len(names) || len(running) != len(names) {
				t.Errorf("round %d: %d services were started, and %v run", round, ready, running)
			}
			if strays := slices.DeleteFunc(processes(t, s.config.State), func(pid int) bool {
				for _, own := range running {
					if own == pid {
						return true
					}
				}
				return false
			}); len(strays) > 0 {
				t.Errorf("round %d: processes %v are none of the stack's", round, strays)
			}
		}
	}
	t.Logf("%d times two and %d times five starts at once made one set of daemons each", count, count)
}

func TestFaultInterruptedAtARandomMoment(t *testing.T) {
	t.Parallel()
	count := rounds(20)
	random := dice(4)
	for _, test := range []struct {
		name, target string
		prepare      func(t *testing.T, s *stack)
	}{
		{"a first start", "start", func(t *testing.T, s *stack) { s.killAll(); s.must("reset", "-yes") }},
		{"a warm start", "start", func(t *testing.T, s *stack) { s.must("start", "stop") }},
		{"a stop", "stop", func(t *testing.T, s *stack) { s.must("start") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStack(t)
			s.must("start")
			test.prepare(t, s)
			began := time.Now()
			s.must(test.target)
			takes := time.Since(began)
			cut := 0
			for round := range count {
				test.prepare(t, s)
				sig := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[round%2]
				moment := time.Duration(random.Int64N(int64(takes)))
				if s.interrupt(moment, sig, test.target) {
					cut++
				}
				r := s.must("start")
				if states := s.states(); !allReady(states) {
					t.Errorf("after %s at %s: %v\n%s", sig, moment, states, r)
				}
			}
			s.must("demo:keyless", "stop")
			if left := processes(t, s.config.State); len(left) > 0 {
				t.Errorf("left are processes %v", left)
			}
			t.Logf("%d of %d signals cut %s short; the next start worked every time", cut, count, test.name)
		})
	}
}

func allReady(states map[string]string) bool {
	for _, name := range names {
		if states[name] != "ready" {
			return false
		}
	}
	return true
}

// interrupt runs a target, sends sig to the command after the duration after, and waits until the command has ended. It returns
// true if the command failed, and false if it had succeeded before.
func (s *stack) interrupt(after time.Duration, sig syscall.Signal, target string) bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), deadline)
	defer cancel()
	cmd := s.command(ctx, s.config.Root, "go", "tool", "mage", target)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Signal(sig)
	if err := cmd.Wait(); ctx.Err() != nil {
		s.t.Fatalf("%s was sent %s after %s and did not end: %v\n%s", target, sig, after, err, &output)
	}
	return cmd.ProcessState.ExitCode() != 0
}

// damages are the ways to damage a file. left returns what is left of the file's content, nil if the file is deleted.
var damages = []struct {
	name string
	left func([]byte) []byte
}{
	{"emptied", func([]byte) []byte { return []byte{} }},
	{"cut", func(whole []byte) []byte { return whole[:len(whole)/2] }},
	{"garbled", func(whole []byte) []byte {
		garbled := bytes.Clone(whole)
		random := dice(5)
		for i := range garbled {
			garbled[i] = byte(random.Uint32())
		}
		return garbled
	}},
	{"deleted", func([]byte) []byte { return nil }},
}

// TestFaultDamagedFiles damages each kind of file below the state folder in each way, while the stack is stopped and while it
// runs. A start or a restart after that must either fail with a message that names the file, and leave running services alone, or
// succeed with nothing lost.
func TestFaultDamagedFiles(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	demos := s.must("demo:rekor", "demo:keyless", "demo:bundle", "demo:attest", "start", "rekor:monitor", "rekor:monitor", "-log=rekor-tiles")
	image := s.image(demos)
	s.must("stop")
	whole := filepath.Join(s.home, "whole")
	s.copyFolder(s.config.State, whole)
	files := s.kindsOfFiles()
	cases, refused, healed := 0, 0, 0
	for i, file := range files {
		t.Run(strings.TrimPrefix(file, s.config.State+"/"), func(t *testing.T) {
			s := s.in(t)
			for j, damage := range damages {
				for k, running := range []bool{false, true} {
					// Without FAULT_ROUNDS=full, each ninth file is damaged once, and the ways of damage and the states of the
					// stack take turns.
					if os.Getenv("FAULT_ROUNDS") != "full" && (i%9 != 0 || j != i/9%len(damages) || k != i/9%2) {
						continue
					}
					cases++
					name := fmt.Sprintf("%s, running %v", damage.name, running)
					r := s.damaged(name, file, damage.left, running)
					if r.code == 0 {
						healed++
						s.nothingIsLost(name, file, image)
					} else {
						refused++
					}
					s.mage("stop")
					// A stop does not find a daemon whose PID file was deleted, so all daemons are killed.
					for _, pid := range processes(t, s.config.State+"/") {
						_ = syscall.Kill(pid, syscall.SIGKILL)
					}
					s.killAll()
					s.copyFolder(whole, s.config.State)
				}
			}
		})
	}
	s.must("start")
	s.only(names...)
	s.verifyAll(image)
	t.Logf("%d damages to %d kinds of files: %d were named, %d did no harm; everything verifies once they are put back", cases, len(files), refused, healed)
}

// damaged damages a file of the stopped stack, or first starts the stack if running is true. Then it starts the stack and, if it was
// running, restarts it. It returns the result of the command that failed, or of the last one.
func (s *stack) damaged(name, file string, left func([]byte) []byte, running bool) result {
	s.t.Helper()
	if running {
		s.must("start")
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return result{} // the file exists only while the stack is stopped, or only while it runs
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if content = left(content); content == nil {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	before := s.pids()
	r := s.mage("start")
	if r.code == 0 && running {
		r = s.mage("restart", "all")
	}
	if r.code == 0 {
		return r
	}
	named := []string{file, filepath.Base(file)}
	switch {
	case strings.HasPrefix(file, s.config.Data("mariadb")):
		// MariaDB names a damaged file of its own in its log only; the message shows the end of that log and names it.
		named = []string{s.config.Log("mariadb"), s.config.Data("mariadb")}
	case strings.HasPrefix(file, s.config.Data("hsm")):
		// Only the PKCS#11 module knows the token's files, so the message names their folder.
		named = []string{s.config.Data("hsm")}
	case strings.HasPrefix(file, s.config.Data("rekor-tiles")):
		named = append(named, s.config.Data("rekor-tiles"), s.config.Log("rekor-tiles"))
	case strings.HasPrefix(file, s.config.Data("tesseract")):
		named = append(named, s.config.Data("tesseract"), s.config.Log("tesseract"))
	case file == s.config.Run("mariadb.pid"):
		// Without this file a second MariaDB is started, and its log says that the first one holds the database's files.
		named = append(named, s.config.Log("mariadb"))
	}
	if !slices.ContainsFunc(named, func(one string) bool { return strings.Contains(r.stderr, one) }) {
		s.t.Errorf("%s: the message does not name it: %s", name, r)
	}
	if strings.Contains(r.stderr, "goroutine ") {
		s.t.Errorf("%s: the message is a stack trace: %s", name, r)
	}
	// Services may have been stopped only for damage in data, which a daemon finds when it starts and no check finds before.
	if after := s.pids(); running && fmt.Sprint(after) != fmt.Sprint(before) && !strings.HasPrefix(file, s.config.Data("")) {
		s.t.Errorf("%s: %v ran, and after the restart was refused %v", name, before, after)
	}
	return r
}

// nothingIsLost is for a damage after which the stack started without an error. It verifies what was signed before the damage, and
// signs and verifies more.
func (s *stack) nothingIsLost(name, file, image string) {
	s.t.Helper()
	// Only clients read what is in these, and so only they can find damage to it.
	clients := []string{s.config.Data("registry"), s.config.Data("artifact"), s.config.Key("cosign"), s.config.SecretFile(config.CosignPassword)}
	if monitor, watched := strings.CutPrefix(filepath.Dir(file), s.config.Data("monitor")); watched {
		// rekor:monitor alone writes and reads this file, so it has to name it.
		if r := s.mage("rekor:monitor", "-log="+cmp.Or(strings.TrimPrefix(monitor, "-"), "rekor")); r.code != 0 && !strings.Contains(r.stderr, file) {
			s.t.Errorf("%s: it is not named: %s", name, r)
		}
		return
	}
	const script = `
try() { "$@" >"$SAID" 2>&1 || { echo "this fails: $*"; cat "$SAID"; }; }
try go tool mage env
eval "$(go tool mage env 2>/dev/null || echo exit)"
try cosign save --dir "$NEW.saved" "$IMAGE"
try cosign verify --certificate-identity="$EMAIL" --certificate-oidc-issuer="$ISSUER_URL" "$IMAGE"
try rekor-cli verify --store_tree_state=false --artifact "$ARTIFACT" --signature "$ARTIFACT.sig" --public-key "$KEY"
try go tool mage rekor:monitor
try cosign sign-blob --key "${KEY%.pub}.key" --tlog-upload=false "$ARTIFACT"
export COSIGN_IDENTITY_TOKEN="$(go tool mage dex:token)"
try cosign sign-blob --bundle "$NEW" "$ARTIFACT"
eval "$(go tool mage env -trust=root)"
set -- --certificate-identity="$EMAIL" --certificate-oidc-issuer="$ISSUER_URL" --new-bundle-format --use-signed-timestamps --bundle
try cosign verify-blob "$@" "$ARTIFACT.sigstore.json" "$ARTIFACT"
try cosign sign-blob --new-bundle-format --bundle "$NEW" "$ARTIFACT"
try cosign verify-blob "$@" "$NEW" "$ARTIFACT"
`
	env := s.env
	s.env = append(slices.Clone(s.env), "EMAIL="+s.config.Email, "IMAGE="+image, "KEY="+s.config.Key("cosign.pub"),
		"ARTIFACT="+s.config.Data("artifact.txt"), "NEW="+filepath.Join(s.home, "new.json"), "SAID="+filepath.Join(s.home, "said"))
	r := s.run(s.config.Root, "sh", "-c", script)
	s.env = env
	said := strings.Split(r.stdout, "this fails: ")
	if r.code != 0 || said[0] != "" {
		s.t.Fatalf("%s: the clients: %s", name, r)
	}
	for _, failed := range said[1:] {
		// The file is named, or a client that reads it has compared it with what was signed.
		if !strings.Contains(failed, file) && !(slices.ContainsFunc(clients, func(read string) bool { return strings.HasPrefix(file, read) }) && refused.MatchString(failed)) {
			s.t.Errorf("%s: the stack starts, and this fails: %s", name, failed)
		}
	}
}

// refused matches what clients say of a file, signature, key or bundle that is not what was signed or stored.
var refused = regexp.MustCompile(`invalid signature|signature has not been initialized|Invalid IEEE_P1363|decoding PEM|invalid pem block|decryption failed|proto: |no such file|sha256|no signatures found|no matching signatures`)

// copyFolder replaces the folder to by a copy of the folder from.
func (s *stack) copyFolder(from, to string) {
	s.t.Helper()
	if r := s.run("/", "sh", "-ec", `rm -rf "$2" && cp -a "$1" "$2"`, "sh", from, to); r.code != 0 {
		s.t.Fatalf("%s", r)
	}
}

// kindsOfFiles lists the files of the stopped stack, with one file for each kind of which there are many. It leaves out logs,
// temporary files and the clients' caches, which no service reads.
func (s *stack) kindsOfFiles() []string {
	s.t.Helper()
	// A file's kind is the first of these expressions that matches its path, with the text that its capturing group matches. Of the
	// second expression, each file is a kind of its own. Files that an expression without such a group matches are left out.
	kinds := []*regexp.Regexp{
		regexp.MustCompile(`^(?:logs|tmp|home|support)/`),
		regexp.MustCompile(`^data/(mariadb)/(?:ibdata1|ib_logfile0|aria_log_control|aria_log\.0+1|mysql/global_priv\.MAI|trillian/SequencedLeafData\.ibd)$`),
		regexp.MustCompile(`^data/(?:mariadb)/(prepared|accounts)$`),
		regexp.MustCompile(`^data/mariadb/`),
		regexp.MustCompile(`^data/registry/manifests/[^/]+/(digests|tags)/`),
		regexp.MustCompile(`^data/registry/(blobs)/`),
		regexp.MustCompile(`^data/rekor-tiles/tile/(entries|\d+)/`),
		regexp.MustCompile(`^data/tesseract/tile/(data|\d+)/`),
		regexp.MustCompile(`^data/tesseract/(issuer)/`),
		regexp.MustCompile(`^data/(rekor-attestations)/`),
		regexp.MustCompile(`^data/tuf/targets/[0-9a-f]+(\..+)$`),
		regexp.MustCompile(`^data/hsm/[^/]+/(token|generation|[^/]+\.lock|[^/]+\.object)$`),
		regexp.MustCompile(`^keys/(tuf)/`),
		regexp.MustCompile(`^(.*)$`),
	}
	unread := map[int]bool{0: true, 3: true}
	var files []string
	seen := map[string]bool{}
	err := filepath.WalkDir(s.config.State, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, s.config.State+"/")
		at := slices.IndexFunc(kinds, func(kind *regexp.Regexp) bool { return kind.MatchString(name) })
		kind := fmt.Sprint(at, kinds[at].FindStringSubmatch(name)[1:])
		if at == 1 {
			kind = name
		}
		if entry.Type().IsRegular() && !unread[at] && !seen[kind] {
			seen[kind] = true
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) < 50 {
		s.t.Fatalf("only these files are found: %v, %v", files, err)
	}
	return files
}

func TestFaultTheStateFolderIsCopiedToAnotherPath(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	image := s.image(s.must("demo:rekor", "demo:keyless"))
	s.must("stop")
	other := newStack(t)
	if out, err := exec.Command("cp", "-a", s.config.State, other.config.State).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The original stack runs, and the copied one has to leave it alone.
	s.must("start")
	before := s.pids()
	other.must("start")
	other.only(names...)
	repository := strings.TrimPrefix(image, s.config.Image(""))
	key := other.config.Key("cosign.pub")
	other.program("cosign", "verify", "--key", key, other.config.Image(repository))
	if after := s.pids(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the original was %v and is %v", before, after)
	}
}

func TestFaultAStateFolderThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give folders away and mount some")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no mounts can be made here: %v: %s", err, out)
	}
	t.Run("of somebody else", func(t *testing.T) {
		s := newStack(t)
		s.must("hsm:init")
		if err := os.Chown(s.config.State, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if r := s.mage("start"); r.code == 0 || !strings.Contains(r.stderr, s.config.State+" belongs to the user with ID 12345") {
			t.Errorf("%s", r)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		s := newStack(t)
		s.must("hsm:init")
		script := `mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec go tool mage start`
		r := s.run(s.config.Root, "unshare", "--mount", "sh", "-c", script, "sh", s.config.State)
		if r.code == 0 || !strings.Contains(r.stderr, s.config.State) || !strings.Contains(r.stderr, "read-only file system") || !strings.Contains(r.stderr, "SIGLOCAL_STATE") {
			t.Errorf("%s", r)
		}
	})
	t.Run("read-only while it runs", func(t *testing.T) {
		s := newStack(t)
		// While the folder is read-only, status still works, and start, stop and restart fail and leave the running services alone.
		// The services themselves can still write: the new mount is read-only only for files that are opened through it, since a
		// mount with files that are open for writing cannot be made read-only.
		script := `trap 'go tool mage stop >/dev/null 2>&1' EXIT # nobody outside sees what runs here
go tool mage demo:rekor >/dev/null || exit 91
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 90
go tool mage status >/dev/null || exit 92
for target in start stop "restart rekor" rekor:restart; do
  go tool mage $target 2>>"$2" && exit 93
done
go tool mage status >/dev/null || exit 94
umount "$1"
go tool mage restart rekor && go tool mage demo:rekor >/dev/null || exit 95
go tool mage stop; cat "$2"`
		if err := os.Mkdir(s.config.State, 0o700); err != nil {
			t.Fatal(err)
		}
		r := s.run(s.config.Root, "unshare", "--mount", "sh", "-c", script, "sh", s.config.State, filepath.Join(s.home, "said"))
		if r.code != 0 || strings.Count(r.stdout, "read-only file system") != 4 || strings.Count(r.stdout, "SIGLOCAL_STATE") != 4 {
			t.Errorf("%s", r)
		}
	})
	t.Run("a full disk while it runs", func(t *testing.T) {
		s := newStack(t)
		// No acknowledged signature may be lost, and the stack must work again once there is room.
		script := `mount -t tmpfs -o size=500m none "$1" || exit 90
trap 'go tool mage stop >/dev/null 2>&1' EXIT
go tool mage demo:rekor demo:bundle >/dev/null || exit 91
dd if=/dev/zero of="$1/tmp/filler" bs=1M 2>/dev/null
go tool mage status >/dev/null || exit 92
go tool mage tuf:start 2>"$2" && exit 93
for target in "restart registry" registry:restart; do
  go tool mage $target 2>>"$2" && exit 96
done
kill -0 "$(cat "$1/run/registry.pid")" || exit 97
timeout 20 go tool mage demo:rekor >/dev/null 2>&1
rm "$1/tmp/filler"
go tool mage start && go tool mage demo:rekor demo:bundle >/dev/null || exit 94
go tool mage rekor:monitor >/dev/null || exit 95
go tool mage stop; cat "$2"`
		if err := os.Mkdir(s.config.State, 0o700); err != nil {
			t.Fatal(err)
		}
		r := s.run(s.config.Root, "unshare", "--mount", "sh", "-c", script, "sh", s.config.State, filepath.Join(s.home, "said"))
		if r.code != 0 || strings.Count(r.stdout, "no space left on device") != 3 || !strings.Contains(r.stdout, s.config.State) {
			t.Errorf("%s", r)
		}
	})
	t.Run("a full disk", func(t *testing.T) {
		s := newStack(t)
		if err := os.Mkdir(s.config.State, 0o700); err != nil {
			t.Fatal(err)
		}
		// The disk is too small for the first start, full at a later start, and has room at the last one.
		script := `mount -t tmpfs -o size=40m none "$1" || exit 90
trap 'go tool mage stop >/dev/null 2>&1' EXIT # nobody outside sees what runs here
go tool mage start 2>first && exit 91
mount -o remount,size=400m "$1"
go tool mage demo:rekor stop >/dev/null || exit 92
dd if=/dev/zero of="$1/tmp/filler" bs=1M 2>/dev/null
go tool mage start 2>second && exit 93
rm "$1/tmp/filler"
go tool mage start || exit 94
go tool mage stop
cat first; echo ====; cat second; rm first second`
		home := s.home
		script = strings.ReplaceAll(strings.ReplaceAll(script, "first", home+"/first"), "second", home+"/second")
		r := s.run(s.config.Root, "unshare", "--mount", "sh", "-c", script, "sh", s.config.State)
		if r.code != 0 {
			t.Fatalf("%s", r)
		}
		first, second, _ := strings.Cut(r.stdout, "====")
		for _, said := range []string{first, second} {
			if lower := strings.ToLower(said); !strings.Contains(lower, "no space left on device") && !strings.Contains(lower, "disk full") || !strings.Contains(said, s.config.State) {
				t.Errorf("the message does not say that the disk is full, and where: %s", said)
			}
		}
	})
}

func TestFaultEachPortIsTaken(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("start", "stop")
	for _, port := range s.config.Ports() {
		if port == config.Debug || port == config.Callback {
			continue // these are Delve's and cosign's ports, and no service that start runs listens on them
		}
		l, err := net.Listen("tcp", s.config.Address(port))
		if err != nil {
			t.Fatal(err)
		}
		r := s.mage("start")
		for _, want := range []string{s.config.Address(port), fmt.Sprintf("process %d", os.Getpid()), port.Variable()} {
			if r.code == 0 || !strings.Contains(r.stderr, want) {
				t.Errorf("%s: the message does not say %q: %s", port.Name, want, r)
			}
		}
		if r := s.mage("doctor"); r.code != 5 || !strings.Contains(r.stdout, port.Variable()) {
			t.Errorf("doctor: %s", r)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		s.must("stop")
	}
}

func TestFaultWhatTheStackStandsOnIsWrong(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("fulcio:ca", "trillian:start", "stop")
	script := func(name, text string) string {
		path := filepath.Join(s.home, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wrongPIN := filepath.Join(s.config.State, "secrets", "hsm-pin")
	for _, test := range []struct {
		name, setting, target string
		want                  []string
	}{
		{"MariaDB is missing", "SIGLOCAL_MARIADBD=" + filepath.Join(s.home, "none"), "start", []string{"SIGLOCAL_MARIADBD", "no such file"}},
		{"MariaDB is MySQL", "SIGLOCAL_MARIADBD=" + script("mysqld", "echo 'mysqld  Ver 8.0.40 for Linux on x86_64 (MySQL Community Server)'"), "start", []string{"MySQL Community Server", "10.5 or newer"}},
		{"MariaDB is old", "SIGLOCAL_MARIADBD=" + script("old", "echo 'mysqld  Ver 10.1.48-MariaDB for debian'"), "start", []string{"MariaDB 10.1", "10.5 or newer"}},
		{"MariaDB does not run", "SIGLOCAL_MARIADBD=" + script("broken", "echo a library is missing; exit 127"), "start", []string{"a library is missing", "10.5 or newer"}},
		{"the socket's path is too long", "SIGLOCAL_STATE=/tmp/" + strings.Repeat("x", 100), "start", []string{"bytes", "at most 107", "SIGLOCAL_STATE"}},
		{"the module is missing", "SIGLOCAL_PKCS11_MODULE=/no/such.so", "start", []string{"SIGLOCAL_PKCS11_MODULE", "no such file"}},
		{"the module is none", "SIGLOCAL_PKCS11_MODULE=/bin/sh", "start", []string{"/bin/sh is not a PKCS#11 module", "SIGLOCAL_PKCS11_MODULE"}},
		{"the token is named otherwise", "SIGLOCAL_PKCS11_TOKEN=elsewhere", "start", []string{`no token labelled "elsewhere"`, "SIGLOCAL_PKCS11_TOKEN"}},
		{"the PIN is another", "SIGLOCAL_HSM_PIN=99999999", "start", []string{"SIGLOCAL_HSM_PIN", wrongPIN}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			s.env = append(slices.Clone(s.env), test.setting)
			r := s.mage(test.target)
			for _, want := range test.want {
				if r.code == 0 || !strings.Contains(r.stderr, want) {
					t.Errorf("the message does not say %q: %s", want, r)
				}
			}
		})
	}
	t.Run("doctor names it too", func(t *testing.T) {
		s := s.in(t)
		s.env = append(slices.Clone(s.env), "SIGLOCAL_MARIADBD="+filepath.Join(s.home, "old"))
		if r := s.mage("doctor"); r.code != 5 || !strings.Contains(r.stdout, "10.5 or newer") {
			t.Errorf("%s", r)
		}
	})
	t.Run("the clock was set back", func(t *testing.T) {
		s := s.in(t)
		// Instead of setting the clock back, this moves the tree heads' times an hour ahead.
		moveTreeHeads := func(hours int) {
			password := strings.TrimSpace(s.read(s.config.SecretFile(config.DatabasePassword)))
			db, err := sql.Open("mysql", fmt.Sprintf("root:%s@unix(%s)/trillian", password, s.config.DatabaseSocket()))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(t.Context(), "UPDATE TreeHead SET TreeHeadTimestamp = TreeHeadTimestamp + ?", hours*int(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		s.must("rekor:start")
		moveTreeHeads(1)
		for _, target := range []string{"rekor:start", "start"} {
			if r := s.mage(target); r.code == 0 || !regexp.MustCompile(`the clock says .* UTC, and the logs' newest tree head is of .* wait (1h0m|59m)`).MatchString(r.stderr) {
				t.Errorf("%s: %s", target, r)
			}
		}
		moveTreeHeads(-1)
		s.must("start", "stop")
	})
	t.Run("the PIN's file holds another", func(t *testing.T) {
		s := s.in(t)
		right, err := os.ReadFile(wrongPIN)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(wrongPIN, []byte("99999999\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := s.mage("start"); r.code == 0 || !strings.Contains(r.stderr, "does not take the PIN in "+wrongPIN) {
			t.Errorf("%s", r)
		}
		if err := os.WriteFile(wrongPIN, right, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	s.must("start")
	s.only(names...)
}
