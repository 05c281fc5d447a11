package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/bench"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/statedir"
	"sigstore-local/magefiles/internal/tilelog"
)

// rig is a real Kubernetes that ends with the test, in network namespaces of its own (magefiles/rig).
type rig struct {
	KubeConfig string `json:"kubeconfig"`
	Kubectl    string `json:"kubectl"`
	Outside    int    `json:"outside"` // the PID of a process in the namespace in which clients are
	Nodes      []struct {
		Name    string `json:"name"`
		PID     int    `json:"pid"`
		Kubelet int    `json:"kubelet"`
	} `json:"nodes"`
	Registry string `json:"registry"`

	dir string
}

// newRig builds the rig, as need be, and starts it with a number of nodes.
func newRig(t *testing.T, nodes int) rig {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real Kubernetes")
	}
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	program := filepath.Join(dir, "rig")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir, build.Env = filepath.Join("..", "rig"), append(os.Environ(), "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the rig: %v: %s", err, out)
	}
	cmd := exec.Command(program, "-nodes="+strconv.Itoa(nodes), "-dir="+filepath.Join(dir, "rig.d"))
	if err := os.Mkdir(filepath.Join(dir, "rig.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said syncBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the rig: %v: %s", err, said.String())
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the rig is not ready: %v: %s", err, said.String())
	}
	made := rig{dir: dir}
	if err := json.Unmarshal(line, &made); err != nil {
		t.Fatalf("the rig says %q: %v", line, err)
	}
	// Targets call it as kubectl.
	if err := os.MkdirAll(made.bin(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(made.Kubectl, filepath.Join(made.bin(), "kubectl")); err != nil {
		t.Fatal(err)
	}
	return made
}

// program is the path of a program that comes with the rig.
func (r rig) program(name string) string { return filepath.Join(filepath.Dir(r.Kubectl), name) }

func (r rig) bin() string { return filepath.Join(r.dir, "bin") }

// env are the variables by which a program uses the rig's cluster.
func (r rig) env() []string {
	return []string{"PATH=" + r.bin() + ":" + os.Getenv("PATH"), "KUBECONFIG=" + r.KubeConfig}
}

// outside is a command that is run where the rig's clients are.
func (r rig) outside(ctx context.Context, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(r.Outside), "-n", "--", program}, args...)...)
	cmd.Env = append(slices.Clone(env), r.env()...)
	return cmd
}

// everySetting has the settings of a cluster by which what is rendered differs. FILES is a folder with files that they name.
var everySetting = map[string]string{
	"defaults":  "",
	"namespace": "namespace: team-a",
	"copies": `services:
  rekor: {replicas: 3, resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 1Gi}}}
  log-server: {replicas: 3}
  log-signer: {replicas: 2}
  ct: {replicas: 2}
  dex: {replicas: 2}
  fulcio: {replicas: 2}
  tsa: {replicas: 2}
  proxy: {replicas: 3}
storage: {class: local, sharedClass: shared, size: 1Gi, sizes: {mariadb: 20Gi}}`,
	"galera":      "services: {mariadb: {replicas: 3}}",
	"hosts":       "domain: sigstore.example.org\nhosts: {dex: login.example.org}",
	"ingress":     "domain: sigstore.example.org\ningress: {class: nginx, tlsSecret: sigstore-tls, annotations: {example.org/a: b}}\nca: FILES/ca.pem",
	"plain":       "domain: sigstore.example.org\ningress: {class: nginx}\npullSecret: pull",
	"mysql":       "mysql: {dsnFile: FILES/dsn}",
	"registry":    "registry: registry.example.org/team",
	"oidc":        "oidc: {issuer: 'https://login.example.org', clientID: sigstore, type: email}",
	"kms":         "keys: {fulcio: 'awskms:///alias/fulcio', rekor: 'gcpkms://projects/p', tsa: 'hashivault://tsa'}",
	"pkcs11":      "keys: {pkcs11: {module: /usr/lib/module.so, token: label, pinFile: FILES/pin}}",
	"attestation": "attestations: s3://bucket?region=eu-central-1\nservices: {rekor: {replicas: 2}}",
}

