package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	tessera "github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/rekorlog"
)

// upload makes entries in Rekor v2, many at a time, and returns their indexes.
func (s *stack) upload(count int) []string {
	s.t.Helper()
	uploader, err := rekorlog.NewUploaderV2(s.config.RekorV2())
	if err != nil {
		s.t.Fatal(err)
	}
	indexes := make([]string, count)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			var err error
			if indexes[i], err = uploader.Upload(context.Background()); err != nil {
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
	return indexes
}

// follower is a client of the format that is not this project's: Tessera's.
type follower struct {
	*tessera.HTTPFetcher
	tracker *tessera.LogStateTracker
}

// follow begins to follow Rekor v2's log by the URL at the path below its base URL.
func (s *stack) follow(path string) follower {
	s.t.Helper()
	block, _ := pem.Decode([]byte(s.read(s.config.Key("rekor-tiles.pub"))))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := note.NewEd25519VerifierKey("localhost", key.(ed25519.PublicKey))
	if err != nil {
		s.t.Fatal(err)
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		s.t.Fatal(err)
	}
	base, err := url.Parse(s.config.RekorV2() + path)
	if err != nil {
		s.t.Fatal(err)
	}
	fetcher, err := tessera.NewHTTPFetcher(base, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	tracker, err := tessera.NewLogStateTracker(s.t.Context(), fetcher.ReadTile, nil, verifier, "localhost", tessera.UnilateralConsensus(fetcher.ReadCheckpoint))
	if err != nil {
		s.t.Fatal(err)
	}
	return follower{fetcher, tracker}
}

// all reads all entries, and checks that they are what the newest checkpoint's root was made of, and that inclusion proofs of
// some hold.
func (f follower) all(t *testing.T) [][]byte {
	t.Helper()
	latest := f.tracker.Latest()
	size := func(context.Context) (uint64, error) { return latest.Size, nil }
	unbundle := func(raw []byte) ([][]byte, error) {
		var bundle api.EntryBundle
		err := bundle.UnmarshalText(raw)
		return bundle.Entries, err
	}
	var entries [][]byte
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for entry, err := range tessera.Entries(tessera.EntryBundles(t.Context(), 2, size, f.ReadEntryBundle, 0, latest.Size), unbundle) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry.Entry)
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(entry.Entry), nil); err != nil {
			t.Fatal(err)
		}
	}
	if root, err := tree.GetRootHash(nil); err != nil || !bytes.Equal(root, latest.Hash) {
		t.Fatalf("%d entries, whose root is %x and not %x: %v", len(entries), root, latest.Hash, err)
	}
	proofs, err := tessera.NewProofBuilder(t.Context(), latest.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	for index := uint64(0); index < latest.Size; index += 1 + latest.Size/7 {
		hashes, err := proofs.InclusionProof(t.Context(), index)
		if err == nil {
			err = proof.VerifyInclusion(rfc6962.DefaultHasher, index, latest.Size, rfc6962.DefaultHasher.HashLeaf(entries[index]), hashes, latest.Hash)
		}
		if err != nil {
			t.Errorf("entry %d of %d: %v", index, latest.Size, err)
		}
	}
	return entries
}

