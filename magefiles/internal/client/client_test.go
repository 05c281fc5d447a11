package client

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
)

func TestClientsElsewhereGetNoPathsOfThisMachineAndNoSecrets(t *testing.T) {
	for _, stack := range []string{"tutorial", "tiles", "all"} {
		c, err := config.Load("/checkout", []string{"SIGLOCAL_STACK=" + stack, "SIGLOCAL_HOST=sigstore.test", "SIGLOCAL_LISTEN=all", "SIGLOCAL_STATE=/here"})
		if err != nil {
			t.Fatal(err)
		}
		for _, trust := range Trusts(c) {
			for _, v := range Elsewhere(c, trust, "/there") {
				if v.Secret != "" || strings.Contains(v.Value, "/here") || strings.Contains(v.Value, "localhost") || strings.Contains(v.Value, "127.0.0.1") {
					t.Errorf("%s, %s: %+v", stack, trust, v)
				}
			}
		}
		text, err := Index(c)
		if err != nil {
			t.Fatal(err)
		}
		index := map[string]string{}
		if err := json.Unmarshal(text, &index); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"FULCIO_URL": "http://sigstore.test:5555", "ISSUER_URL": "http://sigstore.test:5556", "TRUSTED_ROOT": "http://sigstore.test:8080/trust/trusted_root.json",
		} {
			if index[name] != want {
				t.Errorf("%s: %s is %q, not %q", stack, name, index[name], want)
			}
		}
	}
}

func TestShellsReadBackWhatIsWrittenForThem(t *testing.T) {
	folder := filepath.Join(t.TempDir(), `it's 100% $HOME "a\b" (x)?*[1];|<>&!~{}^+ü`+"`")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(folder, `sec'ret\`)
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	variables := []Variable{
		{Name: "VALUE", Value: folder}, {Name: "BACKSLASHES", Value: `a\\b\'`}, {Name: "PLAIN", Value: "http://127.0.0.1:3000"},
		{Name: "SECRET", Secret: secret}, {Name: "PATH", Value: folder, Prepend: true}, {Name: "GONE", Unset: true},
	}
	want := strings.Join([]string{folder, `a\\b\'`, "http://127.0.0.1:3000", "s3cret", folder, ""}, "\n")
	for shell, first := range map[string]string{"sh": `"${PATH%%:*}"`, "fish": "$PATH[1]"} {
		t.Run(shell, func(t *testing.T) {
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Skip(err)
			}
			text, err := Forms()[shell](variables)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "-c", text+`printf '%s\n' "$VALUE" "$BACKSLASHES" "$PLAIN" "$SECRET" `+first+` "$GONE"`)
			cmd.Env = append(os.Environ(), "GONE=still there", "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != want {
				t.Errorf("%v: got\n%s\nand not\n%s\nof\n%s", err, got, want, text)
			}
		})
	}
}
