package tilelog_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sigstore-local/magefiles/internal/tilelog"
	"sigstore-local/magefiles/internal/tilelog/tilelogtest"
)

// places are a log in its folder, and by HTTP.
func places(t *testing.T, l *tilelogtest.Log) map[string]tilelog.Log {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(l.Dir)))
	t.Cleanup(server.Close)
	site := l.Log
	site.Files = tilelog.Site(server.URL)
	return map[string]tilelog.Log{"in its folder": l.Log, "by HTTP": site}
}

func TestEveryEntryIsReadWithAProofThatHolds(t *testing.T) {
	for _, size := range []int{1, 2, 255, 256, 257, 600} {
		l := tilelogtest.OfSize(t, size)
		for where, log := range places(t, l) {
			c, err := log.Checkpoint(t.Context())
			if err != nil || c.Size != uint64(size) {
				t.Fatalf("%s: %+v, %v", where, c, err)
			}
			tree := log.Tree(t.Context(), c)
			for index := 0; index < size; index += 1 + index/9 {
				first, entries, err := tree.Bundle(tilelog.BundleOf(int64(index)))
				if err != nil || !bytes.Equal(entries[int64(index)-first], l.Entries[index]) {
					t.Fatalf("%s, entry %d of %d: %v", where, index, size, err)
				}
				hashes, err := tree.Proof(int64(index))
				if err == nil {
					err = proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), rfc6962.DefaultHasher.HashLeaf(l.Entries[index]), hashes, c.Root)
				}
				if err != nil {
					t.Errorf("%s, entry %d of %d: %v", where, index, size, err)
				}
			}
			if _, _, err := tree.Bundle(tilelog.BundleOf(int64(size-1)) + 1); err == nil {
				t.Errorf("%s: %d entries have one bundle more", where, size)
			}
		}
	}
}

func TestTheTreeOfALogHoldsItsOlderTreesAndNoOthers(t *testing.T) {
	l := tilelogtest.OfSize(t, 300)
	older, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fork := l.Forked(290)
	for range 400 {
		l.Append([]byte("more"))
		fork.Append([]byte("other"))
	}
	for name, test := range map[string]struct {
		log  *tilelogtest.Log
		same bool
	}{"the log": {l, true}, "a fork of it": {fork, false}} {
		newer, err := test.log.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		root, err := test.log.Tree(t.Context(), newer).RootAt(int64(older.Size))
		if err != nil || bytes.Equal(root[:], older.Root) != test.same {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPartialFileThatIsGoneIsReadFromTheFullOne(t *testing.T) {
	l := tilelogtest.OfSize(t, 300)
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 256 {
		l.Append([]byte("more"))
	}
	for _, folder := range []string{"tile/0/001.p", "tile/entries/001.p"} {
		if err := os.RemoveAll(l.Files.Place(folder)); err != nil {
			t.Fatal(err)
		}
	}
	for where, log := range places(t, l) {
		if _, entries, err := log.Tree(t.Context(), c).Bundle(1); err != nil || len(entries) != 44 || !bytes.Equal(entries[43], l.Entries[299]) {
			t.Errorf("%s: %d entries, %v", where, len(entries), err)
		}
	}
}

func TestWhatTheTreeWasNotMadeOfIsRefused(t *testing.T) {
	for _, name := range []string{"tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"} {
		l := tilelogtest.OfSize(t, 300)
		content, err := os.ReadFile(l.Files.Place(name))
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)-1] ^= 1
		tilelogtest.Write(t, l.Files.Place(name), content)
		for where, log := range places(t, l) {
			c, err := log.Checkpoint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			bundle := int64(0)
			if strings.Contains(name, "/001") {
				bundle = 1
			}
			if _, _, err := log.Tree(t.Context(), c).Bundle(bundle); !errors.Is(err, tilelog.ErrWrong) {
				t.Errorf("%s %s: %v", name, where, err)
			}
		}
	}
	l := tilelogtest.OfSize(t, 3)
	if err := os.Remove(l.Files.Place("tile/0/000.p/3")); err != nil {
		t.Fatal(err)
	}
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Tree(t.Context(), c).Bundle(0); err == nil || errors.Is(err, tilelog.ErrWrong) {
		t.Errorf("what cannot be read passes for what was read and is wrong: %v", err)
	}
}

func TestACheckpointCountsOnlyWithTheLogsKeyAndOrigin(t *testing.T) {
	l, other := tilelogtest.OfSize(t, 2), tilelogtest.OfSize(t, 2)
	stranger := l.Log
	stranger.Files = other.Files
	if _, err := stranger.Checkpoint(t.Context()); err == nil || !strings.Contains(err.Error(), other.Files.Place("checkpoint")) {
		t.Errorf("of another key: %v", err)
	}
	if _, err := tilelogtest.New(t).Checkpoint(t.Context()); !errors.Is(err, tilelog.ErrEmpty) {
		t.Errorf("of an empty log: %v", err)
	}
	lost := l.Log
	lost.Key += ".none"
	if _, err := lost.Checkpoint(t.Context()); err == nil || errors.Is(err, tilelog.ErrEmpty) {
		t.Errorf("without the key: %v", err)
	}
}
