package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/service"
)

// Scratch is a folder for throwaway stacks and for an attacker's daemons and keys, which must not outlive this process. When
// this process ends, in whatever way, the program sweep ends the daemons and deletes the folder.
type Scratch struct {
	Dir string

	stack   *Stack
	sweeper *exec.Cmd
	said    *bytes.Buffer  // what the sweeper has printed
	alive   io.WriteCloser // the sweeper's standard input; closed by Close, or when this process ends
	short   *Scratch       // for stacks whose sockets' paths would be too long in Dir; nil until there is one
}

// NewScratch makes a scratch folder in the state folder, since the stack's secrets can be copied into it.
func (s *Stack) NewScratch() (*Scratch, error) {
	return s.newScratch(filepath.Join(s.Config.State, "tmp"))
}

func (s *Stack) newScratch(parent string) (*Scratch, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "s")
	if err != nil {
		return nil, err
	}
	made := &Scratch{Dir: dir, stack: s, sweeper: exec.Command(s.Config.Program("sweep"), dir), said: &bytes.Buffer{}}
	made.sweeper.Stderr = made.said
	// Neither Ctrl-C nor a closed terminal ends it.
	made.sweeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	made.alive, err = made.sweeper.StdinPipe()
	if err == nil {
		err = made.sweeper.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return made, nil
}

// Path is the path of something in the folder.
func (s *Scratch) Path(name string) string { return filepath.Join(s.Dir, name) }

// throwaway is the folder of a throwaway stack called name, which has secrets of its own alone. If MariaDB's socket would have
// too long a path in the scratch folder, it is in one of the system's folder of temporary files.
func (s *Scratch) throwaway(name string) (string, error) {
	if len(s.Path(name)+"/run/mariadb.sock") <= config.MaxSocketPath() {
		return s.Path(name), nil
	}
	if s.short == nil {
		var err error
		if s.short, err = s.stack.newScratch(os.TempDir()); err != nil {
			return "", err
		}
	}
	return s.short.Path(name), nil
}

// Close ends the daemons of the folder, and deletes the folder.
func (s *Scratch) Close() error {
	_, _ = io.WriteString(s.alive, "\n") // by which sweep knows that no command is left that could start anything
	_ = s.alive.Close()
	err := s.sweeper.Wait()
	if err != nil {
		err = fmt.Errorf("clear %s away: %w: %s", s.Dir, err, strings.TrimSpace(s.said.String()))
	}
	if s.short != nil {
		err = errors.Join(err, s.short.Close())
	}
	return err
}

// quiet is a console whose output is discarded.
func quiet() (*console.Console, error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return console.New(null, os.Getenv), nil
}

// with is the same stack with another configuration and a quiet console.
func (s *Stack) with(c config.Config) (*Stack, error) {
	out, err := quiet()
	return newStack(c, out, s.Descriptions), err
}

// Beside is a stack in the folder state with the settings and programs of s. Its services in own run beside those of s, on
// free ports. All other ports are those of s, so that the services in own can use the services of s.
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
			// Each port stays taken until all are found, so that they differ.
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

// ThrowawayOffset is the smallest offset of the ports of throwaway stacks. The end-to-end tests give their stacks ports below all that
// come of it, so that none of them takes a port between its being found free and its use. With the largest offset, every port is still
// below those that Linux gives to connections: 32768 and more (net.ipv4.ip_local_port_range).
const ThrowawayOffset = 21000

// freePorts finds an offset with which every port is free and not in taken, the ports of stacks that do not run yet.
func (s *Stack) freePorts(taken ...int) (map[config.Port]int, error) {
	// The search begins at random, since two processes that search at the same time find the same ports free. No two default ports are
	// a small multiple of seven apart, so two offsets that are have no port in common.
	for offset := ThrowawayOffset + 7*rand.IntN(350); offset < 24500; offset += 7 {
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
	return nil, errors.New("no offset leaves all ports free for a throwaway stack")
}
