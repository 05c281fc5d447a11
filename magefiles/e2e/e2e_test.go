package e2e

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// verifyAll checks with plain cosign and rekor-cli that everything the three demos made still verifies.
func (s *stack) verifyAll(image string) {
	s.t.Helper()
	key := s.config.Key("cosign.pub")
	s.program("cosign", "verify", "--key", key, image)
	s.program("cosign", "verify", "--certificate-identity="+s.config.Email, "--certificate-oidc-issuer="+s.config.Issuer(), image)
	artifact := s.config.Data("artifact.txt")
	s.program("rekor-cli", "verify", "--store_tree_state=false", "--artifact", artifact, "--signature", artifact+".sig", "--public-key", key)
}

// publicKeys are the stack's public keys and certificates.
func (s *stack) publicKeys() string {
	s.t.Helper()
	var all string
	for _, name := range []string{"rekor.pub", "rekor-tiles.pub", "ctfe.pub", "ca-root.pem", "tsa/chain.pem", "cosign.pub"} {
		all += s.read(s.config.Key(name))
	}
	return all
}

func TestThreeLevels(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	began := time.Now()
	keyed := s.must("demo:keyed")
	s.only("registry")
	rekor := s.must("demo:rekor")
	s.only("registry", "mariadb", "log-server", "log-signer", "rekor")
	keyless := s.must("demo:keyless")
	s.only(tutorial...)
	t.Logf("the three demos took %s", time.Since(began))
	image := s.image(keyless)
	bundle, attest := s.must("demo:bundle"), s.must("demo:attest")
	s.only(append(slices.Clone(tutorial), "tsa", "rekor-tiles", "tiles")...)
	s.must("start")
	s.only(names...)

	t.Run("each shows what is refused", func(t *testing.T) {
		for name, test := range map[string]struct {
			demo    result
			refusal int
		}{"keyed": {keyed, 2}, "rekor": {rekor, 2}, "keyless": {keyless, 4}, "bundle": {bundle, 2}, "attest": {attest, 3}} {
			if got := strings.Count(test.demo.stdout, "Refused, as it should be."); got != test.refusal {
				t.Errorf("%s: %d refusals, not %d: %s", name, got, test.refusal, test.demo)
			}
		}
	})
	t.Run("the commands work when pasted", func(t *testing.T) {
		s := s.in(t)
		for _, demo := range []result{keyed, rekor, keyless, bundle, attest} {
			s.paste(demo.stdout)
		}
	})
	t.Run("a demo relies on no key or image but its own", func(t *testing.T) {
		s := s.in(t)
		private, public := s.config.Key("cosign.key"), s.config.Key("cosign.pub")
		was := s.read(public)
		if err := os.Remove(public); err != nil {
			t.Fatal(err)
		}
		// The user signs the image with which the demos' image begins.
		password := strings.TrimSpace(s.read(s.config.SecretFile(config.CosignPassword)))
		if err := (cosign{s}).run([]string{"COSIGN_PASSWORD=" + password}, "sign", "--yes", "--key", private, "--tlog-upload=false", s.config.Image("base")); err != nil {
			t.Fatal(err)
		}
		s.must("demo:keyed")
		if s.read(public) != was {
			t.Error("the public half that was lost was not made again from the private one")
		}
		if err := os.Rename(private, private+".away"); err != nil {
			t.Fatal(err)
		}
		if r := s.mage("demo:keyed"); r.code == 0 || !strings.Contains(r.stderr, private) || s.read(public) != was {
			t.Errorf("without the private key: %s", r)
		}
		if err := os.Rename(private+".away", private); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a second start leaves everything alone", func(t *testing.T) {
		s := s.in(t)
		before := s.pids()
		s.must("start")
		if after := s.pids(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%v, then %v", before, after)
		}
	})
	t.Run("files are private", func(t *testing.T) { s.in(t).checkModes() })
	t.Run("no secret is in an argument or a log", func(t *testing.T) { s.in(t).checkSecrets() })
	t.Run("every listener is on loopback", func(t *testing.T) { s.in(t).checkListeners() })
	t.Run("nothing is put into the user's home", func(t *testing.T) { s.in(t).checkHome() })
	t.Run("explain draws every service and key, and no secret", func(t *testing.T) { s.in(t).checkExplain() })
	keys := s.publicKeys()
	t.Run("what was signed verifies after stop and start", func(t *testing.T) {
		s := s.in(t)
		began := time.Now()
		s.must("stop")
		t.Logf("stop took %s", time.Since(began))
		s.only()
		s.pasteOffline(bundle.stdout)
		began = time.Now()
		s.must("start")
		t.Logf("start took %s", time.Since(began))
		s.verifyAll(image)
	})
	t.Run("what was signed verifies after every daemon was killed", func(t *testing.T) {
		s := s.in(t)
		s.killAll()
		for name, state := range s.states() {
			if state != "crashed" {
				t.Errorf("%s is %s, not crashed", name, state)
			}
		}
		s.must("start")
		s.only(names...)
		s.verifyAll(image)
	})
	t.Run("start brings back only what died", func(t *testing.T) {
		s := s.in(t)
		for _, name := range []string{"rekor", "registry", "mariadb", "fulcio"} {
			before := s.pids()
			if err := syscall.Kill(before[name], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for s.pids()[name] != 0 {
				time.Sleep(10 * time.Millisecond)
			}
			if state := s.states()[name]; state != "crashed" {
				t.Errorf("%s is %s, not crashed", name, state)
			}
			s.must("start")
			after := s.pids()
			if after[name] == 0 || after[name] == before[name] {
				t.Errorf("%s was process %d and is %d", name, before[name], after[name])
			}
			delete(before, name)
			delete(after, name)
			if fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("after %s died the others are %v, not %v", name, after, before)
			}
		}
		s.verifyAll(image)
	})
	t.Run("launch-sigstore.sh brings it back from any folder", func(t *testing.T) {
		s := s.in(t)
		s.killAll()
		if r := s.run("/", filepath.Join(s.config.Root, "launch-sigstore.sh")); r.code != 0 {
			t.Errorf("%s", r)
		}
		s.only(names...)
	})
	t.Run("a build with nothing to do takes no time", func(t *testing.T) {
		s := s.in(t)
		began := time.Now()
		s.must("build")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
	if after := s.publicKeys(); after != keys {
		t.Errorf("the public keys were\n%s\nand are\n%s", keys, after)
	}
	t.Run("reset wipes data and keys only when told to", func(t *testing.T) {
		s := s.in(t)
		if r := s.mage("reset"); r.code == 0 || !strings.Contains(r.stderr, "reset -yes") {
			t.Errorf("without a terminal: %s", r)
		}
		s.only(names...)
		s.must("reset", "-yes")
		if entries, err := os.ReadDir(s.config.State); err != nil || len(entries) != 0 {
			t.Errorf("left are %v, %v", entries, err)
		}
		if _, err := os.Stat(s.config.Program("cosign")); err != nil {
			t.Error(err)
		}
	})
}

// in is s for a subtest.
func (s *stack) in(t *testing.T) *stack {
	inner := *s
	inner.t = t
	return &inner
}

// paste runs the commands that a demo printed in one shell, as a person would, each to the end that the demo says.
func (s *stack) paste(printed string) {
	s.t.Helper()
	script := "set -u\n"
	lines := strings.Split(printed, "\n")
	commands := 0
	for i, line := range lines {
		command, ok := strings.CutPrefix(line, "    $ ")
		if !ok {
			continue
		}
		commands++
		refused := false
		for _, after := range lines[i+1:] {
			if strings.HasPrefix(after, "    $ ") {
				break
			}
			refused = refused || strings.Contains(after, "Refused, as it should be.")
		}
		switch {
		case strings.Contains(command, "generate-key-pair"):
			// cosign asks before it replaces the demo's key pair.
		case refused:
			script += "if " + command + "; then echo not refused >&2; exit 9; fi\n"
		default:
			script += command + " || exit 8\n"
		}
	}
	if commands < 4 {
		s.t.Fatalf("only %d commands were printed: %s", commands, printed)
	}
	// In another folder, and without this stack's variables, which the commands set themselves.
	stripped := *s
	stripped.env = config.Without(s.env)
	if r := stripped.run("/", "sh", "-c", script); r.code != 0 {
		s.t.Errorf("%s\n%s", script, r)
	}
}

// pasteOffline runs the command of demo:bundle that verifies, where there is no network, and nothing of the stack's runs.
func (s *stack) pasteOffline(printed string) {
	s.t.Helper()
	commands := regexp.MustCompile(`(?m)^    \$ (eval .*|cosign verify-blob .*artifact\.txt)$`).FindAllStringSubmatch(printed, 2)
	if len(commands) < 2 {
		s.t.Fatalf("the demo does not verify: %s", printed)
	}
	args := []string{"sh", "-ec", commands[0][1] + "\n" + commands[1][1]}
	if err := canIsolate(); err != nil {
		s.t.Logf("with the network: %v", err)
	} else {
		args = append(isolated(), args...)
	}
	if r := s.run("/", args[0], args[1:]...); r.code != 0 || !strings.Contains(r.stderr, "Verified OK") {
		s.t.Errorf("%s", r)
	}
}

func (s *stack) checkModes() {
	private := 0
	err := filepath.WalkDir(s.config.State, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(s.config.State, path)
		if err != nil {
			return err
		}
		top, _, _ := strings.Cut(relative, string(filepath.Separator))
		mode := info.Mode().Perm()
		switch {
		case entry.IsDir() && slices.Contains(s.config.Folders(), path) && mode != 0o700:
			s.t.Errorf("the folder %s has mode %o", path, mode)
		case !entry.IsDir() && (top == "secrets" || top == "config") && mode != 0o600:
			s.t.Errorf("%s has mode %o", path, mode)
		case top == "keys" && !entry.IsDir() && strings.Contains(s.read(path), "PRIVATE KEY-----"):
			private++
			if mode != 0o600 {
				s.t.Errorf("%s has mode %o", path, mode)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
	// The private keys of the logs, the timestamp authority, the TUF repository and the demos.
	if want := 4 + 1 + 4 + 2; private != want {
		s.t.Errorf("there are %d private keys, not %d", private, want)
	}
}

func (s *stack) checkSecrets() {
	secrets := s.secrets()
	if len(secrets) < 6 {
		s.t.Fatalf("there are %d secrets", len(secrets))
	}
	for name, secret := range secrets {
		if len(secret) != 32 {
			s.t.Errorf("%s holds %d characters", name, len(secret))
		}
		s.checkSecret(name, []byte(secret))
	}
}

// secrets are the stack's secrets, by name.
func (s *stack) secrets() map[string]string {
	s.t.Helper()
	folder := filepath.Join(s.config.State, "secrets")
	files, err := os.ReadDir(folder)
	if err != nil || len(files) == 0 {
		s.t.Fatalf("secrets are %v, %v", files, err)
	}
	all := map[string]string{}
	for _, file := range files {
		all[file.Name()] = strings.TrimSpace(s.read(filepath.Join(folder, file.Name())))
	}
	return all
}

// checkSecret looks for a secret among arguments and in logs.
func (s *stack) checkSecret(name string, secret []byte) {
	s.t.Helper()
	public, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		s.t.Fatal(err)
	}
	folder := filepath.Dir(s.config.Log("any"))
	logs, err := os.ReadDir(folder)
	if err != nil || len(logs) == 0 {
		s.t.Fatalf("logs are %v, %v", logs, err)
	}
	for _, log := range logs {
		public = append(public, filepath.Join(folder, log.Name()))
	}
	for _, path := range public {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, secret) {
			s.t.Errorf("%s shows %s", path, name)
		}
	}
}

func (s *stack) checkExplain() {
	text := s.must("explain").stdout
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^  ` + name + ` +ready `).MatchString(text) {
			s.t.Errorf("%s is not ready in %s", name, text)
		}
	}
	// Of the TUF repository's keys the folder is named.
	found := 0
	err := filepath.WalkDir(s.config.Key(""), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if !bytes.Contains(content, []byte("PRIVATE KEY-----")) {
			return err
		}
		found++
		if name := strings.TrimPrefix(path, s.config.State+"/"); !strings.Contains(text, " "+name+"\n") && !strings.Contains(text, " "+filepath.Dir(name)+"\n") {
			s.t.Errorf("the private key %s is not in %s", name, text)
		}
		return nil
	})
	if err != nil || found < 8 {
		s.t.Errorf("%d private keys are found, %v", found, err)
	}
	svg, mermaid := s.must("explain", "-o=svg").stdout, s.must("explain", "-o=mermaid").stdout
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil || strings.Count(svg, ">ready<") != len(names) {
		s.t.Errorf("%v: %s", err, svg)
	}
	if strings.Count(mermaid, ": ready<br>") != len(names) {
		s.t.Errorf("%s", mermaid)
	}
	for name, secret := range s.secrets() {
		if strings.Contains(text+svg+mermaid, secret) {
			s.t.Errorf("it shows the secret %s", name)
		}
	}
}

// checkListeners reads which addresses the stack's processes listen on; proc(5) has the columns.
func (s *stack) checkListeners() {
	if runtime.GOOS != "linux" {
		s.t.Skip("reads /proc")
	}
	sockets := map[string]string{}
	for name, pid := range s.pids() {
		descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, descriptor := range descriptors {
			if target, err := os.Readlink(descriptor); err == nil {
				sockets[target] = name
			}
		}
	}
	loopback, elsewhere := 0, map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			name, ours := sockets["socket:["+fields[min(9, len(fields)-1)]+"]"]
			if !ours || fields[3] != "0A" {
				continue
			}
			address, port, _ := strings.Cut(fields[1], ":")
			number, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				s.t.Fatal(err)
			}
			if address == "0100007F" {
				loopback++
			} else {
				elsewhere[fmt.Sprint(name, " ", number)] = true
			}
		}
	}
	if loopback < 10 {
		s.t.Errorf("only %d listeners are seen", loopback)
	}
	// Upstream's ports for metrics, which no setting moves to loopback. Rekor's may be taken by another stack.
	delete(elsewhere, "rekor 2112")
	delete(elsewhere, fmt.Sprint("fulcio ", s.config.Port(s.config.PortNamed("FULCIO_METRICS"))))
	if len(elsewhere) > 0 {
		s.t.Errorf("not on loopback: %v", elsewhere)
	}
}

func (s *stack) checkHome() {
	err := filepath.WalkDir(s.home, func(path string, entry fs.DirEntry, err error) error {
		// go(1) keeps its telemetry counters in HOME.
		if err == nil && !entry.IsDir() && !strings.Contains(path, filepath.Join("go", "telemetry")) {
			s.t.Errorf("%s was made", path)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

func TestTwoStacksRunSideBySide(t *testing.T) {
	t.Parallel()
	one, other := newStack(t), newStack(t)
	var wg sync.WaitGroup
	for _, s := range []*stack{one, other} {
		wg.Go(func() {
			if r := s.mage("start"); r.code != 0 {
				t.Errorf("%s", r)
			}
		})
	}
	wg.Wait()
	one.only(names...)
	other.only(names...)
	if one.read(one.config.Key("rekor.pub")) == other.read(other.config.Key("rekor.pub")) {
		t.Error("both have the same key")
	}
	one.must("stop")
	one.only()
	other.only(names...)
	other.must("stop")
}

func TestServicesNamesWhatStartRuns(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_SERVICES=tuf,tsa,ct")
	s.must("start")
	s.only("mariadb", "log-server", "log-signer", "ct", "tsa", "tuf")
}

// processes are those whose arguments name the folder.
func processes(t *testing.T, folder string) []int {
	t.Helper()
	pids, err := processesOf(folder)
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func processesOf(folder string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(folder)) {
			pid, err := strconv.Atoi(strings.Split(file, "/")[2])
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func TestAnInterruptedStartCanBeTakenUp(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for i, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, os.Interrupt, syscall.SIGTERM} {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		cmd := s.command(ctx, s.config.Root, "go", "tool", "mage", "start")
		// To `go tool` alone, as a CI runner does, and to its whole group, as a terminal does.
		group := i%2 == 1
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(700+400*i) * time.Millisecond)
		pid := cmd.Process.Pid
		if group {
			pid = -pid
		}
		_ = syscall.Kill(pid, sig.(syscall.Signal))
		err := cmd.Wait()
		cancel()
		t.Logf("after %s: %v\n%s", sig, err, &output)
		// The interrupted process is gone, and so are its locks.
		for name, state := range s.states() {
			if state != "ready" && state != "starting" && state != "stopped" {
				t.Errorf("after %s %s is %s", sig, name, state)
			}
		}
	}
	s.must("start")
	s.only(names...)
	s.must("stop")
	if left := processes(t, s.config.State); len(left) > 0 {
		t.Errorf("left are processes %v", left)
	}
}

// A key pair is two files of SoftHSM's, written one after the other. A program that is killed in between must not leave a token that
// signs with one pair and shows the public key of another.
func TestATokenIsMadeWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	objects := filepath.Join(s.config.State, "data", "hsm*", "*", "*.object")
	cut := 0
	for range 10 {
		ended := make(chan result, 1)
		go func() { ended <- s.mage("hsm:init") }()
		var pids []int
		var r *result
		for len(pids) == 0 && r == nil {
			select {
			case one := <-ended:
				r = &one // it was over before it was seen
			default:
				var err error
				if pids, err = processesOf(s.config.SecretFile(config.HSMSOPIN)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if r != nil {
			if r.code != 0 {
				t.Fatalf("%s", r)
			}
			if err := os.RemoveAll(s.config.Data("hsm")); err != nil {
				t.Fatal(err)
			}
			continue
		}
		// The third file is that of the public key.
		for found := []string{}; len(found) < 3 && syscall.Kill(pids[0], 0) == nil; {
			found, _ = filepath.Glob(objects)
		}
		_ = syscall.Kill(pids[0], syscall.SIGKILL)
		if r := <-ended; r.code != 0 {
			cut++
		}
		s.must("hsm:init")
		if listed := s.must("hsm:list").stdout; strings.Count(listed, "PKCS11CA") != 2 {
			t.Fatalf("the token holds more or less than one key pair:\n%s", listed)
		}
		if err := os.RemoveAll(s.config.Data("hsm")); err != nil {
			t.Fatal(err)
		}
	}
	if cut == 0 {
		t.Error("hsm:init was never cut off")
	}
}

func TestATakenPortIsNamedWithItsProcess(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	l, err := net.Listen("tcp", s.config.Address(config.Rekor))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := s.mage("rekor:start")
	for _, want := range []string{s.config.Address(config.Rekor), fmt.Sprintf("process %d", os.Getpid()), "SIGLOCAL_PORT_REKOR"} {
		if r.code == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("the message does not say %q: %s", want, r)
		}
	}
	s.only("mariadb", "log-server", "log-signer")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.must("rekor:start")
}

func TestNonsenseIsRefusedBeforeAnythingIsStarted(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"SIGLOCAL_PORT_REKOR=99999", "SIGLOCAL_INSTALL=perhaps", "SIGLOCAL_RECOR=1", "SIGLOCAL_HSM_PIN=1"} {
		s := newStack(t)
		s.env = append(s.env, setting)
		name, _, _ := strings.Cut(setting, "=")
		for _, target := range []string{"start", "demo:keyless", "hsm:init", "stop", "status"} {
			if r := s.mage(target); r.code == 0 || !strings.Contains(r.stderr, name) {
				t.Errorf("%s %s: %s", setting, target, r)
			}
		}
		if _, err := os.Stat(s.config.State); !os.IsNotExist(err) {
			t.Errorf("%s: the state folder was made: %v", setting, err)
		}
	}
}

func TestADaemonThatDiesFailsTheStartWithItsLog(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("trillian:start", "stop")
	broken := filepath.Join(s.home, "mariadbd")
	script := `#!/bin/sh
case "$*" in *--version*) echo "mariadbd  Ver 10.11.14-MariaDB for Linux"; exit ;; esac
echo the disk is on fire
exit 7
`
	if err := os.WriteFile(broken, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	working := s.env
	s.env = append(slices.Clone(working), "SIGLOCAL_MARIADBD="+broken)
	began := time.Now()
	r := s.mage("start")
	for _, want := range []string{"mariadb", "exit status 7", "the disk is on fire", s.config.Log("mariadb"), "go tool mage start"} {
		if r.code == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("the message does not say %q: %s", want, r)
		}
	}
	if count := strings.Count(r.stderr, "the disk is on fire"); count != 1 {
		t.Errorf("the message comes %d times: %s", count, r)
	}
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("it took %s", took)
	}
	s.env = working
	if running := slices.Sorted(maps.Keys(s.pids())); !slices.Equal(running, []string{"page", "registry", "rekor-tiles", "tesseract", "tiles", "tsa", "tuf"}) {
		t.Errorf("what had nothing to do with it is not left running: %v", running)
	}
	if state := s.states()["mariadb"]; state != "crashed" {
		t.Errorf("mariadb is %s, not crashed", state)
	}
	s.must("start")
	s.only(names...)
}

func TestTargetsOfOneCommandFollowEachOther(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("registry:start", "registry:stop", "registry:start")
	s.only("registry")
	s.must("registry:start", "registry:restart")
	s.only("registry")
	s.must("registry:stop", "registry:start", "stop")
	s.only()
	s.must("registry:start", "stop", "tsa:start")
	s.only("tsa")
	s.must("exec", "go tool mage tsa:stop", "tsa:start")
	s.only("tsa")
	for _, targets := range [][]string{{"tsa:start"}, {"trillian:start"}, {"trillian:start", "trillian:start"}} {
		s.must("trillian:start")
		if r := s.must(targets...); strings.Count(r.stderr, "lready ") != len(targets) {
			t.Errorf("%q on what runs already says %s", targets, r)
		}
	}
	if r := s.mage("exec", "exit 7"); r.code != 7 {
		t.Errorf("%s", r)
	}
}

func TestEverythingWorksWithoutANetwork(t *testing.T) {
	t.Parallel()
	if err := canIsolate(); err != nil {
		t.Skip(err)
	}
	s := newStack(t)
	command := append(isolated(), "go", "tool", "mage", "demo:keyed", "demo:rekor", "demo:keyless", "demo:bundle", "demo:attest", "stop")
	if r := s.run(s.config.Root, command[0], command[1:]...); r.code != 0 {
		t.Errorf("%s", r)
	}
}

func TestEveryTargetWorksAloneAndFromAnyFolder(t *testing.T) {
	t.Parallel()
	below := []string{"templates", "magefiles/internal/service", "state", "."}
	for i, test := range []struct {
		target string
		stdout *regexp.Regexp
		ready  []string
	}{
		{"registry:start", regexp.MustCompile(`^$`), []string{"registry"}},
		{"hsm:init", regexp.MustCompile(`^$`), nil},
		{"hsm:list", regexp.MustCompile(`(?s)SLOT.*sigstore-local.*private key +PKCS11CA`), nil},
		{"ct:keys", regexp.MustCompile(`^-----BEGIN PUBLIC KEY-----\n`), nil},
		{"fulcio:ca", regexp.MustCompile(`(?s)Sigstore Local.*-----BEGIN CERTIFICATE-----`), nil},
		{"dex:token", regexp.MustCompile(`^[\w-]+\.[\w-]+\.[\w-]+\n$`), []string{"mariadb", "dex"}},
		{"tsa:start", regexp.MustCompile(`^$`), []string{"tsa"}},
		{"rekorTiles:start", regexp.MustCompile(`^$`), []string{"rekor-tiles", "tiles"}},
		{"tiles:start", regexp.MustCompile(`^$`), []string{"tiles"}},
		{"tuf:start", regexp.MustCompile(`^$`), []string{"tuf"}},
		{"page:start", regexp.MustCompile(`^$`), []string{"page"}},
		{"ct:start", regexp.MustCompile(`^$`), []string{"mariadb", "log-server", "log-signer", "ct"}},
		{"demo:bundle", regexp.MustCompile(`Verified OK`), []string{"mariadb", "log-server", "log-signer", "ct", "dex", "fulcio", "tsa", "rekor-tiles", "tiles"}},
	} {
		s := newStack(t)
		r := s.run(filepath.Join(s.config.Root, below[i%len(below)]), "go", "tool", "mage", test.target)
		if r.code != 0 || !test.stdout.MatchString(r.stdout) {
			t.Errorf("%s: %s", test.target, r)
		}
		s.only(test.ready...)
		// A second run does and prints the same as the first one.
		again := s.must(test.target)
		if test.target != "dex:token" && again.stdout != r.stdout {
			t.Errorf("%s: first\n%s\nthen\n%s", test.target, r.stdout, again.stdout)
		}
		s.must("stop")
	}
}
