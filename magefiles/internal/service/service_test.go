package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/lock"
	"sigstore-local/magefiles/internal/statedir"
)

// The test binary is the helper program too: with HELPER set it is a daemon that behaves as that says.
func TestMain(m *testing.M) {
	switch os.Getenv("HELPER") {
	case "":
		os.Exit(testMain(m))
	case "serve": // serves on ADDRESS until it is asked to end
		serve()
	case "die":
		fmt.Println("first line of the helper")
		fmt.Println("the helper cannot go on")
		os.Exit(3)
	case "deaf": // serves, and does not end when asked to
		signal.Ignore(syscall.SIGTERM)
		serve()
	case "idle": // as Trillian's: idles after a first SIGTERM, ends on a second
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		go func() {
			<-signals
			signal.Stop(signals)
			signal.Reset(syscall.SIGTERM)
		}()
		serve()
	case "mute": // runs and never answers
		time.Sleep(time.Hour)
	}
}

func serve() {
	err := http.ListenAndServe(os.Getenv("ADDRESS"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strconv.Itoa(os.Getpid()))
	}))
	fmt.Println(err)
	os.Exit(1)
}

var launcher string

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "launch")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	launcher = filepath.Join(dir, "launch")
	if out, err := exec.Command("go", "build", "-o", launcher, "sigstore-local/magefiles/cmd/launch").CombinedOutput(); err != nil {
		fmt.Printf("%v: %s\n", err, out)
		return 1
	}
	return m.Run()
}

// engine returns an engine with a state folder of its own, whose daemons end with the test.
func engine(t *testing.T) *Engine {
	t.Helper()
	// t.TempDir's paths are too long for sockets.
	state, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	c, err := config.Load("/checkout", []string{"SIGLOCAL_STATE=" + filepath.Join(state, "s")})
	if err != nil {
		t.Fatal(err)
	}
	c.Programs = filepath.Dir(launcher)
	if err := statedir.MakeFolders(c); err != nil {
		t.Fatal(err)
	}
	discard, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { discard.Close() })
	return &Engine{Config: c, Console: console.New(discard, func(string) string { return "" }), StartTimeout: time.Minute}
}

