package main

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/service"
)

// pod is the template of a workload's pods: a container for each service, and before them those that wait for what the services need.
func (r renderer) pod(w cluster.Workload) (corev1.PodTemplateSpec, error) {
	volumes, mounts := r.volumes(w)
	no, yes, user := false, true, int64(image.User)
	always := corev1.FSGroupChangeOnRootMismatch
	spec := corev1.PodSpec{
		AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user, FSGroupChangePolicy: &always,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes: volumes,
	}
	if w.Elects {
		spec.AutomountServiceAccountToken, spec.ServiceAccountName = &yes, w.Name
	}
	if r.Settings.PullSecret != "" {
		spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: r.Settings.PullSecret}}
	}
	if w.Replicas > 1 {
		spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: selector(w.Name),
			// In an update the new copies are spread, whatever old ones there still are.
			MatchLabelKeys: []string{"pod-template-hash"},
		}}
	}
	grace := int64(0)
	for _, one := range w.Services {
		// It ends after as long as on a machine, and after what preStop takes.
		ends := int64(30)
		if one.Grace > 0 {
			ends = int64(one.Grace.Seconds())
		}
		grace = max(grace, r.waits(w, one)+ends)
	}
	spec.TerminationGracePeriodSeconds = &grace
	for _, folder := range w.Placed {
		spec.InitContainers = append(spec.InitContainers, r.container("place-"+path.Base(folder), mounts,
			dataProgram, "receive", "-folder="+at(folder), "-from="+path.Join(given, cluster.Key(folder))))
	}
	if awaits := awaited(w); len(awaits) > 0 {
		spec.InitContainers = append(spec.InitContainers, r.container(cluster.AwaitContainer, mounts, append([]string{dataProgram, "await"}, awaits...)...))
	}
	for _, one := range w.Services {
		if one.First != nil {
			first := r.container("first-"+one.Name, mounts, append([]string{one.Program}, one.First...)...)
			first.Env = append(first.Env, env(one)...)
			spec.InitContainers = append(spec.InitContainers, first)
		}
	}
	for _, one := range w.Services {
		made, err := r.served(w, one, mounts)
		if err != nil {
			return corev1.PodTemplateSpec{}, fmt.Errorf("%s: %w", one.Name, err)
		}
		spec.Containers = append(spec.Containers, made)
	}
	meta := metav1.ObjectMeta{Labels: labels(w.Name)}
	if len(w.Public) > 0 {
		meta.Annotations = map[string]string{"sigstore-local/configuration": checksum(w)}
	}
	return corev1.PodTemplateSpec{ObjectMeta: meta, Spec: spec}, nil
}

// dataProgram waits for what a pod needs, and receives data.
const dataProgram = image.Folder + "/bin/data"

// given is the folder in a container in which the folders are that are unpacked for it, each in one file.
const given = "/etc/sigstore-local/given"

// awaited are the arguments by which the program data waits for what a workload needs.
func awaited(w cluster.Workload) []string {
	var args []string
	if w.Awaits.Install {
		args = append(args, "-install")
		if len(w.Awaits.Copies) > 0 {
			args = append(args, "-copies="+strings.Join(w.Awaits.Copies, ","), "-self=$("+service.PodName+")")
		}
		return args
	}
	if w.Awaits.Database != "" {
		args = append(args, "-database", "-dsn-file="+at(w.Awaits.Database))
	}
	for _, volume := range w.Volumes {
		args = append(args, "-folder="+at(volume.Folder))
	}
	for _, address := range w.Awaits.Addresses {
		args = append(args, "-address="+address)
	}
	for _, url := range w.Awaits.URLs {
		args = append(args, "-url="+url)
	}
	return args
}

