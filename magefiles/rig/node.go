package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// coveredFolders are where programs of a node write whatever they are told. The node has an empty one of its own of each.
var coveredFolders = []string{"/run", "/var/lib", "/var/log"}

// machineSettings are the kernel's settings that the kubelet writes, and of which the machine has only one. The node writes to
// plain files in their place.
var machineSettings = []string{
	"/proc/sys/vm/overcommit_memory", "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops",
	"/proc/sys/kernel/keys/root_maxkeys", "/proc/sys/kernel/keys/root_maxbytes",
}

// containerd is the socket of a node's containerd.
func (s spec) containerd(n int) string { return s.state(nodeName(n), "containerd.sock") }

// node runs a node in namespaces of its own. It only returns if that fails.
func node(s spec) error {
	_, _ = io.Copy(io.Discard, os.Stdin) // ends once the node is on the bridge
	name := nodeName(s.Node)
	if err := syscall.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := nodeMounts(s); err != nil {
		return fmt.Errorf("make mounts of %s: %w", name, err)
	}
	if err := nodeNetwork(s); err != nil {
		return fmt.Errorf("make the network of %s: %w", name, err)
	}
	if err := nodeFiles(s); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", name, err)
	}
	logs := filepath.Join(s.Dir, name)
	// Without an own folder for temporary files, mounts of images would be left in the machine's.
	temporary := []string{"TMPDIR=" + s.state(name, "tmp"), "HOME=" + s.state(name, "tmp")}
	program{log: filepath.Join(logs, "containerd.log"), env: temporary, args: []string{
		"containerd", "--config=" + s.state(name, "containerd.toml"),
	}}.keep()
	kubeProxy(s, logs, s.Node).keep()
	if err := enforcePolicies(s, logs); err != nil {
		return fmt.Errorf("enforce network policies on %s: %w", name, err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	if err := waitFor(ctx, name+" has the pause image", func() error {
		return command("ctr", "--address="+s.containerd(s.Node), "--namespace=k8s.io", "images", "import", s.state("pause.tar"))
	}); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(filepath.Join(logs, "containerd.log")))
	}
	api, err := newAPI(s)
	if err != nil {
		return err
	}
	// A kubelet that finds no API server waits for longer and longer.
	if err := waitFor(ctx, name+" reaches the API server", func() error { return api.get(ctx, "/readyz", nil) }); err != nil {
		return err
	}
	program{log: filepath.Join(logs, "kubelet.log"), env: temporary, pidFile: s.state(name, "kubelet.pid"), args: []string{
		filepath.Join(s.Programs, "kubelet"),
		"--config=" + s.state(name, "kubelet.json"),
		"--kubeconfig=" + s.state(name+".kubeconfig"),
		"--root-dir=" + s.state(name, "kubelet"), "--cert-dir=" + s.state(name, "kubelet", "pki"),
		"--hostname-override=" + name, "--node-ip=" + nodeAddress(s.Node),
		fmt.Sprintf("--node-labels=topology.kubernetes.io/zone=zone-%d", s.Node),
	}}.keep()
	select {}
}

// nodeMounts covers what is the machine's by what is the node's own.
func nodeMounts(s spec) error {
	// What runs in containers expects the network devices and control groups of its own namespaces here.
	if err := mount("sysfs", "/sys", "sysfs", ""); err != nil {
		return err
	}
	if s.Groups[0].Path != "/sys/fs/cgroup" { // version 1
		if err := mount("tmpfs", "/sys/fs/cgroup", "tmpfs", "mode=755"); err != nil {
			return err
		}
	}
	for _, group := range s.Groups {
		if err := os.MkdirAll(group.Path, 0o755); err != nil {
			return err
		}
		if err := mount("cgroup", group.Path, group.Type, group.Options); err != nil {
			return err
		}
	}
	for _, folder := range coveredFolders {
		if err := mount("tmpfs", folder, "tmpfs", "mode=755"); err != nil {
			return err
		}
	}
	for _, setting := range machineSettings {
		value, err := os.ReadFile(setting)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		file := s.state(nodeName(s.Node), "sys"+strings.ReplaceAll(setting, "/", "-"))
		if err := os.WriteFile(file, value, 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(file, setting, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", setting, err)
		}
	}
	// Containers that ask for it are to see mounts that are made later.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts with containers: %w", err)
	}
	return nil
}

func mount(source, target, kind, options string) error {
	if err := syscall.Mount(source, target, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", kind, target, err)
	}
	return nil
}

