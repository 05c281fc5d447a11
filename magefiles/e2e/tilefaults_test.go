package e2e

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/x509"
	"github.com/google/certificate-transparency-go/x509util"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	tessera "github.com/transparency-dev/tessera/client"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/tilelog"
)

// signBundles lets count clients sign keyless, into bundles. They sign in again only when something has failed: a password takes
// longer to check than a signature to make.
func (s *stack) signBundles(count int) *signers[claim] {
	s.t.Helper()
	artifact := s.file("artifact", "an artifact")
	var mu sync.Mutex
	token, run := "", time.Now().UnixNano()
	return signing(s.t, count, func(_ context.Context, name string) (claim, error) {
		one := claim{artifact, filepath.Join(s.home, fmt.Sprintf("%d-%s.json", run, name)), s.config.Email, s.config.Issuer()}
		mu.Lock()
		if token == "" {
			token, _ = s.token()
		}
		mine := token
		mu.Unlock()
		err := signGoAs(s, mine, one.artifact, one.bundle, 2)
		if err != nil {
			mu.Lock()
			token = ""
			mu.Unlock()
		}
		return one, err
	})
}

// verifyBundles checks that each bundle verifies, that its entry is in Rekor v2's files, and that its certificate is in TesseraCT's
// log.
func (s *stack) verifyBundles(signed []claim) {
	s.t.Helper()
	var bundles []string
	for _, one := range signed {
		bundles = append(bundles, one.bundle)
		if err := (sigstoreGo{s}).verify(one, s.config.Trust("trusted_root.json")); err != nil {
			s.t.Error(err)
		}
		if err := verifyProof(one.bundle, s.config.Key("rekor-tiles.pub")); err != nil {
			s.t.Error(err)
		}
	}
	if err := s.verifyTiles(bundles); err != nil {
		s.t.Error(err)
	}
	if err := s.verifyCertificates(bundles); err != nil {
		s.t.Error(err)
	}
}

// tesseraCT is TesseraCT's log, as clients read it.
func (s *stack) tesseraCT() tilelog.Log {
	return tilelog.Log{Files: tilelog.Site(s.config.TesseraCT()), Origin: s.config.TesseraCTOrigin(), Key: s.config.Key("tesseract.pub"), Layout: tilelog.StaticCT}
}

// verifyCertificates checks that TesseraCT's log has the precertificate of each bundle's certificate at the index that the
// certificate's SCT names, and that the tree of the newest checkpoint has it there, by an inclusion proof from another reader of
// tiles than this project's.
func (s *stack) verifyCertificates(bundles []string) error {
	ctx := s.t.Context()
	log := s.tesseraCT()
	newest, err := log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	tree := log.Tree(ctx, newest)
	base, err := url.Parse(s.config.TesseraCT() + "/")
	if err != nil {
		return err
	}
	files, err := tessera.NewHTTPFetcher(base, nil)
	if err != nil {
		return err
	}
	proofs, err := tessera.NewProofBuilder(ctx, newest.Size, files.ReadTile)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(s.config.Key("ca-root.pem"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(content)
	issuer, err := x509.ParseCertificate(block.Bytes)
	if x509.IsFatal(err) {
		return err
	}
	read := map[int64][][]byte{}
	for _, file := range bundles {
		index, leaf, err := promised(file, issuer)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if index >= int64(newest.Size) {
			return fmt.Errorf("the CT log has %d entries, and %s says that its certificate is entry %d", newest.Size, file, index)
		}
		number := tilelog.BundleOf(index)
		if read[number] == nil {
			if _, read[number], err = tree.Bundle(number); err != nil {
				return err
			}
		}
		if entry := read[number][index%256]; string(rfc6962.DefaultHasher.HashLeaf(entry)) != string(leaf) {
			return fmt.Errorf("the CT log has another entry at %d, where %s says its certificate is", index, file)
		}
		hashes, err := proofs.InclusionProof(ctx, uint64(index))
		if err == nil {
			err = proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), newest.Size, leaf, hashes, newest.Root)
		}
		if err != nil {
			return fmt.Errorf("entry %d of the CT log: %w", index, err)
		}
	}
	return nil
}