// container is a container of a workload that runs a command.
func (r renderer) container(name string, mounts []corev1.VolumeMount, command ...string) corev1.Container {
	no, yes := false, true
	made := corev1.Container{
		Name: name, Image: r.Image, ImagePullPolicy: corev1.PullIfNotPresent, Command: command[:1], Args: command[1:], WorkingDir: at("home"), VolumeMounts: mounts,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		Env: []corev1.EnvVar{
			{Name: "HOME", Value: at("home")}, {Name: "TMPDIR", Value: at("tmp")},
			{Name: service.PodName, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		},
	}
	made.Env = append(made.Env, variables(r.Env)...)
	return made
}

func variables(given []string) []corev1.EnvVar {
	var all []corev1.EnvVar
	for _, one := range given {
		name, value, _ := strings.Cut(one, "=")
		all = append(all, corev1.EnvVar{Name: name, Value: value})
	}
	return all
}

func env(one service.Service) []corev1.EnvVar { return variables(one.Env) }

// served is the container of a service.
func (r renderer) served(w cluster.Workload, one service.Service, mounts []corev1.VolumeMount) (corev1.Container, error) {
	made := r.container(one.Name, mounts, append([]string{one.Program}, one.Args...)...)
	made.Env = append(made.Env, env(one)...)
	ports := slices.Clone(one.Listens)
	for _, name := range w.Passes {
		ports = append(ports, r.find(name).Listens...)
	}
	for _, port := range ports {
		made.Ports = append(made.Ports, corev1.ContainerPort{Name: portName(port), ContainerPort: int32(number(port)), Protocol: corev1.ProtocolTCP})
	}
	ready, err := readiness(w, one)
	if err != nil {
		return made, err
	}
	made.ReadinessProbe = &corev1.Probe{ProbeHandler: ready, PeriodSeconds: 2, TimeoutSeconds: 5, FailureThreshold: 2}
	// It asks the service alone, which is not killed for what another lacks: it takes connections as long as it lives.
	alive := one.Listens[0]
	if several(w) {
		alive = one.Peers[0]
	}
	made.LivenessProbe = &corev1.Probe{
		ProbeHandler:        corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(number(alive))}},
		InitialDelaySeconds: 60, PeriodSeconds: 10, TimeoutSeconds: 5, FailureThreshold: 6,
	}
	if wait := r.waits(w, one); wait > 0 {
		made.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: wait}}}
	}
	if made.Resources, err = resources(r.Settings.Services[one.Name].Resources); err != nil {
		return made, err
	}
	return made, nil
}

// waits is for how many seconds a service goes on when its pod is to end.
func (r renderer) waits(w cluster.Workload, one service.Service) int64 {
	// Others learn only after a moment that this copy takes no more requests.
	wait := int64(0)
	switch {
	case w.Replicas > 1 || w.Surges:
		wait = 5
	case r.behindProxy(w):
		wait = 3 // nobody takes requests meanwhile, so it is not longer than it has to be
	}
	if usedBeside(w, one) {
		wait += 3 // the others in its pod first finish what they have begun with it
	}
	return wait
}

// behindProxy says whether clients reach a workload by way of the proxy.
func (r renderer) behindProxy(w cluster.Workload) bool {
	return slices.ContainsFunc(w.Services, func(one service.Service) bool { return r.proxies[one.Name] != "" })
}

// usedBeside says whether another service in the same pod uses one.
func usedBeside(w cluster.Workload, one service.Service) bool {
	return slices.ContainsFunc(w.Services, func(other service.Service) bool {
		return slices.ContainsFunc(other.Uses, func(use service.Use) bool { return use.Of == one.Name })
	})
}

// several says whether a workload has several copies that each keep all data.
func several(w cluster.Workload) bool { return w.Replicas > 1 && len(w.Peers) > 0 }

