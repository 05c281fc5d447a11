package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/service"
)

// Labels of all objects (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/).
const (
	nameLabel = "app.kubernetes.io/name"
	partLabel = "app.kubernetes.io/part-of"
)

// renderer makes the objects of a base.
type renderer struct {
	cluster.Base
	owners  map[string]string // the workloads of services, by the services' names
	proxies map[string]string // the workloads that take the requests for services that have one copy, by the services' names
}

// render makes all objects, each workload's in a file of its own.
func render(base cluster.Base) ([]file, error) {
	r := renderer{base, map[string]string{}, map[string]string{}}
	for _, w := range base.Workloads {
		for _, one := range w.Services {
			r.owners[one.Name] = w.Name
		}
		for _, name := range w.Passes {
			r.proxies[name] = w.Name
		}
	}
	images, err := r.images()
	if err != nil {
		return nil, err
	}
	files := []file{{"namespace.yaml", r.namespace()}, {"network.yaml", r.denial()}, {"images.yaml", []any{images}}}
	for _, w := range base.Workloads {
		objects, err := r.workload(w)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Name, err)
		}
		files = append(files, file{w.Name + ".yaml", objects})
	}
	if len(base.Routes) > 0 {
		files = append(files, file{"ingress.yaml", []any{r.ingress()}})
	}
	return files, nil
}

// entry is the workload whose pods take the requests for a service from those of the workload by, or from clients if by is empty.
func (r renderer) entry(service, by string) string {
	if proxy := r.proxies[service]; proxy != "" && proxy != by {
		return proxy
	}
	return r.owners[service]
}

// takes are the services whose requests arrive at the pods of a workload.
func (r renderer) takes(w cluster.Workload) []service.Service {
	all := slices.Clone(w.Services)
	for _, name := range w.Passes {
		all = append(all, r.find(name))
	}
	return all
}

func (r renderer) find(name string) service.Service {
	for _, w := range r.Workloads {
		for _, one := range w.Services {
			if one.Name == name {
				return one
			}
		}
	}
	return service.Service{}
}

func (r renderer) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: r.Settings.Namespace, Labels: labels(name)}
}

func labels(name string) map[string]string {
	return map[string]string{nameLabel: name, partLabel: "sigstore-local"}
}

func selector(workload string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: workload}}
}

// typed is what an object says of its own form.
func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

// namespace is the namespace, which takes only pods that the strictest of Kubernetes' standards allows
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/), and what all pods share.
func (r renderer) namespace() []any {
	meta := metav1.ObjectMeta{Name: r.Settings.Namespace, Labels: map[string]string{partLabel: "sigstore-local"}}
	for _, mode := range []string{"enforce", "warn", "audit"} {
		meta.Labels["pod-security.kubernetes.io/"+mode] = "restricted"
	}
	objects := []any{corev1.Namespace{TypeMeta: typed("v1", "Namespace"), ObjectMeta: meta}}
	if r.CA != "" {
		objects = append(objects, corev1.ConfigMap{TypeMeta: typed("v1", "ConfigMap"), ObjectMeta: r.meta("ca"), Data: map[string]string{"ca.pem": r.CA}})
	}
	return objects
}

// denial are the rules by which the pods of the stack talk to nobody, except to a DNS server. Each workload adds what it may do.
func (r renderer) denial() []any {
	all := metav1.LabelSelector{MatchLabels: map[string]string{partLabel: "sigstore-local"}}
	return []any{networkingv1.NetworkPolicy{
		TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: r.meta("deny-others"),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: all,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Egress:      []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{onPort(corev1.ProtocolUDP, 53), onPort(corev1.ProtocolTCP, 53)}}},
		},
	}}
}

func onPort(protocol corev1.Protocol, number int) networkingv1.NetworkPolicyPort {
	port := intstr.FromInt(number)
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port}
}

// number is the port's number on a cluster, where all have their defaults.
func number(p config.Port) int { return p.Default }