// promised is what the SCT in a bundle's certificate promises: at which index the CT log has the precertificate, and the hash of
// that entry.
func promised(file string, issuer *x509.Certificate) (index int64, leaf []byte, err error) {
	entity, err := bundle.LoadJSONFromPath(file)
	if err != nil {
		return 0, nil, err
	}
	certificate, err := x509.ParseCertificate(entity.GetVerificationMaterial().GetCertificate().GetRawBytes())
	if x509.IsFatal(err) {
		return 0, nil, err
	}
	scts, err := x509util.ParseSCTsFromSCTList(&certificate.SCTList)
	if err != nil {
		return 0, nil, err
	}
	if len(scts) != 1 {
		return 0, nil, fmt.Errorf("the certificate has %d SCTs", len(scts))
	}
	// The extension leaf_index has the type 0, five bytes after their length, and no other comes with it
	// (https://c2sp.org/static-ct-api, "SCT Extension").
	extension := scts[0].Extensions
	if len(extension) != 8 || string(extension[:3]) != "\x00\x00\x05" {
		return 0, nil, fmt.Errorf("the SCT names no index, but %x", extension)
	}
	entry, err := ct.MerkleTreeLeafForEmbeddedSCT([]*x509.Certificate{certificate, issuer}, scts[0].Timestamp)
	if err != nil {
		return 0, nil, err
	}
	entry.TimestampedEntry.Extensions = extension
	hash, err := ct.LeafHashForLeaf(entry)
	return int64(binary.BigEndian.Uint64(append([]byte{0, 0, 0}, extension[3:]...))), hash[:], err
}

