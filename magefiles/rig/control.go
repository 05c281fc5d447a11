package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The addresses. All of them are inside the rig's own network namespaces, so nothing else can have them.
const (
	outsideAddress = "172.30.0.1" // the control plane, the names, the tests' registry
	server         = "https://" + outsideAddress + ":6443"
	registry       = outsideAddress + ":5000"
	podRange       = "10.244.0.0/16"
	serviceRange   = "10.96.0.0/16"
	firstService   = "10.96.0.1" // always the Service "kubernetes"
	clusterDomain  = "cluster.local"
	volumesPerNode = 20
)

func nodeName(n int) string    { return fmt.Sprintf("node-%d", n) }
func nodeAddress(n int) string { return fmt.Sprintf("172.30.0.%d", 10+n) }
func nodePods(n int) string    { return fmt.Sprintf("10.244.%d.0/24", n) }

// A program is kept running: it is started anew when it has ended.
type program struct {
	log     string
	args    []string
	env     []string
	pidFile string // if not empty, where the current PID is
}

func (p program) keep() {
	go func() {
		for ; ; time.Sleep(time.Second) {
			if err := p.run(); err != nil {
				fmt.Fprintf(os.Stderr, "rig: %s: %v\n", filepath.Base(p.args[0]), err)
			}
		}
	}()
}

func (p program) run() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	if err := cmd.Start(); err != nil {
		return err
	}
	if p.pidFile != "" {
		if err := os.WriteFile(p.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
			return err
		}
	}
	_ = cmd.Wait() // how it ended is in its log
	_, err = fmt.Fprintln(log, "rig: ended:", cmd.ProcessState)
	return err
}

