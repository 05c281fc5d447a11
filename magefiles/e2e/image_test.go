package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The variables by which TestAnImage knows that it runs where there is no network, and in which folder images and programs are.
const (
	imagesIn = "IMAGES_IN"
	cosignAt = "IMAGES_COSIGN"
)

// readyWithin is how long a container may take from its start until all of its stack works, the making of keys included. The aim is 5
// seconds; other tests run beside this one, also on slow machines.
const readyWithin = time.Minute

// TestAnImage makes an image, of one version in an archive and of another in the registry, and runs both by Podman, where nothing but this
// machine can be reached, and what Podman leaves behind vanishes with the network's namespace.
func TestAnImage(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real stack")
	}
	if dir := os.Getenv(imagesIn); dir != "" {
		runImages(t, dir)
		return
	}
	t.Parallel()
	for _, program := range []string{"podman", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the image cannot be run: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can publish the ports of a container in a network namespace of a test's own")
	}
	before := ofPodman(t)
	s := newStack(t, "SIGLOCAL_STACK=tiles")
	s.env = append(s.env, "SOURCE_DATE_EPOCH=1700000000")
	dir := filepath.Dir(s.config.State)
	archive := filepath.Join(dir, "an image.tar")
	first := s.must("image", "-version=1", "-o="+archive)
	s.verifyPrinted(first, 2)
	second := s.must("image", "-version=2")
	s.verifyPrinted(second, 3)
	// The same inputs give the same bytes: a version changes no more than a label.
	layers := regexp.MustCompile(`compressed: (.*) \(`)
	t.Log(layers.FindString(first.stderr))
	reference := regexp.MustCompile(`localhost:\d+/sigstore-local@sha256:[0-9a-f]{64}`).FindString(second.stderr)
	if left, right := layersOf(t, archive), s.layersOf(reference); !bytes.Equal(left, right) {
		t.Errorf("the layers of one image are %s, and those of another of the same files are %s", left, right)
	}
	// The SBOM names Debian's packages and Go's modules.
	said := s.run(s.home, s.config.Program("cosign"), "verify-attestation", "--type=spdxjson", "--certificate-identity="+s.config.Email, "--certificate-oidc-issuer="+s.config.Issuer(),
		"--trusted-root="+s.config.Trust("trusted_root.json"), "--use-signed-timestamps", reference)
	if said.code != 0 {
		t.Errorf("%s", said)
	}
	bill := s.payload(said.stdout)
	for _, want := range []string{`"pkg:deb/debian/libsofthsm2@`, `"pkg:golang/github.com/sigstore/fulcio@v`, `"pkg:golang/stdlib@1.`, `"spdxVersion": "SPDX-2.3"`} {
		if !strings.Contains(bill, want) {
			t.Errorf("the SBOM lacks %s", want)
		}
	}
	// Podman pulls the second image here, and what it has stored serves where there is no network.
	p := podman{t, dir}
	p.must("pull", "--quiet", "--tls-verify=false", reference)
	p.must("tag", reference, "localhost/sigstore-local:2")
	p.must("load", "--quiet", "--input", archive)
	s.must("stop")

	args := append(apart("-mn", "ip link set lo up"), os.Args[0], "-test.run=^TestAnImage$", "-test.v", "-test.timeout=10m")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), imagesIn+"="+dir, cosignAt+"="+s.config.Program("cosign"), npmAt+"="+npmForExamples(t))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v:\n%s", err, out)
	}
	t.Logf("%s", out)
	p.must("rmi", "--all", "--force")
	if after := ofPodman(t); !slices.Equal(before, after) {
		t.Errorf("there were %v, and now there are %v", before, after)
	}
}

// apart is a command that runs the command that is appended to it in namespaces of its own, as unshare(1) takes them, after a shell's
// command. What Podman keeps for the whole machine, whatever it is told, vanishes with them.
func apart(namespaces, first string) []string {
	return []string{"unshare", namespaces, "sh", "-c", `mount -t tmpfs apart /run && mount -t tmpfs apart /var/lib && ` + first + ` && exec "$@"`, "sh"}
}

// ofPodman lists what there is of that on this machine.
func ofPodman(t *testing.T) []string {
	t.Helper()
	var there []string
	for _, folder := range []string{"/run/netns", "/run/runc", "/run/containers", "/run/libpod", "/var/lib/cni", "/var/lib/containers"} {
		if _, err := os.Stat(folder); err == nil {
			there = append(there, folder)
		}
	}
	return there
}