// anImage is the reference of an image that nobody has.
const anImage = "registry.example.org/sigstore-local@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// clusterFiles makes the files that everySetting names.
func (s *stack) clusterFiles() string {
	s.t.Helper()
	dir := filepath.Join(s.home, "files")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for name, content := range map[string]string{
		"ca.pem": s.read(s.config.Key("ca-root.pem")), "dsn": "sigstore:secret-of-mysql@tcp(db.example.org:3306)/?tls=true\n", "pin": "secret-pin\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return dir
}

// set makes a file with settings for the cluster.
func (s *stack) set(settings string) {
	s.t.Helper()
	file := s.file("cluster.yaml", settings)
	s.env = append(s.env, "SIGLOCAL_CLUSTER="+file)
}

// A real API server takes all that is rendered, without unknown fields, and with Pod Security's strictest standard.
func TestKubernetesTakesWhatIsRendered(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	r := newRig(t, 0)
	s.must("start")
	s.refusesToMove(r)
	files := s.clusterFiles()
	for name, settings := range everySetting {
		in := *s
		in.env = slices.Clone(s.env)
		in.t = t
		in.set("image: " + anImage + "\n" + strings.ReplaceAll(settings, "FILES", files))
		folder := filepath.Join(s.home, "base-"+name)
		in.must("cluster:render", "-o="+folder)
		in.rendersNoSecret(name, folder)
		in.accepted(r, name, folder)
	}
	// The whole stack is what the settings above are tried with; these have other parts.
	for _, kind := range []string{"tutorial", "tiles"} {
		in := *s
		in.env = append(slices.Clone(s.env), "SIGLOCAL_STACK="+kind)
		in.set("image: " + anImage)
		folder := filepath.Join(s.home, "base-"+kind)
		in.must("cluster:render", "-o="+folder)
		in.accepted(r, kind, folder)
	}
	s.keepsSecrets(r)
	s.must("stop")
	if err := os.WriteFile(filepath.Join(s.config.State, "cluster", "moved"), []byte("there\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.mage("start"); got.code != 1 || !strings.Contains(got.stderr, "two histories") {
		t.Errorf("a stack that has moved: %s", got)
	}
}

// withCluster is s where the rig's clients are, with kubectl.
func (s *stack) withCluster(r rig) *stack {
	in := *s
	in.within = []string{"nsenter", "-t", strconv.Itoa(r.Outside), "-n", "--", "env", "-C"}
	in.env = append(slices.Clone(s.env), r.env()...)
	return &in
}

// refusesToMove checks that what cannot be moved is said before anything is stopped.
func (s *stack) refusesToMove(r rig) {
	s.t.Helper()
	before := s.pids()
	without, none := *s, s.withCluster(r)
	// go(1) is all that is needed of the PATH.
	path := filepath.Join(s.home, "path")
	program, err := exec.LookPath("go")
	if err := errors.Join(err, os.Mkdir(path, 0o700), os.Symlink(program, filepath.Join(path, "go"))); err != nil {
		s.t.Fatal(err)
	}
	without.env = append(slices.Clone(s.env), "PATH="+path)
	none.env = append(none.env, "KUBECONFIG="+os.DevNull)
	for words, in := range map[string]*stack{"kubectl is not found": &without, "kubectl has no cluster": none, "apply what `go tool mage cluster:render`": s.withCluster(r)} {
		if got := in.mage("cluster:data"); got.code != 1 || !strings.Contains(got.stderr, words) {
			s.t.Errorf("cluster:data is to say %q: %s", words, got)
		}
	}
	if after := s.pids(); fmt.Sprint(after) != fmt.Sprint(before) {
		s.t.Errorf("a move that was refused has changed what runs from %v to %v", before, after)
	}
	if got := s.withCluster(r).mage("cluster:status"); got.code != 3 || !strings.Contains(got.stdout, "absent") {
		s.t.Errorf("status of a cluster that has nothing: %s", got)
	}
	if got := s.mage("cluster:render"); got.code != 1 || !strings.Contains(got.stderr, "cluster:images") {
		s.t.Errorf("rendered without an image: %s", got)
	}
}

// keepsSecrets checks that cluster:secrets gives the cluster what the machine has, and files that nobody else can read.
func (s *stack) keepsSecrets(r rig) {
	s.t.Helper()
	folder := filepath.Join(s.home, "secrets")
	s.must("cluster:secrets", "-o="+folder)
	s.withCluster(r).must("cluster:secrets")
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) < 8 {
		s.t.Errorf("the files are %v, %v", files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			s.t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
		}
	}
	cmd := r.outside(s.t.Context(), s.env, r.Kubectl, "--namespace="+namespace, "get", "secret", "rekor-files", "--output=json")
	out, err := cmd.Output()
	var there struct {
		Data     map[string][]byte
		Metadata struct{ Annotations map[string]string }
	}
	if err := errors.Join(err, json.Unmarshal(out, &there)); err != nil {
		s.t.Fatal(err)
	}
	key, settings := s.read(s.config.Key("rekor.pem")), string(there.Data["config.rekor.yaml"])
	password := strings.TrimSpace(s.read(s.config.SecretFile(config.DatabasePassword)))
	if string(there.Data["keys.rekor.pem"]) != key || !strings.Contains(settings, "rekor:"+password+"@tcp(mariadb:3306)/rekor?timeout=5s&readTimeout=30s&writeTimeout=30s") || strings.Contains(settings, "tlog_id: 0") {
		s.t.Errorf("the cluster has another key, or this configuration:\n%s", settings)
	}
	if len(there.Metadata.Annotations) > 0 {
		s.t.Errorf("the Secret has annotations, in which kubectl keeps copies: %v", there.Metadata.Annotations)
	}
}

// rendersNoSecret checks that no secret of the stack, and none of the user's, is in a base.
func (s *stack) rendersNoSecret(name, folder string) {
	s.t.Helper()
	secrets := s.secrets()
	secrets["the DSN's password"], secrets["the PIN"] = "secret-of-mysql", "secret-pin"
	for what, secret := range secrets {
		found, err := exec.Command("grep", "-rlF", "--", strings.TrimSpace(secret), folder).Output()
		if err == nil {
			s.t.Errorf("%s: %s is in %s", name, what, found)
		}
	}
}

// accepted checks that the rig's API server takes a base, and the pods that it makes.
func (s *stack) accepted(r rig, name, folder string) {
	s.t.Helper()
	kubectl := func(in string, args ...string) (string, error) {
		cmd := r.outside(s.t.Context(), s.env, r.Kubectl, args...)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// A namespace has to be there before others name it.
	if out, err := kubectl("", "apply", "--validate=strict", "--filename="+filepath.Join(folder, "namespace.yaml")); err != nil {
		s.t.Errorf("%s: %v: %s", name, err, out)
		return
	}
	out, err := kubectl("", "apply", "--validate=strict", "--dry-run=server", "--kustomize="+folder)
	if err != nil || strings.Contains(out, "Warning") {
		s.t.Errorf("%s: %v: %s", name, err, out)
		return
	}
	// The standard applies to pods, which the API server makes of these only later.
	made, err := kubectl("", "create", "--dry-run=client", "--output=json", "--kustomize="+folder)
	if err != nil {
		s.t.Errorf("%s: %v: %s", name, err, made)
		return
	}
	pods, err := podsOf(made)
	if err != nil || len(pods) < 5 {
		s.t.Errorf("%s: %d pods: %v", name, len(pods), err)
	}
	if out, err := kubectl(strings.Join(pods, "\n"), "create", "--validate=strict", "--dry-run=server", "--filename=-"); err != nil {
		s.t.Errorf("%s: %v: %s", name, err, out)
	}
}

// podsOf are the pods that the Deployments and StatefulSets in kubectl's output would make.
func podsOf(made string) ([]string, error) {
	type object struct {
		Kind     string
		Items    []json.RawMessage
		Spec     struct{ Template map[string]any }
		Metadata struct{ Name, Namespace string }
	}
	var pods []string
	for decoder := json.NewDecoder(strings.NewReader(made)); ; {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return pods, nil
		} else if err != nil {
			return pods, err
		}
		var one object
		if err := json.Unmarshal(raw, &one); err != nil {
			return pods, err
		}
		all := []json.RawMessage{raw}
		if one.Kind == "List" {
			all = one.Items
		}
		for _, raw := range all {
			var one object
			if err := json.Unmarshal(raw, &one); err != nil {
				return pods, err
			}
			if one.Spec.Template == nil {
				continue
			}
			pod := one.Spec.Template
			pod["apiVersion"], pod["kind"] = "v1", "Pod"
			metadata, _ := pod["metadata"].(map[string]any)
			metadata["name"], metadata["namespace"] = one.Metadata.Name, one.Metadata.Namespace
			spec, _ := pod["spec"].(map[string]any)
			delete(spec, "serviceAccountName") // which is not there in a dry run
			// The controllers add the volumes of claims.
			if one.Kind == "StatefulSet" {
				volumes, _ := spec["volumes"].([]any)
				spec["volumes"] = append(volumes, map[string]any{"name": "data", "emptyDir": map[string]any{}})
			}
			text, err := json.Marshal(pod)
			if err != nil {
				return pods, err
			}
			pods = append(pods, string(text))
		}
	}
}

// The variables by which TestOnKubernetes calls this program again, inside of the rig's network.
const (
	clusterTest  = "CLUSTER_TEST"  // set by mage test -cluster
	insideOf     = "CLUSTER_RIG"   // the rig as JSON
	clusterImage = "CLUSTER_IMAGE" // the digest of the image
	clusterNext  = "CLUSTER_NEXT"  // the digest of the image of another version
	clusterDir   = "CLUSTER_DIR"   // the rig's folder
)

// The whole stack runs on a real Kubernetes of two nodes, with what was signed on a machine before.
func TestOnKubernetes(t *testing.T) {
	if os.Getenv(clusterTest) == "" {
		t.Skip("go tool mage test -cluster runs this")
	}
	s := newStack(t)
	r := newRig(t, 2)
	s.must("registry:start")
	registry := filepath.Join(r.dir, "registry")
	pushed, stop := s.registry(registry, "127.0.0.1:0", nil)
	s.env = append(s.env, "KO_DOCKER_REPO="+pushed+"/team")
	var digests []string
	for i, version := range []string{"1", "2"} {
		if i > 0 {
			s.useOthers()
		}
		s.must("cluster:images", "-version="+version)
		_, digest, _ := strings.Cut(strings.TrimSpace(s.read(filepath.Join(s.config.State, "cluster", "image"))), "@")
		digests = append(digests, digest)
	}
	stop()
	s.must("stop")
	// The nodes pull from where clients are.
	s.registry(registry, r.Registry, &r)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-m", "--", exe, "-test.run=^TestInsideOfTheCluster$", "-test.v", "-test.timeout=60m"}
	cmd := r.outside(t.Context(), append(os.Environ(), insideOf+"="+string(text), clusterImage+"="+digests[0], clusterNext+"="+digests[1], clusterDir+"="+r.dir), "unshare", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("inside of the cluster's network: %v", err)
	}
}

// otherVersions are those of sources, by the sources' names, beside the ones that go.mod pins. The next ones of most need another Go.
var otherVersions = map[string]string{
	"TRILLIAN":    "github.com/google/trillian@v1.8.0",
	"REKOR":       "github.com/sigstore/rekor@v1.5.3",
	"FULCIO":      "github.com/sigstore/fulcio@v1.8.7",
	"REKOR_TILES": "github.com/sigstore/rekor-tiles/v2@v2.2.1",
	"TSA":         "github.com/sigstore/timestamp-authority/v2@v2.1.2",
}

// useOthers lets the stack be built from other versions than those that are pinned.
func (s *stack) useOthers() {
	s.t.Helper()
	for name, module := range otherVersions {
		path, version, _ := strings.Cut(module, "@")
		pinned, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path).Output()
		if err != nil || strings.TrimSpace(string(pinned)) == version {
			s.t.Fatalf("%s is to be another version than the pinned one, %s: %v", module, pinned, err)
		}
		s.env = append(s.env, "SIGLOCAL_SRC_"+name+"="+s.checkout(module))
	}
}

