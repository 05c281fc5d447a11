package stack

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/service"
)

// Scratch is a folder of what must not outlive this process: throwaway stacks, an attacker's daemons and keys. However this
// process ends, the program sweep then ends the daemons and deletes the folder.
type Scratch struct {
	Dir string

	sweeper *exec.Cmd
	alive   io.Closer // sweep sees it closed, by Close or with this process
}

// longestInScratch is the longest path of a socket in a scratch folder, below it.
const longestInScratch = "/attacker/run/mariadb.sock"

// NewScratch makes a scratch folder: in the state folder, since the stack's secrets can be copied into it, or in that of
// temporary files if paths in the state folder are too long for sockets.
func (s *Stack) NewScratch() (*Scratch, error) {
	parent := filepath.Join(s.Config.State, "tmp")
	if len(parent)+len("/scratch-1234567890"+longestInScratch) > config.MaxSocketPath() {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "scratch-")
	if err != nil {
		return nil, err
	}
	sweeper := exec.Command(s.Config.Program("sweep"), dir)
	// Neither Ctrl-C nor a closed terminal ends it.
	sweeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := sweeper.StdinPipe()
	if err == nil {
		err = sweeper.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", err, os.RemoveAll(dir))
	}
	return &Scratch{dir, sweeper, alive}, nil
}

// Close ends what runs in the folder, and deletes it.
func (s *Scratch) Close() error {
	_ = s.alive.Close()
	if err := s.sweeper.Wait(); err != nil {
		return fmt.Errorf("clear %s away: %w", s.Dir, err)
	}
	return nil
}

// quiet is a console that nobody sees.
func quiet() (*console.Console, error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return console.New(null, os.Getenv), nil
}

// with is the same stack with another configuration, which shows nothing of what it does.
func (s *Stack) with(c config.Config) (*Stack, error) {
	out, err := quiet()
	return &Stack{
		Descriptions: s.Descriptions, Config: c, Console: out,
		Engine: &service.Engine{Config: c, Console: out, StartTimeout: StartTimeout},
	}, err
}

// Beside is a stack in the folder state whose services can run beside those of s: with the same settings and programs, and
// with free ports in the place of those that the services in own listen on. The other ports are those of s: what is in own
// can use the services of s.
func (s *Stack) Beside(state string, own ...string) (*Stack, error) {
	ports := map[config.Port]int{}
	for _, one := range s.All() {
		if !slices.Contains(own, one.Name) {
			continue
		}
		for _, port := range one.Listens {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			// Until all are found, so that they differ.
			defer l.Close()
			ports[port] = l.Addr().(*net.TCPAddr).Port
		}
	}
	c, err := s.Config.Beside(state, ports)
	if err != nil {
		return nil, err
	}
	return s.with(c)
}

// freePorts finds an offset with which every port is free and none is of taken, by the offset of another stack.
func (s *Stack) freePorts(taken ...int) (map[config.Port]int, error) {
	// Anywhere, since two that look at the same time see the same ports free.
	for offset := 12000 + rand.IntN(6000); offset < 24000; offset += 7 {
		ports := map[config.Port]int{}
		for _, port := range s.Config.Ports() {
			ports[port] = port.Default + offset
		}
		c, err := s.Config.Beside(s.Config.State, ports)
		if err != nil {
			return nil, err
		}
		numbers := slices.Collect(maps.Values(ports))
		if !slices.ContainsFunc(s.Config.Ports(), func(port config.Port) bool { return service.PortFree(c, port) != nil }) &&
			!slices.ContainsFunc(taken, func(number int) bool { return slices.Contains(numbers, number) }) {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no offset leaves all ports free for a throwaway stack")
}