// verifyPrinted runs the commands that were printed to verify an image.
func (s *stack) verifyPrinted(r result, count int) {
	s.t.Helper()
	printed := regexp.MustCompile(`(?m)^To verify it(, after eval "\$\(go tool mage env\)")?: (.*)$`).FindAllStringSubmatch(r.stderr, -1)
	if len(printed) != count {
		s.t.Fatalf("%d commands were printed, and not %d: %s", len(printed), count, r)
	}
	settings := s.must("env").stdout
	for _, one := range printed {
		first := `PATH="$1:$PATH"`
		if one[1] != "" {
			first = settings
		}
		if said := s.run(s.home, "sh", "-c", first+"\n"+one[2], "sh", filepath.Dir(s.config.Program("cosign"))); said.code != 0 {
			s.t.Errorf("%s: %s", one[2], said)
		}
	}
}

// layersOf lists the layers' digests that the configuration of an image in an archive names.
func layersOf(t *testing.T, archive string) []byte {
	t.Helper()
	manifest, err := exec.Command("tar", "-xOf", archive, "manifest.json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var images []struct{ Config string }
	if err := json.Unmarshal(manifest, &images); err != nil {
		t.Fatal(err)
	}
	config, err := exec.Command("tar", "-xOf", archive, images[0].Config).Output()
	if err != nil {
		t.Fatal(err)
	}
	return rootFS(t, config)
}

// layersOf is the same for an image in the stack's registry.
func (s *stack) layersOf(reference string) []byte {
	s.t.Helper()
	host, digest, _ := strings.Cut(reference, "/sigstore-local@")
	get := func(path string) []byte {
		answer, err := http.Get("http://" + host + "/v2/sigstore-local/" + path)
		if err != nil {
			s.t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			s.t.Fatalf("%s: %s %v", path, answer.Status, err)
		}
		return text
	}
	var manifest struct{ Config struct{ Digest string } }
	if err := json.Unmarshal(get("manifests/"+digest), &manifest); err != nil {
		s.t.Fatal(err)
	}
	return rootFS(s.t, get("blobs/"+manifest.Config.Digest))
}

func rootFS(t *testing.T, config []byte) []byte {
	t.Helper()
	var c struct{ RootFS json.RawMessage }
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.RootFS) == 0 {
		t.Fatalf("no layers in %s", config)
	}
	return c.RootFS
}

// payload is the statement of an attestation that cosign has verified.
func (s *stack) payload(printed string) string {
	s.t.Helper()
	var envelope struct{ Payload []byte }
	if err := json.Unmarshal([]byte(printed), &envelope); err != nil {
		s.t.Fatalf("%v: %.300s", err, printed)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, envelope.Payload, "", " "); err != nil {
		s.t.Fatal(err)
	}
	return indented.String()
}

// podman is Podman with all that it stores in a folder of the test's.
type podman struct {
	t   *testing.T
	dir string
}

// command is Podman's command that knows only what is in that folder.
func (p podman) command(ctx context.Context, args ...string) *exec.Cmd {
	at := func(name string) string { return filepath.Join(p.dir, "podman", name) }
	all := append([]string{"--root", at("root"), "--runroot", at("run"), "--tmpdir", at("tmp"), "--runtime", "runc", "--cgroup-manager", "cgroupfs",
		"--network-config-dir", at("networks"), "--volumepath", at("volumes"), "--events-backend", "file"}, args...)
	all = append([]string{"podman"}, all...)
	if os.Getenv(imagesIn) == "" {
		all = append(apart("-m", "true"), all...)
	}
	return exec.CommandContext(ctx, all[0], all[1:]...)
}

func (p podman) run(args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := p.command(ctx, args...)
	var out, said syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &said
	// What a container keeps open must not keep this waiting.
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return result{out.String(), said.String(), cmd.ProcessState.ExitCode()}
}

func (p podman) must(args ...string) string {
	p.t.Helper()
	r := p.run(args...)
	if r.code != 0 {
		p.t.Fatalf("podman %q: %s", args, r)
	}
	return strings.TrimSpace(r.stdout)
}

// run is the command that runs a container. Some sandboxes let nobody raise limits, which Podman does by default. Fulcio asks the DNS server
// once, and waits for it: where nothing but this machine can be reached, that is nowhere.
func run(flags ...string) []string {
	return append([]string{"run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--dns", "127.0.0.1"}, flags...)
}

