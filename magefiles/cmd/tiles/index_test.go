package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/tilelog/tilelogtest"
)

// signed is an entry of Rekor v2 that holds the digest of text, and a certificate for email, or a public key if email is empty.
// It returns the SHA-256 of the key too.
func signed(t *testing.T, text, email string) (entry []byte, keyDigest string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	kind, raw := "publicKey", public
	if email != "" {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), EmailAddresses: []string{email}, NotBefore: time.Unix(0, 0)}
		kind = "x509Certificate"
		if raw, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"%s"},`+
		`"signature":{"content":"c2ln","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","%s":{"rawBytes":"%s"}}}}}}`,
		base64.StdEncoding.EncodeToString(sum(text)), kind, base64.StdEncoding.EncodeToString(raw)), fmt.Sprintf("%x", sha256.Sum256(public))
}

// plain is an entry that holds the digest of text, and nobody.
func plain(text string) []byte {
	return fmt.Appendf(nil, `{"kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"%s"}}}}`, base64.StdEncoding.EncodeToString(sum(text)))
}

func sum(text string) []byte { s := sha256.Sum256([]byte(text)); return s[:] }

func digest(text string) string { return fmt.Sprintf("sha256:%x", sum(text)) }

func newIndex(t *testing.T, log *tilelogtest.Log, folder string) *index {
	t.Helper()
	x, err := openIndex(log.Log, folder)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// ask searches as a client does.
func (x *index) ask(t *testing.T, parameters ...string) (answer rekorlog.Answer) {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		values.Add(parameters[i], parameters[i+1])
	}
	w := httptest.NewRecorder()
	x.serveSearch(w, httptest.NewRequest(http.MethodGet, "/search?"+values.Encode(), nil))
	if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != http.StatusOK || err != nil {
		t.Fatalf("%q: %d: %s, %v", parameters, w.Code, w.Body, err)
	}
	return answer
}

func TestEntriesAreFoundByWhoSignedWhatAndWithWhichKey(t *testing.T) {
	log := tilelogtest.New(t)
	first, firstKey := signed(t, "a", "Alice@example.org")
	second, _ := signed(t, "b", "bob@example.org")
	third, thirdKey := signed(t, "a", "")
	fourth, _ := signed(t, "c", "alice@example.org")
	log.Append(first, second, third, fourth, []byte("no entry of Rekor's"))
	x := newIndex(t, log, t.TempDir())
	for _, test := range []struct {
		asked []string
		want  []uint64
	}{
		{[]string{"identity", "alice@example.org"}, []uint64{3, 0}},
		{[]string{"identity", "ALICE@example.org"}, []uint64{3, 0}},
		{[]string{"identity", "carol@example.org"}, []uint64{}},
		{[]string{"digest", digest("a")}, []uint64{2, 0}},
		{[]string{"digest", strings.TrimPrefix(digest("b"), "sha256:")}, []uint64{1}},
		{[]string{"key", firstKey}, []uint64{0}},
		{[]string{"key", "sha256:" + thirdKey}, []uint64{2}},
		{[]string{"identity", "alice@example.org", "digest", digest("a")}, []uint64{0}},
		{[]string{"identity", "alice@example.org", "digest", digest("b")}, []uint64{}},
		{[]string{"key", firstKey, "digest", digest("a"), "identity", "alice@example.org"}, []uint64{0}},
	} {
		answer := x.ask(t, test.asked...)
		if !slices.Equal(answer.Entries, test.want) || answer.Total != uint64(len(test.want)) || answer.Size != 5 || answer.Indexed != 5 || answer.Problem != "" {
			t.Errorf("%q: %+v, and not %v", test.asked, answer, test.want)
		}
	}
	if answer := x.ask(t, "identity", "alice@example.org", "limit", "1"); !slices.Equal(answer.Entries, []uint64{3}) || answer.Total != 2 {
		t.Errorf("the newest one: %+v", answer)
	}
	// What is uploaded now is found by the next search.
	more, _ := signed(t, "d", "alice@example.org")
	log.Append(more)
	if answer := x.ask(t, "identity", "alice@example.org"); !slices.Equal(answer.Entries, []uint64{5, 3, 0}) {
		t.Errorf("a new entry: %+v", answer)
	}
}

