package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
)

// build returns the folder of the programs, which it makes unless an earlier run has. From an empty cache that takes ten minutes
// of a processor.
func build(jobs int) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	source := filepath.Dir(file)
	// The versions and sums of all that is compiled, and the programs of the rig's own.
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "pause/main.go", "addons/go.mod", "addons/go.sum", "addons/coredns/main.go", "outside/go.mod", "outside/go.sum"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", fmt.Errorf("%w; a rig that was built with -trimpath needs -programs", err)
		}
		hash.Write(text)
	}
	fmt.Fprint(hash, runtime.Version())
	text, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	match := regexp.MustCompile(`k8s\.io/kubernetes (v\S+)`).FindSubmatch(text)
	if match == nil {
		return "", errors.New("go.mod does not say which k8s.io/kubernetes")
	}
	version := string(match[1])

	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "sigstore-local-rig", fmt.Sprintf("%s-%x", version, hash.Sum(nil)[:6]))
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return "", err
	}
	// Tests of several packages may come here at once. One of them builds.
	lock, err := os.Create(folder + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}

	unfinished := folder + ".new"
	for directory, packages := range map[string][]string{
		source: {"tool", "./pause"}, filepath.Join(source, "addons"): {"tool", "./coredns"}, filepath.Join(source, "outside"): {"tool"},
	} {
		args := []string{"build", "-trimpath", "-buildvcs=false",
			"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=" + version, "-o", unfinished + "/"}
		if jobs > 0 {
			args = append(args, "-p", strconv.Itoa(jobs))
		}
		cmd := exec.Command("go", append(args, packages...)...)
		cmd.Dir = directory
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("go build in %s: %w", directory, err)
		}
	}
	// The last elements of these main packages' paths say little.
	for from, to := range map[string]string{"server": "etcd", "cmd": "kube-network-policies"} {
		if err := os.Rename(filepath.Join(unfinished, from), filepath.Join(unfinished, to)); err != nil {
			return "", err
		}
	}
	return folder, os.Rename(unfinished, folder)
}
