package cluster

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/hold"
	"sigstore-local/magefiles/internal/service"
)

// proxyPort is where the proxy answers that it works.
var proxyPort = config.Port{Name: "PROXY", Default: 8089}

// Direct is the name of the Kubernetes Service by which the proxy reaches the only copy of a service.
func Direct(service string) string { return service + "-direct" }

// passed are the services of all that clients reach and that are away while they are replaced. Clients of MariaDB do not speak HTTP; it
// has copies of its own.
func (s Settings) passed(all []service.Service) []service.Service {
	var passed []service.Service
	for _, one := range all {
		if !s.surges(one) && len(config.PublicPorts(one.Listens)) > 0 {
			passed = append(passed, one)
		}
	}
	return passed
}

// proxy is the workload that takes the requests for some services, so that they wait while those are replaced.
func (s Settings) proxy(passed []service.Service) Workload {
	one := proxyService(passed)
	// If its only copy were on a node that is drained, none of them could be reached.
	w := Workload{Name: one.Name, Services: []service.Service{one}, Replicas: cmp.Or(s.Services[one.Name].Replicas, 2), Surges: true}
	for _, behind := range passed {
		w.Passes, w.Uses = append(w.Passes, behind.Name), append(w.Uses, behind.Name)
	}
	return w
}

// proxyService describes what runs in the proxy's pods. It is part of no stack on a machine, where a restart takes a fraction of a second.
func proxyService(passed []service.Service) service.Service {
	args := []string{"pass", "-ready=" + strconv.Itoa(proxyPort.Default)}
	for _, behind := range passed {
		for _, port := range behind.Listens {
			args = append(args, fmt.Sprintf("%d=%s:%d", port.Default, Direct(behind.Name), port.Default))
		}
	}
	return service.Service{
		Name:    "proxy",
		About:   "takes requests for services that have one copy, which wait while that is replaced",
		Program: program("data"),
		Args:    args,
		Listens: []config.Port{proxyPort},
		// An update waits 5 seconds, then it finishes what is under way.
		Grace: hold.Most + 15*time.Second,
		Ready: service.Answers("http://127.0.0.1:" + strconv.Itoa(proxyPort.Default) + "/"),
	}
}
