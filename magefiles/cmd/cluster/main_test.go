package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"

	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// example has a log, a database that it uses, and a client of neither.
func example() cluster.Base {
	port := config.Port{Name: "DATABASE", Default: 4000}
	return cluster.Base{
		Image: "registry.example.org/image@sha256:0", Settings: cluster.Settings{Namespace: "there"},
		Workloads: []cluster.Workload{
			{
				Name: "log", Replicas: 2, Surges: true, Uses: []string{"database"}, Private: []string{"config/log.yaml", "keys/log.pem"}, Outside: []string{"https://kms", "mysql://db.example.org:3306"},
				Services: []service.Service{{Name: "log", Program: "/opt/log", Args: []string{"serve"}, Listens: []config.Port{config.Rekor}, Ready: service.Answers("http://127.0.0.1:3000/ready?a=b", 404)}},
				Awaits:   cluster.Awaited{URLs: []string{"http://database:4000/"}},
			},
			{
				Name: "database", Replicas: 1, Public: map[string]string{"config/db.cnf": "settings"}, Volumes: []cluster.Volume{{Folder: "data/db", Size: "3Gi"}},
				Services: []service.Service{{Name: "database", Program: "/opt/db", Listens: []config.Port{port}, Ready: service.Answers("http://127.0.0.1:4000/up")}},
			},
			{Name: "other", Replicas: 1, Services: []service.Service{{Name: "other", Program: "/opt/other", Listens: []config.Port{config.TSA}, Ready: service.Answers("http://127.0.0.1:3004/")}}},
		},
	}
}

// objects are those of one kind in the file of a workload.
func objects[T any](t *testing.T, base cluster.Base, name string) []T {
	t.Helper()
	files, err := render(base)
	if err != nil {
		t.Fatal(err)
	}
	var found []T
	for _, one := range files {
		for _, object := range one.objects {
			if typed, ok := object.(T); ok && one.name == name+".yaml" {
				found = append(found, typed)
			}
		}
	}
	return found
}

func TestPodsTalkToWhatTheyUseAndToNobodyElse(t *testing.T) {
	all := map[string]string{}
	for _, name := range []string{"log", "database", "other", "network"} {
		for _, policy := range objects[networkingv1.NetworkPolicy](t, example(), name) {
			text, err := json.Marshal(policy.Spec)
			if err != nil {
				t.Fatal(err)
			}
			all[name] += string(text)
		}
	}
	const types = `"policyTypes":["Ingress","Egress"]`
	to := func(name string) string {
		return `[{"podSelector":{"matchLabels":{"app.kubernetes.io/name":"` + name + `"}}}]`
	}
	self := func(name string) string { return strings.Trim(to(name), "[]{}") }
	for name, want := range map[string]string{
		"network": `{"podSelector":{"matchLabels":{"app.kubernetes.io/part-of":"sigstore-local"}},"egress":[{"ports":[{"protocol":"UDP","port":53},{"protocol":"TCP","port":53}]}],` + types + `}`,
		"log": `{` + self("log") + `}},"ingress":[{"ports":[{"protocol":"TCP","port":3000}]}],"egress":[{"ports":[{"protocol":"TCP","port":4000}],"to":` + to("database") +
			`},{"ports":[{"protocol":"TCP","port":443},{"protocol":"TCP","port":3306}]}],` + types + `}`,
		"database": `{` + self("database") + `}},"ingress":[{"ports":[{"protocol":"TCP","port":4000}],"from":` + to("log") + `}],` + types + `}`,
		"other":    `{` + self("other") + `}},"ingress":[{"ports":[{"protocol":"TCP","port":3004}]}],` + types + `}`,
	} {
		if all[name] != want {
			t.Errorf("the policy of %s is\n%s\nand not\n%s", name, all[name], want)
		}
	}
}