// waitFor calls a check until it succeeds or there is no time left.
func waitFor(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not so: %w (%w)", what, err, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// control runs the control plane and the nodes, and says when all is ready. It never returns without an error.
func control(s spec) error {
	toKeeper := os.NewFile(3, "to the keeper")
	syscall.CloseOnExec(3)
	running, end := context.WithCancelCause(context.Background())
	ctx, cancel := context.WithTimeout(running, s.Timeout)
	defer cancel()
	defer end(nil)

	for _, g := range s.Groups {
		if g.Type == "cgroup2" {
			if err := leaveRootGroup(g.Own); err != nil {
				return fmt.Errorf("make room for pods' control groups: %w", err)
			}
		}
	}
	if err := outsideNetwork(s); err != nil {
		return fmt.Errorf("make the network: %w", err)
	}
	if err := writeKeys(s); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	pause, err := newImage(pauseImage, filepath.Join(s.Programs, "pause"))
	if err != nil {
		return err
	}
	if err := pause.writeArchive(s.state("pause.tar")); err != nil {
		return fmt.Errorf("write the pause image: %w", err)
	}
	etcd(s).keep()
	apiserver(s).keep()
	r := report{
		Kubeconfig: s.state("admin.kubeconfig"), Kubectl: filepath.Join(s.Programs, "kubectl"), Outside: os.Getpid(),
		Nodes: []nodeReport{}, Registry: registry,
	}
	for n := 1; n <= s.Nodes; n++ {
		pid, err := startNode(s, n, end)
		if err != nil {
			return fmt.Errorf("%s: %w", nodeName(n), err)
		}
		r.Nodes = append(r.Nodes, nodeReport{Name: nodeName(n), PID: pid, Address: nodeAddress(n), Containerd: s.containerd(n)})
	}
	if err := becomeReady(ctx, s); err != nil {
		return err
	}
	for i := range r.Nodes {
		text, err := os.ReadFile(s.state(nodeName(i+1), "kubelet.pid"))
		if err != nil {
			return err
		}
		if r.Nodes[i].Kubelet, err = strconv.Atoi(string(text)); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(toKeeper).Encode(r); err != nil {
		return fmt.Errorf("tell the keeper: %w", err)
	}
	<-running.Done()
	return context.Cause(running)
}

// becomeReady starts what needs the API server, and waits until tests can rely on all of it.
func becomeReady(ctx context.Context, s spec) error {
	api, err := newAPI(s)
	if err != nil {
		return err
	}
	wait := func(what, log string, check func() error) error {
		err := waitFor(ctx, what, check)
		if err != nil {
			fmt.Fprint(os.Stderr, tail(filepath.Join(s.Dir, log)))
		}
		return err
	}
	if err := wait("the API server answers", "kube-apiserver.log", func() error {
		return api.get(ctx, "/readyz", nil)
	}); err != nil {
		return err
	}
	controllerManager(s).keep()
	if s.Nodes > 0 {
		scheduler(s).keep()
		coreDNS(s).keep()
		// Requests from outside to a Service's address. The name is a real node's because kube-proxy wants one. Ports of nodes are
		// none of its business: those requests are for the nodes themselves.
		kubeProxy(s, s.Dir, 1, "--nodeport-addresses=127.0.0.0/8").keep()
		if err := createVolumes(s); err != nil {
			return fmt.Errorf("create volumes: %w", err)
		}
	}
	if err := wait("there is a service account", "kube-controller-manager.log", func() error {
		return api.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
	}); err != nil {
		return err
	}
	for n := 1; n <= s.Nodes; n++ {
		if err := wait(nodeName(n)+" is ready", filepath.Join(nodeName(n), "kubelet.log"), func() error {
			return api.nodeReady(ctx, nodeName(n))
		}); err != nil {
			return err
		}
	}
	if s.Nodes > 0 {
		return wait("the name server answers", "coredns.log", func() error { return dnsReady(ctx) })
	}
	return nil
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	lines := strings.SplitAfter(string(text), "\n")
	return fmt.Sprintf("The end of %s:\n%s", path, strings.Join(lines[max(0, len(lines)-30):], ""))
}

// outsideNetwork gives the namespace "outside" its address, on a bridge if there are nodes to reach.
func outsideNetwork(s spec) error {
	device := "lo"
	steps := [][]string{{"link", "set", "lo", "up"}}
	if s.Nodes > 0 {
		device = "rig"
		steps = append(steps, []string{"link", "add", device, "type", "bridge"}, []string{"link", "set", device, "up"})
	}
	steps = append(steps, []string{"address", "add", outsideAddress + "/24", "dev", device})
	if s.Nodes > 0 {
		// Where to is decided before kube-proxy's rules put a pod's address in place of the Service's.
		steps = append(steps, []string{"route", "add", serviceRange, "dev", device})
	}
	for n := 1; n <= s.Nodes; n++ {
		steps = append(steps, []string{"route", "add", nodePods(n), "via", nodeAddress(n)})
	}
	for _, step := range steps {
		if err := command("ip", step...); err != nil {
			return err
		}
	}
	if s.Nodes == 0 {
		return nil
	}
	// What only passes the bridge is not for this namespace's rules.
	return writeIfThere("/proc/sys/net/bridge/bridge-nf-call-iptables", "0")
}

// startNode starts a node's process, and joins its network namespace to the bridge.
func startNode(s spec, n int, end context.CancelCauseFunc) (int, error) {
	for _, folder := range []string{s.state(nodeName(n)), filepath.Join(s.Dir, nodeName(n))} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return 0, err
		}
	}
	s.Node = n
	cmd, err := self("node", s)
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC
	begin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start in namespaces of its own: %w", err)
	}
	go func() { end(fmt.Errorf("%s has ended: %w", nodeName(n), cmd.Wait())) }()
	for _, step := range [][]string{
		{"link", "add", nodeName(n), "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(cmd.Process.Pid)},
		{"link", "set", nodeName(n), "master", "rig", "up"},
	} {
		if err := command("ip", step...); err != nil {
			return 0, err
		}
	}
	return cmd.Process.Pid, begin.Close()
}

func etcd(s spec) program {
	return program{log: filepath.Join(s.Dir, "etcd.log"), args: []string{
		filepath.Join(s.Programs, "etcd"),
		"--data-dir=" + s.state("etcd"),
		"--unsafe-no-fsync", // nothing of it is to outlive the rig
	}}
}

