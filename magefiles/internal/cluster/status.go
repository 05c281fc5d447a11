package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/exitcode"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
)

// Row is a service's status on the cluster as JSON has it.
type Row struct {
	Service  string   `json:"service"`
	State    string   `json:"state"` // ready, starting, failing or absent
	Ready    int      `json:"ready"` // how many copies
	Wanted   int      `json:"wanted"`
	Restarts int      `json:"restarts"`
	Nodes    []string `json:"nodes,omitempty"`
	Address  string   `json:"address,omitempty"` // by which clients reach it
	Why      string   `json:"why,omitempty"`     // what keeps it from being ready
}

// ShowStatus prints how every service is on the cluster, in the form table or json. Its error says what is wrong, with the exit code that
// status has for that on a machine.
func ShowStatus(ctx context.Context, s *stack.Stack, settings Settings, form string) error {
	rows, err := status(ctx, s, settings)
	if err != nil {
		return err
	}
	if form == "json" {
		text, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		fmt.Println(string(text))
	} else {
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "SERVICE\tSTATE\tCOPIES\tRESTARTS\tNODES\tADDRESS")
		for _, row := range rows {
			fmt.Fprintf(table, "%s\t%s\t%d of %d\t%d\t%s\t%s\n", row.Service, row.State, row.Ready, row.Wanted, row.Restarts, strings.Join(row.Nodes, ","), row.Address)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	var wrong []string
	absent := 0
	for _, row := range rows {
		switch {
		case row.State == "absent":
			absent++
		case row.Why != "":
			wrong = append(wrong, row.Service+": "+row.Why)
		case row.State != "ready":
			wrong = append(wrong, fmt.Sprintf("%s: %d of %d copies are ready", row.Service, row.Ready, row.Wanted))
		}
	}
	switch {
	case absent == len(rows):
		return exitcode.New(exitcode.NothingRuns, "nothing of the stack is in the namespace %s: `"+project.Command+" cluster:render` writes what to apply", settings.Namespace)
	case len(wrong) > 0:
		return exitcode.New(exitcode.NotWell, "%s", strings.Join(wrong, "\n"))
	default:
		return nil
	}
}

func status(ctx context.Context, s *stack.Stack, settings Settings) ([]Row, error) {
	workloads, err := settings.Workloads(s.Config, s.Services)
	if err != nil {
		return nil, err
	}
	var controllers list[controller]
	if err := ask(ctx, s, settings, &controllers, "get", "deployments,statefulsets", "--selector=app.kubernetes.io/part-of=sigstore-local"); err != nil {
		return nil, err
	}
	var pods list[pod]
	if err := ask(ctx, s, settings, &pods, "get", "pods", "--selector=app.kubernetes.io/part-of=sigstore-local"); err != nil {
		return nil, err
	}
	var rows []Row
	for _, w := range workloads {
		for _, one := range w.Services {
			row := Row{Service: one.Name, State: "absent"}
			if public := config.PublicPorts(one.Listens); len(public) > 0 {
				row.Address = w.there.PublicURL(public[0])
			}
			at := slices.IndexFunc(controllers.Items, func(c controller) bool { return c.Metadata.Name == w.Name })
			if at >= 0 {
				row.Wanted = controllers.Items[at].Spec.Replicas
				row.count(w.Name, pods.Items)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// count counts the copies of the row's service among the pods of a workload.
func (row *Row) count(workload string, pods []pod) {
	row.State = "starting"
	for _, one := range pods {
		if one.Metadata.Labels["app.kubernetes.io/name"] != workload {
			continue
		}
		if node := one.Spec.NodeName; node != "" && !slices.Contains(row.Nodes, node) {
			row.Nodes = append(row.Nodes, node)
		}
		ready := false
		for _, container := range one.Status.Containers {
			if container.Name != row.Service {
				continue
			}
			ready = container.Ready
			row.Restarts += container.RestartCount
			if waits := container.State.Waiting; waits != nil && strings.HasSuffix(waits.Reason, "BackOff") {
				row.State = "failing"
			}
		}
		if ready {
			row.Ready++
		} else if row.Why == "" {
			row.Why = one.why()
		}
	}
	slices.Sort(row.Nodes)
	if row.Ready >= row.Wanted {
		row.State, row.Why = "ready", ""
	}
}