// What has one copy is reached by way of the proxy, and by nobody else.
func TestRequestsForTheOnlyCopyOfAServiceGoThroughTheProxy(t *testing.T) {
	base := example()
	base.Workloads[1].Services[0].Listens = append(base.Workloads[1].Services[0].Listens, config.TUF)
	ready := config.Port{Name: "READY", Default: 7000}
	base.Workloads = append(base.Workloads, cluster.Workload{
		Name: "proxy", Replicas: 1, Surges: true, Passes: []string{"database"}, Uses: []string{"database"},
		Services: []service.Service{{Name: "proxy", Program: "/opt/proxy", Listens: []config.Port{ready}, Ready: service.Answers("http://127.0.0.1:7000/")}},
	})
	led := map[string]string{}
	for _, one := range objects[corev1.Service](t, base, "database") {
		led[one.Name] = one.Spec.Selector[nameLabel]
		if len(one.Spec.Ports) != 2 {
			t.Errorf("%s has the ports %+v", one.Name, one.Spec.Ports)
		}
	}
	if len(led) != 2 || led["database"] != "proxy" || led["database-direct"] != "database" {
		t.Errorf("the names lead to %v", led)
	}
	// Those that take requests from and send some to others, by the ports; clients have no name.
	talks := func(name string) (taken, sent map[string][]int) {
		taken, sent = map[string][]int{}, map[string][]int{}
		policy := objects[networkingv1.NetworkPolicy](t, base, name)[0].Spec
		note := func(to map[string][]int, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
			peer := "clients"
			if len(peers) > 0 {
				peer = peers[0].PodSelector.MatchLabels[nameLabel]
			}
			for _, port := range ports {
				to[peer] = append(to[peer], port.Port.IntValue())
			}
		}
		for _, rule := range policy.Ingress {
			note(taken, rule.From, rule.Ports)
		}
		for _, rule := range policy.Egress {
			note(sent, rule.To, rule.Ports)
		}
		return taken, sent
	}
	for name, want := range map[string]string{
		"database": "map[proxy:[4000 8080]] map[]",
		"proxy":    "map[clients:[8080] log:[4000 8080]] map[database:[4000 8080]]",
		"log":      "map[clients:[3000]] map[clients:[443 3306] proxy:[4000 8080]]",
	} {
		if taken, sent := talks(name); fmt.Sprint(taken, sent) != want {
			t.Errorf("%s takes and sends %v %v, and not %s", name, taken, sent, want)
		}
	}
	proxy := objects[appsv1.Deployment](t, base, "proxy")[0].Spec.Template.Spec.Containers[0]
	if len(proxy.Ports) != 3 || proxy.Lifecycle == nil {
		t.Errorf("the proxy has the ports %+v, and ends by %+v", proxy.Ports, proxy.Lifecycle)
	}
	// Requests that are on their way are taken before it ends, and that is not part of the time that it has to end.
	pod := objects[appsv1.StatefulSet](t, base, "database")[0].Spec.Template.Spec
	if ends := pod.Containers[0].Lifecycle; ends == nil || *pod.TerminationGracePeriodSeconds != 30+ends.PreStop.Sleep.Seconds {
		t.Errorf("what is behind the proxy ends by %+v, within %d s", ends, *pod.TerminationGracePeriodSeconds)
	}
}

// An update would take longer if a node pulled the image only then.
func TestEachNodeHasTheImage(t *testing.T) {
	images := objects[appsv1.DaemonSet](t, example(), "images")
	if len(images) != 1 {
		t.Fatalf("%+v", images)
	}
	pod := images[0].Spec.Template.Spec
	if pod.Containers[0].Image != example().Image || *pod.AutomountServiceAccountToken || !*pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("%+v", pod)
	}
}

// On a machine stop ends first what uses others.
func TestWhatAPodUsesWithinItselfEndsLater(t *testing.T) {
	base := example()
	w := &base.Workloads[1]
	w.Services = append(w.Services, service.Service{
		Name: "front", Program: "/opt/front", Listens: []config.Port{config.TUF}, Ready: service.Answers("http://127.0.0.1:8080/"), Uses: []service.Use{{Of: "database"}},
	})
	waits := map[string]bool{}
	for _, one := range objects[appsv1.StatefulSet](t, base, "database")[0].Spec.Template.Spec.Containers {
		waits[one.Name] = one.Lifecycle != nil
	}
	if fmt.Sprint(waits) != "map[database:true front:false]" {
		t.Errorf("those that wait before they end: %v", waits)
	}
}

func TestAPodIsReadyWhenStartWouldSayIsReadyAndLivesAsLongAsItListens(t *testing.T) {
	log := objects[appsv1.Deployment](t, example(), "log")[0].Spec.Template.Spec
	served := log.Containers[0]
	if got := strings.Join(served.ReadinessProbe.Exec.Command, " "); got != "/opt/sigstore-local/bin/data get -status=404 http://127.0.0.1:3000/ready?a=b" {
		t.Errorf("it is ready when this succeeds: %s", got)
	}
	database := objects[appsv1.StatefulSet](t, example(), "database")[0].Spec
	ready := database.Template.Spec.Containers[0].ReadinessProbe.HTTPGet
	if ready.Path != "/up" || ready.Port.IntValue() != 4000 {
		t.Errorf("the database is asked for %+v", ready)
	}
	if live := served.LivenessProbe; live.TCPSocket == nil || live.TCPSocket.Port.IntValue() != 3000 {
		t.Errorf("it lives as long as %+v", live)
	}
	if waits := strings.Join(log.InitContainers[0].Args, " "); waits != "await -url=http://database:4000/" {
		t.Errorf("its pod waits: %s", waits)
	}
	if size := database.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]; size.String() != "3Gi" {
		t.Errorf("the volume has %s", size.String())
	}
	if copies := len(objects[policyv1.PodDisruptionBudget](t, example(), "log")) + len(objects[policyv1.PodDisruptionBudget](t, example(), "database")); copies != 1 {
		t.Errorf("%d disruption budgets for one workload with copies", copies)
	}
}

