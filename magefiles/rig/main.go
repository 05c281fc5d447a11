// Command rig runs a real Kubernetes of up to two nodes for tests, in namespaces of its own. README.md says how to use it.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A spec is all that the rig's processes need to know. It is handed on as an argument, so it holds no secrets.
type spec struct {
	Dir      string        // the caller's folder
	Programs string        // the folder of the built programs
	Nodes    int           // how many nodes there are
	Node     int           // which of them this process is, from 1
	Timeout  time.Duration // for becoming ready
	Groups   []groupMount  // the control group hierarchies, if there are nodes
}

// state is the folder of all that is removed at the end. Logs are beside it, and stay.
func (s spec) state(elements ...string) string {
	return filepath.Join(append([]string{s.Dir, "state"}, elements...)...)
}

// The rig is a chain of processes, each of which is the same program in another role:
//
//	rig      what the caller sees; may be killed in any way
//	keeper   notices that rig has ended, ends the rest, and removes what is left; in a session of its own
//	init     the first process of the PID namespace: when it ends, the kernel ends all others
//	control  in the namespace "outside": the network, the control plane, and the nodes' processes
//	node     one a node: containerd, kubelet and kube-proxy
func main() {
	// A child that is to be killed when its parent ends (Pdeathsig) is killed when the parent's thread ends. This keeps it.
	runtime.LockOSThread()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	roles := map[string]func(spec) error{"keeper": keeper, "init": first, "control": control, "node": node}
	if len(args) == 2 && roles[args[0]] != nil {
		var s spec
		if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
			return fmt.Errorf("%s: read the argument: %w", args[0], err)
		}
		return roles[args[0]](s)
	}

	flags := flag.NewFlagSet("rig", flag.ExitOnError)
	s := spec{}
	flags.IntVar(&s.Nodes, "nodes", 2, "the number of nodes: 0 (only the control plane; needs no root), 1 or 2")
	flags.StringVar(&s.Dir, "dir", "", "the folder for logs and for everything else that the rig writes")
	flags.StringVar(&s.Programs, "programs", "", "a folder with the programs, as -build prints it; without it they are built if need be")
	flags.DurationVar(&s.Timeout, "timeout", time.Minute, "how long becoming ready may take, once all is built")
	jobs := flags.Int("jobs", 0, "how many compilations run at once (go build -p)")
	only := flags.Bool("build", false, "only build the programs, and print their folder")
	_ = flags.Parse(args) // ends the program itself
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q; try -help", flags.Arg(0))
	}
	if s.Programs == "" {
		var err error
		if s.Programs, err = build(*jobs); err != nil {
			return fmt.Errorf("build the programs: %w", err)
		}
	}
	if *only {
		fmt.Println(s.Programs)
		return nil
	}
	if err := s.check(); err != nil {
		return err
	}
	return front(s)
}

// check makes paths absolute, makes the folder, and finds what would only fail later, and less clearly.
func (s *spec) check() error {
	if s.Dir == "" {
		return errors.New("-dir is missing: the folder for logs and for everything else that the rig writes")
	}
	if s.Nodes < 0 || s.Nodes > 2 {
		return fmt.Errorf("-nodes=%d: accepted are 0, 1 and 2", s.Nodes)
	}
	for _, p := range []*string{&s.Dir, &s.Programs} {
		absolute, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find %s: %w", *p, err)
		}
		*p = absolute
	}
	if s.Nodes > 0 {
		if os.Geteuid() != 0 {
			return errors.New("nodes need root; -nodes=0 does not")
		}
		for _, p := range []string{s.Dir, s.Programs} {
			for _, covered := range coveredFolders {
				if strings.HasPrefix(p+"/", covered+"/") {
					return fmt.Errorf("%s is below %s, of which the nodes see an empty one; choose another folder", p, covered)
				}
			}
		}
		for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "nft", "iptables", "/usr/lib/cni/bridge"} {
			if _, err := exec.LookPath(program); err != nil {
				return fmt.Errorf("%w; on Debian: apt-get install containerd runc nftables iptables containernetworking-plugins", err)
			}
		}
		if path := s.containerd(2); len(path) > 107 {
			return fmt.Errorf("%s is too long for a socket; choose a shorter -dir", path)
		}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("%w; on Debian: apt-get install iproute2", err)
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	// One of an earlier rig would be used as it is.
	if err := os.Mkdir(s.state(), 0o755); err != nil {
		return fmt.Errorf("%w; is another rig running there?", err)
	}
	return nil
}

// self is the same program in another role.
func self(role string, s spec) (*exec.Cmd, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	argument, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(executable, role, string(argument))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd, nil
}

// front runs the keeper until this process is told to end, and then waits for it.
func front(s spec) error {
	cmd, err := self("keeper", s)
	if err != nil {
		return err
	}
	// The keeper takes the end of its standard input as its order to stop. However this process ends, the kernel closes that.
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Setsid = true // so that Ctrl-C spares it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		_ = pipe.Close()
	}()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = pipe.Close()
	}()
	if err := cmd.Wait(); err != nil {
		return errors.New("failed; what is above says why")
	}
	return nil
}