// registry runs the stack's registry, with its images in a folder, beside the stack or where the rig's clients are, until the test ends
// or stop is called. It returns the registry's address.
func (s *stack) registry(dir, address string, r *rig) (at string, stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	program, args := s.config.Program("registry"), []string{"-address", address, "-dir", dir}
	cmd := exec.CommandContext(ctx, program, args...)
	if r != nil {
		cmd = r.outside(ctx, os.Environ(), program, args...)
	}
	var said syncBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	s.t.Cleanup(stop)
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		if _, rest, ok := strings.Cut(said.String(), " on "); ok && strings.Contains(rest, "\n") {
			at, _, _ := strings.Cut(rest, "\n")
			return at, stop
		}
		if time.Now().After(end) {
			s.t.Fatalf("the registry is not ready: %s", said.String())
		}
	}
}

// kubernetes is a stack that has moved to a cluster, and what its clients outside of the cluster have.
type kubernetes struct {
	*stack  // as clients see it: services have the addresses in the cluster
	machine *stack
	rig     rig
	// namespace is that of its pods.
	namespace string
}

const namespace = "sigstore"

func TestInsideOfTheCluster(t *testing.T) {
	if os.Getenv(insideOf) == "" {
		t.Skip("TestOnKubernetes calls this")
	}
	r := rig{dir: os.Getenv(clusterDir)}
	if err := json.Unmarshal([]byte(os.Getenv(insideOf)), &r); err != nil {
		t.Fatal(err)
	}
	// The cluster's names are known here, as they are to whoever has its DNS.
	resolv := filepath.Join(r.dir, "resolv.conf")
	host, _, _ := strings.Cut(r.Registry, ":")
	if err := os.WriteFile(resolv, []byte("nameserver "+host+"\nsearch "+namespace+".svc.cluster.local\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(resolv, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	others := newOutsiders(t, r.dir, host)
	machine := newStack(t)
	machine.env = append(machine.env, r.env()...)
	k := &kubernetes{machine: machine, rig: r, namespace: namespace}
	machine.must("start")
	k.set(clusterImage, manyCopies)
	k.shared()

	// Signed on the machine.
	signing, bundling := machine.sign(2), machine.signBundles(2)
	signing.more(t, 3)
	bundling.more(t, 3)
	signed, bundles := signing.end(), bundling.end()
	image := machine.image(machine.must("demo:keyless"))
	machine.must("demo:attest")

	k.followPage()
	k.client()
	k.trust()
	t.Run("what was signed on the machine verifies", func(t *testing.T) {
		k := k.in(t)
		k.verifyEach(signed)
		k.verifyBundlesThere(bundles)
		k.verifyImage(image)
		k.sameTrust()
	})
	t.Run("the machine's logs do not go on", func(t *testing.T) {
		if r := k.machine.in(t).mage("start"); r.code == 0 || !strings.Contains(r.stderr, "two histories") {
			t.Errorf("start after the move: %s", r)
		}
	})
	t.Run("moving again changes nothing", func(t *testing.T) {
		k.machine.in(t).must("cluster:data")
	})
	t.Run("clients sign and verify by each level", func(t *testing.T) { k.in(t).levels() })
	t.Run("load on one MariaDB", func(t *testing.T) { k.in(t).load() })
	t.Run("one MariaDB becomes three", func(t *testing.T) {
		k := k.in(t)
		k.threeDatabases()
		k.verifyEach(signed)
		k.verifyImage(image)
	})
	t.Run("load on three copies of MariaDB", func(t *testing.T) { k.in(t).load() })
	t.Run("faults while clients sign", func(t *testing.T) { k.in(t).faults(signed, bundles) })
	k.kubectl("delete", "namespace", namespace, "--wait=false")
	t.Run("a MySQL, an issuer and a registry outside of the cluster", func(t *testing.T) { withOthers(t, r, others) })
	t.Run("an Ingress, and keys and attestations elsewhere", func(t *testing.T) { byIngress(t, r, others) })
	t.Run("three copies of MariaDB from the beginning", func(t *testing.T) {
		k, signed := smaller(t, r, "three")
		k.moveWith("services:\n"+threeCopies, signed)
		k.signsAlso(2)
		k.kubectl("delete", "namespace", k.namespace, "--wait=false")
	})
}

// smaller is a stack with fewer services, that has signed something on the machine and is about to move into a namespace.
func smaller(t *testing.T, r rig, namespace string) (k *kubernetes, signed []signature) {
	machine := newStack(t)
	machine.env = slices.Concat(machine.env, r.env(), []string{"SIGLOCAL_STACK=tutorial"})
	machine.must("start")
	clients := machine.sign(1)
	clients.more(t, 2)
	return &kubernetes{machine: machine, rig: r, namespace: namespace}, clients.end()
}

// moveWith moves a stack with some settings, and checks that what was signed before verifies there.
func (k *kubernetes) moveWith(settings string, signed []signature) {
	k.machine.t.Helper()
	k.render(settings)
	k.move("base")
	k.client()
	k.verifyEach(signed)
}

// render renders what some settings say, and makes the namespace.
func (k *kubernetes) render(settings string) {
	k.machine.t.Helper()
	k.set(clusterImage, "namespace: "+k.namespace+"\n"+settings)
	k.machine.must("cluster:render")
	k.kubectl("apply", "--filename="+filepath.Join(k.machine.config.State, "cluster", "base", "namespace.yaml"))
}

// move applies the base, or an overlay that is in a folder beside it, and moves the machine's data.
func (k *kubernetes) move(folder string) {
	k.machine.t.Helper()
	k.machine.must("cluster:secrets")
	k.kubectl("apply", "--kustomize="+filepath.Join(k.machine.config.State, "cluster", folder))
	k.machine.must("cluster:data")
	k.ready()
}

// signsAlso lets clients sign in the cluster, and returns what they signed.
func (k *kubernetes) signsAlso(count int) []signature {
	k.t.Helper()
	clients := k.sign(count)
	clients.more(k.t, 2*count)
	added := clients.end()
	k.verifyEach(added)
	return added
}

// set sets the cluster's settings, with one of the images.
func (k *kubernetes) set(image, settings string) {
	k.machine.set("image: " + k.rig.Registry + "/team/sigstore-local@" + os.Getenv(image) + "\n" + settings)
}

// apply renders and applies what the settings say.
func (k *kubernetes) apply() {
	k.machine.t.Helper()
	k.machine.must("cluster:render")
	k.kubectl("apply", "--kustomize="+filepath.Join(k.machine.config.State, "cluster", "base"))
}

// threeDatabases makes three copies of one MariaDB, as docs/cluster.md says.
func (k *kubernetes) threeDatabases() {
	k.t.Helper()
	k.set(clusterImage, manyCopies+threeCopies)
	k.apply()
	k.kubectl("delete", "pod", "mariadb-0")
	began := time.Now()
	k.ready()
	k.t.Logf("three copies after %.0f s", time.Since(began).Seconds())
	if got := k.kubectl("get", "statefulset", "mariadb", "--output=jsonpath={.status.readyReplicas}"); got != "3" {
		k.t.Errorf("%s copies of MariaDB are ready", got)
	}
}

// load prints how many entries a second Rekor takes, and how long clients wait, with one, two and three copies.
func (k *kubernetes) load() {
	k.t.Helper()
	for copies := 1; copies <= 3; copies++ {
		k.scale(copies)
		for _, callers := range []int{1, 16, 64} {
			// Its connections are new, so that they are to all copies, and to none that has ended.
			uploader, err := rekorlog.NewUploader(k.config.URL(config.Rekor))
			if err != nil {
				k.t.Fatal(err)
			}
			load, err := bench.Drive(k.t.Context(), callers, 20+10*callers, func(ctx context.Context) error {
				_, err := uploader.Upload(ctx)
				return err
			})
			if err != nil {
				k.t.Errorf("%d copies, %d callers: %v", copies, callers, err)
				continue
			}
			k.t.Logf("%d copies of rekor and log-server, %d at a time: %.1f entries a second, median %s, 95 of 100 within %s", copies, callers, load.Rate(),
				load.Percentile(50).Round(time.Millisecond), load.Percentile(95).Round(time.Millisecond))
		}
	}
	k.scale(2)
}

// scale sets how many copies of Rekor and of the log server there are, and waits until no others are left.
func (k *kubernetes) scale(copies int) {
	k.t.Helper()
	k.kubectl("scale", "--replicas="+strconv.Itoa(copies), "deployment/rekor", "deployment/log-server")
	k.ready()
	for _, name := range []string{"rekor", "log-server"} {
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
			left := strings.Fields(k.kubectl("get", "pods", "--selector=app.kubernetes.io/name="+name, "--output=name"))
			if len(left) == copies {
				break
			}
			if time.Now().After(end) {
				k.t.Fatalf("of %d copies of %s there are %v", copies, name, left)
			}
		}
	}
}

// manyCopies has several copies of all that can have several.
const manyCopies = `storage: {sharedClass: shared, size: 1Gi}
services:
  rekor: {replicas: 2}
  log-server: {replicas: 2}
  log-signer: {replicas: 2}
  ct: {replicas: 2}
  dex: {replicas: 2}
  fulcio: {replicas: 2}
  tsa: {replicas: 2}
`

// threeCopies is a further service of manyCopies.
const threeCopies = "  mariadb: {replicas: 3}\n"

func (k *kubernetes) in(t *testing.T) *kubernetes {
	inside := *k
	if k.stack != nil {
		inside.stack = k.stack.in(t)
	}
	inside.machine = k.machine.in(t)
	return &inside
}

func (k *kubernetes) kubectl(args ...string) string {
	k.machine.t.Helper()
	cmd := exec.Command(k.rig.Kubectl, append([]string{"--namespace=" + k.namespace}, args...)...)
	cmd.Env = k.machine.env
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		k.machine.t.Fatalf("kubectl %q: %v: %s", args, err, failed.String())
	}
	return string(out)
}

