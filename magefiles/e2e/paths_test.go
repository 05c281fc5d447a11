package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
)

// anyName has every ASCII character that is special to a shell, a configuration file or a URL and that a state folder's path
// may have, and one that is not ASCII.
const anyName = `My it's 100%41 $HOME "a\b" (x)?*[1];|<>&!~{}^+ü` + "`"

// anyLabel is the label of a PKCS#11 token with what has to be quoted.
const anyLabel = `Card "a\b" (UserPIN) ключ`

func TestAStackInAFolderOfAnyNameWithATokenOfAnyLabel(t *testing.T) {
	t.Parallel()
	s := newStack(t, "SIGLOCAL_PKCS11_TOKEN="+anyLabel)
	offset := fmt.Sprint("SIGLOCAL_PORT_OFFSET=", s.config.Port(config.Registry)-1338)
	state := "SIGLOCAL_STATE=" + filepath.Join(filepath.Dir(s.home), anyName) + "/"
	var err error
	if s.config, err = config.Load(s.config.Root, []string{state, offset, "SIGLOCAL_PKCS11_TOKEN=" + anyLabel}, parts...); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, state)
	s.must("start")
	s.only(names...)
	demo := s.must("demo:rekor", "demo:bundle")
	more := s.must("demo:keyless", "demo:attest")
	if refused := strings.Count(demo.stdout+more.stdout, "Refused, as it should be."); refused != 11 {
		t.Errorf("%d refusals, not 11: %s%s", refused, demo, more)
	}
	t.Run("the commands work when pasted", func(t *testing.T) { s.in(t).paste(demo.stdout) })
	t.Run("attacks are noticed", func(t *testing.T) {
		// Those that run daemons, which each get configuration, keys or data in a folder below the state folder.
		if r := s.in(t).must("demo:tamper", "-only=other-ct-log,two-histories,other-audience"); !strings.Contains(r.stdout, "3 attacks, and each was noticed.") {
			t.Errorf("%s", r)
		}
	})
	t.Run("a person signs in", func(t *testing.T) {
		s := s.in(t)
		page := newBrowser(t)
		l := s.login()
		page.open(l.page)
		page.signIn(s.config.Email, s.password())
		l.succeeds(s.config.Email)
	})
	t.Run("everything is below the state folder", func(t *testing.T) {
		s := s.in(t)
		for _, folder := range []string{s.config.Data("mariadb"), s.config.Data("hsm"), s.config.Data("rekor-tiles"), s.config.Data("registry")} {
			if entries, err := os.ReadDir(folder); err != nil || len(entries) == 0 {
				t.Errorf("%s holds %v, %v", folder, entries, err)
			}
		}
		// Not in a folder by half of the name, or by what it would be as a URL.
		if entries, err := os.ReadDir(filepath.Dir(s.home)); err != nil || len(entries) != 2 {
			t.Errorf("beside it there are %v, %v", entries, err)
		}
		s.checkModes()
		s.checkSecrets()
		s.checkListeners()
		s.checkHome()
	})
	t.Run("the token is found by its label", func(t *testing.T) {
		s := s.in(t)
		if listed := s.must("hsm:list").stdout; !strings.Contains(listed, " "+anyLabel+" ") {
			t.Error(listed)
		}
		s.checkExplain()
	})
	t.Run("Fulcio's old API is reached by its socket", func(t *testing.T) {
		s := s.in(t)
		response, err := http.Get(s.config.URL(config.Fulcio) + "/api/v1/rootCert")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		root, err := io.ReadAll(response.Body)
		if err != nil || strings.TrimSpace(string(root)) != strings.TrimSpace(s.read(s.config.Key("ca-root.pem"))) {
			t.Errorf("%v, %s: %s", err, response.Status, root)
		}
	})
	t.Run("the environment is the same in every form", func(t *testing.T) {
		s := s.in(t)
		const print = `cat "$SIGSTORE_ROOT_FILE"; command -v cosign`
		want := s.read(s.config.Key("ca-root.pem")) + s.config.Program("cosign") + "\n"
		for _, test := range [][]string{
			{"sh", "-ec", `eval "$(go tool mage env)"` + "\n" + print},
			{"fish", "-c", "go tool mage env -o=fish | source\n" + print},
			{"go", "tool", "mage", "exec", print},
		} {
			if _, err := exec.LookPath(test[0]); err != nil {
				t.Log(err)
				continue
			}
			if r := s.run(s.config.Root, test[0], test[1:]...); r.code != 0 || r.stdout != want {
				t.Errorf("%q: %s", test, r)
			}
		}
		for _, form := range []string{"json", "github"} {
			text := s.must("env", "-o="+form).stdout
			file := s.config.Key("ca-root.pem")
			if form == "json" {
				file = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "&", `\u0026`, "<", `\u003c`, ">", `\u003e`).Replace(file)
			}
			if !strings.Contains(text, file) {
				t.Errorf("%s does not name %s: %s", form, file, text)
			}
		}
	})
	t.Run("the archive has configuration and logs, and no secret", func(t *testing.T) {
		s := s.in(t)
		s.checkArchive(strings.TrimSpace(s.must("support").stdout))
	})
	t.Run("launch-sigstore.sh shows the logs", func(t *testing.T) {
		s := s.in(t)
		terminal := s.terminal()
		terminal.run("./launch-sigstore.sh")
		terminal.shows("[sigstore]")
		// The windows with the logs are of a server that is named after the state folder.
		sum := s.run("/", "sh", "-c", `printf '%s' "$SIGLOCAL_STATE" | cksum | cut -d ' ' -f 1`)
		terminal.server = "sigstore-local-" + strings.TrimSpace(sum.stdout)
		t.Cleanup(func() { _ = exec.Command("tmux", "-L", terminal.server, "kill-server").Run() })
		if panes := terminal.tmux("list-panes", "-a", "-F", "#{window_name} #{pane_current_command} #{pane_dead}"); strings.Count(panes, " tail 0\n") != len(names) {
			t.Errorf("the windows are\n%s", panes)
		}
	})
	s.must("stop", "start")
	s.verifyAll(s.image(more))
	s.must("reset", "-yes")
	if entries, err := os.ReadDir(s.config.State); err != nil || len(entries) != 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestAPathThatNoProgramTakesIsRefusedBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	outer := filepath.Dir(s.home)
	for path, want := range map[string]string{
		"a:b": "PATH", "a@b": "Dex", "a,b": "rekor-cli", "a#b": "SoftHSM", "a=b": "SoftHSM", "a\nb": "control", "a\xffb": "UTF-8",
	} {
		refused := s.in(t)
		refused.env = append(slices.Clone(s.env), "SIGLOCAL_STATE="+filepath.Join(outer, path))
		for _, target := range []string{"start", "env"} {
			if r := refused.mage(target); r.code == 0 || !strings.Contains(r.stderr, fmt.Sprintf("SIGLOCAL_STATE is %q", filepath.Join(outer, path))) || !strings.Contains(r.stderr, want) {
				t.Errorf("%q: %s", path, r)
			}
		}
	}
	if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
		t.Errorf("made were %v, %v", entries, err)
	}
}
