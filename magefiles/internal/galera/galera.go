// Package galera runs a MariaDB as one of several copies that all hold the same data: a write is acknowledged only once all copies have it
// (Galera, https://mariadb.com/kb/en/what-is-mariadb-galera-cluster/). It decides which copy starts a cluster when none runs, which
// Galera leaves to an administrator, copies the data folder to a copy that has none, or too old a one, and leads the connections of
// clients to one copy, the leader, at whichever copy they arrive.
package galera

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"sigstore-local/magefiles/internal/config"
)

// Provider is where Debian's package galera-4 has the library that mariadbd loads.
const Provider = "/usr/lib/galera/libgalera_smm.so"

// Ports are those that the copies use among each other. Each copy listens on its own address alone. The first takes connections as long as
// the copy lives, also while it waits for others.
func Ports() []config.Port {
	return []config.Port{statePort, serverPort, groupPort, incrementalPort, transferPort}
}

// The numbers of the first three are Galera's own (https://mariadb.com/kb/en/configuring-mariadb-galera-cluster/#network-ports).
var (
	groupPort       = config.Port{Name: "GALERA", Default: 4567}       // what is written
	incrementalPort = config.Port{Name: "GALERA_IST", Default: 4568}   // what a copy has missed
	transferPort    = config.Port{Name: "GALERA_SST", Default: 4444}   // whole data folders
	statePort       = config.Port{Name: "GALERA_STATE", Default: 4569} // State, over HTTP
	serverPort      = config.Port{Name: "GALERA_SQL", Default: 3307}   // the server of a copy, for the connections that others lead to it
)

// State is what a copy says of itself to the others.
type State struct {
	// Waiting says that it runs no server yet, since it has not found out what to do.
	Waiting bool `json:"waiting"`
	// Joinable says that others can join a cluster by way of this copy.
	Joinable bool `json:"joinable"`
	// Serves says that its server takes writes.
	Serves bool `json:"serves"`
	// Ends says that it is about to be ended.
	Ends bool `json:"ends"`
	// Leader is the host of the copy to which it leads connections; empty if it knows none.
	Leader   string   `json:"leader"`
	Position Position `json:"position"` // while it waits

	address string // at which it answered
}

// shown is the State that others are shown.
type shown struct {
	mu  sync.Mutex
	now State
}

func (s *shown) get() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *shown) change(how func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how(&s.now)
}

// Copy is one of the copies.
type Copy struct {
	Copies []string // the host names or addresses of all, in an order that is the same for all
	Self   int      // the index of this one
	Dir    string   // the data folder
	Server []string // mariadbd and its arguments, except those that this package adds
	// Clustered says whether the running server is in a cluster that takes writes.
	Clustered func(context.Context) bool
	Out       io.Writer // what is decided, and the server's own log
}

// interval is how often a copy asks the others while it waits.
const interval = 500 * time.Millisecond

// asked is how long a copy, or its server, has to say whether it serves.
const asked = 2 * time.Second

// Run runs the server until it ends, or until ctx is done, upon which it ends the server in good order. The error is the server's.
func (c Copy) Run(ctx context.Context) error {
	said := log.New(c.Out, "galera: ", 0)
	address, err := c.address(ctx)
	if err != nil {
		return err
	}
	if err := discardIncomplete(c.Dir); err != nil {
		return err
	}
	position, err := c.position(ctx)
	if err != nil {
		return err
	}
	said.Printf("this copy has %s", position)
	state := &shown{now: State{Waiting: true, Position: position}}
	listener, err := net.Listen("tcp", at(address, statePort))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: c.states(ctx, state), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // returns when it is closed
	defer server.Close()
	first, err := c.decide(ctx, position, said)
	if err != nil {
		return err
	}
	state.change(func(s *State) { *s = State{Joinable: first} })
	lead := &leader{copy: c, state: state, said: said, addresses: map[string]string{c.Copies[c.Self]: address}}
	leading, stop := context.WithCancel(ctx)
	defer stop()
	// The server ends once its part is handed over.
	serving, end := context.WithCancelCause(context.WithoutCancel(ctx))
	go func() { end(lead.run(leading, at(address, config.MariaDB))) }()
	return c.serve(serving, address, position, first, said)
}

// states answers with the state of this copy. Once ctx is done it serves no longer, though its server may still run for a while.
func (c Copy) states(ctx context.Context, state *shown) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := state.get()
		if ctx.Err() != nil {
			now = State{Ends: true}
		} else if !now.Waiting && c.Clustered(r.Context()) {
			now.Joinable, now.Serves = true, true
			// From now on the server's own answer counts: it may lose the others.
			state.change(func(s *State) { s.Joinable = false })
		}
		_ = json.NewEncoder(w).Encode(now) // the other end sees an incomplete answer
	})
}