// shared makes a volume that both nodes can write, as a file server would have it: they have the same folder.
func (k *kubernetes) shared() {
	folder := filepath.Join(k.rig.dir, "shared")
	if err := os.Mkdir(folder, 0o777); err != nil {
		k.machine.t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		k.machine.t.Fatal(err)
	}
	file := k.machine.file("shared.yaml", fmt.Sprintf(`apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: shared}
provisioner: kubernetes.io/no-provisioner
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: shared}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: shared
  hostPath: {path: %s}
`, folder))
	k.kubectl("apply", "--filename="+file)
}

// followPage runs the commands of docs/cluster.md, as far as they are for a machine: the image is made already.
func (k *kubernetes) followPage() {
	k.machine.t.Helper()
	for line := range strings.Lines(k.onPage("cluster:data")) {
		if strings.Contains(line, "cluster:images") {
			continue
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(k.machine.t.Context(), 10*time.Minute)
		cmd := k.machine.command(ctx, k.machine.config.Root, "bash", "-c", line)
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			k.machine.t.Fatalf("%s: %v: %s\n%s", line, err, out, k.kubectl("get", "pods", "--output=wide"))
		}
		k.machine.t.Logf("%s(%.1f s)\n%s", line, time.Since(began).Seconds(), out)
	}
}