func nodeNetwork(s spec) error {
	steps := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "set", "eth0", "up"},
		{"address", "add", nodeAddress(s.Node) + "/24", "dev", "eth0"},
		// Where to is decided before kube-proxy's rules put a pod's address in place of the Service's.
		{"route", "add", serviceRange, "dev", "eth0"},
	}
	for n := 1; n <= s.Nodes; n++ {
		if n != s.Node {
			steps = append(steps, []string{"route", "add", nodePods(n), "via", nodeAddress(n)})
		}
	}
	for _, step := range steps {
		if err := command("ip", step...); err != nil {
			return err
		}
	}
	// kube-proxy's rules are for what pods of one node send each other, too.
	if err := writeIfThere("/proc/sys/net/bridge/bridge-nf-call-iptables", "1"); err != nil {
		return err
	}
	return writeFile("/proc/sys/net/ipv4/ip_forward", "1")
}

// enforcePolicies lets a program decide on each new connection of a pod. Its own rules need what not every kernel has (nft_queue),
// and where they fail it decides all the same on what other rules hand to it: so the node has one of the older kind.
func enforcePolicies(s spec, logs string) error {
	if err := command("iptables", "--table", "mangle", "--append", "FORWARD", "--match", "conntrack", "--ctstate", "NEW",
		"--jump", "NFQUEUE", "--queue-num", "100"); err != nil {
		return err
	}
	// It only knows where a pod finds the API server. The folder is the node's own, as is all of /run.
	folder := "/var/run/secrets/kubernetes.io/serviceaccount"
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for from, to := range map[string]string{"admin.token": "token", "ca.crt": "ca.crt"} {
		text, err := os.ReadFile(s.state(from))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, to), text, 0o600); err != nil {
			return err
		}
	}
	program{
		log: filepath.Join(logs, "kube-network-policies.log"),
		env: []string{"KUBERNETES_SERVICE_HOST=" + outsideAddress, "KUBERNETES_SERVICE_PORT=6443"},
		args: []string{filepath.Join(s.Programs, "kube-network-policies"),
			"--hostname-override=" + nodeName(s.Node), "--nfqueue-id=100"},
	}.keep()
	return nil
}

// nodeFiles writes the configuration of the node's programs.
func nodeFiles(s spec) error {
	name := nodeName(s.Node)
	for _, folder := range []string{"tmp", "plugins", "cni", "registries/" + registry} {
		if err := os.MkdirAll(s.state(name, folder), 0o755); err != nil {
			return err
		}
	}
	network, err := json.Marshal(map[string]any{
		"cniVersion": "0.4.0", "name": "pods",
		"plugins": []map[string]any{{
			"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": s.state(name, "addresses"),
				"ranges": [][]map[string]string{{{"subnet": nodePods(s.Node)}}},
				"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
			},
		}},
	})
	if err != nil {
		return err
	}
	kubelet, err := json.Marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address":        nodeAddress(s.Node),
		"authentication": map[string]any{"x509": map[string]any{"clientCAFile": s.state("ca.crt")}},
		"clusterDNS":     []string{outsideAddress}, "clusterDomain": clusterDomain,
		"resolvConf":               s.state(name, "resolv.conf"), // none of the machine's name servers can be reached
		"containerRuntimeEndpoint": "unix://" + s.containerd(s.Node),
		"podLogsDir":               filepath.Join(s.Dir, name, "pods"),
		"volumePluginDir":          s.state(name, "plugins"), // by default below /usr
		"cgroupDriver":             "cgroupfs", "failCgroupV1": false, "cgroupsPerQOS": false, "enforceNodeAllocatable": []string{},
		"failSwapOn": false, "localStorageCapacityIsolation": false, "protectKernelDefaults": false, "oomScoreAdj": 0,
		// A full disk of the machine is not to disturb a test.
		"evictionHard": map[string]string{"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
			"imagefs.available": "0%", "imagefs.inodesFree": "0%"},
		"imageGCHighThresholdPercent": 100,
		// So that a lost node is noticed soon.
		"nodeStatusUpdateFrequency": "2s", "nodeStatusReportFrequency": "2s", "nodeLeaseDurationSeconds": 8,
	})
	if err != nil {
		return err
	}
	containerd := fmt.Sprintf(`version = 2
root = %q
state = "/run/containerd"
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = %q
`, s.state(name, "containerd"), s.containerd(s.Node), pauseImage, s.state(name, "cni"), s.state(name, "registries"))
	hosts := fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%[1]s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", registry)
	for file, text := range map[string]string{
		"cni/10-pods.conflist": string(network), "kubelet.json": string(kubelet), "containerd.toml": containerd, "resolv.conf": "",
		"registries/" + registry + "/hosts.toml": hosts,
	} {
		if err := os.WriteFile(s.state(name, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