func apiserver(s spec) program {
	return program{log: filepath.Join(s.Dir, "kube-apiserver.log"), args: []string{
		filepath.Join(s.Programs, "kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + outsideAddress,
		"--tls-cert-file=" + s.state("server.crt"), "--tls-private-key-file=" + s.state("server.key"),
		"--client-ca-file=" + s.state("ca.crt"),
		"--token-auth-file=" + s.state("tokens"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		"--service-account-key-file=" + s.state("accounts.key"), "--service-account-signing-key-file=" + s.state("accounts.key"),
		"--service-cluster-ip-range=" + serviceRange,
		"--kubelet-client-certificate=" + s.state("kubelet-client.crt"), "--kubelet-client-key=" + s.state("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
		// So that a test of a lost node need not wait for five minutes.
		"--default-not-ready-toleration-seconds=10", "--default-unreachable-toleration-seconds=10",
	}}
}

func controllerManager(s spec) program {
	return program{log: filepath.Join(s.Dir, "kube-controller-manager.log"), args: []string{
		filepath.Join(s.Programs, "kube-controller-manager"),
		"--kubeconfig=" + s.state("kube-controller-manager.kubeconfig"),
		"--secure-port=0", "--leader-elect=false", "--use-service-account-credentials=true",
		"--service-account-private-key-file=" + s.state("accounts.key"), "--root-ca-file=" + s.state("ca.crt"),
		"--cluster-signing-cert-file=" + s.state("ca.crt"), "--cluster-signing-key-file=" + s.state("ca.key"),
		"--flex-volume-plugin-dir=" + s.state("plugins"), // by default below /usr
		"--node-monitor-period=1s", "--node-monitor-grace-period=8s",
	}}
}

func scheduler(s spec) program {
	return program{log: filepath.Join(s.Dir, "kube-scheduler.log"), args: []string{
		filepath.Join(s.Programs, "kube-scheduler"),
		"--kubeconfig=" + s.state("kube-scheduler.kubeconfig"),
		"--secure-port=0", "--leader-elect=false",
	}}
}

func kubeProxy(s spec, logs string, n int, more ...string) program {
	return program{log: filepath.Join(logs, "kube-proxy.log"), args: append([]string{
		filepath.Join(s.Programs, "kube-proxy"),
		"--kubeconfig=" + s.state("kube-proxy.kubeconfig"),
		"--hostname-override=" + nodeName(n),
		"--proxy-mode=nftables", "--cluster-cidr=" + podRange,
		// The kernel has these settings once for the whole machine.
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	}, more...)}
}

// coreDNS answers for the cluster's names, leads those below test (RFC 6761, 6.2) to where tests are, and says of all others that there is no
// such name.
func coreDNS(s spec) program {
	return program{log: filepath.Join(s.Dir, "coredns.log"), args: []string{
		filepath.Join(s.Programs, "coredns"), "-conf", s.state("Corefile"),
	}}
}

func corefile(s spec) string {
	return fmt.Sprintf(`%s in-addr.arpa {
	errors
	ready 127.0.0.1:8181
	kubernetes %[1]s in-addr.arpa {
		kubeconfig %[2]s
	}
}
test {
	template IN A {
		answer "{{ .Name }} 60 IN A %[3]s"
	}
	template ANY ANY {
		rcode NOERROR
	}
}
. {
	template ANY ANY {
		rcode NXDOMAIN
	}
}
`, clusterDomain, s.state("admin.kubeconfig"), outsideAddress)
}

// createVolumes creates volumes of each node, as nothing makes them on demand, and the class by which claims get them.
func createVolumes(s spec) error {
	type object = map[string]any
	items := []object{{
		"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
		"metadata":    object{"name": "local", "annotations": object{"storageclass.kubernetes.io/is-default-class": "true"}},
		"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
	}}
	for n := 1; n <= s.Nodes; n++ {
		for v := 1; v <= volumesPerNode; v++ {
			name := fmt.Sprintf("%s-%d", nodeName(n), v)
			path := s.state(nodeName(n), "volumes", name)
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			if err := os.Chmod(path, 0o777); err != nil { // MkdirAll leaves out what the umask says
				return err
			}
			items = append(items, object{
				"apiVersion": "v1", "kind": "PersistentVolume",
				"metadata": object{"name": name},
				"spec": object{
					"capacity": object{"storage": "10Gi"}, "accessModes": []string{"ReadWriteOnce"},
					"storageClassName": "local", "persistentVolumeReclaimPolicy": "Retain",
					"local": object{"path": path},
					"nodeAffinity": object{"required": object{"nodeSelectorTerms": []object{{"matchExpressions": []object{{
						"key": "kubernetes.io/hostname", "operator": "In", "values": []string{nodeName(n)},
					}}}}}},
				},
			})
		}
	}
	list, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.Programs, "kubectl"), "--kubeconfig="+s.state("admin.kubeconfig"), "create", "--filename=-")
	cmd.Env = append(os.Environ(), "HOME="+s.state()) // where it keeps a cache
	cmd.Stdin = bytes.NewReader(list)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl create: %w: %s", err, out)
	}
	return nil
}

// writeIfThere writes a kernel setting that not every kernel has.
func writeIfThere(path, value string) error {
	if err := writeFile(path, value); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