// helper describes the helper program as a service on a free port.
func helper(t *testing.T, e *Engine, behaviour string) Service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := Service{
		Name: "helper", Program: program, Env: []string{"HELPER=" + behaviour, "ADDRESS=" + address}, Address: address,
		Ready: Answers("http://" + address), Hint: "try something else",
	}
	t.Cleanup(func() {
		if pid, err := lock.Holder(e.pidFile(s)); err == nil && pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

func mustStart(t *testing.T, e *Engine, s Service) Status {
	t.Helper()
	if _, err := e.Start(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	status := e.Status(t.Context(), s)
	if status.State != Ready || status.PID == 0 || status.Since.IsZero() {
		t.Fatalf("after a start: %+v", status)
	}
	return status
}

func TestAServiceThatRunsForSomethingElseIsStartedAnew(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	running := 0
	for _, test := range []struct {
		purpose string
		anew    bool
	}{{"memory", true}, {"memory", false}, {"database", true}, {"", false}, {"database", false}} {
		s.For = test.purpose
		if pid := mustStart(t, e, s).PID; (pid != running) != test.anew {
			t.Errorf("for %q it was process %d and is %d", test.purpose, running, pid)
		} else {
			running = pid
		}
	}
}

func TestAServiceThatIsStartedTwiceRunsOnce(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	first := mustStart(t, e, s)
	second := mustStart(t, e, s)
	if first.PID != second.PID {
		t.Errorf("process %d, then %d", first.PID, second.PID)
	}
	content, err := os.ReadFile(e.pidFile(s))
	if err != nil || string(content) != fmt.Sprintln(first.PID) {
		t.Errorf("the PID file holds %q, %v", content, err)
	}
}

func TestADaemonHasASessionOfItsOwnAndNoPipeOfItsCallers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	e := engine(t)
	// A pipe that children inherit, as a shell makes it for out=$(…) and >(…).
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(pipe[0])
	defer syscall.Close(pipe[1])
	pid := mustStart(t, e, helper(t, e, "serve")).PID
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	if session := strings.Fields(string(stat))[5]; session != strconv.Itoa(pid) {
		t.Errorf("process %d is in session %s", pid, session)
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{}
	holdsPIDFile := false
	for _, entry := range entries {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		open[entry.Name()] = target
		holdsPIDFile = holdsPIDFile || target == e.Config.Run("helper.pid")
		if strings.HasPrefix(target, "pipe:") {
			t.Errorf("descriptor %s is a pipe", entry.Name())
		}
	}
	if open["0"] != os.DevNull || open["1"] != e.Config.Log("helper") || open["2"] != e.Config.Log("helper") || !holdsPIDFile {
		t.Errorf("open are %v", open)
	}
}

func TestADaemonThatDiesBeforeItIsReadyFailsTheStartAtOnceWithItsLog(t *testing.T) {
	e := engine(t)
	e.StartTimeout = time.Hour
	s := helper(t, e, "die")
	_, err := e.Start(t.Context(), s, nil)
	if err == nil {
		t.Fatal("the start succeeded")
	}
	for _, want := range []string{"helper", "exit status 3", "the helper cannot go on", e.Config.Log("helper"), "try something else"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the message does not say %q: %v", want, err)
		}
	}
	if status := e.Status(t.Context(), s); status.State != Crashed || status.PID != 0 {
		t.Errorf("after its death: %+v", status)
	}
}

func TestAServiceThatIsNotReadyInTimeIsLeftRunning(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "mute")
	e.StartTimeout = 300 * time.Millisecond
	_, err := e.Start(t.Context(), s, nil)
	if err == nil || !strings.Contains(err.Error(), "not ready after 300ms") {
		t.Errorf("got %v", err)
	}
	e.StartTimeout = 0 // it is not starting any more
	if status := e.Status(t.Context(), s); status.State != NotAnswering || status.PID == 0 || status.Err == nil {
		t.Errorf("got %+v", status)
	}
	if err := e.Stop(t.Context(), s); err != nil {
		t.Error(err)
	}
}

func TestAHopelessProbeEndsTheWait(t *testing.T) {
	e := engine(t)
	e.StartTimeout = time.Hour
	s := helper(t, e, "serve")
	s.Ready = Probe{Database: true}
	e.Database = func(context.Context) error { return fmt.Errorf("the password is wrong: %w", ErrHopeless) }
	if _, err := e.Start(t.Context(), s, nil); !errors.Is(err, ErrHopeless) || !strings.Contains(err.Error(), "the password is wrong") {
		t.Errorf("got %v", err)
	}
}

func TestAnInterruptedStartLeavesTheDaemonToTheNextOne(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	ready := s.Ready
	ctx, interrupt := context.WithCancel(t.Context())
	s.Ready = Probe{Database: true}
	e.Database = func(context.Context) error {
		interrupt()
		return errors.New("not yet")
	}
	if _, err := e.Start(ctx, s, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	s.Ready = ready
	if pid := e.Status(t.Context(), s).PID; pid != 0 && pid != mustStart(t, e, s).PID {
		t.Error("the next start ran a second daemon")
	}
}

func TestADaemonThatIsAboutToEndIsStartedAnew(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	first := mustStart(t, e, s).PID
	ready := s.Ready
	var once sync.Once
	s.Ready = Probe{Database: true}
	e.Database = func(ctx context.Context) error {
		// Until it is gone it might still answer.
		if pid, err := lock.Holder(e.pidFile(s)); err != nil || pid == first {
			once.Do(func() { _ = syscall.Kill(first, syscall.SIGTERM) })
			return errors.New("not any more")
		}
		return ready.ask(ctx)
	}
	if _, err := e.Start(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	s.Ready = ready
	if second := mustStart(t, e, s).PID; second == first {
		t.Errorf("process %d, which ended, runs", second)
	}
}

func TestStopReturnsWhenTheDaemonIsGone(t *testing.T) {
	e := engine(t)
	for _, test := range []struct {
		behaviour string
		change    func(*Service)
		most      time.Duration
	}{
		{"serve", func(*Service) {}, 5 * time.Second},
		{"idle", func(s *Service) { s.EndsOnSecondTerm = true }, 5 * time.Second},
		{"deaf", func(s *Service) { s.Grace = 300 * time.Millisecond }, 5 * time.Second},
	} {
		s := helper(t, e, test.behaviour)
		test.change(&s)
		pid := mustStart(t, e, s).PID
		began := time.Now()
		if err := e.Stop(t.Context(), s); err != nil {
			t.Errorf("%s: %v", test.behaviour, err)
		}
		if took := time.Since(began); took > test.most {
			t.Errorf("%s: it took %s", test.behaviour, took)
		}
		if err := e.Ask(t.Context(), s); err == nil {
			t.Errorf("%s: process %d still answers", test.behaviour, pid)
		}
		if status := e.Status(t.Context(), s); status.State != Stopped || !status.Since.IsZero() {
			t.Errorf("%s: got %+v", test.behaviour, status)
		}
		if err := e.Stop(t.Context(), s); err != nil {
			t.Errorf("%s: a second stop: %v", test.behaviour, err)
		}
	}
}

func TestAProcessThatGotTheDaemonsPIDIsNotSignalled(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stranger.Wait() }()
	defer stranger.Process.Kill()
	if err := os.WriteFile(e.pidFile(s), []byte(fmt.Sprintln(stranger.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if status := e.Status(t.Context(), s); status.State != Crashed || status.PID != 0 {
		t.Errorf("got %+v", status)
	}
	p := process{pidFile: e.pidFile(s), pid: stranger.Process.Pid}
	if err := p.signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: got %v", err)
	}
	if err := e.Stop(t.Context(), s); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		t.Errorf("the other process was ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	mustStart(t, e, s)
}

func TestADaemonThatWasKilledIsCrashedUntilItIsStartedAgain(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	first := mustStart(t, e, s).PID
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); e.Status(t.Context(), s).State != Crashed; time.Sleep(poll) {
		if time.Now().After(deadline) {
			t.Fatalf("got %+v", e.Status(t.Context(), s))
		}
	}
	if second := mustStart(t, e, s).PID; second == first {
		t.Errorf("process %d, which was killed, runs", second)
	}
}

func TestADaemonFromBeforeTheSystemWasStartedIsStopped(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	if err := os.WriteFile(e.pidFile(s), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Unix(1, 0)
	if err := os.Chtimes(e.pidFile(s), long, long); err != nil {
		t.Fatal(err)
	}
	if status := e.Status(t.Context(), s); status.State != Stopped {
		t.Errorf("got %+v", status)
	}
}

func TestGarbageInAPIDFileIsNoReasonNotToStart(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	for _, garbage := range []string{"", "\x00\x00", "not a number\n", "-1\n", "999999999999999999999\n"} {
		if err := os.WriteFile(e.pidFile(s), []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if status := e.Status(t.Context(), s); status.PID != 0 {
			t.Errorf("%q: got %+v", garbage, status)
		}
		mustStart(t, e, s)
		if err := e.Stop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestATakenPortIsNamedWithTheProcessThatHoldsIt(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "serve")
	l, err := net.Listen("tcp", e.Config.Address(config.Rekor))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	s.Listens = []config.Port{config.Rekor}
	_, err = e.Start(t.Context(), s, nil)
	if err == nil {
		t.Fatal("it started")
	}
	for _, want := range []string{"127.0.0.1:3000", fmt.Sprintf("process %d", os.Getpid()), "SIGLOCAL_PORT_REKOR"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the message does not say %q: %v", want, err)
		}
	}
}

func TestTheLastThreeLogsAreKept(t *testing.T) {
	e := engine(t)
	s := helper(t, e, "die")
	for range keptLogs + 3 {
		_, _ = e.Start(t.Context(), s, nil)
	}
	logs, err := filepath.Glob(e.Config.Log("helper") + "*")
	if err != nil || len(logs) != keptLogs+1 {
		t.Errorf("got %q, %v", logs, err)
	}
}

func TestFaultManyRoundsLeakNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	count := 100
	if os.Getenv("FAULT_ROUNDS") == "full" {
		count = 1000
	}
	e := engine(t)
	s := helper(t, e, "serve")
	descriptors := func() int {
		entries, err := os.ReadDir("/dev/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	files := func() int {
		found := 0
		err := filepath.WalkDir(e.Config.State, func(string, os.DirEntry, error) error {
			found++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	round := func() {
		mustStart(t, e, s)
		if err := e.Stop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if pid, err := lock.Holder(e.pidFile(s)); err != nil || pid != 0 {
			t.Fatalf("process %d holds the lock, %v", pid, err)
		}
	}
	for range keptLogs + 2 { // until logs are dropped
		round()
	}
	descriptorsBefore, filesBefore, routinesBefore := descriptors(), files(), runtime.NumGoroutine()
	for range count {
		round()
	}
	time.Sleep(100 * time.Millisecond) // for goroutines that have nothing left to do but end
	if after := descriptors(); after > descriptorsBefore {
		t.Errorf("%d descriptors, then %d", descriptorsBefore, after)
	}
	if after := files(); after != filesBefore {
		t.Errorf("%d files, then %d", filesBefore, after)
	}
	if after := runtime.NumGoroutine(); after > routinesBefore+2 {
		t.Errorf("%d goroutines, then %d", routinesBefore, after)
	}
	t.Logf("%d rounds", count)
}

func TestTheEndOfALogIsShownWithoutStackTraces(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	content := "first\nsecond\n" + `{"message":"it \"failed\"","stacktrace":"main.main\n\t\"x\".go:1","more":1}` + "\n" + strings.Repeat("x", 1000) + "\n"
	if err := os.WriteFile(log, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "  | second\n  | " + `{"message":"it \"failed\"","more":1}` + "\n  | " + strings.Repeat("x", longestLine) + "…\n"
	if got := LogTail(log, 3); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTheEndOfALogOfTextIsShownWithoutStackTracesAndColors(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	content := "first\n2026-11-26T11:46:05.267Z\t\x1b[33mWARN\x1b[0m\tserver/error.go:64\tit failed\n" +
		strings.Repeat("github.com/sigstore/fulcio/pkg/server.(*grpcaCAServer).CreateSigningCertificate\n\tgithub.com/sigstore/fulcio@v1.8.8/pkg/server/grpc_server.go:92\n", 20) + "last\n"
	if err := os.WriteFile(log, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := LogTail(log, 3), "  | first\n  | 2026-11-26T11:46:05.267Z\tWARN\tserver/error.go:64\tit failed\n  | last\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAPanicIsShownFromItsMessageOn(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	content := "it starts\npanic: it cannot\n\ngoroutine 1 [running]:\n" + strings.Repeat("a frame\n", 100)
	if err := os.WriteFile(log, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := LogTail(log, 3); got != "  | panic: it cannot\n  | \n  | goroutine 1 [running]:\n" {
		t.Errorf("got %q", got)
	}
}

func TestTheEndOfALongLogIsReadAlone(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const long = 64 << 30 // a hole, more than this process could read into memory
	if err := os.Truncate(log, long); err != nil {
		t.Skipf("no file with a hole here: %v", err)
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\none\ntwo\n"); err != nil {
		t.Fatal(err)
	}
	if got := LogTail(log, 2); got != "  | one\n  | two\n" {
		t.Errorf("got %q", got)
	}
}

func TestAFollowedLogGoesOnAfterARotation(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	reader := NewLogReader(log, 1)
	defer reader.Close()
	expect := func(want ...string) {
		t.Helper()
		got, err := reader.read()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	expect()
	add("one\ntwo\n")
	expect("one", "two")
	add("thr")
	expect()
	add("ee\n")
	expect("three")
	add("last words\n")
	if err := rotate(log); err != nil {
		t.Fatal(err)
	}
	add("anew\n")
	expect("last words")
	expect("anew")
}

func TestWhatServicesUseIsFoundOverTheServicesBetween(t *testing.T) {
	services := []Service{
		{Name: "database"}, {Name: "log", Uses: []Use{{Of: "database/trees"}}}, {Name: "ca", Uses: []Use{{Of: "log"}, {Of: "keys/ca.pem"}}}, {Name: "registry"},
	}
	for _, test := range []struct{ names, want []string }{
		{[]string{"ca"}, []string{"database", "log"}}, {[]string{"database", "registry"}, nil}, {[]string{"log", "registry"}, []string{"database"}},
	} {
		if got := UsedBy(services, test.names); !slices.Equal(got, test.want) {
			t.Errorf("%v use %v, not %v", test.names, got, test.want)
		}
	}
}