// onPage are the commands of docs/cluster.md with a text in them, for the machine's state folder.
func (k *kubernetes) onPage(text string) string {
	k.machine.t.Helper()
	const page = "docs/cluster.md"
	all, err := blocks(page, k.machine.read(filepath.Join(k.machine.config.Root, page)))
	at := slices.IndexFunc(all, func(one block) bool { return strings.Contains(one.commands, text) })
	if err != nil || at < 0 {
		k.machine.t.Fatalf("%s has no commands with %s: %v", page, text, err)
	}
	return strings.ReplaceAll(all[at].commands, "=state/", "="+k.machine.config.State+"/")
}

// client makes what a client outside of the cluster has: the machine's public keys, and the password of the stack's user.
func (k *kubernetes) client() {
	t := k.machine.t
	t.Helper()
	client := *k.machine
	client.home = filepath.Join(k.machine.home, "client")
	state := filepath.Join(client.home, "state")
	for _, folder := range []string{"keys", "secrets"} {
		if err := statedir.Copy(filepath.Join(state, folder), filepath.Join(k.machine.config.State, folder)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(state, "trust"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := k.machine.config
	hosts, urls := map[string]string{}, map[string]string{}
	maps.Copy(hosts, map[string]string{
		"REGISTRY": "registry", "REKOR": "rekor", "CT": "ct", "CT_TILES": "tiles", "DEX": "dex", "FULCIO": "fulcio", "TSA": "tsa", "REKOR_TILES": "tiles", "TUF": "tuf",
	})
	c = c.InCluster(config.Cluster{Root: c.Root, State: state, Hosts: hosts, URLs: urls})
	for name, service := range hosts {
		hosts[name] = service + "." + k.namespace + ".svc.cluster.local"
		urls[name] = fmt.Sprintf("http://%s:%d", hosts[name], c.Port(c.PortNamed(name)))
	}
	c.Programs = k.machine.config.Programs
	client.config = c
	k.stack = &client
}

// trust takes what a client trusts from the cluster's TUF repository.
func (k *kubernetes) trust() {
	c := k.config
	for _, name := range []string{"root.json", "trusted_root.json", "signing_config.json"} {
		if err := os.WriteFile(c.Trust(name), []byte(k.get(c.Cluster.URLs["TUF"]+"/trust/"+name)), 0o600); err != nil {
			k.machine.t.Fatal(err)
		}
	}
}

func (k *kubernetes) get(url string) string {
	k.machine.t.Helper()
	response, err := http.Get(url)
	if err != nil {
		k.machine.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		k.machine.t.Fatalf("%s: %s: %v", url, response.Status, err)
	}
	return string(text)
}

// sameTrust checks that the cluster's trusted root is the machine's, byte by byte, and that a client that has the machine's root takes the
// cluster's repository.
func (k *kubernetes) sameTrust() {
	k.t.Helper()
	if there, here := k.read(k.config.Trust("trusted_root.json")), k.machine.read(k.machine.config.Trust("trusted_root.json")); there != here {
		k.t.Errorf("the cluster's trusted root is\n%s\nand not\n%s", there, here)
	}
	line := strings.Replace(k.onPage("cosign initialize"), "cosign ", k.config.Program("v3/cosign")+" ", 1)
	if r := k.run(k.home, "bash", "-c", line); r.code != 0 {
		k.t.Errorf("%s: %s", line, r)
	}
}

// verifyBundlesThere checks bundles as verifyBundles does, and reads the logs as clients do.
func (k *kubernetes) verifyBundlesThere(signed []claim) {
	k.t.Helper()
	ctx := k.t.Context()
	log := tilelog.Log{Files: tilelog.Site(k.config.PublicURL(config.RekorTiles)), Origin: k.config.RekorV2Origin(), Key: k.config.Key("rekor-tiles.pub")}
	newest, err := log.Checkpoint(ctx)
	if err != nil {
		k.t.Error(err)
		return
	}
	tree := log.Tree(ctx, newest)
	read := map[int64][][]byte{}
	for _, one := range signed {
		if err := (sigstoreGo{k.stack}).verify(one, k.config.Trust("trusted_root.json")); err != nil {
			k.t.Error(err)
		}
		if err := verifyProof(one.bundle, k.config.Key("rekor-tiles.pub")); err != nil {
			k.t.Error(err)
		}
		entry, err := logged(one.bundle)
		if err != nil {
			k.t.Error(err)
			continue
		}
		index := entry.GetInclusionProof().GetLogIndex()
		number := tilelog.BundleOf(index)
		if read[number] == nil {
			if _, read[number], err = tree.Bundle(number); err != nil {
				k.t.Error(err)
				return
			}
		}
		if place := int(index % 256); place >= len(read[number]) || !bytes.Equal(read[number][place], entry.GetCanonicalizedBody()) {
			k.t.Errorf("Rekor v2 has another entry, or none, at %d, where %s says its own is", index, one.bundle)
		}
	}
}

// verifyImage verifies the signature of an image that the machine's registry had, in the cluster's.
func (k *kubernetes) verifyImage(image string) {
	k.t.Helper()
	_, rest, _ := strings.Cut(image, "/")
	r := k.cosign("verify", "--certificate-identity="+k.config.Email, "--certificate-oidc-issuer="+k.machine.config.Issuer(),
		k.image(rest))
	if r.code != 0 {
		k.t.Errorf("the image that was signed on the machine: %s", r)
	}
}

// image is the reference of an image in the cluster's registry, by its address: with a private one clients speak without TLS.
func (k *kubernetes) image(repository string) string {
	k.t.Helper()
	address := k.kubectl("get", "service", "registry", "--output=jsonpath={.spec.clusterIP}")
	return fmt.Sprintf("%s:%d/%s", address, k.config.Port(config.Registry), repository)
}

// cosign runs cosign v2 as a client of the cluster.
func (k *kubernetes) cosign(args ...string) result {
	k.t.Helper()
	in := *k.stack
	in.env = append(slices.Clone(in.env),
		"COSIGN_FULCIO_URL="+k.config.URL(config.Fulcio), "COSIGN_REKOR_URL="+k.config.URL(config.Rekor), "COSIGN_PASSWORD="+strings.TrimSpace(k.read(k.config.SecretFile(config.CosignPassword))),
		"TUF_ROOT="+filepath.Join(k.home, "tuf"), "SIGSTORE_ROOT_FILE="+k.config.Key("ca-root.pem"),
		"SIGSTORE_CT_LOG_PUBLIC_KEY_FILE="+k.config.Key("ctfe.pub"), "SIGSTORE_REKOR_PUBLIC_KEY="+k.config.Key("rekor.pub"))
	return in.run(k.home, k.config.Program("cosign"), args...)
}

// levels signs and verifies with a key, with a key and the log, keyless, and into a bundle.
func (k *kubernetes) levels() {
	k.t.Helper()
	must := func(args ...string) {
		k.t.Helper()
		if r := k.cosign(args...); r.code != 0 {
			k.t.Fatalf("cosign %q: %s", args, r)
		}
	}
	token, err := k.token()
	if err != nil {
		k.t.Fatal(err)
	}
	key, public := k.config.Key("cosign.key"), k.config.Key("cosign.pub")
	if _, err := os.Stat(key); err != nil {
		must("generate-key-pair", "--output-key-prefix="+strings.TrimSuffix(key, ".key"))
	}
	for _, level := range []struct{ sign, verify []string }{
		{[]string{"--key=" + key, "--tlog-upload=false"}, []string{"--key=" + public, "--insecure-ignore-tlog=true"}},
		{[]string{"--key=" + key}, []string{"--key=" + public}},
		{[]string{"--identity-token=" + token}, []string{"--certificate-identity=" + k.config.Email, "--certificate-oidc-issuer=" + k.config.Issuer()}},
	} {
		image := k.newImage(k.config.URL(config.Registry), k.image("example"))
		if r := k.cosign(slices.Concat([]string{"verify"}, level.verify, []string{image})...); r.code == 0 {
			k.t.Errorf("an image that nobody has signed verifies: %s", r)
		}
		must(slices.Concat([]string{"sign", "--yes"}, level.sign, []string{image})...)
		must(slices.Concat([]string{"verify"}, level.verify, []string{image})...)
	}
	clients := k.signBundles(1)
	clients.more(k.t, 1)
	k.verifyBundlesThere(clients.end())
}

// newImage stores an image that nobody has signed as example, in the registry at a URL, and returns its reference, which begins with a name.
func (k *kubernetes) newImage(registry, name string) string {
	k.t.Helper()
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","created":%q,"rootfs":{"type":"layers","diff_ids":[]}}`, time.Now().Format(time.RFC3339Nano))
	blob := k.push(registry, "blobs/uploads/", []byte(config))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`, blob, len(config))
	return name + "@" + k.push(registry, "manifests/", []byte(manifest))
}

// push stores a blob or manifest of example in the registry at a URL, and returns its digest.
func (k *kubernetes) push(registry, at string, content []byte) string {
	k.t.Helper()
	digest := "sha256:" + sumOf(content)
	url, method := registry+"/v2/example/"+at, http.MethodPut
	if at == "manifests/" {
		url += digest
	} else {
		url, method = url+"?digest="+digest, http.MethodPost
	}
	request, err := http.NewRequest(method, url, bytes.NewReader(content))
	if err != nil {
		k.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		k.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		said, _ := io.ReadAll(response.Body)
		k.t.Fatalf("%s %s: %s: %s", method, url, response.Status, said)
	}
	return digest
}

// faults ends parts of the cluster again and again while clients sign, and checks that nothing acknowledged is lost.
func (k *kubernetes) faults(signed []signature, bundles []claim) {
	k.t.Helper()
	const count = 10
	var report []string
	for _, fault := range []struct {
		name    string
		rounds  int
		cause   func(round int)
		planned bool // so that clients are to notice nothing
	}{
		{"each pod is killed", count, k.killEachPod, false},
		{"the leader of the signers is killed", count, func(int) { k.killLeader() }, false},
		{"a kubelet is killed", 1, func(int) { k.killKubelet() }, false},
		{"all is updated to another version", 1, func(int) { k.update() }, true},
		{"a node is cut off", 1, func(int) { k.cutOff() }, false},
	} {
		clients, bundlers, others := k.sign(2), k.signBundles(2), k.useOtherParts()
		began := time.Now()
		for round := range fault.rounds {
			fault.cause(round)
		}
		took := time.Since(began)
		clients.more(k.t, 2)
		bundlers.more(k.t, 2)
		mine, theirs, rest := clients.end(), bundlers.end(), others.end()
		report = append(report, fmt.Sprintf("%s, %d times in %.0f s: %d and %d signatures acknowledged, %d and %d not; other requests %d, %d not", fault.name, fault.rounds, took.Seconds(),
			len(mine), len(theirs), len(clients.failed), len(bundlers.failed), len(rest), len(others.failed)))
		signed, bundles = append(signed, mine...), append(bundles, theirs...)
		for _, why := range slices.Concat(clients.failed, bundlers.failed, others.failed) {
			k.t.Logf("%s: not acknowledged: %s", fault.name, why)
			if fault.planned {
				k.t.Fail()
			}
		}
	}
	k.verifyEach(signed)
	k.verifyBundlesThere(bundles)
	k.t.Logf("nothing of %d and %d acknowledged signatures is lost\n%s", len(signed), len(bundles), strings.Join(report, "\n"))
}

// useOtherParts lets a client that repeats nothing store blobs in the registry and read them, and read the TUF repository and the tiles.
func (k *kubernetes) useOtherParts() *signers[string] {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(ctx context.Context, method, url, body string, want int) error {
		request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		said, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != want {
			err = fmt.Errorf("%s %s: %s: %s", method, url, response.Status, said)
		}
		return err
	}
	return signing(k.t, 1, func(ctx context.Context, name string) (string, error) {
		digest := "sha256:" + sumOf([]byte(name))
		blobs := k.config.URL(config.Registry) + "/v2/example/blobs/"
		for _, one := range []struct {
			method, url, body string
			want              int
		}{
			{http.MethodPost, blobs + "uploads/?digest=" + digest, name, http.StatusCreated},
			{http.MethodGet, blobs + digest, "", http.StatusOK},
			{http.MethodGet, k.config.URL(config.TUF) + "/timestamp.json", "", http.StatusOK},
			{http.MethodGet, k.config.PublicURL(config.RekorTiles) + "/checkpoint", "", http.StatusOK},
		} {
			if err := ask(ctx, one.method, one.url, one.body, one.want); err != nil {
				return "", err
			}
		}
		time.Sleep(200 * time.Millisecond)
		return digest, nil
	})
}

// ready waits until all copies of all parts are ready.
func (k *kubernetes) ready() {
	k.machine.t.Helper()
	k.kubectl("rollout", "status", "--timeout=10m", "deployment,statefulset")
}

func (k *kubernetes) names(kind string) []string {
	return strings.Fields(k.kubectl("get", kind, "--selector=app.kubernetes.io/part-of=sigstore-local", "--output=name"))
}

func (k *kubernetes) killEachPod(int) {
	for _, name := range k.names("pods") {
		k.kubectl("delete", name, "--force", "--grace-period=0", "--wait=false", "--ignore-not-found")
		k.ready()
	}
}

func (k *kubernetes) killLeader() {
	for _, leader := range strings.Fields(k.kubectl("get", "leases", "--output=jsonpath={.items[*].spec.holderIdentity}")) {
		k.kubectl("delete", "pod", leader, "--force", "--grace-period=0", "--wait=false", "--ignore-not-found")
	}
	k.ready()
}

func (k *kubernetes) killKubelet() {
	if err := syscall.Kill(k.rig.Nodes[0].Kubelet, syscall.SIGKILL); err != nil {
		k.t.Error(err)
	}
	time.Sleep(5 * time.Second)
	k.kubectl("wait", "--for=condition=Ready", "--timeout=1m", "node", k.rig.Nodes[0].Name)
	k.ready()
}

// update replaces all parts by those of another version, as docs/cluster.md says.
func (k *kubernetes) update() {
	began := time.Now()
	k.set(clusterNext, manyCopies+threeCopies)
	k.machine.must("cluster:render")
	if r := k.machine.run(k.machine.config.Root, "bash", "-ec", k.onPage("daemonset/images")); r.code != 0 {
		k.t.Fatalf("%s", r)
	}
	if old := k.kubectl("get", "pods", "--output=jsonpath={.items[*].spec.containers[*].image}"); strings.Contains(old, os.Getenv(clusterImage)) {
		k.t.Errorf("after an update there are still the images %s", old)
	}
	k.t.Logf("updated in %.0f s", time.Since(began).Seconds())
}

// cutOff cuts a node off until Kubernetes has noticed, and a while after that.
func (k *kubernetes) cutOff() {
	node := k.rig.Nodes[1].Name
	link := func(state string) {
		if out, err := exec.Command("ip", "link", "set", node, state).CombinedOutput(); err != nil {
			k.t.Errorf("ip link set %s %s: %v: %s", node, state, err, out)
		}
	}
	link("down")
	k.kubectl("wait", "--for=condition=Ready=Unknown", "--timeout=1m", "node", node)
	time.Sleep(15 * time.Second)
	link("up")
	k.kubectl("wait", "--for=condition=Ready", "--timeout=1m", "node", node)
	k.ready()
}

func sumOf(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }
