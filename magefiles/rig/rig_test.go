package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain runs the tests, or the registry of one of them, which has to be a process in the namespace "outside".
func TestMain(m *testing.M) {
	if program := os.Getenv("RIG_TEST_REGISTRY"); program != "" {
		fmt.Fprintln(os.Stderr, serveRegistry(program))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func serveRegistry(program string) error {
	i, err := newImage("web", program)
	if err != nil {
		return err
	}
	return http.ListenAndServe(registry, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		blob, ok := i.blobs[filepath.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", i.manifest["mediaType"].(string))
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	}))
}

// A rig is a running one.
type rig struct {
	report
	t   *testing.T
	dir string
	cmd *exec.Cmd
	end io.Closer
}

// programs builds the rig and all that it runs, and returns the rig and the programs' folder.
func programs(t *testing.T) (string, string) {
	if testing.Short() {
		t.Skip("a real Kubernetes takes minutes to build and a minute to run")
	}
	folder, err := build(0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tempDir(t), "rig")
	if err := command("go", "build", "-o", path, "."); err != nil {
		t.Fatal(err)
	}
	return path, folder
}

// tempDir is a folder that every user can reach.
func tempDir(t *testing.T) string {
	folder := t.TempDir()
	if err := os.Chmod(filepath.Dir(folder), 0o755); err != nil {
		t.Fatal(err)
	}
	return folder
}

func needsNodes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("nodes need root")
	}
	for _, program := range []string{"containerd", "runc", "nft", "iptables", "/usr/lib/cni/bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("nodes need what is not installed here: %v", err)
		}
	}
}

func start(t *testing.T, path string, user *syscall.Credential, args ...string) *rig {
	r := &rig{t: t, dir: tempDir(t)}
	if user != nil {
		if err := os.Chown(r.dir, int(user.Uid), int(user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	r.cmd = exec.Command(path, append([]string{"-dir=" + r.dir}, args...)...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	var stderr bytes.Buffer
	r.cmd.Stderr = &stderr
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.end = stdin
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = r.cmd.Wait()
		if t.Failed() {
			t.Logf("the rig said:\n%s", &stderr)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the rig did not become ready: %v", err)
	}
	t.Logf("ready after %v", time.Since(begin).Round(100*time.Millisecond))
	if err := json.Unmarshal(line, &r.report); err != nil {
		t.Fatalf("the rig's report: %v: %s", err, line)
	}
	return r
}

// outside runs a program in the namespace "outside", and returns what it said.
func (r *rig) outside(stdin string, args ...string) (string, error) {
	enter := []string{"--target", strconv.Itoa(r.Outside), "--net"}
	if os.Geteuid() != 0 {
		enter = append(enter, "--user", "--preserve-credentials")
	}
	cmd := exec.CommandContext(r.t.Context(), "nsenter", append(append(enter, "--"), args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (r *rig) kubectl(stdin string, args ...string) (string, error) {
	return r.outside(stdin, append([]string{r.Kubectl, "--kubeconfig=" + r.Kubeconfig, "--cache-dir=" + r.dir + "/cache"}, args...)...)
}

// must runs kubectl, which has to succeed.
func (r *rig) must(stdin string, args ...string) string {
	r.t.Helper()
	out, err := r.kubectl(stdin, args...)
	if err != nil {
		r.t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return out
}

// eventually waits until a check succeeds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := waitFor(ctx, what, check); err != nil {
		t.Fatal(err)
	}
}

func TestControlPlaneRefusesWhatIsWrong(t *testing.T) {
	path, folder := programs(t)
	users := map[string]*syscall.Credential{"user of the test": nil}
	if os.Geteuid() == 0 {
		users["nobody"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	for name, user := range users {
		t.Run(name, func(t *testing.T) {
			programs := folder
			if user != nil { // who cannot read the cache of root
				programs = tempDir(t)
				for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "pause"} {
					if err := command("cp", filepath.Join(folder, name), programs); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := start(t, path, user, "-nodes=0", "-programs="+programs)
			apply := []string{"apply", "--dry-run=server", "--validate=strict", "--filename=-"}

			good := "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {b: c}}"
			r.must(good, apply...)
			out, err := r.kubectl(strings.Replace(good, " data:", " date:", 1), apply...)
			if err == nil || !strings.Contains(out, `unknown field "date"`) {
				t.Errorf("an unknown field: %v: %s", err, out)
			}

			r.must("", "create", "namespace", "strict")
			r.must("", "label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
			eventually(t, "there is a service account", func() error {
				_, err := r.kubectl("", "get", "serviceaccount", "default", "--namespace=strict")
				return err
			})
			pod := "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: strict}, " +
				"spec: {containers: [{name: a, image: a, securityContext: {privileged: true}}]}}"
			out, err = r.kubectl(pod, apply...)
			if err == nil || !strings.Contains(out, `violates PodSecurity "restricted:latest"`) {
				t.Errorf("a privileged pod: %v: %s", err, out)
			}
			r.must(strings.Replace(pod, "strict", "default", 1), apply...)
		})
	}
}

func TestTwoNodesRunAnApplication(t *testing.T) {
	needsNodes(t)
	path, folder := programs(t)
	web := filepath.Join(tempDir(t), "web")
	build := exec.Command("go", "build", "-o", web, "./testdata/web")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	i, err := newImage("rig.local/web:1", web)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(tempDir(t), "web.tar")
	if err := i.writeArchive(archive); err != nil {
		t.Fatal(err)
	}

	r := start(t, path, nil, "-nodes=2", "-programs="+folder)
	for _, n := range r.Nodes {
		if err := command("ctr", "--address="+n.Containerd, "--namespace=k8s.io", "images", "import", archive); err != nil {
			t.Fatal(err)
		}
	}
	serve := exec.Command("nsenter", "--target", strconv.Itoa(r.Outside), "--net", "--", os.Args[0])
	serve.Env = append(os.Environ(), "RIG_TEST_REGISTRY="+web)
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
	})
	manifests, err := os.ReadFile("testdata/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	r.must(strings.Replace(string(manifests), "DIGEST", i.manifest["digest"].(string), 1), "create", "--filename=-")
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := r.kubectl("", "describe", "pods")
			t.Log(out)
		}
	})
	r.must("", "rollout", "status", "deployment/web", "--timeout=60s")
	t.Logf("two pods after %v", time.Since(begin).Round(100*time.Millisecond))

	nodes := strings.Fields(r.must("", "get", "pods", "--selector=app=web", "--output=jsonpath={.items[*].spec.nodeName}"))
	slices.Sort(nodes)
	if !slices.Equal(nodes, []string{"node-1", "node-2"}) {
		t.Errorf("pods are on %v, not one on each node", nodes)
	}
	names := strings.Fields(r.must("", "get", "pods", "--selector=app=web", "--output=jsonpath={.items[*].metadata.name}"))
	address := r.must("", "get", "service", "web", "--output=jsonpath={.spec.clusterIP}")
	for _, name := range names {
		eventually(t, "a pod reaches all pods by the Service's name", func() error {
			for _, url := range []string{"http://web", "http://web.default.svc.cluster.local"} {
				if out, err := r.kubectl("", "exec", name, "--", "/program", "get", url); err != nil || !slices.Contains(names, out) {
					return fmt.Errorf("%s: %w: %s", url, err, out)
				}
			}
			return nil
		})
		if out := r.must("", "logs", name); !strings.Contains(out, "web is here") {
			t.Errorf("logs of %s: %s", name, out)
		}
	}
	answers := map[string]bool{}
	eventually(t, "the Service's address reaches both pods from outside", func() error {
		out, err := r.outside("", web, "get", "http://"+address)
		answers[out] = true
		if err != nil || !answers[names[0]] || !answers[names[1]] {
			return fmt.Errorf("%v: %v", answers, err)
		}
		return nil
	})
	if out, err := r.kubectl("", "exec", names[0], "--", "/program", "get", "http://example.com"); err == nil ||
		!strings.Contains(out, "no such host") {
		t.Errorf("a name of the internet: %v: %s", err, out)
	}

	t.Run("a claim gets a volume that a pod can write", func(t *testing.T) {
		r.must("", "wait", "--for=condition=Ready", "pod/writer", "--timeout=60s")
		r.must("", "exec", "writer", "--", "/program", "write", "/data/file")
		files, err := filepath.Glob(r.dir + "/state/node-*/volumes/*/file")
		if err != nil || len(files) != 1 {
			t.Fatalf("files in volumes: %v: %v", err, files)
		}
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if group := info.Sys().(*syscall.Stat_t).Gid; group != 2000 {
			t.Errorf("the file is of group %d, not fsGroup's", group)
		}
	})

	t.Run("a network policy is enforced", func(t *testing.T) {
		policy := "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: {podSelector: {matchLabels: " +
			"{app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}}"
		r.must(policy, "create", "--filename=-")
		eventually(t, "a stranger is refused", func() error {
			if out, err := r.outside("", web, "get", "http://"+address); err == nil {
				return fmt.Errorf("%s answers", out)
			}
			return nil
		})
		if out, err := r.kubectl("", "exec", "writer", "--", "/program", "get", "http://web"); err == nil {
			t.Errorf("%s answers a pod that the policy does not name", out)
		}
		r.must("", "exec", names[0], "--", "/program", "get", "http://web")
		r.must("", "delete", "networkpolicy", "web")
		eventually(t, "all are served again", func() error {
			_, err := r.outside("", web, "get", "http://"+address)
			return err
		})
	})

	ready := func(node string) string {
		out, _ := r.kubectl("", "get", "node", node, `--output=jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return out
	}
	t.Run("a kubelet that is killed comes back", func(t *testing.T) {
		if err := syscall.Kill(r.Nodes[0].Kubelet, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the kubelet answers", func() error {
			_, err := r.kubectl("", "get", "--raw", "/api/v1/nodes/node-1/proxy/healthz")
			return err
		})
	})
	t.Run("a node that is cut off is noticed, and comes back", func(t *testing.T) {
		for _, step := range [][2]string{{"down", "Unknown"}, {"up", "True"}} {
			state, want := step[0], step[1]
			begin := time.Now()
			if out, err := r.outside("", "ip", "link", "set", "node-2", state); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			eventually(t, "the node's state is "+want, func() error {
				if is := ready("node-2"); is != want {
					return fmt.Errorf("it is %s", is)
				}
				return nil
			})
			t.Logf("%s: %s after %v", state, want, time.Since(begin).Round(100*time.Millisecond))
		}
	})
}

func TestKilledRigLeavesNothing(t *testing.T) {
	needsNodes(t)
	path, folder := programs(t)
	settings := func() map[string]string {
		values := map[string]string{}
		for _, setting := range append(slices.Clone(machineSettings), "/sys/fs/cgroup/unified/cgroup.subtree_control",
			"/sys/fs/cgroup/cgroup.subtree_control", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/netfilter/nf_conntrack_max") {
			value, _ := os.ReadFile(setting)
			values[setting] = string(value)
		}
		for _, folder := range []string{"/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/kubelet", "/var/lib/containerd",
			"/var/log/pods", "/var/log/containers", "/etc/cni/net.d", "/usr/libexec/kubernetes"} {
			_, err := os.Stat(folder)
			values[folder] = fmt.Sprint(err)
		}
		return values
	}
	before := settings()
	r := start(t, path, nil, "-nodes=1", "-programs="+folder)
	if out := r.must("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: "+pauseImage+"}]}}",
		"create", "--filename=-"); !strings.Contains(out, "created") {
		t.Fatal(out)
	}
	r.must("", "wait", "--for=condition=Ready", "pod/a", "--timeout=60s")
	kept, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", r.Outside))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", r.Outside))
	if err != nil {
		t.Fatal(err)
	}
	group := regexp.MustCompile(`sigstore-local-rig-\d+`).FindString(string(groups)) // another rig may be running
	if group == "" {
		t.Fatalf("the rig has no control group of its own: %s", groups)
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}

	eventually(t, "nothing is left", func() error {
		processes, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		for _, process := range processes {
			if namespace, _ := os.Readlink(process + "/ns/pid"); namespace == kept {
				return fmt.Errorf("%s is of the rig's namespaces", process)
			}
			if text, _ := os.ReadFile(process + "/cmdline"); strings.Contains(string(text), r.dir) {
				return fmt.Errorf("%s still runs: %q", process, text)
			}
			if text, _ := os.ReadFile(process + "/mountinfo"); strings.Contains(string(text), r.dir) {
				return fmt.Errorf("%s still has mounts", process)
			}
		}
		for _, pattern := range []string{r.dir + "/state", r.dir + "/ready.json", "/sys/fs/cgroup/" + group,
			"/sys/fs/cgroup/*/" + group} {
			if left, _ := filepath.Glob(pattern); len(left) > 0 {
				return fmt.Errorf("there is still %v", left)
			}
		}
		return nil
	})
	for name, value := range settings() {
		if value != before[name] {
			t.Errorf("%s was %q, and is %q", name, before[name], value)
		}
	}
}
