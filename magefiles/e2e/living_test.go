package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// dexRelease is the release of Dex that go.mod names beside its commit.
func (s *stack) dexRelease() string {
	s.t.Helper()
	mod, err := os.ReadFile(filepath.Join(s.config.Root, "go.mod"))
	if err != nil {
		s.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\tgithub.com/dexidp/dex .*release (v\S+)$`).FindSubmatch(mod)
	if found == nil {
		s.t.Fatal("go.mod names no release of Dex")
	}
	return string(found[1])
}

func TestLivingWithIt(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_USERS=alice@example.org,bob@example.org")

	t.Run("status of nothing ends with 3", func(t *testing.T) {
		if r := s.in(t).mage(); r.code != 3 || !strings.Contains(r.stdout, "stopped") || !strings.Contains(r.stderr, "go tool mage start") {
			t.Errorf("%s", r)
		}
	})
	t.Run("explain draws what never ran and makes nothing", func(t *testing.T) {
		s := s.in(t)
		if r := s.must("explain"); strings.Count(r.stdout, " stopped ") != len(names) {
			t.Errorf("%s", r)
		}
		if _, err := os.Stat(s.config.State); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state folder was made: %v", err)
		}
	})
	t.Run("exec starts, runs, stops, and ends as the command", func(t *testing.T) {
		s := s.in(t)
		below := filepath.Join(s.config.Root, "templates")
		for _, words := range [][]string{{"exec"}, {"-v", "exec"}} {
			args := append(append([]string{"tool", "mage"}, words...), `rekor-cli loginfo --store_tree_state=false && echo "in $PWD" && exit 7`)
			if r := s.run(below, "go", args...); r.code != 7 || !strings.Contains(r.stdout, "in "+below) {
				t.Errorf("%s", r)
			}
			s.only()
		}
		if left := processes(t, s.config.State); len(left) > 0 {
			t.Errorf("left are processes %v", left)
		}
	})
	t.Run("exec ends as the command on Ctrl-C too", func(t *testing.T) {
		s := s.in(t)
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		for i, words := range [][]string{{"exec"}, {"-v", "exec"}} {
			mark := filepath.Join(s.home, fmt.Sprint("running", i))
			args := append(append([]string{"tool", "mage"}, words...), "trap 'exit 9' INT; touch "+mark+"; while :; do sleep 0.1; done")
			cmd := s.command(ctx, s.config.Root, "go", args...)
			var output bytes.Buffer
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for _, err := os.Stat(mark); err != nil && ctx.Err() == nil; _, err = os.Stat(mark) {
				time.Sleep(20 * time.Millisecond)
			}
			_ = cmd.Process.Signal(os.Interrupt)
			if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 9 {
				t.Errorf("%v: %s: %s", words, cmd.ProcessState, &output)
			}
			s.only()
		}
	})
	s.must("start")
	t.Run("status of all ready ends with 0", func(t *testing.T) {
		r := s.in(t).mage("status", "-o=json")
		var rows []struct {
			Service, State, Address, Version, Log string
			PID                                   int
			Since                                 time.Time
			Memory                                int64
		}
		if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil || r.code != 0 || len(rows) != len(names) {
			t.Fatalf("%v: %s", err, r)
		}
		for i, row := range rows {
			if row.Service != names[i] || row.State != "ready" || row.PID == 0 || row.Address == "" || row.Memory < 1<<20 ||
				!strings.ContainsAny(row.Version, "0123456789") || time.Since(row.Since) > time.Hour {
				t.Errorf("got %+v", row)
			}
			if release := s.dexRelease(); row.Service == "dex" && row.Version != release {
				t.Errorf("Dex is shown as %s; go.mod has the release %s", row.Version, release)
			}
		}
	})
	t.Run("status of a dead one ends with 4, its log and what to try", func(t *testing.T) {
		s := s.in(t)
		if err := syscall.Kill(s.pids()["dex"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r := s.mage("status")
		if r.code != 4 || !strings.Contains(r.stderr, "listening on") || !strings.Contains(r.stderr, s.config.Log("dex")) || !strings.Contains(r.stderr, "go tool mage start") {
			t.Errorf("%s", r)
		}
		if r := s.must("explain"); !regexp.MustCompile(`(?m)^  dex +crashed `).MatchString(r.stdout) {
			t.Errorf("%s", r)
		}
	})
	t.Run("restart restarts that one and what cannot go on without it", func(t *testing.T) {
		s := s.in(t)
		s.must("start")
		before := s.pids()
		s.must("restart", "ct")
		after := s.pids()
		for _, name := range names {
			restarted := name == "ct" || name == "fulcio"
			if (before[name] != after[name]) != restarted || after[name] == 0 {
				t.Errorf("%s was process %d and is %d", name, before[name], after[name])
			}
		}
		s.must("fulcio:stop", "restart", "ct")
		if s.pids()["fulcio"] != 0 {
			t.Error("Fulcio, which was stopped, was started")
		}
		s.must("start")
	})
	t.Run("a source's name means its services", func(t *testing.T) {
		s := s.in(t)
		before := s.pids()
		s.must("restart", "trillian")
		for name, pid := range s.pids() {
			restarted := slices.Contains([]string{"log-server", "log-signer", "rekor", "ct", "fulcio"}, name)
			if (before[name] != pid) != restarted {
				t.Errorf("%s was process %d and is %d", name, before[name], pid)
			}
		}
		if r := s.must("logs", "trillian", "-n=1"); strings.Count(r.stdout, "\n") != 2 || !strings.Contains(r.stdout, "log-signer | ") {
			t.Errorf("%s", r)
		}
	})
	t.Run("a restart that cannot work leaves what runs alone", func(t *testing.T) { s.in(t).checkRestarts() })
	t.Run("everybody signs as themselves", func(t *testing.T) { s.in(t).signAsEach() })
	t.Run("what was so already is said in a line, and not by who only asks", func(t *testing.T) {
		s := s.in(t)
		for _, test := range []struct {
			targets []string
			lines   int
		}{
			{[]string{"start"}, 1}, {[]string{"rekor:start"}, 1}, {[]string{"registry:start"}, 1}, {[]string{"hsm:init"}, 1},
			{[]string{"dex:token"}, 0}, {[]string{"fulcio:ca"}, 0}, {[]string{"env", "-token"}, 0}, {[]string{"build"}, 0}, {[]string{"rekor:show", "0"}, 0},
		} {
			if r := s.must(test.targets...); strings.Count(r.stderr, "\n") != test.lines {
				t.Errorf("%q says\n%s", test.targets, r.stderr)
			}
		}
	})
	t.Run("logs", func(t *testing.T) { s.in(t).checkLogs() })
	t.Run("env in every form", func(t *testing.T) { s.in(t).checkEnv() })
	t.Run("the commands of the page on clients work", func(t *testing.T) { s.in(t).checkClientsPage("docs/clients.md") })
	t.Run("the support archive has no secret", func(t *testing.T) { s.in(t).checkSupport() })
	t.Run("doctor finds nothing", func(t *testing.T) {
		if r := s.in(t).mage("doctor"); r.code != 0 || strings.Contains(r.stdout, "✗") {
			t.Errorf("%s", r)
		}
	})
	t.Run("setup has nothing to do", func(t *testing.T) { s.in(t).must("setup") })
	t.Run("without a terminal there are no escapes", func(t *testing.T) {
		if r := s.in(t).mage("stop", "start"); r.code != 0 || strings.ContainsAny(r.stdout+r.stderr, "\x1b\r") {
			t.Errorf("%q", r.stderr)
		}
	})
}

// checkRestarts tries to restart services that could not be started again. The targets must find out why before they stop the
// services, and leave them running.
func (s *stack) checkRestarts() {
	t := s.t
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	_, taken, _ := net.SplitHostPort(holder.Addr().String())
	database := s.config.SecretFile(config.DatabasePassword)
	untested := slices.Clone(names)
	for _, test := range []struct {
		service, target string
		gone            string // a file or folder that is moved away before the restart
		garbled         string // a file whose content is replaced before the restart
		setting, want   string
	}{
		{service: "rekor", target: "rekor:restart", gone: s.config.Key("rekor.pem")},
		{service: "ct", target: "ct:restart", gone: s.config.Key("ctfe.pem")},
		{service: "tesseract", target: "tesseract:restart", gone: s.config.Key("tesseract.pem")},
		{service: "tsa", target: "tsa:restart", gone: s.config.Key("tsa/key.pem")},
		{service: "rekor-tiles", target: "rekorTiles:restart", gone: s.config.Key("rekor-tiles.pem")},
		{service: "fulcio", target: "fulcio:restart", garbled: s.config.Key("ca-root.pem")},
		{service: "log-server", target: "trillian:restart", garbled: database},
		{service: "log-signer", gone: database},
		{service: "dex", target: "dex:restart", garbled: database},
		{service: "rekor", target: "rekor:restart", gone: database},
		{service: "tuf", target: "tuf:restart", gone: s.config.Key("tuf")},
		{service: "registry", target: "registry:restart", setting: config.Registry.Variable() + "=" + taken, want: "127.0.0.1:" + taken},
		{service: "tiles", target: "tiles:restart", setting: config.RekorTiles.Variable() + "=" + taken, want: "127.0.0.1:" + taken},
		{service: "page", target: "page:restart", setting: config.Page.Variable() + "=" + taken, want: "127.0.0.1:" + taken},
		{service: "mariadb", setting: "SIGLOCAL_MARIADBD=/bin/true", want: "/bin/true"},
	} {
		untested = slices.DeleteFunc(untested, func(name string) bool { return name == test.service })
		restore := func() {}
		want := test.want + test.gone + test.garbled
		switch {
		case test.gone != "":
			if err := os.Rename(test.gone, test.gone+".away"); err != nil {
				t.Fatal(err)
			}
			restore = func() { _ = os.RemoveAll(test.gone); _ = os.Rename(test.gone+".away", test.gone) }
		case test.garbled != "":
			whole := s.read(test.garbled)
			if err := os.WriteFile(test.garbled, []byte("this is\nsomething else\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			restore = func() { _ = os.WriteFile(test.garbled, []byte(whole), 0o600) }
		}
		working := s.env
		if test.setting != "" {
			s.env = append(slices.Clone(s.env), test.setting)
		}
		before := s.pids()
		for _, targets := range [][]string{{test.target}, {"restart", test.service}} {
			if targets[0] == "" {
				continue
			}
			began := time.Now()
			r := s.mage(targets...)
			if r.code == 0 || !strings.Contains(r.stderr, want) {
				t.Errorf("%q without %s: %s", targets, want, r)
			}
			// Nothing is waited for that cannot come.
			if took := time.Since(began); took > 45*time.Second {
				t.Errorf("%q without %s took %s", targets, want, took)
			}
			if after := s.pids(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("%q without %s: %v was running, and now %v", targets, want, before, after)
			}
		}
		s.env = working
		restore()
	}
	if len(untested) > 0 {
		t.Errorf("no restart is tested of %v", untested)
	}
	s.must("start")
}

// claims returns the claims of an ID token, which is not verified.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		t.Fatalf("not a token: %q", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if err := json.Unmarshal(payload, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func (s *stack) signAsEach() {
	t := s.t
	blob := filepath.Join(s.home, "blob")
	if err := os.WriteFile(blob, []byte("something to sign"), 0o600); err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(s.config.SecretFile("dex-password"))
	if err != nil {
		t.Fatal(err)
	}
	for _, email := range []string{s.config.Email, "alice@example.org", "bob@example.org", "somebody.new@example.org"} {
		r := s.must("dex:token", "-email="+email)
		if got := claims(t, r.stdout); got["email"] != email || got["email_verified"] != true || got["iss"] != s.config.Issuer() {
			t.Errorf("%s: %v", email, got)
		}
		one := *s
		one.config.Email = email
		signed, err := one.signOnce(t.Context(), "by-"+email, string(bytes.TrimSpace(password)))
		if err != nil {
			t.Errorf("%s: %v", email, err)
			continue
		}
		if err := one.verify(signed); err != nil {
			t.Errorf("%s: %v", email, err)
		}
		other := *s
		other.config.Email = "mallory@example.org"
		if err := other.verify(signed); err == nil {
			t.Errorf("the signature of %s passes for another's", email)
		}
	}
	if err := os.Remove(blob); err != nil {
		t.Error(err)
	}
}

func (s *stack) checkLogs() {
	t := s.t
	if r := s.must("logs", "rekor", "-n=3"); strings.Count(r.stdout, "\n") != 3 || strings.Contains(r.stdout, "rekor      | ") {
		t.Errorf("%s", r)
	}
	all := s.must("logs", "all", "-n=1").stdout
	for _, name := range names {
		if !strings.Contains("\n"+all, "\n"+name) {
			t.Errorf("%s is missing: %s", name, all)
		}
	}
	// -f also prints lines that are written later, even after a restart of the service.
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := s.command(ctx, s.config.Root, "go", "tool", "mage", "logs", "registry", "-f", "-n=0")
	var output syncBuffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The registry is restarted until the line that it logs at its start is printed: the first restart may come before logs follows.
	for !strings.Contains(output.String(), "serving ") && ctx.Err() == nil {
		s.must("restart", "registry")
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); ctx.Err() != nil {
		t.Errorf("%v: %s", err, output.String())
	}
}

func (s *stack) checkEnv() {
	t := s.t
	values := map[string]string{}
	if err := json.Unmarshal([]byte(s.must("env", "-o=json", "-token").stdout), &values); err != nil {
		t.Fatal(err)
	}
	if claims(t, values["SIGSTORE_ID_TOKEN"])["email"] != s.config.Email {
		t.Errorf("the token is %q", values["SIGSTORE_ID_TOKEN"])
	}
	for name, want := range map[string]string{
		"REKOR_URL": s.config.URL(config.Rekor), "FULCIO_URL": s.config.URL(config.Fulcio), "OIDC_URL": s.config.Issuer(), "ISSUER_URL": s.config.Issuer(),
		"CT_LOG_KEY": s.config.Key("ctfe.pub"), "TUF_ROOT": filepath.Join(s.config.Home(), "tuf"),
		"TRUSTED_ROOT": s.config.Trust("trusted_root.json"), "SIGNING_CONFIG": s.config.Trust("signing_config.json"),
		"TUF_MIRROR": s.config.TUFMirror(), "TUF_ROOT_JSON": s.config.Trust("root.json"), "TSA_URL": s.config.URL(config.TSA), "REKOR_V2_URL": s.config.RekorV2(),
	} {
		if values[name] != want {
			t.Errorf("%s is %q, not %q", name, values[name], want)
		}
	}
	if !strings.HasPrefix(values["PATH"], s.config.Programs+":") {
		t.Errorf("PATH is %q", values["PATH"])
	}
	for _, line := range strings.Split(strings.TrimSpace(s.must("env", "-o=github").stdout), "\n") {
		if name, value, ok := strings.Cut(line, "="); !ok || name != "PATH" && values[name] != value {
			t.Errorf("%q is not a line for GITHUB_ENV, or says something else than JSON does", line)
		}
	}
	if fish := s.must("env", "-o=fish").stdout; strings.Count(fish, "set -gx ") != len(values)-1 || strings.Contains(fish, values["COSIGN_PASSWORD"]) {
		t.Errorf("for fish: %s", fish)
	}
	if sh := s.must("env").stdout; strings.Contains(sh, values["COSIGN_PASSWORD"]) {
		t.Errorf("the secret is shown: %s", sh)
	}
}

// checkClientsPage runs the commands of a page that are for a shell, and those for the clients that this project builds.
func (s *stack) checkClientsPage(file string) {
	t := s.t
	page := s.read(filepath.Join(s.config.Root, file))
	inShell := func(commands string) {
		t.Helper()
		// The page's commands are meant to be typed in the checkout. Here only go(1) runs there, so that files that the commands
		// write go into the test's folder.
		script := `go() (cd "$ROOT" && command go "$@")` + "\n" + commands
		r := s.run(s.home, "env", "ROOT="+s.config.Root, "sh", "-ec", script)
		if r.code != 0 {
			t.Errorf("%s\n%s", commands, r)
		}
	}
	block := regexp.MustCompile("(?s)```sh\n(eval .*?)```").FindStringSubmatch(page)
	if block == nil {
		t.Fatalf("%s shows no shell", file)
	}
	inShell(block[1])
	const env = `eval "$(go tool mage env -token)"` + "\n"
	code := regexp.MustCompile("`([^`]+)`")
	rows := regexp.MustCompile(`(?m)^\| (cosign v2.*|rekor-cli) \| (.*) \| (.*) \|$`).FindAllStringSubmatch(page, -1)
	if len(rows) != 4 {
		t.Fatalf("the clients of %s are %q", file, rows)
	}
	command := ""
	for _, row := range rows {
		commands := env
		for _, setting := range code.FindAllStringSubmatch(row[2], -1) {
			commands += setting[1] + "\n"
		}
		if found := code.FindStringSubmatch(row[3]); found != nil { // otherwise the command is that of the row before
			command = found[1]
		}
		inShell(commands + command)
	}
	// The manifest is what kubectl would read from its standard input.
	manifest := regexp.MustCompile("(?s)```sh\n(kubectl apply .*?)```").FindStringSubmatch(page)
	if manifest == nil {
		t.Fatalf("%s has no TrustRoot", file)
	}
	inShell(env + "kubectl() { cat > trustroot.yaml; }\n" + manifest[1])
	var keys []string
	for _, found := range regexp.MustCompile(`(?m)^ +(?:certChain|publicKey): (\S+)$`).FindAllStringSubmatch(s.read(filepath.Join(s.home, "trustroot.yaml")), -1) {
		key, err := base64.StdEncoding.DecodeString(found[1])
		if err != nil {
			t.Error(err)
		}
		keys = append(keys, string(key))
	}
	if want := []string{s.read(s.config.Key("ca-root.pem")), s.read(s.config.Key("ctfe.pub")), s.read(s.config.Key("rekor.pub"))}; !slices.Equal(keys, want) {
		t.Errorf("the TrustRoot has the keys %q", keys)
	}
	for _, left := range []string{"hello.txt", "hello.json", "hello.sigstore.json", "trustroot.yaml"} {
		if err := os.Remove(filepath.Join(s.home, left)); err != nil {
			t.Error(err)
		}
	}
}

func (s *stack) checkSupport() {
	if r := s.must("bundle"); !strings.HasSuffix(r.stdout, ".tar.gz\n") || !strings.Contains(r.stderr, "`support`") {
		s.t.Errorf("the old name: %s", r)
	}
	s.checkArchive(strings.TrimSpace(s.must("support").stdout))
}

// checkArchive looks into a support archive.
func (s *stack) checkArchive(name string) {
	t := s.t
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	secrets := s.secrets()
	if len(secrets) < 5 {
		t.Fatalf("only these secrets are looked for: %v", slices.Collect(maps.Keys(secrets)))
	}
	for archive := tar.NewReader(unpacked); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, header.Name)
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		for secret, text := range secrets {
			if strings.Contains(string(content), text) {
				t.Errorf("%s shows %s", header.Name, secret)
			}
		}
		if strings.Contains(string(content), "PRIVATE KEY-----") {
			t.Errorf("%s shows a private key", header.Name)
		}
	}
	for _, want := range []string{"status.json", "doctor.json", "versions/go.mod", "config/rekor.yaml", "config/crypto11.json", "logs/fulcio.log", "logs/mariadb.log"} {
		if !slices.Contains(found, want) {
			t.Errorf("it has no %s: %v", want, found)
		}
	}
}

func TestOnATerminal(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	terminal := s.terminal()
	sum := strings.Fields(s.run("/", "sh", "-c", `printf '%s' "$1" | cksum`, "sh", s.config.State).stdout)[0]
	windows := "sigstore-local-" + sum
	t.Cleanup(func() {
		if out, err := exec.Command("tmux", "-L", windows, "kill-server").CombinedOutput(); err != nil {
			t.Logf("%v: %s", err, out)
		}
	})
	// At a terminal, progress has coloured marks.
	terminal.run("env -u CI -u NO_COLOR TERM=screen go tool mage start")
	terminal.shows("Sigstore runs.")
	if screen := terminal.tmux("capture-pane", "-p", "-e"); !strings.Contains(screen, "\x1b[32m✓") {
		t.Errorf("no mark is green: %q", screen)
	}
	terminal.run(filepath.Join(s.config.Root, "launch-sigstore.sh"))
	listed := func() []string {
		return strings.Fields(s.run("/", "tmux", "-L", windows, "list-windows", "-F", "#{window_name}").stdout)
	}
	terminal.wait("a window for each service", func() bool { return len(listed()) == len(names) })
	for _, name := range names {
		if !slices.Contains(listed(), name) {
			t.Errorf("%s has no window: %v", name, listed())
		}
	}
	terminal.tmux("new-window", filepath.Join(s.config.Root, "launch-sigstore.sh"))
	terminal.wait("a second run attaches", func() bool {
		return strings.Count(s.run("/", "tmux", "-L", windows, "list-clients").stdout, "\n") == 2
	})
	if got := listed(); len(got) != len(names) {
		t.Errorf("after a second run there are windows %v", got)
	}
}