// Copies that each keep all data have names and volumes of their own, and are all there before the first is ready.
func TestCopiesThatKeepAllDataReachEachOther(t *testing.T) {
	base := example()
	database := &base.Workloads[1]
	state := config.Port{Name: "STATE", Default: 4569}
	database.Replicas, database.Peers, database.Services[0].Peers = 3, []config.Port{state}, []config.Port{state}
	database.Awaits = cluster.Awaited{Install: true, Copies: []string{"a", "b"}}
	set := objects[appsv1.StatefulSet](t, base, "database")[0].Spec
	var headless []corev1.Service
	for _, one := range objects[corev1.Service](t, base, "database") {
		if one.Spec.ClusterIP == corev1.ClusterIPNone {
			headless = append(headless, one)
		}
	}
	if len(headless) != 1 || headless[0].Name != set.ServiceName || !headless[0].Spec.PublishNotReadyAddresses || set.PodManagementPolicy != appsv1.ParallelPodManagement || len(set.VolumeClaimTemplates) != 1 {
		t.Errorf("%+v of %+v", set, headless)
	}
	if live := set.Template.Spec.Containers[0].LivenessProbe.TCPSocket.Port.IntValue(); live != 4569 {
		t.Errorf("a copy that waits for others is killed: it is asked at %d", live)
	}
	if waits := strings.Join(set.Template.Spec.InitContainers[0].Args, " "); waits != "await -install -copies=a,b -self=$(POD_NAME)" {
		t.Errorf("its pod waits: %s", waits)
	}
	policy := objects[networkingv1.NetworkPolicy](t, base, "database")[0].Spec
	if len(policy.Egress) != 1 || policy.Egress[0].Ports[0].Port.IntValue() != 4569 || policy.Egress[0].To[0].PodSelector.MatchLabels[nameLabel] != "database" || len(policy.Ingress) != 2 {
		t.Errorf("the copies' policy is %+v", policy)
	}
	// One copy has nobody to talk to.
	database.Replicas = 1
	if policy := objects[networkingv1.NetworkPolicy](t, base, "database")[0].Spec; len(policy.Egress) != 0 {
		t.Errorf("one copy may talk to %+v", policy.Egress)
	}
}

func TestPodsMayDoNoMoreThanTheyNeed(t *testing.T) {
	base := example()
	base.Workloads[0].Elects = true
	for _, name := range []string{"log", "other"} {
		pod := objects[appsv1.Deployment](t, base, name)[0].Spec.Template.Spec
		if elects := name == "log"; *pod.AutomountServiceAccountToken != elects || (pod.ServiceAccountName != "") != elects {
			t.Errorf("%s has a token: %t, of the account %q", name, *pod.AutomountServiceAccountToken, pod.ServiceAccountName)
		}
		for _, one := range slices.Concat(pod.InitContainers, pod.Containers) {
			if context := one.SecurityContext; !*context.ReadOnlyRootFilesystem || *context.AllowPrivilegeEscalation || len(context.Capabilities.Drop) != 1 {
				t.Errorf("%s: %s runs with %+v", name, one.Name, context)
			}
		}
		for _, volume := range pod.Volumes {
			if source := volume.Projected; source != nil && *source.DefaultMode != 0o440 {
				t.Errorf("%s: %s has mode %o", name, volume.Name, *source.DefaultMode)
			}
		}
	}
}

func TestAPodIsReplacedWhenItsConfigurationChanges(t *testing.T) {
	before := objects[appsv1.StatefulSet](t, example(), "database")[0].Spec.Template.Annotations
	changed := example()
	changed.Workloads[1].Public = map[string]string{"config/db.cnf": "other settings"}
	after := objects[appsv1.StatefulSet](t, changed, "database")[0].Spec.Template.Annotations
	if len(before) != 1 || before["sigstore-local/configuration"] == after["sigstore-local/configuration"] {
		t.Errorf("before %v, after %v", before, after)
	}
}

func TestFilesOfTheUsersAreLeftAlone(t *testing.T) {
	folder := t.TempDir()
	files, err := render(example())
	if err != nil {
		t.Fatal(err)
	}
	if err := write(folder, files); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(folder, "mine.yaml")
	if err := os.WriteFile(mine, []byte("a: b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// What is rendered no longer goes, and what is the user's stays.
	fewer := slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.name == "other.yaml" })
	if err := write(folder, fewer); err != nil {
		t.Fatal(err)
	}
	_, gone := os.Stat(filepath.Join(folder, "other.yaml"))
	_, kept := os.Stat(mine)
	if !os.IsNotExist(gone) || kept != nil {
		t.Errorf("an old file: %v; the user's: %v", gone, kept)
	}
	if err := os.WriteFile(filepath.Join(folder, "log.yaml"), []byte("a: b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(folder, files); err == nil || !strings.Contains(err.Error(), "log.yaml was not written by this program") {
		t.Errorf("a file of the user's in the way: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(folder, "log.yaml")); err != nil || string(text) != "a: b\n" {
		t.Errorf("the user's file is %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml")); err != nil || strings.Contains(string(text), "mine.yaml") || strings.Contains(string(text), "other.yaml") {
		t.Errorf("the kustomization is %s, %v", text, err)
	}
}