func TestALogOfTilesIsFollowedByAnyClientOfTheFormat(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("rekorTiles:start")
	s.upload(3)
	var followers []follower
	for _, path := range []string{"", "/api/v2"} {
		f := s.follow(path)
		if entries := f.all(t); len(entries) != 3 {
			t.Errorf("it has %d entries", len(entries))
		}
		followers = append(followers, f)
	}
	s.upload(300) // so that the first tile is full
	for _, f := range followers {
		// This proves that the log has only grown.
		if _, _, _, err := f.tracker.Update(t.Context()); err != nil {
			t.Fatal(err)
		}
		if entries := f.all(t); len(entries) != 303 {
			t.Errorf("it has %d entries", len(entries))
		}
	}
	t.Run("while its server is away it can be read, and takes no entries", func(t *testing.T) {
		s := s.in(t)
		if err := syscall.Kill(s.pids()["rekor-tiles"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		followers[0].all(t)
		response, err := http.Post(s.config.RekorV2()+"/api/v2/log/entries", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		said, err := io.ReadAll(response.Body)
		if want := "rekor-tiles, which takes the entries of this log, does not answer at " + s.config.URL(config.RekorTilesHTTP); err != nil ||
			response.StatusCode != http.StatusBadGateway || !strings.HasPrefix(string(said), want) || strings.Count(string(said), "\n") != 1 {
			t.Errorf("%s: %s, %v", response.Status, said, err)
		}
		s.must("start")
		s.upload(1)
	})
	t.Run("it goes on after the web server is restarted", func(t *testing.T) {
		s := s.in(t)
		s.must("tiles:restart")
		s.upload(1)
		if _, _, _, err := followers[1].tracker.Update(t.Context()); err != nil || len(followers[1].all(t)) != 305 {
			t.Errorf("%+v, %v", followers[1].tracker.Latest(), err)
		}
	})
}

func TestBothSignatureLogsAreShownWatchedAndSearched(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.must("start", "stop")
	tiles := s.config.Data("rekor-tiles")
	s.copyFolder(tiles, tiles+".older")
	s.must("start")
	artifact := s.file("artifact", "an artifact")
	for version := range uint32(2) {
		if err := signGo(s, artifact, filepath.Join(s.home, fmt.Sprint(version)), version+1); err != nil {
			t.Fatal(err)
		}
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("an artifact")))
	signer := s.config.Email + ", as " + s.config.Issuer() + " says"
	for _, log := range []string{"rekor", "rekor-tiles"} {
		of := "-log=" + log
		t.Run("an entry of "+log+" is shown", func(t *testing.T) {
			shown := s.in(t).must("rekor:show", "0", of).stdout
			for _, want := range []string{digest, signer, "✓ the log's key has signed this root"} {
				if !strings.Contains(shown, want) {
					t.Errorf("it does not say %q: %s", want, shown)
				}
			}
			if untimed := strings.Contains(shown, "the log keeps no time"); untimed != (log == "rekor-tiles") || strings.Contains(shown, "UUID") == untimed {
				t.Errorf("%s", shown)
			}
			if r := s.in(t).mage("rekor:show", "1", of); r.code == 0 || !strings.Contains(r.stderr, "the log has one entry, 0") {
				t.Errorf("%s", r)
			}
		})
		t.Run(log+" is watched", func(t *testing.T) {
			s := s.in(t)
			if first := s.must("rekor:monitor", of); !strings.Contains(first.stdout, digest) || !strings.Contains(first.stderr, "The first look at the log: it has one entry, 0") {
				t.Errorf("%s", first)
			}
			if same := s.must("rekor:monitor", of); same.stdout != "" || !strings.Contains(same.stderr, "Nothing is new") {
				t.Errorf("%s", same)
			}
			if all := s.must("rekor:monitor", of, "-identity="+s.config.Email); strings.Count(all.stdout, "\n") != 1 || !strings.Contains(all.stdout, signer) {
				t.Errorf("%s", all)
			}
		})
		t.Run(log+" is searched", func(t *testing.T) {
			s := s.in(t)
			for _, asked := range [][]string{{"-identity=" + s.config.Email}, {"-digest=" + digest}, {"-identity=" + s.config.Email, "-digest=" + strings.ToUpper(digest[7:])}} {
				r := s.must(append([]string{"rekor:search", of}, asked...)...)
				if !strings.HasPrefix(r.stdout, "0\t") || strings.Count(r.stdout, "\n") != 1 || !strings.Contains(r.stdout, digest) || !strings.Contains(r.stdout, signer) || strings.Contains(r.stderr, "still being made") {
					t.Errorf("%q: %s", asked, r)
				}
			}
			for _, asked := range []string{"-identity=nobody@example.org", "-digest=" + strings.Repeat("0", 64)} {
				if r := s.must("rekor:search", of, asked); r.stdout != "" || !strings.Contains(r.stderr, "No entry of "+log+" has ") {
					t.Errorf("%s: %s", asked, r)
				}
			}
			var found struct {
				Log     string
				Total   int
				Entries []struct {
					Digests []string
					Signers []struct{ Identity, Issuer, Key string }
				}
			}
			r := s.must("rekor:search", of, "-digest="+digest, "-o=json")
			if err := json.Unmarshal([]byte(r.stdout), &found); err != nil || found.Log != log || found.Total != 1 || len(found.Entries) != 1 || len(found.Entries[0].Signers) != 1 ||
				found.Entries[0].Signers[0].Identity != s.config.Email || found.Entries[0].Signers[0].Issuer != s.config.Issuer() {
				t.Fatalf("%v: %s", err, r)
			}
			if log == "rekor-tiles" {
				if r := s.must("rekor:search", of, "-key="+found.Entries[0].Signers[0].Key); !strings.Contains(r.stdout, digest) {
					t.Errorf("by the key of the certificate: %s", r)
				}
			}
		})
	}
	t.Run("who signs with a key is found by the key", func(t *testing.T) {
		s := s.in(t)
		s.mustSign(s.file("signed with a key", "signed with a key"))
		if r := s.must("rekor:search", "-key="+s.config.Key("cosign.pub")); !strings.HasPrefix(r.stdout, "1\t") || strings.Count(r.stdout, "\n") != 1 {
			t.Errorf("%s", r)
		}
	})
	t.Run("an index that is deleted or damaged is made again", func(t *testing.T) {
		s := s.in(t)
		s.upload(300)
		index := s.config.Data("rekor-index")
		for _, damage := range []func() error{
			func() error { return os.RemoveAll(index) },
			func() error { return os.WriteFile(filepath.Join(index, "000000"), []byte("garbled"), 0o600) },
		} {
			s.must("tiles:stop")
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			s.must("rekorTiles:start")
			for end := time.Now().Add(deadline); ; time.Sleep(50 * time.Millisecond) {
				r := s.must("rekor:search", "-log=rekor-tiles", "-identity="+s.config.Email)
				if strings.HasPrefix(r.stdout, "0\t") && r.stderr == "" {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s", r)
				}
			}
		}
	})
	t.Run("a rewritten entry of tiles is noticed", func(t *testing.T) {
		s := s.in(t)
		bundle := filepath.Join(tiles, "tile", "entries", "000")
		whole := s.read(bundle)
		if err := os.WriteFile(bundle, []byte(strings.Replace(whole, "SHA2_256", "SHA2_257", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, target := range [][]string{{"rekor:show", "0"}, {"rekor:monitor", "-identity=" + s.config.Email}, {"rekor:search", "-identity=" + s.config.Email}} {
			if r := s.mage(append(target, "-log=rekor-tiles")...); r.code != 6 || r.stdout != "" || !strings.Contains(r.stderr, "this is not what the tree was made of") {
				t.Errorf("%q: %s", target, r)
			}
		}
		if err := os.WriteFile(bundle, []byte(whole), 0o600); err != nil {
			t.Fatal(err)
		}
		s.must("rekor:show", "0", "-log=rekor-tiles")
	})
	t.Run("a log of tiles with two histories is noticed", func(t *testing.T) {
		s := s.in(t)
		s.must("rekor:monitor", "-log=rekor-tiles")
		s.must("rekorTiles:stop")
		s.copyFolder(tiles+".older", tiles)
		s.must("rekorTiles:start")
		for _, more := range []int{1, 320} {
			s.upload(more)
			r := s.mage("rekor:monitor", "-log=rekor-tiles")
			evidence := regexp.MustCompile(`are in (\S+\.txt)`).FindStringSubmatch(r.stderr)
			if r.code != 6 || !strings.Contains(r.stderr, "two histories") || evidence == nil {
				t.Fatalf("%s", r)
			}
			if both := s.read(evidence[1]); strings.Count(both, "\n— ") != 2 {
				t.Errorf("%s does not hold both checkpoints: %s", evidence[1], both)
			}
		}
		// The index is one of what the log has now.
		if r := s.must("rekor:search", "-log=rekor-tiles", "-identity="+s.config.Email); r.stdout != "" {
			t.Errorf("%s", r)
		}
	})
}