// address is the IP address of this copy. A name that has just been given is not known everywhere at once.
func (c Copy) address(ctx context.Context) (string, error) {
	host := c.Copies[c.Self]
	for {
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		if err == nil {
			return found[0], nil
		}
		if err := pause(ctx); err != nil {
			return "", fmt.Errorf("the address of %s is not known: %w", host, err)
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(interval):
		return nil
	}
}

func at(host string, port config.Port) string {
	return net.JoinHostPort(host, strconv.Itoa(port.Default))
}

// decide waits until it is clear whether this copy starts a cluster, or joins one that runs. A cluster is started only when all copies are
// there and none of them runs, by the one with the newest data: so nothing is lost that any of them has, and there are never two clusters.
func (c Copy) decide(ctx context.Context, position Position, said *log.Logger) (first bool, err error) {
	last := ""
	for {
		states, missing := c.ask(ctx)
		for i, state := range states {
			if state.Joinable {
				if position.alone() {
					return false, fmt.Errorf("this copy has %s, and the cluster of %s would replace it: delete the volume of the one whose data is not wanted", position, c.Copies[i])
				}
				said.Printf("this copy joins the cluster of %s", c.Copies[i])
				return false, nil
			}
		}
		why := ""
		if len(missing) > 0 {
			why = "waiting for an answer of " + strings.Join(missing, ", ")
		} else {
			states[c.Self] = State{Waiting: true, Position: position}
			best, err := newest(states)
			if err == nil && best == c.Self {
				said.Print("this copy starts the cluster")
				return true, nil
			}
			if err != nil {
				why = err.Error()
			} else {
				why = fmt.Sprintf("waiting for %s, which starts the cluster", c.Copies[best])
			}
		}
		if why != last {
			said.Print(why)
			last = why
		}
		if err := pause(ctx); err != nil {
			return false, err
		}
	}
}

// ask asks the other copies for their states; that of this copy stays zero. Missing are those that do not answer.
func (c Copy) ask(ctx context.Context) (states []State, missing []string) {
	states, errs := make([]State, len(c.Copies)), make([]error, len(c.Copies))
	var wg sync.WaitGroup
	for i, host := range c.Copies {
		if i != c.Self {
			wg.Go(func() { errs[i] = stateOf(ctx, host, &states[i]) })
		}
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			states[i], missing = State{}, append(missing, c.Copies[i])
		}
	}
	return states, missing
}

func stateOf(ctx context.Context, host string, state *State) error {
	ctx, cancel := context.WithTimeout(ctx, asked)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at(host, statePort), nil)
	if err != nil {
		return err
	}
	address := ""
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
		connection, err := (&net.Dialer{}).DialContext(ctx, network, host)
		if err == nil {
			address, _, err = net.SplitHostPort(connection.RemoteAddr().String())
		}
		return connection, err
	}}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	err = json.NewDecoder(response.Body).Decode(state)
	state.address = address
	return err
}

// newest is the index of the copy that starts a cluster: of those with the newest data the first.
func newest(states []State) (int, error) {
	best := 0
	for i, state := range states {
		if !state.Waiting {
			return 0, errors.New("waiting for a copy that is about to join")
		}
		here, there := state.Position, states[best].Position
		if here.Data && there.Data && here.Cluster != there.Cluster {
			return 0, errors.New("the copies have data of different clusters: delete the volumes of those whose data is not wanted")
		}
		if here.newer(there) {
			best = i
		}
	}
	return best, nil
}

// AnyHasData says whether another copy has data, by way of its server or while it waits. All of them have to answer.
func (c Copy) AnyHasData(ctx context.Context) (bool, error) {
	states, missing := c.ask(ctx)
	for _, state := range states {
		if state.Joinable || state.Position.Data {
			return true, nil
		}
	}
	if len(missing) > 0 {
		return false, fmt.Errorf("no answer of %s", strings.Join(missing, ", "))
	}
	return false, nil
}

// serve runs the server.
func (c Copy) serve(ctx context.Context, address string, position Position, first bool, said *log.Logger) error {
	folder, err := transferProgram()
	if err != nil {
		return err
	}
	args := c.args("--wsrep-cluster-name=sigstore-local",
		"--wsrep-cluster-address=gcomm://"+strings.Join(c.Copies, ","), "--wsrep-node-address="+address, "--wsrep-node-name="+c.Copies[c.Self],
		// Clients come by way of leaders.
		"--port="+strconv.Itoa(serverPort.Default), "--bind-address="+address,
		"--thread-handling=one-thread-per-connection",
		"--wsrep-provider-options="+strings.Join([]string{
			"gmcast.listen_addr=tcp://" + at(address, groupPort),
			"ist.recv_addr=" + at(address, incrementalPort), "ist.recv_bind=" + at(address, incrementalPort),
			// Which copy starts a cluster is decided here, and nowhere else.
			"pc.recovery=no",
		}, ";"))
	if first {
		args = append(args, "--wsrep-new-cluster")
		if err := allowStart(c.Dir); err != nil {
			return err
		}
	}
	if position.Data && position.Cluster != noCluster {
		args = append(args, fmt.Sprintf("--wsrep-start-position=%s:%d", position.Cluster, position.Number))
	}
	command := exec.CommandContext(ctx, c.Server[0], args...)
	command.Env = append(os.Environ(), "PATH="+folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	command.Stdout, command.Stderr = c.Out, c.Out
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = time.Minute // as long as a pod may take to end
	err = command.Run()
	if cause := context.Cause(ctx); errors.Is(cause, errLost) {
		return cause
	}
	if ctx.Err() != nil && command.ProcessState != nil && command.ProcessState.Success() {
		return nil
	}
	said.Printf("mariadbd has ended: %v", err)
	return err
}

// args are the server's arguments, with those that Galera always wants, and more.
func (c Copy) args(more ...string) []string {
	return slices.Concat(c.Server[1:], []string{
		"--wsrep-on=ON", "--wsrep-provider=" + Provider, "--wsrep-sst-method=" + strings.TrimPrefix(transferName, "wsrep_sst_"),
		"--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
	}, more)
}

// transferProgram makes a folder in which mariadbd finds this program as the one that copies data folders. It is the same one each time, so that a
// copy that is killed again and again leaves one folder.
func transferProgram() (folder string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	folder = filepath.Join(os.TempDir(), "galera")
	link := filepath.Join(folder, transferName)
	return folder, errors.Join(os.MkdirAll(folder, 0o700), os.RemoveAll(link), os.Symlink(self, link))
}