// images lets every node have the image before an update: what has one copy would be away for as long as a node takes to pull it.
func (r renderer) images() (appsv1.DaemonSet, error) {
	w := cluster.Workload{Name: "images"}
	template, err := r.pod(w)
	if err != nil {
		return appsv1.DaemonSet{}, err
	}
	_, mounts := r.volumes(w)
	template.Spec.Containers = []corev1.Container{r.container(w.Name, mounts, "/bin/sleep", "infinity")}
	atOnce, all := int64(0), intstr.FromString("100%")
	template.Spec.TerminationGracePeriodSeconds = &atOnce
	return appsv1.DaemonSet{
		TypeMeta: typed("apps/v1", "DaemonSet"), ObjectMeta: r.meta(w.Name),
		Spec: appsv1.DaemonSetSpec{
			Selector: selector(w.Name), Template: template,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &all},
			},
		},
	}, nil
}

// workload makes all objects of a workload.
func (r renderer) workload(w cluster.Workload) ([]any, error) {
	template, err := r.pod(w)
	if err != nil {
		return nil, err
	}
	var objects []any
	if len(w.Public) > 0 {
		objects = append(objects, r.configuration(w))
	}
	if w.Elects {
		objects = append(objects, r.election(w)...)
	}
	replicas := int32(w.Replicas)
	if stateful(w) {
		claim, err := r.claim(w, corev1.ReadWriteOnce, r.Settings.Storage.Class)
		if err != nil {
			return nil, err
		}
		claim.TypeMeta, claim.ObjectMeta = metav1.TypeMeta{}, metav1.ObjectMeta{Name: "data", Labels: labels(w.Name)}
		set := appsv1.StatefulSet{
			TypeMeta: typed("apps/v1", "StatefulSet"), ObjectMeta: r.meta(w.Name),
			Spec: appsv1.StatefulSetSpec{
				ServiceName: w.Services[0].Name, Replicas: &replicas, Selector: selector(w.Name), Template: template,
				VolumeClaimTemplates: []corev1.PersistentVolumeClaim{claim},
			},
		}
		if len(w.Peers) > 0 {
			// All have to be there before it is clear which of them starts. Neither can be changed later, so one copy has it too.
			set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
			set.Spec.ServiceName = config.CopiesHost(w.Name)
			objects = append(objects, r.copies(w))
		}
		objects = append(objects, set)
	} else {
		if len(w.Volumes) > 0 {
			claim, err := r.claim(w, corev1.ReadWriteMany, r.Settings.Storage.SharedClass)
			if err != nil {
				return nil, err
			}
			objects = append(objects, claim)
		}
		none, one := intstr.FromInt32(0), intstr.FromInt32(1)
		strategy := appsv1.DeploymentStrategy{
			Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &one},
		}
		if !w.Surges {
			strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		}
		objects = append(objects, appsv1.Deployment{
			TypeMeta: typed("apps/v1", "Deployment"), ObjectMeta: r.meta(w.Name),
			Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector(w.Name), Template: template, Strategy: strategy},
		})
	}
	for _, one := range w.Services {
		objects = append(objects, r.service(w, one.Name, r.entry(one.Name, ""), one.Listens))
		if r.proxies[one.Name] != "" {
			objects = append(objects, r.service(w, cluster.Direct(one.Name), w.Name, one.Listens))
		}
	}
	if w.Replicas > 1 {
		most := intstr.FromInt32(1)
		objects = append(objects, policyv1.PodDisruptionBudget{
			TypeMeta: typed("policy/v1", "PodDisruptionBudget"), ObjectMeta: r.meta(w.Name),
			Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &most, Selector: selector(w.Name)},
		})
	}
	return append(objects, r.policy(w)), nil
}

// stateful says whether each copy of a workload has a volume of its own.
func stateful(w cluster.Workload) bool { return len(w.Volumes) > 0 && !w.Surges }

func (r renderer) configuration(w cluster.Workload) corev1.ConfigMap {
	made := corev1.ConfigMap{TypeMeta: typed("v1", "ConfigMap"), ObjectMeta: r.meta(w.Name), Data: map[string]string{}}
	for name, text := range w.Public {
		made.Data[cluster.Key(name)] = text
	}
	return made
}