// start runs a container and waits until its stack is ready, and returns how long that took.
func (p podman) start(name, version string, flags ...string) time.Duration {
	p.t.Helper()
	began := time.Now()
	p.must(append(append(run("--detach", "--name", name, "--read-only", "--read-only-tmpfs=false"), flags...), "localhost/sigstore-local:"+version)...)
	p.ready(name)
	return time.Since(began).Round(time.Millisecond)
}

// ready waits until the stack in a container is ready. The health check of the image is that too; Podman knows it of images from archives
// alone, since the format in which registries have images has none.
func (p podman) ready(name string) {
	p.t.Helper()
	for end := time.Now().Add(readyWithin); p.run("exec", name, "sigstore-local", "status", "-all").code != 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it is not ready after %s: %s", readyWithin, p.run("logs", name))
		}
	}
}

// exec runs a target in a container.
func (p podman) exec(name string, words ...string) string {
	p.t.Helper()
	return p.must(append([]string{"exec", name, "sigstore-local"}, words...)...)
}

// outside is a client of a container's stack that has no folder of it and calls no program in it: it knows the URL of the stack's index and
// the password that it was given.
type outside struct {
	t        *testing.T
	dir      string // for what it gets
	index    map[string]string
	password string
}

// newOutside gets the files that the index at url names.
func newOutside(t *testing.T, url, password string) outside {
	t.Helper()
	o := outside{t, t.TempDir(), map[string]string{}, password}
	if err := json.Unmarshal(o.get(url), &o.index); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TRUSTED_ROOT", "SIGNING_CONFIG"} {
		if err := os.WriteFile(filepath.Join(o.dir, name), o.get(o.index[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func (o outside) get(url string) []byte {
	o.t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		o.t.Fatalf("%s: %s %v", url, answer.Status, err)
	}
	return text
}

// sign signs a new file, and returns it once that is acknowledged.
func (o outside) sign(name string) (string, error) {
	form := url.Values{"grant_type": {"password"}, "scope": {"openid email"}, "username": {"user@example.org"}, "password": {o.password}}
	request, err := http.NewRequest(http.MethodPost, o.index["ISSUER_URL"]+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.SetBasicAuth("sigstore", "")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var tokens struct {
		ID string `json:"id_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&tokens); err != nil || tokens.ID == "" {
		return "", fmt.Errorf("no token: %s, %w", answer.Status, err)
	}
	file := filepath.Join(o.dir, name)
	if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
		return "", err
	}
	return file, o.cosign("COSIGN_IDENTITY_TOKEN="+tokens.ID, "sign-blob", "--signing-config", filepath.Join(o.dir, "SIGNING_CONFIG"),
		"--trusted-root", filepath.Join(o.dir, "TRUSTED_ROOT"), "--bundle", file+".json", file)
}

func (o outside) verify(file string) error {
	return o.cosign("", "verify-blob", "--trusted-root", filepath.Join(o.dir, "TRUSTED_ROOT"), "--use-signed-timestamps", "--certificate-identity=user@example.org",
		"--certificate-oidc-issuer="+o.index["ISSUER_URL"], "--bundle", file+".json", file)
}

func (o outside) cosign(variable string, args ...string) error {
	cmd := exec.Command(os.Getenv(cosignAt), args...)
	cmd.Env = append(os.Environ(), variable, "HOME="+o.dir, "COSIGN_YES=true")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// runImages runs the images in a network namespace of its own.
func runImages(t *testing.T, dir string) {
	p := podman{t, dir}
	t.Cleanup(func() { p.run("rm", "--all", "--force", "--volumes") })
	const password = "a-password.of+this~test"
	setPassword := "SIGLOCAL_DEX_PASSWORD=" + password
	offset := 20000
	// The ports outside are the same as inside, and others than the default ones.
	ports := []string{"--env", "SIGLOCAL_PORT_OFFSET=" + strconv.Itoa(offset)}
	for _, port := range []int{1338, 3003, 3004, 5555, 5556, 6962, 8080, 8088} {
		ports = append(ports, "--publish", fmt.Sprintf("127.0.0.1:%[1]d:%[1]d", port+offset))
	}
	indexURL := fmt.Sprintf("http://localhost:%d/", 8080+offset)
	data := []string{"--volume", "data:/var/lib/sigstore-local", "--env", setPassword}
	took := p.start("first", "1", append(data, ports...)...)
	t.Logf("the container's stack is ready after %s, keys included", took)
	client := newOutside(t, indexURL, password)
	var signed []string
	sign := func(name string) {
		t.Helper()
		file, err := client.sign(name)
		if err == nil {
			err = client.verify(file)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, p.run("logs", "first"))
		}
		signed = append(signed, file)
	}
	sign("before")

	t.Run("it runs as an ordinary user, and its root cannot be written", func(t *testing.T) {
		p := podman{t, dir}
		for _, line := range strings.Split(p.must("top", "first", "huser", "pid"), "\n")[1:] {
			if user, _, _ := strings.Cut(line, " "); user != "65532" {
				t.Errorf("a process runs as %s", line)
			}
		}
		if r := p.run("exec", "first", "/opt/sigstore-local/bin/registry", "-address=127.0.0.1:0", "-dir=/opt/written"); r.code == 0 || !strings.Contains(r.stderr, "read-only file system") {
			t.Errorf("%s", r)
		}
	})
	t.Run("three levels and attacks", func(t *testing.T) {
		p := podman{t, dir}
		for _, target := range []string{"demo:keyed", "demo:rekor", "demo:keyless", "demo:bundle", "doctor"} {
			p.exec("first", target)
		}
		if said := p.exec("first", "demo:tamper", "-only=own-ca,forged-token"); !strings.Contains(said, "each was noticed") {
			t.Errorf("%s", said)
		}
	})
	t.Run("env tells what clients outside need", func(t *testing.T) {
		p := podman{t, dir}
		for _, form := range []string{"sh", "json", "github"} {
			if said := p.exec("first", "env", "-o="+form, "-token", "-files=/there"); !strings.Contains(said, strconv.Itoa(5555+offset)) || strings.Contains(said, "/var/lib") || !strings.Contains(said, "SIGSTORE_ID_TOKEN") {
				t.Errorf("%s", said)
			}
		}
	})
	t.Run("the health check is status", func(t *testing.T) {
		p := podman{t, dir}
		p.must("healthcheck", "run", "first")
		p.exec("first", "tuf:stop")
		if r := p.run("healthcheck", "run", "first"); r.code == 0 {
			t.Errorf("it is well without a service: %s", r)
		}
		p.exec("first", "start")
		p.must("healthcheck", "run", "first")
	})
	t.Run("no process is left that has ended", func(t *testing.T) {
		p := podman{t, dir}
		p.exec("first", "restart", "tsa")
		p.exec("first", "restart", "tsa")
		if states := p.must("top", "first", "state", "args"); strings.Contains(states, "\nZ") {
			t.Errorf("%s", states)
		}
	})
	t.Run("a client in another container reaches it by a host name", func(t *testing.T) {
		p := podman{t, dir}
		const host = "sigstore.test"
		p.start("second", "2", "--env", "SIGLOCAL_LISTEN=all", "--env", "SIGLOCAL_HOST="+host, "--health-cmd", `["sigstore-local","status","-all"]`)
		defer p.must("rm", "--force", "--volumes", "second")
		p.must("healthcheck", "run", "second")
		address := p.must("inspect", "--format={{.NetworkSettings.IPAddress}}", "second")
		token := p.exec("second", "dex:token")
		trust := t.TempDir()
		p.must("cp", "second:/var/lib/sigstore-local/trust/.", trust)
		if err := exec.Command("chmod", "-R", "a+rwX", trust).Run(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(trust, "artifact"), []byte("signed by another container"), 0o644); err != nil {
			t.Fatal(err)
		}
		cosign := func(args ...string) result {
			return p.run(append(run("--rm", "--add-host", host+":"+address, "--volume", trust+":/trust",
				"--env", "COSIGN_YES=true", "--env", "COSIGN_IDENTITY_TOKEN="+token, "--env", "HOME=/trust", "--entrypoint", "/opt/sigstore-local/bin/v3/cosign", "localhost/sigstore-local:2"), args...)...)
		}
		if r := cosign("sign-blob", "--signing-config=/trust/signing_config.json", "--trusted-root=/trust/trusted_root.json", "--bundle=/trust/bundle.json", "/trust/artifact"); r.code != 0 {
			t.Fatalf("%s", r)
		}
		if r := cosign("verify-blob", "--trusted-root=/trust/trusted_root.json", "--use-signed-timestamps", "--bundle=/trust/bundle.json", "--certificate-identity=user@example.org",
			"--certificate-oidc-issuer=http://"+host+":5556", "/trust/artifact"); r.code != 0 {
			t.Fatalf("%s", r)
		}
	})
	t.Run("nothing acknowledged is lost when the container is killed while clients sign", func(t *testing.T) {
		p := podman{t, dir}
		for round := range rounds(5) {
			signed = append(signed, p.killWhileSigning(client, round)...)
		}
		for _, file := range signed {
			if err := client.verify(file); err != nil {
				t.Error(err)
			}
			if said := p.exec("first", "rekor:search", "-log=rekor-tiles", "-digest="+sum(t, file)); !strings.Contains(said, "user@example.org") {
				t.Errorf("%s is not in the log: %s", filepath.Base(file), said)
			}
		}
	})
	t.Run("a newer image goes on with the volume of an older one", func(t *testing.T) {
		p := podman{t, dir}
		p.must("stop", "first")
		// One that takes longer than ten seconds is killed, and ends with 137.
		if code := p.must("inspect", "--format={{.State.ExitCode}}", "first"); code != "0" {
			t.Errorf("it ended with exit code %s: %s", code, p.run("logs", "first"))
		}
		p.must("rm", "first")
		t.Logf("the stack of a newer image is ready after %s, with the keys that are there", p.start("first", "2", append(data, ports...)...))
		sign("after")
		for _, file := range signed {
			if err := client.verify(file); err != nil {
				t.Error(err)
			}
		}
	})
	p.must("rm", "--force", "--volumes", "first")
	t.Run("a full volume is noticed, and costs nothing", func(t *testing.T) { podman{t, dir}.fullVolume(t) })
	t.Run("settings that cannot work are refused", func(t *testing.T) {
		p := podman{t, dir}
		r := p.run(run("--rm", "--env", "SIGLOCAL_HOST=http://sigstore", "localhost/sigstore-local:2")...)
		if r.code != 1 || !strings.Contains(r.stderr, `SIGLOCAL_HOST is "http://sigstore"`) {
			t.Errorf("%s", r)
		}
	})
	t.Run("examples of docs/tests.md", func(t *testing.T) { p.examples(t) })
}

// killWhileSigning has four clients sign, kills the container, starts it again, and returns what was acknowledged.
func (p podman) killWhileSigning(client outside, round int) []string {
	p.t.Helper()
	var mu sync.Mutex
	var acknowledged []string
	var clients sync.WaitGroup
	killed := make(chan struct{})
	for i := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				file, err := client.sign(fmt.Sprintf("file-%d-%d-%d", round, i, n))
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, file)
					mu.Unlock()
				}
				select {
				case <-killed:
					return
				default:
				}
			}
		})
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		enough := len(acknowledged) >= 4
		mu.Unlock()
		if enough || time.Now().After(end) {
			break
		}
	}
	p.must("kill", "first")
	close(killed)
	clients.Wait()
	if len(acknowledged) == 0 {
		p.t.Fatal("nobody could sign")
	}
	p.must("wait", "first")
	p.must("start", "first")
	p.ready("first")
	return acknowledged
}

// fullVolume runs a container whose volume is a disk of its own, and fills that.
func (p podman) fullVolume(t *testing.T) {
	disk := filepath.Join(p.dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=120m,mode=0700,uid=65532,gid=65532", "sigstore-local-test", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}()
	p.start("full", "2", "--volume", disk+":/var/lib/sigstore-local")
	defer p.must("rm", "--force", "--volumes", "full")
	filler := filepath.Join(disk, "filler")
	if err := fill(filler); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if r := p.run("exec", "full", "sigstore-local", "status"); !strings.Contains(r.stderr, "no space left on device") {
		t.Errorf("%s", r)
	}
	p.must("stop", "full")
	p.must("start", "full")
	if code := p.must("wait", "full"); code != "1" {
		t.Errorf("with a full volume it ended with exit code %s: %s", code, p.run("logs", "full"))
	}
	if r := p.run("logs", "full"); !strings.Contains(r.stderr, "no space left on device") {
		t.Errorf("%s", r)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	p.must("start", "full")
	p.ready("full")
	p.exec("full", "demo:bundle")
}

// sum is the digest of a file as rekor:search takes it.
func sum(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("sha256sum", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	return "sha256:" + strings.Fields(string(out))[0]
}
