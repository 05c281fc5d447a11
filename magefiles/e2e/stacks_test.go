package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
)

// tiles are the services of a stack of tiles.
var tiles = []string{"registry", "tesseract", "dex", "fulcio", "tsa", "rekor-tiles", "tiles", "tuf", "page"}

// all checks that status lists just these services, and that each is ready.
func (s *stack) all(want []string) {
	s.t.Helper()
	states := s.states()
	if got := slices.Sorted(maps.Keys(states)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		s.t.Errorf("the services are %v, not %v", got, want)
	}
	for name, state := range states {
		if state != "ready" {
			s.t.Errorf("%s is %s", name, state)
		}
	}
}

func TestAStackOfTilesHasNoDatabase(t *testing.T) {
	t.Parallel()
	// There is no MariaDB that it could start.
	s := newStack(t, "SIGLOCAL_STACK=tiles", "SIGLOCAL_MARIADBD=/bin/false")
	s.must("start")
	s.all(tiles)
	tour := s.tour()
	demos := s.must("demo:bundle", "demo:attest")
	demos.stdout = tour.stdout + demos.stdout
	if refused := strings.Count(demos.stdout, "Refused, as it should be."); refused != 13 {
		t.Errorf("%d refusals, not 13: %s", refused, demos)
	}
	image := ""
	for field := range strings.FieldsSeq(demos.stdout) {
		if strings.HasPrefix(field, s.config.Image("cosign@sha256:")) {
			image = field
		}
	}
	verify := func(s *stack) {
		t.Helper()
		// Both versions of cosign take these flags.
		script := `eval "$(go tool mage env -trust=root)"
set -- "$2" "$3" --new-bundle-format --use-signed-timestamps --certificate-identity="$1" --certificate-oidc-issuer="$ISSUER_URL"
image=$1 artifact=$2; shift 2; cosign verify "$@" "$image" && cosign verify-blob "$@" --bundle "$artifact.tiles.json" "$artifact"`
		if r := s.run(s.config.Root, "sh", "-c", script, "sh", s.config.Email, image, s.config.Data("artifact.txt")); r.code != 0 {
			t.Errorf("%s", r)
		}
	}
	// Later demos sign the same file, into the same bundle.
	if err := os.WriteFile(s.config.Data("artifact.txt.tiles.json"), []byte(s.read(s.config.Data("artifact.txt.sigstore.json"))), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("certificates are in the CT log's tiles", func(t *testing.T) {
		s := s.in(t)
		lines := strings.Split(s.read(filepath.Join(s.config.Data("tesseract"), "checkpoint")), "\n")
		if lines[0] != s.config.TesseraCTOrigin() || lines[1] == "0" {
			t.Errorf("its checkpoint is %q", lines)
		}
	})
	t.Run("the demos' own client is cosign v3", func(t *testing.T) {
		s := s.in(t)
		script := `eval "$(go tool mage env)" && cosign version`
		if r := s.run(s.config.Root, "sh", "-c", script); !strings.Contains(r.stdout+r.stderr, "v3.") {
			t.Errorf("%s", r)
		}
	})
	t.Run("what it lacks is refused", func(t *testing.T) {
		s := s.in(t)
		for _, target := range []string{"trillian:start", "rekor:start", "ct:start"} {
			if r := s.mage(target); r.code == 0 || !strings.Contains(r.stderr, "SIGLOCAL_STACK=all") {
				t.Errorf("%s: %s", target, r)
			}
		}
		if _, err := os.Stat(s.config.Data("mariadb")); err == nil {
			t.Error("there is a database")
		}
	})
	t.Run("Dex takes new accounts", func(t *testing.T) {
		s := s.in(t)
		for _, email := range []string{s.config.Email, "new@example.org", "new@example.org"} {
			if got := claims(t, s.must("dex:token", "-email="+email).stdout); got["email"] != email || got["email_verified"] != true {
				t.Errorf("%s: %v", email, got)
			}
		}
		s.all(tiles)
	})
	t.Run("a person signs in", func(t *testing.T) {
		s := s.in(t)
		page := newBrowser(t)
		l := s.login()
		page.open(l.page)
		page.signIn(s.config.Email, s.password())
		l.succeeds(s.config.Email)
	})
	var plain []string
	for _, entry := range s.env {
		if !strings.HasPrefix(entry, "SIGLOCAL_STACK=") && !strings.HasPrefix(entry, "SIGLOCAL_MARIADBD=") {
			plain = append(plain, entry)
		}
	}
	t.Run("the folder remembers what it was made for", func(t *testing.T) {
		s := s.in(t)
		s.env = plain
		s.all(tiles)
	})
	t.Run("another stack is added, and what was signed before still verifies", func(t *testing.T) {
		s := s.in(t)
		s.env = append(slices.Clone(plain), "SIGLOCAL_STACK=tutorial")
		s.must("start", "demo:keyless", "demo:bundle")
		s.all(names) // those of the other stack still run
		s.env = plain
		s.must("start")
		s.all(names)
		verify(s)
		s.env = append(slices.Clone(plain), "SIGLOCAL_CT_LOG=tesseract")
		s.must("demo:keyless", "demo:bundle")
		s.must("demo:tamper", "-only=other-ct-log,rewritten-tile")
		verify(s)
	})
	s.env = plain
	s.must("stop")
	if left := processes(t, s.config.State); len(left) > 0 {
		t.Errorf("left are processes %v", left)
	}
}

func TestTheTutorialsStackHasNoTiles(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_STACK=tutorial")
	s.must("start")
	s.all(append(slices.Clone(tutorial), "page"))
	t.Run("the tour waits for Enter at a terminal", func(t *testing.T) { s.in(t).tourAtTerminal() })
	t.Run("the tour runs through without a terminal", func(t *testing.T) { s.in(t).tour() })
	t.Run("the other demos work", func(t *testing.T) {
		s := s.in(t)
		s.must("demo:bundle", "demo:attest")
		l := s.login()
		page := newBrowser(t)
		page.open(l.page)
		page.signIn(s.config.Email, s.password())
		l.succeeds(s.config.Email)
	})
	for _, setting := range []string{"SIGLOCAL_CT_LOG=tesseract", "SIGLOCAL_STACK=both"} {
		one := s.in(t)
		one.env = append(slices.Clone(s.env), setting)
		name, _, _ := strings.Cut(setting, "=")
		if r := one.mage("start"); r.code == 0 || !strings.Contains(r.stderr, name) {
			t.Errorf("%s: %s", setting, r)
		}
	}
	if _, err := os.Stat(s.config.Key("tesseract.pem")); err == nil {
		t.Error("there is a key for a log of tiles")
	}
	if made, err := s.config.MadeFor(); err != nil || made != config.Tutorial {
		t.Errorf("the folder was made for %q, %v", made, err)
	}
}
