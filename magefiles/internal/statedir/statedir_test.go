package statedir

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/lock"
)

// The test binary is another process at work on the stack in STATE too, in the way that HELPER says.
func TestMain(m *testing.M) {
	helper := os.Getenv("HELPER")
	if helper == "" {
		os.Exit(m.Run())
	}
	c, err := config.Load("/", []string{"SIGLOCAL_STATE=" + os.Getenv("STATE")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	_, err = Hold(ctx, c, func(pid int) { cancel(fmt.Errorf("waits for %d", pid)) })
	switch {
	case helper == "try" && err == nil: // whether it can hold the stack
		fmt.Println("holds")
	case helper == "try":
		fmt.Println(err, errors.Unwrap(err))
	case helper == "hold": // until it is killed
		time.Sleep(time.Hour)
	case helper == "wipe": // for a moment, and then wipes it
		fmt.Println("holds", err)
		time.Sleep(300 * time.Millisecond)
		if err == nil {
			err = Wipe(c)
		}
		fmt.Println("wiped", err)
	}
}

// folders is the configuration of a stack whose folders are there.
func folders(t *testing.T) config.Config {
	t.Helper()
	// t.TempDir's paths are too long for sockets.
	dir, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := config.Load("/checkout", []string{"SIGLOCAL_STATE=" + filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	if err := MakeFolders(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOneOfManyChangesTheStackAtATime(t *testing.T) {
	c := folders(t)
	held, err := Hold(t.Context(), c, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	// Record locks belong to a process, so another process has to try.
	other := func() string {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HELPER=try", "STATE="+c.State)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return string(out)
	}
	if said := other(); !strings.Contains(said, fmt.Sprintf("waits for %d", os.Getpid())) {
		t.Errorf("the other says %q", said)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if said := other(); said != "holds\n" {
		t.Errorf("the other says %q", said)
	}
}

func TestHoldWaitsForTheOtherProcessAndNamesIt(t *testing.T) {
	c := folders(t)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "HELPER=hold", "STATE="+c.State)
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer holder.Process.Kill()
	for pid := 0; pid == 0; {
		pid, _ = lock.Holder(c.Run("stack.lock"))
	}
	var once sync.Once
	_, err := Hold(t.Context(), c, func(pid int) {
		if pid != holder.Process.Pid {
			t.Errorf("waits for process %d, not %d", pid, holder.Process.Pid)
		}
		once.Do(func() { _ = holder.Process.Kill() })
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSecretsAreRandomPrivateAndLast(t *testing.T) {
	c, other := folders(t), folders(t)
	first, err := Secret(c, config.HSMPIN)
	if err != nil || len(first) != 32 {
		t.Fatalf("got %q, %v", first, err)
	}
	again, err := Secret(c, config.HSMPIN)
	if err != nil || again != first {
		t.Errorf("got %q after %q, %v", again, first, err)
	}
	if elsewhere, err := Secret(other, config.HSMPIN); err != nil || elsewhere == first {
		t.Errorf("two stacks have the secret %q, %v", elsewhere, err)
	}
	info, err := os.Stat(c.SecretFile(config.HSMPIN))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	c.PresetSecrets[config.HSMPIN] = "another"
	if _, err := Secret(c, config.HSMPIN); err == nil || !strings.Contains(err.Error(), "SIGLOCAL_HSM_PIN") || strings.Contains(err.Error(), "another ") {
		t.Errorf("a secret that is not the one the stack was made with: %v", err)
	}
	if preset, err := Secret(c, config.HSMSOPIN); err != nil || preset == "another" {
		t.Errorf("got %q, %v", preset, err)
	}
	c.PresetSecrets[config.DexPassword] = "chosen"
	if preset, err := Secret(c, config.DexPassword); err != nil || preset != "chosen" {
		t.Errorf("got %q, %v", preset, err)
	}
}

func TestABrokenSecretFileIsNamed(t *testing.T) {
	c := folders(t)
	for _, broken := range []string{"", "\n", "a\nb\n", "\x00\x00\x00\n"} {
		file := c.SecretFile(config.HSMPIN)
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Secret(c, config.HSMPIN); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: got %v", broken, err)
		}
	}
}

func TestASecretThatIsGoneIsNotReplacedWhileWhatItProtectsIsThere(t *testing.T) {
	c := folders(t)
	for _, name := range []config.Secret{config.DatabasePassword, config.HSMPIN, config.CosignPassword} {
		protected := c.ProtectsFile(name)
		if protected == "" {
			t.Errorf("%s protects nothing", name)
			continue
		}
		if err := os.MkdirAll(protected, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := Secret(c, name)
		if err == nil || !strings.Contains(err.Error(), c.SecretFile(name)+" is gone, and "+protected) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(c.SecretFile(name)); err == nil {
			t.Errorf("%s was made anew", name)
		}
		if err := os.RemoveAll(protected); err != nil {
			t.Fatal(err)
		}
		if _, err := Secret(c, name); err != nil {
			t.Errorf("%s, with nothing that it protects: %v", name, err)
		}
	}
}

func TestACopyIsAsPrivateAsItsOriginal(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	modes := map[string]os.FileMode{"secret": 0o600, "folder/secret": 0o400, "folder/program": 0o700}
	for name, mode := range modes {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := Copy(to, from); err != nil {
		t.Fatal(err)
	}
	for name, mode := range modes {
		info, err := os.Stat(filepath.Join(to, name))
		content, _ := os.ReadFile(filepath.Join(to, name))
		if err != nil || info.Mode().Perm() != mode || string(content) != name {
			t.Errorf("%s: %v, %v, %q", name, err, info, content)
		}
	}
	if err := Copy(to, from); err == nil {
		t.Error("files were replaced")
	}
}

func TestAFolderOfSomebodysOwnIsNeitherFilledNorWiped(t *testing.T) {
	own := t.TempDir()
	if err := os.WriteFile(filepath.Join(own, "thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load("/checkout", []string{"SIGLOCAL_STATE=" + own})
	if err != nil {
		t.Skip(err) // TMPDIR has a long path
	}
	if err := MakeFolders(c); err == nil || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("got %v", err)
	}
	entries, err := os.ReadDir(own)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v", entries, err)
	}
}

func TestManyCanMakeTheFoldersOfAStackAtOnce(t *testing.T) {
	dir, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for round := range 30 {
		c, err := config.Load("/checkout", []string{"SIGLOCAL_STATE=" + filepath.Join(dir, strconv.Itoa(round))})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := MakeFolders(c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestWipeLeavesOnlyWhatWasBuilt(t *testing.T) {
	c := folders(t)
	if _, err := Secret(c, config.HSMPIN); err != nil {
		t.Fatal(err)
	}
	programs := filepath.Join(c.State, "bin")
	if err := os.Mkdir(programs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Wipe(c); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(c.State)
	if err != nil || len(entries) != 1 || entries[0].Name() != "bin" {
		t.Errorf("got %v, %v", entries, err)
	}
}

func TestWhoeverWaitsForAResetGetsTheStackAfterIt(t *testing.T) {
	c := folders(t)
	wiper := exec.Command(os.Args[0])
	wiper.Env = append(os.Environ(), "HELPER=wipe", "STATE="+c.State)
	said, err := wiper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := wiper.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || line != "holds <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	waited := 0
	held, err := Hold(t.Context(), c, func(pid int) { waited = pid })
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := wiper.Wait(); err != nil || waited != wiper.Process.Pid {
		t.Errorf("%v, waited for %d, not %d", err, waited, wiper.Process.Pid)
	}
	if holder, err := lock.Holder(c.Run("stack.lock")); err != nil || holder != os.Getpid() {
		t.Errorf("the lock is that of a file that was wiped: the new one is held by %d, %v", holder, err)
	}
}

func TestADiskWithTooLittleRoomIsRefused(t *testing.T) {
	c := folders(t)
	if err := RoomFor(c, 1); err != nil {
		t.Error(err)
	}
	err := RoomFor(c, 3_900_000_000_000_000)
	if err == nil || !regexp.MustCompile(`no space left on device: .* has [0-9.]+ [MG]B free, and at least 3900000\.0 GB are needed`).MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
}
