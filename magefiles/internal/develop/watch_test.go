package develop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

func TestASaveIsNoticedHoweverItIsMade(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, filepath.FromSlash(name)) }
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string) { t.Helper(); try(os.WriteFile(at(name), []byte(name), 0o600)) }
	try(os.MkdirAll(at("pkg/old"), 0o700))
	try(os.Mkdir(at(".git"), 0o700))
	write("pkg/a.go")
	watcher, err := fsnotify.NewWatcher()
	try(err)
	defer watcher.Close()
	try(watchFolder(watcher, folder))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, test := range []struct {
		name string
		save func()
		want string
	}{
		{"written in place", func() { write("pkg/a.go") }, "pkg/a.go"},
		{"as vim does", func() {
			write("pkg/4913")
			try(os.Remove(at("pkg/4913")))
			try(os.Rename(at("pkg/a.go"), at("pkg/a.go~")))
			write("pkg/a.go")
			try(os.Remove(at("pkg/a.go~")))
		}, "pkg/a.go"},
		{"as others do", func() { write("pkg/.a.go.tmp"); try(os.Rename(at("pkg/.a.go.tmp"), at("pkg/a.go"))) }, "pkg/a.go"},
		{"by git", func() { write(".git/index.lock"); write("pkg/b.go"); write("pkg/a.go") }, "pkg/a.go pkg/b.go"},
		{"a new folder", func() { try(os.Mkdir(at("pkg/new"), 0o700)) }, "pkg/new"},
		{"in the new folder", func() { write("pkg/new/c.go") }, "pkg/new/c.go"},
		{"a folder that was moved", func() { try(os.Rename(at("pkg/new"), at("pkg/moved"))) }, "pkg/moved"},
		{"in the moved folder", func() { write("pkg/moved/c.go") }, "pkg/moved/c.go"},
		{"deleted", func() { try(os.Remove(at("pkg/b.go"))) }, "pkg/b.go"},
		{"many", func() {
			for i := range 10 {
				write(fmt.Sprintf("pkg/%d.go", i))
			}
		}, "7 more pkg/0.go pkg/1.go pkg/2.go"},
		{"more than the system keeps", func() {
			try(watcher.Remove(at("pkg/moved"))) // as if it were new
			go func() { watcher.Errors <- fsnotify.ErrEventOverflow }()
		}, "very many files"},
		{"in a new folder among them", func() { write("pkg/moved/d.go") }, "pkg/moved/d.go"},
	} {
		test.save()
		got, err := nextChange(ctx, watcher, folder)
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %q, %v", test.name, got, err)
		}
	}
}

func TestTheLimitsOfWatchingAreNamed(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EMFILE} {
		if got := watchLimits(err); !strings.Contains(got.Error(), "fs.inotify.max_user_watches") {
			t.Errorf("%v: %v", err, got)
		}
	}
	if got := watchLimits(syscall.EACCES); got != syscall.EACCES {
		t.Errorf("got %v", got)
	}
}