// readiness asks what start asks on a machine.
func readiness(w cluster.Workload, one service.Service) (corev1.ProbeHandler, error) {
	command := func(args ...string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: append([]string{dataProgram}, args...)}}
	}
	if one.Ready.Database {
		args := []string{"get", "-database", "-dsn-file=" + at(cluster.RootDSN)}
		if several(w) {
			args = append(args, "-clustered")
		}
		return command(args...), nil
	}
	asked, err := url.Parse(one.Ready.URL)
	if err != nil {
		return corev1.ProbeHandler{}, err
	}
	port, err := strconv.Atoi(asked.Port())
	if err != nil {
		return corev1.ProbeHandler{}, err
	}
	if len(one.Ready.Statuses) > 0 {
		// Kubernetes takes no other status than success.
		args := []string{"get"}
		for _, status := range one.Ready.Statuses {
			args = append(args, "-status="+strconv.Itoa(status))
		}
		return command(append(args, one.Ready.URL)...), nil
	}
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: asked.RequestURI(), Port: intstr.FromInt(port)}}, nil
}

func resources(set cluster.Resources) (made corev1.ResourceRequirements, err error) {
	for _, one := range []struct {
		from map[string]string
		to   *corev1.ResourceList
	}{{set.Requests, &made.Requests}, {set.Limits, &made.Limits}} {
		for _, name := range sorted(one.from) {
			amount, err := resource.ParseQuantity(one.from[name])
			if err != nil {
				return made, fmt.Errorf("%s is %q: %w", name, one.from[name], err)
			}
			if *one.to == nil {
				*one.to = corev1.ResourceList{}
			}
			(*one.to)[corev1.ResourceName(name)] = amount
		}
	}
	return made, nil
}

// volumes are those of a workload's pods, and where its containers have them.
func (r renderer) volumes(w cluster.Workload) (volumes []corev1.Volume, mounts []corev1.VolumeMount) {
	add := func(name, folder string, source corev1.VolumeSource, readOnly bool) {
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: source})
		mounts = append(mounts, corev1.VolumeMount{Name: name, MountPath: folder, ReadOnly: readOnly})
	}
	memory := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}
	for _, folder := range append(cluster.Scratch(), w.Writes...) {
		add(folder, at(folder), corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, false)
	}
	public := sorted(w.Public)
	private := byFolder(w.Private)
	for _, folder := range sorted(byFolder(slices.Concat(public, w.Private))) {
		projected := &corev1.ProjectedVolumeSource{}
		if names := byFolder(public)[folder]; names != nil {
			projected.Sources = append(projected.Sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: w.Name}, Items: items(folder, names),
			}})
		}
		if names := private[folder]; names != nil {
			projected.Sources = append(projected.Sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: w.SecretName()}, Items: items(folder, names),
			}})
		}
		mode := int32(0o440)
		projected.DefaultMode = &mode
		add(folder, at(folder), corev1.VolumeSource{Projected: projected}, true)
	}
	if len(w.Placed) > 0 {
		mode := int32(0o440)
		source := &corev1.SecretVolumeSource{SecretName: w.SecretName(), DefaultMode: &mode}
		for _, folder := range w.Placed {
			source.Items = append(source.Items, corev1.KeyToPath{Key: cluster.Key(folder), Path: cluster.Key(folder)})
			add("placed-"+path.Base(folder), at(folder), memory, false)
		}
		add("given", given, corev1.VolumeSource{Secret: source}, true)
	}
	if r.CA != "" {
		add("ca", cluster.CAFolder, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "ca"}}}, true)
	}
	if len(w.Volumes) > 0 && w.Surges {
		volumes = append(volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: w.Name}}})
	}
	if len(w.Volumes) > 0 {
		mounts = append(mounts, corev1.VolumeMount{Name: "data", MountPath: at("data")})
	}
	return volumes, mounts
}

// items are the files of a Secret or ConfigMap that are in a folder.
func items(folder string, names []string) []corev1.KeyToPath {
	var all []corev1.KeyToPath
	for _, name := range names {
		all = append(all, corev1.KeyToPath{Key: cluster.Key(name), Path: strings.TrimPrefix(name, folder+"/")})
	}
	return all
}