// election lets the copies of a workload keep the leases by which they elect one among them.
func (r renderer) election(w cluster.Workload) []any {
	return []any{
		corev1.ServiceAccount{TypeMeta: typed("v1", "ServiceAccount"), ObjectMeta: r.meta(w.Name)},
		rbacv1.Role{
			TypeMeta: typed("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: r.meta(w.Name),
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "watch", "create", "update"}}},
		},
		rbacv1.RoleBinding{
			TypeMeta: typed("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: r.meta(w.Name),
			RoleRef:  rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: w.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: w.Name, Namespace: r.Settings.Namespace}},
		},
	}
}

// claim asks for the volume of a workload, with room for all of its folders.
func (r renderer) claim(w cluster.Workload, mode corev1.PersistentVolumeAccessMode, class string) (corev1.PersistentVolumeClaim, error) {
	size := resource.Quantity{}
	for _, volume := range w.Volumes {
		one, err := resource.ParseQuantity(volume.Size)
		if err != nil {
			return corev1.PersistentVolumeClaim{}, fmt.Errorf("the size of %s is %q: %w", volume.Folder, volume.Size, err)
		}
		if one.Cmp(size) > 0 {
			size = one
		}
	}
	claim := corev1.PersistentVolumeClaim{
		TypeMeta: typed("v1", "PersistentVolumeClaim"), ObjectMeta: r.meta(w.Name),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{mode},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}},
		},
	}
	if class != "" {
		claim.Spec.StorageClassName = &class
	}
	return claim, nil
}

// service is a Service of the workload w that leads to ports of the pods of the workload target.
func (r renderer) service(w cluster.Workload, name, target string, ports []config.Port) corev1.Service {
	made := corev1.Service{
		TypeMeta: typed("v1", "Service"), ObjectMeta: r.meta(name),
		Spec: corev1.ServiceSpec{Selector: map[string]string{nameLabel: target}},
	}
	made.Labels = labels(w.Name)
	for _, port := range ports {
		made.Spec.Ports = append(made.Spec.Ports, corev1.ServicePort{Name: portName(port), Port: int32(number(port)), TargetPort: intstr.FromInt(number(port)), Protocol: corev1.ProtocolTCP})
	}
	return made
}

// copies gives each copy of a workload a name of its own, also before it is ready.
func (r renderer) copies(w cluster.Workload) corev1.Service {
	made := corev1.Service{
		TypeMeta: typed("v1", "Service"), ObjectMeta: r.meta(config.CopiesHost(w.Name)),
		Spec: corev1.ServiceSpec{Selector: map[string]string{nameLabel: w.Name}, ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true},
	}
	made.Labels = labels(w.Name)
	for _, port := range w.Peers {
		made.Spec.Ports = append(made.Spec.Ports, corev1.ServicePort{Name: portName(port), Port: int32(number(port)), TargetPort: intstr.FromInt(number(port)), Protocol: corev1.ProtocolTCP})
	}
	return made
}

// portName is a port's name in the form that Kubernetes has for it, of at most 15 characters.
func portName(p config.Port) string {
	name := cluster.PortName(p)
	return strings.Trim(name[max(0, len(name)-15):], "-")
}

