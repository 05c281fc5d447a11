package main

import (
	"context"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocloud.dev/blob/fileblob"
)

// folder is the URL of a folder as a bucket.
func folder(path string) string {
	return (&url.URL{Scheme: "file", Path: path, RawQuery: "metadata=skip"}).String()
}

func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	bucket, err := fileblob.OpenBucket(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	all := map[string]string{}
	for objects := bucket.List(nil); ; {
		one, err := objects.Next(t.Context())
		if err != nil {
			return all
		}
		content, err := bucket.ReadAll(t.Context(), one.Key)
		if err != nil {
			t.Fatal(err)
		}
		all[one.Key] = string(content)
	}
}

func TestAttestationsAreCopiedAndNeverReplaced(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	rekors, err := fileblob.OpenBucket(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Rekor's keys have colons, which a folder has in another form.
	want := map[string]string{"sha256:aa": "one", "sha256:bb": "another"}
	for key, content := range want {
		if err := rekors.WriteAll(t.Context(), key, []byte(content), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		said, err := run(t.Context(), folder(to), from)
		if err != nil || said != "2 attestations, 10 bytes, read back" {
			t.Fatalf("%q, %v", said, err)
		}
		if got := contents(t, to); !maps.Equal(got, want) {
			t.Fatalf("it has %q", got)
		}
	}
	if err := rekors.WriteAll(t.Context(), "sha256:bb", []byte("changed"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), folder(to), from); err == nil || !strings.Contains(err.Error(), "sha256:bb: the bucket has another one") {
		t.Error(err)
	}
	if got := contents(t, to); !maps.Equal(got, want) {
		t.Errorf("afterwards it has %q", got)
	}
}

func TestABucketIsLookedAtBeforeAnythingIsCopied(t *testing.T) {
	to := t.TempDir()
	if said, err := run(t.Context(), folder(to)); err != nil || said != "the bucket can be reached" {
		t.Errorf("%q, %v", said, err)
	}
	if said, err := run(t.Context(), folder(to), filepath.Join(t.TempDir(), "none")); err != nil || said != "0 attestations" {
		t.Errorf("without a folder: %q, %v", said, err)
	}
	if err := os.Remove(to); err != nil {
		t.Fatal(err)
	}
	if said, err := run(context.Background(), folder(to)); err == nil {
		t.Errorf("a bucket that is not there: %q", said)
	}
}