// certify gets certificates from Fulcio, each for a new key, and so makes as many entries in the CT log.
func (s *stack) certify(count int) {
	s.t.Helper()
	token, err := s.token()
	if err != nil {
		s.t.Fatal(err)
	}
	fulcio := sign.NewFulcio(&sign.FulcioOptions{BaseURL: s.config.URL(config.Fulcio)})
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 32)
	for range count {
		atOnce <- struct{}{}
		wg.Go(func() {
			defer func() { <-atOnce }()
			key, err := sign.NewEphemeralKeypair(nil)
			if err == nil {
				_, err = fulcio.GetCertificate(s.t.Context(), key, &sign.CertificateProviderOptions{IDToken: token})
			}
			if err != nil {
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestFaultTiles breaks a stack of tiles, again and again the same one.
func TestFaultTiles(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_STACK=tiles")
	s.must("start")
	var all []claim
	t.Run("a log or its web server is killed while clients sign", func(t *testing.T) {
		s := s.in(t)
		clients := s.signBundles(4)
		random := dice(6)
		var named, healed figures
		count := rounds(50)
		victims := []string{"rekor-tiles", "tesseract", "tiles"}
		for range count {
			for _, victim := range victims {
				time.Sleep(time.Duration(200+random.IntN(300)) * time.Millisecond)
				noticed, gone := s.kill(victim)
				named, healed = append(named, noticed), append(healed, gone)
			}
		}
		clients.more(t, 4)
		signed := clients.end()
		s.verifyBundles(signed)
		all = append(all, signed...)
		t.Logf("%q killed %d times each, %d signatures acknowledged and %d not, all acknowledged ones are in both logs; status named the dead: %s; start healed: %s",
			victims, count, len(signed), len(clients.failed), named, healed)
	})
	t.Run("every daemon is killed at once while clients sign", func(t *testing.T) {
		s := s.in(t)
		clients := s.signBundles(4)
		random := dice(7)
		var healed figures
		count := rounds(20)
		for range count {
			clients.more(t, 1)
			time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
			s.killAll()
			if got := s.crashed(); !slices.Equal(got, tiles) {
				t.Errorf("status says that %v crashed", got)
			}
			began := time.Now()
			s.must("start")
			healed = append(healed, time.Since(began))
		}
		clients.more(t, 4)
		signed := clients.end()
		s.verifyBundles(signed)
		all = append(all, signed...)
		t.Logf("all daemons killed %d times, %d signatures acknowledged and %d not, all acknowledged ones are in both logs; start healed: %s",
			count, len(signed), len(clients.failed), healed)
	})
	t.Run("a file is damaged", func(t *testing.T) {
		s := s.in(t)
		s.damageTiles(all)
	})
}

// tiledLog is a log of tiles with a full tile, to be damaged.
type tiledLog struct {
	service, start, stop string // the targets
	files                []string
	clients              func(*stack) error // fails if clients notice something
}

// damageTiles damages each kind of file of both logs in each way, while the log's server is stopped and while it runs. Either
// start or restart names the file, and leaves alone what runs, or else clients notice.
func (s *stack) damageTiles(signed []claim) {
	s.t.Helper()
	size := func(name string) int {
		var size int
		if _, err := fmt.Sscanf(strings.SplitN(s.read(filepath.Join(s.config.Data(name), "checkpoint")), "\n", 3)[1], "%d", &size); err != nil {
			s.t.Fatal(err)
		}
		return size
	}
	// A tile of hashes and a bundle are full, and others are not.
	const least = 260
	for name, add := range map[string]func(int){"rekor-tiles": func(count int) { s.upload(count) }, "tesseract": s.certify} {
		if missing := least - size(name); missing > 0 {
			add(missing)
		}
		if size(name)%256 == 0 {
			add(1)
		}
	}
	rekor := tiledLog{service: "rekor-tiles", start: "rekorTiles:start", stop: "rekorTiles:stop", clients: (*stack).readRekorTiles}
	tesseract := tiledLog{service: "tesseract", start: "tesseract:start", stop: "tesseract:stop", clients: (*stack).readTesseraCT}
	for log, entries := range map[*tiledLog]string{&rekor: "entries", &tesseract: "data"} {
		full, width := size(log.service)/256, size(log.service)%256
		log.files = []string{
			"checkpoint", ".state/treeState",
			"tile/0/000", fmt.Sprintf("tile/0/%03d.p/%d", full, width), fmt.Sprintf("tile/1/000.p/%d", full),
			"tile/" + entries + "/000", fmt.Sprintf("tile/%s/%03d.p/%d", entries, full, width),
		}
	}
	cases, refused, noticed, harmless := 0, 0, 0, 0
	for i, log := range []tiledLog{rekor, tesseract} {
		for j, name := range log.files {
			file := filepath.Join(s.config.Data(log.service), filepath.FromSlash(name))
			s.t.Run(log.service+"/"+name, func(t *testing.T) {
				s := s.in(t)
				for k, damage := range damages {
					for l, running := range []bool{false, true} {
						// Without FAULT_ROUNDS=full, each file is damaged once, the first four of a log in one state of its server.
						if os.Getenv("FAULT_ROUNDS") != "full" && (k != (i+j)%len(damages) || l != (i+j/4)%2) {
							continue
						}
						cases++
						switch s.damageTile(log, file, fmt.Sprintf("%s, running %v", damage.name, running), damage.left, running) {
						case "refused":
							refused++
						case "noticed":
							noticed++
						default:
							harmless++
						}
					}
				}
			})
		}
	}
	s.t.Run("clients sign on", func(t *testing.T) {
		s := s.in(t)
		s.must("start")
		// The servers take what a tile at the right edge holds for right, and sign what comes of it.
		for _, log := range []tiledLog{rekor, tesseract} {
			s.copyFolder(s.config.Data(log.service), filepath.Join(s.home, log.service))
			tile := filepath.Join(s.config.Data(log.service), log.files[4])
			if err := os.WriteFile(tile, damages[2].left([]byte(s.read(tile))), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		clients := s.signBundles(2)
		clients.more(t, 2)
		clients.end()
		for _, log := range []tiledLog{rekor, tesseract} {
			r := s.mage(log.start)
			if tile := filepath.Join(s.config.Data(log.service), "tile", "1", "000.p"); r.code == 0 || !strings.Contains(r.stderr, tile) {
				t.Errorf("%s: %s", log.service, r)
			}
		}
		s.must("stop")
		for _, log := range []tiledLog{rekor, tesseract} {
			s.copyFolder(filepath.Join(s.home, log.service), s.config.Data(log.service))
		}
	})
	s.must("start")
	clients := s.signBundles(2)
	clients.more(s.t, 2)
	s.verifyBundles(append(clients.end(), signed...))
	s.t.Logf("%d damages to %d kinds of files: %d were named by start, %d noticed by clients, %d did no harm; everything verifies once they are put back",
		cases, len(rekor.files)+len(tesseract.files), refused, noticed, harmless)
}

// damageTile damages a file of a log, and puts it back. It returns who noticed.
func (s *stack) damageTile(log tiledLog, file, name string, left func([]byte) []byte, running bool) (outcome string) {
	s.t.Helper()
	switch pids := s.pids(); {
	case running && len(pids) < len(tiles):
		s.must("start")
	case !running && pids[log.service] != 0:
		s.must(log.stop)
	}
	whole := []byte(s.read(file))
	var err error
	content := left(whole)
	if content == nil {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, content, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(file, whole, 0o644); err != nil {
			s.t.Fatal(err)
		}
	}()
	before := s.pids()
	r := s.mage("start")
	if r.code == 0 && running {
		r = s.mage("restart", log.service)
	}
	if r.code != 0 {
		if !strings.Contains(r.stderr, s.config.Data(log.service)) {
			s.t.Errorf("%s: the message does not name it: %s", name, r)
		}
		after := s.pids()
		if strings.HasSuffix(file, "tesseract/.state/treeState") {
			// TesseraCT may end by itself: what follows its log for duplicates panics if it cannot read this file.
			delete(before, log.service)
			delete(after, log.service)
		}
		if running && fmt.Sprint(after) != fmt.Sprint(before) {
			s.t.Errorf("%s: %v ran, and after the start was refused %v: %s", name, before, after, r)
		}
		return "refused"
	}
	if filepath.Base(file) == "checkpoint" {
		// The server publishes another one in the place of one that is gone.
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(file); err == nil {
				break
			}
		}
	}
	if err := log.clients(s); err != nil {
		// The path of the file, or its URL. Of hashes that are no longer right it is not known in which file they are.
		below, _ := filepath.Rel(s.config.Data(log.service), file)
		if !strings.Contains(err.Error(), below) && !strings.Contains(err.Error(), "/tile do not lead to the root") {
			s.t.Errorf("%s: what clients say does not name it: %v", name, err)
		}
		return "noticed"
	}
	// Everything but a checkpoint has to be as it was.
	if now, err := os.ReadFile(file); err != nil || filepath.Base(file) != "checkpoint" && string(now) != string(whole) {
		s.t.Errorf("%s: nobody notices, and the file is another: %v", name, err)
	}
	return "harmless"
}

// readRekorTiles reads all of Rekor v2's log, by each target that reads it. The error is not nil if one of them fails; then all
// have to.
func (s *stack) readRekorTiles() error {
	var failed []error
	targets := [][]string{{"rekor:show", "0"}, {"rekor:search", "-n=10000", "-identity=" + s.config.Email}, {"rekor:monitor", "-identity=" + s.config.Email}}
	for _, target := range targets {
		if r := s.mage(append(target, "-log=rekor-tiles")...); r.code != 0 {
			failed = append(failed, fmt.Errorf("%q: %s", target, r))
		}
	}
	if len(failed) != 0 && len(failed) != len(targets) {
		s.t.Errorf("only some notice: %v", failed)
	}
	return errors.Join(failed...)
}

// readTesseraCT reads all of TesseraCT's log.
func (s *stack) readTesseraCT() error {
	log := s.tesseraCT()
	newest, err := log.Checkpoint(s.t.Context())
	if err != nil {
		return err
	}
	tree := log.Tree(s.t.Context(), newest)
	for number := range tilelog.BundleOf(tree.Size()-1) + 1 {
		if _, _, err := tree.Bundle(number); err != nil {
			return err
		}
	}
	return nil
}

// onSmallDisk returns the stack with its state folder on a disk of the given size. Only what runs by this stack's own methods sees
// that disk. Here, its files are below another path.
func (s *stack) onSmallDisk(size string) *stack {
	s.t.Helper()
	if os.Geteuid() != 0 {
		s.t.Skip("only root can mount disks")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		s.t.Skipf("no mounts can be made here: %v: %s", err, out)
	}
	if err := os.Mkdir(s.config.State, 0o700); err != nil {
		s.t.Fatal(err)
	}
	// The disk is there for as long as this process, or one of the stack's, lives.
	keeper := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t tmpfs -o mode=0700,size="$2" none "$1"; echo; exec cat`, "sh", s.config.State, size)
	keeper.Stderr = os.Stderr
	input, err := keeper.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	output, err := keeper.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := keeper.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = input.Close()
		_ = keeper.Wait()
	})
	if _, err := output.Read(make([]byte, 1)); err != nil {
		s.t.Fatal(err)
	}
	inside := *s
	inside.config.State = filepath.Join("/proc", fmt.Sprint(keeper.Process.Pid), "root", s.config.State)
	inside.within = []string{"nsenter", "--mount", "--target", fmt.Sprint(keeper.Process.Pid), "sh", "-c", `cd "$0" && exec "$@"`}
	return &inside
}

func TestFaultTilesOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_STACK=tiles").onSmallDisk("100m")
	s.must("start")
	clients := s.signBundles(4)
	filler := filepath.Join(s.config.State, "tmp", "filler")
	// refused checks that a target says that the disk is full, and leaves what runs alone.
	refused := func(targets ...string) {
		t.Helper()
		before := s.pids()
		if r := s.mage(targets...); r.code == 0 || !strings.Contains(r.stderr, "no space left on device") {
			t.Errorf("%q: %s", targets, r)
		}
		if after := s.pids(); fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("%q: %v ran, and now %v", targets, before, after)
		}
	}
	count := rounds(20)
	for round := range count {
		clients.more(t, 2)
		if err := fill(filler); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		// Rekor v2 acknowledges entries once a second. What it has not written it must not acknowledge.
		time.Sleep(1500 * time.Millisecond)
		for _, target := range []string{"status", "start"} {
			if r := s.mage(target); r.code != 0 || !strings.Contains(r.stderr, "no space left on device") {
				t.Errorf("%s: %s", target, r)
			}
		}
		if round%2 == 0 {
			refused("restart", "all")
		} else {
			for _, name := range []string{"rekor-tiles", "tesseract"} {
				if err := syscall.Kill(s.pids()[name], syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			for len(s.pids()) > len(tiles)-2 {
				time.Sleep(time.Millisecond)
			}
			refused("start")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		s.must("start")
	}
	clients.more(t, 4)
	signed := clients.end()
	s.must("restart", "all")
	s.verifyBundles(signed)
	t.Logf("the disk was full %d times, %d signatures acknowledged and %d not, all acknowledged ones are in both logs", count, len(signed), len(clients.failed))
}

// fill writes a file until that fails, and returns why.
func fill(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, size := range []int{1 << 20, 1} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
	}
	return err
}
