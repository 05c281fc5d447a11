package stack

import (
	"context"
	"fmt"
	"os"

	"sigstore-local/magefiles/internal/service"
)

// ShowLogs prints the last lines of the logs of services, and with follow the lines that come after, until ctx ends. If there
// are several services, each line begins with the name of its service.
func (s *Stack) ShowLogs(ctx context.Context, services []service.Service, lines int, follow bool) error {
	readers := make([]*service.LogReader, len(services))
	width := 0
	for i, one := range services {
		readers[i] = service.NewLogReader(s.Config.Log(one.Name), lines)
		defer readers[i].Close()
		width = max(width, len(one.Name))
	}
	return service.ReadLogs(ctx, readers, follow, func(i int, line string) error {
		mark := ""
		if len(services) > 1 {
			mark = fmt.Sprintf("%-*s | ", width, services[i].Name)
		}
		_, err := fmt.Fprintln(os.Stdout, mark+line)
		return err
	})
}
