package e2e

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestAnArchiveWorksWithoutGo(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_STACK=tiles")
	folder := filepath.Join(filepath.Dir(s.config.State), "my packages")
	r := s.must("package", "-version=0.1+test", "-o="+folder)
	name := "sigstore-local-0.1+test-linux-" + runtime.GOARCH
	// The command that verifies it is printed for a shell.
	printed := regexp.MustCompile(`(?m)^To verify it: (.*)$`).FindStringSubmatch(r.stderr)
	if printed == nil {
		t.Fatalf("%s", r)
	}
	if said := s.run(s.home, "sh", "-c", `PATH="$1:$PATH"; `+printed[1], "sh", filepath.Dir(s.config.Program("cosign"))); said.code != 0 || !strings.Contains(said.stderr, "Verified OK") {
		t.Errorf("%s", said)
	}
	s.must("stop")
	unpack(t, filepath.Join(folder, name+".tar.zst"), folder)

	// Without Go and without a compiler, and with the state beside the program.
	other := *s
	other.env = slices.DeleteFunc(slices.Clone(s.env), func(entry string) bool {
		return strings.HasPrefix(entry, "PATH=") || strings.HasPrefix(entry, "SIGLOCAL_STATE=") || strings.HasPrefix(entry, "GO")
	})
	few := t.TempDir()
	for _, program := range []string{"sh", "env", "cat", "true"} {
		if err := os.Symlink("/bin/"+program, filepath.Join(few, program)); err != nil {
			t.Fatal(err)
		}
	}
	other.env = append(other.env, "PATH="+few)
	program := filepath.Join(folder, name, "sigstore-local")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	call := func(args ...string) result {
		t.Helper()
		cmd := other.command(ctx, s.home, program, args...)
		var out, said syncBuffer
		cmd.Stdout, cmd.Stderr = &out, &said
		err := cmd.Run()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return result{out.String(), said.String(), cmd.ProcessState.ExitCode()}
	}
	defer call("stop")
	demo := call("demo:keyless")
	if demo.code != 0 || strings.Count(demo.stdout, "Refused, as it should be.") != 4 || !strings.Contains(demo.stdout, "sigstore-local registry:image cosign") {
		t.Fatalf("%s", demo)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "fulcio "},
		{[]string{"-l"}, 0, "demo:keyless"},
		{[]string{"-h", "rekor:show"}, 0, "sigstore-local rekor:show"},
		{[]string{"-h"}, 0, "sigstore-local TARGET"},
		{[]string{"demo:tamper", "-only=own-ca"}, 0, "The attack was noticed."},
		{[]string{"page"}, 0, "/?token="},
		{[]string{"watch", "rekor"}, 2, "`sigstore-local -l` lists them all"},
		{[]string{"demo:attest"}, 2, "`sigstore-local -l` lists them all"},
		{[]string{"stop"}, 0, "stopped"},
		{[]string{"status"}, 3, "`sigstore-local start` starts it"},
	} {
		if r := call(test.args...); r.code != test.code || !strings.Contains(r.stdout+r.stderr, test.want) {
			t.Errorf("%q: %s", test.args, r)
		}
	}
	if listed := call("-l").stdout + demo.String(); strings.Contains(listed, "go tool mage") {
		t.Errorf("it speaks of go tool mage:\n%s", listed)
	}
	// The action takes the archive in place of a build.
	job := *s
	job.config.State = filepath.Join(filepath.Dir(s.config.State), "job")
	job.env = append(slices.Clone(s.env), "SIGLOCAL_STATE="+job.config.State)
	job.signsInJob(job.runAction(map[string]string{"archive": filepath.Join(folder, name+".tar.zst")}), "sigstore-local")
	job.run(s.home, filepath.Join(folder, name, "sigstore-local"), "stop")
	if left := processes(t, filepath.Dir(s.config.State)); len(left) > 0 {
		t.Errorf("left are processes %v", left)
	}
	t.Run("on a fresh Debian", func(t *testing.T) { s.in(t).worksOnAFreshDebian(filepath.Join(folder, name+".tar.zst"), name) })
}

func TestAnArchiveThatCannotBeMadeIsRefusedBeforeAnythingIsStarted(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_STACK=tiles")
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	// No compiler is on the PATH.
	s.env = append(s.env, "PATH="+s.home)
	for flag, want := range map[string]string{
		"-arch=mips":     `-arch is "mips"; accepted are amd64 and arm64`,
		"-arch=" + other: "-linux-gnu-gcc with the C library for " + other + ", which on Debian or Ubuntu are the packages gcc-",
	} {
		if r := s.mage("package", flag); r.code != 1 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: %s", flag, r)
		}
	}
	if _, err := os.Stat(s.config.State); !os.IsNotExist(err) {
		t.Errorf("the state folder was made: %v", err)
	}
}

// unpack unpacks an archive into a folder.
func unpack(t *testing.T, file, into string) {
	t.Helper()
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	reader, err := zstd.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for archive := tar.NewReader(reader); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(into, header.Name)
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(at, 0o755)
		} else {
			var made *os.File
			if made, err = os.OpenFile(at, os.O_CREATE|os.O_WRONLY, os.FileMode(header.Mode)); err == nil {
				_, err = io.Copy(made, archive)
				if closed := made.Close(); err == nil {
					err = closed
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