// large is a log of two full shards and a part, in which every thousandth entry holds the digest of "asked".
func large(t *testing.T) (log *tilelogtest.Log, asked []uint64) {
	t.Helper()
	log = tilelogtest.New(t)
	var entries [][]byte
	for i := range uint64(2*shardEntries + 3000) {
		text := fmt.Sprint(i)
		if i%1000 == 0 {
			text, asked = "asked", append([]uint64{i}, asked...)
		}
		entries = append(entries, plain(text))
	}
	log.Append(entries...)
	return log, asked
}

func TestAnIndexOfManyEntriesIsInFilesAndGoesOnFromThem(t *testing.T) {
	log, asked := large(t)
	folder := t.TempDir()
	x := newIndex(t, log, folder)
	whole := func(x *index, what string) {
		t.Helper()
		if err := x.update(t.Context()); err != nil {
			t.Fatal(err)
		}
		answer := x.ask(t, "digest", digest("asked"), "limit", "100")
		if !slices.Equal(answer.Entries, asked) || answer.Indexed != answer.Size {
			t.Errorf("%s: %+v", what, answer)
		}
		for _, entry := range []uint64{1, shardEntries - 1, shardEntries + 1, 2*shardEntries - 1, 2*shardEntries + 1} {
			if answer := x.ask(t, "digest", digest(fmt.Sprint(entry))); !slices.Equal(answer.Entries, []uint64{entry}) {
				t.Errorf("%s, entry %d: %+v", what, entry, answer)
			}
		}
	}
	whole(x, "made")
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	before := info.ModTime()
	whole(newIndex(t, log, folder), "opened again")
	if info, err := os.Stat(files[0]); err != nil || !info.ModTime().Equal(before) {
		t.Errorf("a file that is good was written again: %v", err)
	}
	// The part in memory becomes a file once it is full.
	var more [][]byte
	for i := range shardEntries {
		more = append(more, plain(fmt.Sprint("more ", i)))
	}
	for some := range slices.Chunk(more, 1000) {
		log.Append(some...)
		if err := x.update(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	whole(x, "grown")
	if _, err := os.Stat(x.file(2)); err != nil {
		t.Error(err)
	}
	if answer := x.ask(t, "digest", digest(fmt.Sprint("more ", shardEntries-1))); len(answer.Entries) != 1 {
		t.Errorf("%+v", answer)
	}

	damages := map[string]func(content []byte) []byte{
		"deleted":         func([]byte) []byte { return nil },
		"emptied":         func([]byte) []byte { return []byte{} },
		"cut":             func(content []byte) []byte { return content[:len(content)/2] },
		"of another part": func([]byte) []byte { content, _ := os.ReadFile(files[1]); return content },
		"garbled a bit":   func(content []byte) []byte { content[len(content)/2] ^= 1; return content },
	}
	for name, damage := range damages {
		for _, running := range []bool{true, false} {
			content, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if content = damage(content); content == nil {
				err = os.Remove(files[0])
			} else {
				err = os.WriteFile(files[0], content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			y := x
			if !running {
				y = newIndex(t, log, folder)
			} else if answer := y.search([]uint64{term(byDigest, digest("1"))}, 1); answer.Indexed != answer.Size-shardEntries || len(answer.Entries) != 0 {
				// The first search notices it, and says that entries are missing.
				t.Errorf("%s while it runs: %+v", name, answer)
			}
			whole(y, name)
		}
	}
}

func TestWhatIsNotInTheSignedTreeIsNotIndexed(t *testing.T) {
	for _, name := range []string{"tile/entries/001.p/44", "tile/0/001.p/44", "checkpoint"} {
		log := tilelogtest.New(t)
		for i := range 300 {
			log.Append(plain(fmt.Sprint(i)))
		}
		file := log.Files.Place(name)
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		changed := []byte(strings.Replace(string(whole), "SHA2_256", "SHA2_257", 1))
		if !strings.Contains(name, "entries") {
			changed[len(changed)/2] ^= 1
		}
		tilelogtest.Write(t, file, changed)
		x := newIndex(t, log, t.TempDir())
		if err := x.update(t.Context()); err == nil {
			t.Errorf("%s: it is not noticed", name)
		}
		answer := x.ask(t, "digest", digest("299"))
		if len(answer.Entries) > 0 || answer.Problem == "" || name != "checkpoint" && answer.Indexed >= answer.Size {
			t.Errorf("%s: %+v", name, answer)
		}
		tilelogtest.Write(t, file, whole)
		if answer := x.ask(t, "digest", digest("299")); len(answer.Entries) != 1 || answer.Problem != "" || answer.Indexed != 300 {
			t.Errorf("%s, put back: %+v", name, answer)
		}
	}
}

func TestAnIndexOfAnotherHistoryDoesNotCount(t *testing.T) {
	log, _ := large(t)
	folder := t.TempDir()
	x := newIndex(t, log, folder)
	if err := x.update(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The second shard and what comes after it are others.
	fork := log.Forked(shardEntries + 100)
	for range 9 {
		var entries [][]byte
		for i := range 1500 {
			entries = append(entries, plain(fmt.Sprint("forked ", i)))
		}
		fork.Append(entries...)
	}
	again := newIndex(t, fork, folder)
	x.log = fork.Log
	for what, x := range map[string]*index{"while it runs": x, "opened again": again} {
		if err := x.update(t.Context()); err != nil {
			t.Fatal(err)
		}
		if answer := x.ask(t, "digest", digest(fmt.Sprint(shardEntries+101))); len(answer.Entries) != 0 || answer.Indexed != answer.Size {
			t.Errorf("%s, what was there before: %+v", what, answer)
		}
		if answer := x.ask(t, "digest", digest("forked 7")); answer.Total != 9 {
			t.Errorf("%s, what is there now: %+v", what, answer)
		}
		if answer := x.ask(t, "digest", digest("5")); !slices.Equal(answer.Entries, []uint64{5}) {
			t.Errorf("%s, what both have: %+v", what, answer)
		}
	}
	// A log that was wiped.
	if err := os.RemoveAll(fork.Dir); err != nil {
		t.Fatal(err)
	}
	if answer := x.ask(t, "digest", digest("5")); answer.Total != 0 || answer.Size != 0 || answer.Indexed != 0 || answer.Problem != "" {
		t.Errorf("wiped: %+v", answer)
	}
}

func TestASearchDoesNotWaitForAnIndexThatIsStillBeingMade(t *testing.T) {
	log, _ := large(t)
	x := newIndex(t, log, t.TempDir())
	<-x.updating // as if another update went on
	began := time.Now()
	if answer := x.ask(t, "digest", digest("5")); answer.Total != 0 {
		t.Errorf("%+v", answer)
	}
	if took := time.Since(began); took > 10*catchUp {
		t.Errorf("it takes %s", took)
	}
	x.updating <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.update(ctx); err == nil {
		t.Error("an update goes on although it was told to end")
	}
}

func TestASearchForNothingOrForNonsenseIsRefused(t *testing.T) {
	x := newIndex(t, tilelogtest.OfSize(t, 1), t.TempDir())
	for query, want := range map[string]string{
		"":          "at least one of",
		"limit=3":   "at least one of",
		"digest=ab": `the digest is "ab"; accepted are sha256:`,
		"digest=sha512:" + strings.Repeat("a", 64): "the digest is",
		"key=-----BEGIN":         `the key is "-----BEGIN"; accepted is the SHA-256`,
		"identity=a&limit=0":     `the limit is "0"; accepted is a number from 1`,
		"identity=a&limit=10001": `the limit is "10001"`,
		"identity=a&email=b":     `the parameter "email" is not known; accepted are`,
	} {
		w := httptest.NewRecorder()
		x.serveSearch(w, httptest.NewRequest(http.MethodGet, "/search?"+query, nil))
		var said struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &said); w.Code != http.StatusBadRequest || err != nil || !strings.Contains(said.Message, want) {
			t.Errorf("%q: %d: %s", query, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	x.serveSearch(w, httptest.NewRequest(http.MethodPost, "/search?identity=a", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
