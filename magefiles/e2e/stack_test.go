// Package e2e runs the real stack as a user does: by its command line, in a state folder and on ports of its own.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/build"
	clientenv "sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/project"
	stacks "sigstore-local/magefiles/internal/stack"
)

var (
	// names are the stack's services, as status lists them.
	names []string
	// tutorial are those that the three levels need.
	tutorial []string
	// parts is what the configuration knows of them.
	parts []config.Part
	// runner is the program that "go tool mage" runs. Called directly it does the same in a tenth of a second less.
	runner string
	// goFolders are the variables of Go's folders.
	goFolders []string
	// shared is a folder for what tests share.
	shared string
)

// prepare makes what all tests share, and asks the stack what it consists of.
func prepare() error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	root, err := project.Root(wd)
	if err != nil {
		return err
	}
	if goFolders, err = clientenv.GoFolders(context.Background(), root); err != nil {
		return err
	}
	if err := askStatus(root); err != nil {
		return err
	}
	cmd := exec.Command("go", "tool", "-n", "mage")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	runner = strings.TrimSpace(string(out))
	return linkImages(root, sharedKo())
}

// sharedKo is the folder of ko's cache, of which each stack has a copy.
func sharedKo() string { return filepath.Join(shared, "ko") }

// copyKo makes that copy. Its files are links: go(1) puts another file in the place of one that is out of date. In one folder for all
// stacks, two builds side by side could take the same program for up to date and for out of date, and fail.
func copyKo(to string) error {
	return filepath.WalkDir(sharedKo(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := filepath.Join(to, strings.TrimPrefix(path, sharedKo()))
		if entry.IsDir() {
			return os.MkdirAll(at, 0o755)
		}
		return os.Link(path, at)
	})
}

// linkImages links the programs of the demos' images where ko looks for them first, with the flags that it gives. Otherwise each
// demo of each stack would link one, which takes a fifth of the tests' time.
func linkImages(root, cache string) error {
	for _, kind := range []config.Stack{config.Tutorial, config.Tiles} {
		pkg := demo.ImagePackage(config.Config{Stack: kind})
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(cache, "bin", pkg, runtime.GOOS, runtime.GOARCH, "out"), pkg)
		cmd.Dir, cmd.Env = root, append(build.Env(os.Environ(), false), "GOFLAGS="+build.ImageFlags)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// askStatus fills names, tutorial and parts with what the stack itself says.
func askStatus(root string) error {
	cmd := exec.Command("go", "tool", "mage", "status", "-o=json")
	// The status of a stack that never ran ends with exit code 3.
	cmd.Dir, cmd.Env = root, append(config.Without(os.Environ()), "SIGLOCAL_STATE="+filepath.Join(os.TempDir(), "no-such-stack"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 3 {
		return fmt.Errorf("status of a stack that never ran: %w: %s", err, out)
	}
	var rows []struct {
		Service string
		Ports   map[string]int // by their variables
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		return err
	}
	for _, row := range rows {
		part := config.Part{Service: row.Service}
		for variable, number := range row.Ports {
			part.Ports = append(part.Ports, config.Port{Name: strings.TrimPrefix(variable, "SIGLOCAL_PORT_"), Default: number})
		}
		names, parts = append(names, row.Service), append(parts, part)
	}
	tutorial = slices.DeleteFunc(slices.Clone(names[:slices.Index(names, "fulcio")+1]), func(name string) bool { return name == "tesseract" })
	return nil
}

// stack is a stack of a test's own.
type stack struct {
	t      *testing.T
	config config.Config
	home   string
	env    []string
	within []string // what runs the commands, if that is not the test itself: it gets a folder, a program and its arguments
}

// offsets gives each stack of this run ports that no other has, far from the default ones: no two default ports are a
// small multiple of seven apart. They begin where another run on this machine hardly does.
var offsets atomic.Int32

func init() { offsets.Store(rand.Int32N(400)) }

var (
	// live are the stacks of the tests that run, by folder.
	live sync.Map
	// ended is locked for good once the tests are told to end: no test goes on after that.
	ended sync.RWMutex
)

func goOn() {
	ended.RLock()
	defer ended.RUnlock()
}

// TestMain removes the stacks when it is told to end too, such as by Ctrl-C.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	var err error
	if shared, err = os.MkdirTemp("", "sl"); err == nil {
		err = errors.Join(prepare(), holdDefaultPorts())
	}
	if err != nil {
		_ = os.RemoveAll(shared)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		ended.Lock()
		// Processes that are about to start others have got the signal too, and end by themselves.
		for range 40 {
			live.Range(func(_, s any) bool { s.(*stack).killAll(); return true })
			time.Sleep(50 * time.Millisecond)
		}
		live.Range(func(dir, _ any) bool { killBelow(dir.(string)); _ = os.RemoveAll(dir.(string)); return true })
		killBelow(shared)
		_ = os.RemoveAll(shared)
		os.Exit(1)
	}()
	code := m.Run()
	if err := os.RemoveAll(shared); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	for _, l := range held {
		if other, err := net.Listen("tcp", l.Addr().String()); err == nil {
			_ = other.Close()
			fmt.Fprintf(os.Stderr, "the default port %s was not held\n", l.Addr())
			code = 1
		}
	}
	os.Exit(code)
}

// holdDefaultPorts listens on every default port, as another stack does that runs on this machine: nothing of a stack that has
// other ports may need one of them. What is taken already is held too.
func holdDefaultPorts() error {
	for _, part := range append([]config.Part{{Ports: []config.Port{config.Debug, config.Callback}}}, parts...) {
		for _, port := range part.Ports {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port.Default))
			if errors.Is(err, syscall.EADDRINUSE) {
				continue
			}
			if err != nil {
				return err
			}
			held = append(held, l)
		}
	}
	return nil
}