// policy is what the pods of a workload may do beside what all may: take requests from those that use it, and from clients, and send
// requests to what it uses.
func (r renderer) policy(w cluster.Workload) networkingv1.NetworkPolicy {
	made := networkingv1.NetworkPolicy{
		TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: r.meta(w.Name),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *selector(w.Name),
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
	for _, one := range r.takes(w) {
		var clients, parts []networkingv1.NetworkPolicyPort
		for _, port := range one.Listens {
			parts = append(parts, onPort(corev1.ProtocolTCP, number(port)))
		}
		for _, port := range config.PublicPorts(one.Listens) {
			clients = append(clients, onPort(corev1.ProtocolTCP, number(port)))
		}
		if len(clients) > 0 && r.entry(one.Name, "") == w.Name {
			made.Spec.Ingress = append(made.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{Ports: clients})
		}
		var users []networkingv1.NetworkPolicyPeer
		for _, other := range r.Workloads {
			if slices.Contains(other.Uses, one.Name) && r.entry(one.Name, other.Name) == w.Name {
				users = append(users, networkingv1.NetworkPolicyPeer{PodSelector: selector(other.Name)})
			}
		}
		if len(users) > 0 {
			made.Spec.Ingress = append(made.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: users, Ports: parts})
		}
	}
	if several(w) {
		var ports []networkingv1.NetworkPolicyPort
		for _, port := range w.Peers {
			ports = append(ports, onPort(corev1.ProtocolTCP, number(port)))
		}
		others := []networkingv1.NetworkPolicyPeer{{PodSelector: selector(w.Name)}}
		made.Spec.Ingress = append(made.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: others, Ports: ports})
		made.Spec.Egress = append(made.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: others, Ports: ports})
	}
	for _, name := range w.Uses {
		var ports []networkingv1.NetworkPolicyPort
		for _, port := range r.find(name).Listens {
			ports = append(ports, onPort(corev1.ProtocolTCP, number(port)))
		}
		made.Spec.Egress = append(made.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{PodSelector: selector(r.entry(name, w.Name))}}, Ports: ports})
	}
	if ports := r.outside(w); len(ports) > 0 {
		// What is outside of the cluster, and Kubernetes' own API, have no names in a policy.
		made.Spec.Egress = append(made.Spec.Egress, networkingv1.NetworkPolicyEgressRule{Ports: ports})
	}
	return made
}

// outside are the ports at which a workload reaches what is not part of the stack.
func (r renderer) outside(w cluster.Workload) []networkingv1.NetworkPolicyPort {
	var numbers []int
	if w.Elects {
		numbers = append(numbers, 443, 6443)
	}
	for _, address := range w.Outside {
		if at, err := url.Parse(address); err == nil {
			port, err := strconv.Atoi(cmp.Or(at.Port(), map[string]string{"http": "80", "https": "443"}[at.Scheme]))
			if err == nil {
				numbers = append(numbers, port)
			}
		}
	}
	slices.Sort(numbers)
	var ports []networkingv1.NetworkPolicyPort
	for _, number := range slices.Compact(numbers) {
		ports = append(ports, onPort(corev1.ProtocolTCP, number))
	}
	return ports
}

// ingress leads requests from outside to the services by the names of hosts.
func (r renderer) ingress() networkingv1.Ingress {
	class := r.Settings.Ingress.Class
	made := networkingv1.Ingress{
		TypeMeta: typed("networking.k8s.io/v1", "Ingress"), ObjectMeta: r.meta("sigstore"),
		Spec: networkingv1.IngressSpec{IngressClassName: &class},
	}
	made.Annotations = r.Settings.Ingress.Annotations
	prefix := networkingv1.PathTypePrefix
	var hosts []string
	for _, route := range r.Routes {
		hosts = append(hosts, route.Host)
		made.Spec.Rules = append(made.Spec.Rules, networkingv1.IngressRule{
			Host: route.Host,
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: &prefix,
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: route.Service, Port: networkingv1.ServiceBackendPort{Number: int32(number(route.Port))}}},
			}}}},
		})
	}
	if secret := r.Settings.Ingress.TLSSecret; secret != "" {
		made.Spec.TLS = []networkingv1.IngressTLS{{Hosts: hosts, SecretName: secret}}
	}
	return made
}

// checksum of a workload's configuration is part of its pods, so that they are replaced when it changes.
func checksum(w cluster.Workload) string {
	text, _ := json.Marshal(w.Public) // of strings, which no error comes from
	return fmt.Sprintf("%x", sha256.Sum256(text))[:16]
}

// at is the path of a folder of the stack in a container.
func at(folder string) string { return path.Join(image.State, folder) }

// byFolder are the names of files, by the folder that they are in: the first part of their names.
func byFolder(names []string) map[string][]string {
	folders := map[string][]string{}
	for _, name := range names {
		folder, _, _ := strings.Cut(name, "/")
		folders[folder] = append(folders[folder], name)
	}
	return folders
}

// sorted are the keys of a map in their order.
func sorted[T any](of map[string]T) []string { return slices.Sorted(maps.Keys(of)) }