// held are the listeners on default ports. They are kept here, since one that nobody refers to is closed.
var held []net.Listener

// newStack prepares a stack that ends with the test. Each of settings is NAME=value for its environment.
func newStack(t *testing.T, settings ...string) *stack {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the real stack")
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := project.Root(wd)
	if err != nil {
		t.Fatal(err)
	}
	// t.TempDir's paths are too long for sockets.
	dir, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	offset := 10000 + 7*int(offsets.Add(1))
	settings = append([]string{"SIGLOCAL_STATE=" + filepath.Join(dir, "state"), "SIGLOCAL_PORT_OFFSET=" + strconv.Itoa(offset), "SIGLOCAL_INSTALL=never"}, settings...)
	c, err := config.Load(root, settings, parts...)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range c.Ports() {
		if number, lowest := c.Port(port), stacks.ThrowawayOffset+config.Registry.Default; number >= lowest {
			t.Fatalf("%s is %d, which can be a throwaway stack's: these begin at %d", port.Variable(), number, lowest)
		}
	}
	s := &stack{t: t, config: c, home: filepath.Join(dir, "home")}
	if err := os.Mkdir(s.home, 0o700); err != nil {
		t.Fatal(err)
	}
	// The user's environment without the variables of Sigstore's programs. HOME is a folder of the test's, which shows if
	// anything is written there; Go's folders stay the user's.
	own := regexp.MustCompile(`^(SIGSTORE_|COSIGN_|REKOR_|TUF_|HOME=)`)
	for _, entry := range config.Without(os.Environ()) {
		if !own.MatchString(entry) {
			s.env = append(s.env, entry)
		}
	}
	s.env = append(s.env, "HOME="+s.home)
	s.env = append(s.env, goFolders...)
	s.env = append(s.env, settings...)
	ko := filepath.Join(shared, filepath.Base(dir))
	if err := copyKo(ko); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "KOCACHE="+ko)
	goOn()
	live.Store(dir, s)
	t.Cleanup(func() {
		goOn()
		defer live.Delete(dir)
		s.killAll()
		killBelow(dir)
		if t.Failed() {
			for _, name := range names {
				if log, err := os.ReadFile(c.Log(name)); err == nil {
					t.Logf("%s:\n%s", c.Log(name), log[max(0, len(log)-2000):])
				}
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// result is what a command printed and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.code, r.stdout, r.stderr)
}

// deadline is longer than any command takes that does not hang, also one that first compiles everything beside other tests that do.
const deadline = 20 * time.Minute

// command prepares a command in the folder dir.
func (s *stack) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	if len(s.within) > 0 {
		program, args = s.within[0], slices.Concat(s.within[1:], []string{dir, program}, args)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, s.env
	return cmd
}

// run runs a command to its end, reading its output through pipes as a script does: run returns once no process holds them.
func (s *stack) run(dir, program string, args ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), deadline)
	defer cancel()
	cmd := s.command(ctx, dir, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	goOn()
	if exit := (*exec.ExitError)(nil); ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%s %q: %v\n%s%s", program, args, err, &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// mage runs targets, which may fail.
func (s *stack) mage(targets ...string) result {
	s.t.Helper()
	return s.run(s.config.Root, runner, targets...)
}

// must runs targets that have to succeed.
func (s *stack) must(targets ...string) result {
	s.t.Helper()
	r := s.mage(targets...)
	if r.code != 0 {
		s.t.Fatalf("mage %q: %s", targets, r)
	}
	return r
}

// program runs a built program in the environment that `mage env` makes, and in which it has to succeed.
func (s *stack) program(name string, args ...string) string {
	s.t.Helper()
	script := `eval "$(go tool mage env)"` + "\n" + shellescape.QuoteCommand(append([]string{name}, args...))
	r := s.run(s.config.Root, "sh", "-ec", script)
	if r.code != 0 {
		s.t.Fatalf("%s %q: %s", name, args, r)
	}
	return r.stdout
}

// pids are the processes of the services that run, by name, as their locks have them.
func (s *stack) pids() map[string]int {
	s.t.Helper()
	pids := map[string]int{}
	for _, name := range names {
		pid, err := lock.Holder(s.config.Run(name + ".pid"))
		if err != nil {
			s.t.Fatal(err)
		}
		if pid != 0 {
			pids[name] = pid
		}
	}
	return pids
}

// states are the services' states, by name, as status prints them.
func (s *stack) states() map[string]string {
	s.t.Helper()
	states := map[string]string{}
	for _, line := range strings.Split(s.mage("status").stdout, "\n")[1:] {
		if fields := strings.Fields(line); len(fields) > 1 {
			states[fields[0]] = fields[1]
		}
	}
	return states
}

// killAll ends every service at once and without warning, and returns when all are gone.
func (s *stack) killAll() {
	s.t.Helper()
	for _, pid := range s.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for len(s.pids()) > 0 {
		time.Sleep(10 * time.Millisecond)
	}
}

// killBelow ends all processes whose arguments name a test's folder, such as the daemons of a second stack in it.
func killBelow(dir string) {
	pids, err := processesOf(dir + "/")
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// only checks that the services of the given names are ready and no other runs.
func (s *stack) only(want ...string) {
	s.t.Helper()
	states := s.states()
	if len(states) != len(names) {
		s.t.Fatalf("status lists %v", states)
	}
	wanted := map[string]bool{}
	for _, name := range want {
		wanted[name] = true
	}
	for _, name := range names {
		expected := "stopped"
		if wanted[name] {
			expected = "ready"
		}
		if states[name] != expected {
			s.t.Errorf("%s is %s, not %s", name, states[name], expected)
		}
	}
}

// image is the image that the demos signed.
func (s *stack) image(demo result) string {
	s.t.Helper()
	for field := range strings.FieldsSeq(demo.stdout) {
		if strings.HasPrefix(field, s.config.Image("rekor-cli@sha256:")) {
			return field
		}
	}
	s.t.Fatalf("the demo names no image: %s", demo)
	return ""
}

// terminal is a terminal with a shell in it, of a tmux of its own.
type terminal struct {
	s      *stack
	server string
}

func (s *stack) terminal() terminal {
	s.t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		s.t.Skip("tmux is not installed")
	}
	on := terminal{s, "terminal-" + filepath.Base(filepath.Dir(s.home))}
	s.t.Cleanup(func() {
		if out, err := exec.Command("tmux", "-L", on.server, "kill-server").CombinedOutput(); err != nil {
			s.t.Logf("%v: %s", err, out)
		}
	})
	// A shell that is not a login shell, which would set the PATH anew.
	on.tmux("new-session", "-d", "-x", "200", "-y", "50", "sh")
	return on
}

func (on terminal) tmux(args ...string) string {
	on.s.t.Helper()
	return on.s.run(on.s.config.Root, "tmux", append([]string{"-L", on.server}, args...)...).stdout
}

// run types a command.
func (on terminal) run(command string) {
	on.s.t.Helper()
	on.tmux("send-keys", command, "Enter")
}

// shows waits until a text is on the screen.
func (on terminal) shows(text string) {
	on.s.t.Helper()
	on.wait(text, func() bool { return strings.Contains(on.tmux("capture-pane", "-p"), text) })
}

func (on terminal) wait(what string, until func() bool) {
	on.s.t.Helper()
	for end := time.Now().Add(soon); !until(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			on.s.t.Fatalf("%s: %s", what, on.tmux("capture-pane", "-p"))
		}
	}
}

// file writes a file of the test's.
func (s *stack) file(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.home, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *stack) read(file string) string {
	s.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

// syncBuffer collects what a running command writes.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
