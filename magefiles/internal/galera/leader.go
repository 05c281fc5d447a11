package galera

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"time"
)

// leader leads clients' connections to the same copy as all other copies do. Galera would let clients write to any copy, but then two
// writes of the same rows at different copies fail, and a read at one copy may not see what another one has just acknowledged.
type leader struct {
	copy  Copy
	state *shown
	said  *log.Logger

	draining sync.WaitGroup

	mu     sync.Mutex
	host   string // of the leader; empty if none is known
	joined map[*joined]bool
	// addresses are those at which hosts answered last: to ask for them anew for each connection would take longer than many a query.
	addresses map[string]string
}

// errLost says that this copy has lost the others. Its server then refuses clients, and would do so for good if they were started anew: they
// wait for this copy, since it may have the newest data, and it would wait for theirs. So it is started anew too.
var errLost = errors.New("most of the copies are gone")

// patience is how long the others may be gone: a network that comes back joins the servers again, and better than they could be started.
const patience = 20 * time.Second

// run follows who leads, and takes connections at an address once somebody does, until ctx is done. The error is why the server has to end.
func (l *leader) run(ctx context.Context, address string) error {
	late, listening, served, others := 0, false, time.Time{}, time.Time{} // when this copy served last, and when another one did
	lost := false
	// On a busy machine an answer may be late, which is no reason to cut connections.
	defer func() { l.handOver(!lost && time.Since(others) < patience) }()
	for pause(ctx) == nil {
		states, missing := l.copy.ask(ctx)
		serves := l.serves(ctx)
		if ctx.Err() != nil {
			break // and no answer came only because of that
		}
		l.mu.Lock()
		for i, one := range states {
			if one.address != "" {
				l.addresses[l.copy.Copies[i]] = one.address
			}
			if one.Serves {
				others = time.Now()
			}
		}
		l.mu.Unlock()
		states[l.copy.Self] = State{Serves: serves, Leader: l.host}
		if serves {
			served = time.Now()
		} else if !served.IsZero() && time.Since(served) > patience {
			lost = true
			return errLost
		}
		host := choose(l.copy.Copies, states)
		// An answer that is late for once, or says that a server does not serve for once, changes nothing.
		now := slices.Index(l.copy.Copies, l.host)
		if host != l.host && now >= 0 && !states[now].Serves && !states[now].Ends {
			if late++; late < 3 {
				continue
			}
		}
		late = 0
		if host != l.host {
			l.said.Printf("connections are led to %q", host)
			l.lead(host, slices.Contains(missing, l.host))
		}
		if host != "" && !listening {
			if err := l.listen(ctx, address); err != nil {
				l.said.Print(err)
				continue
			}
			listening = true
		}
	}
	return nil
}

// serves asks this copy's server, for as long as others ask it.
func (l *leader) serves(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, asked)
	defer cancel()
	return l.copy.Clustered(ctx)
}

// choose is the host of the leader: that which a copy already has for it, so that a copy that comes back changes nothing, or else the first
// that serves. It is empty if none serves.
func choose(copies []string, states []State) string {
	first := ""
	for i, state := range states {
		if !state.Serves {
			continue
		}
		for j, host := range copies {
			if host == state.Leader && states[j].Serves {
				return host
			}
		}
		if first == "" {
			first = copies[i]
		}
	}
	return first
}

// lead changes the leader. Connections to the one before are ended: at once if it is lost, or else each when nothing is under way on it, or
// after a while.
func (l *leader) lead(host string, lost bool) {
	l.mu.Lock()
	before := l.joined
	l.host, l.joined = host, map[*joined]bool{}
	l.mu.Unlock()
	l.state.change(func(s *State) { s.Leader = host })
	if lost {
		closeAll(before)
	} else {
		l.draining.Go(func() { drain(before) })
	}
}

// handOver ends this copy's part. If it was the leader and others serve, they get the time that they take to notice that, and to end their
// connections to its server when nothing is under way on them.
func (l *leader) handOver(others bool) {
	l.mu.Lock()
	before, was := l.joined, l.host
	l.host, l.joined = "", map[*joined]bool{}
	l.mu.Unlock()
	l.said.Printf("this copy ends, with %d connections to %q; another one serves: %t", len(before), was, others)
	if !others {
		closeAll(before)
		return
	}
	noticed := time.After(drained + 3*time.Second)
	drain(before)
	l.draining.Wait()
	if was == l.copy.Copies[l.copy.Self] {
		<-noticed
	}
}

// joined is a client's connection, and that to a leader which it is joined with.
type joined struct {
	client, server net.Conn
	talk
}

func (j *joined) close() {
	j.mu.Lock()
	j.ended = true
	j.mu.Unlock()
	_ = errors.Join(j.client.Close(), j.server.Close())
}

func closeAll(all map[*joined]bool) {
	for one := range all {
		one.close()
	}
}

// drained is how long connections get to end by themselves.
const drained = 5 * time.Second

// drain ends connections when nothing is under way on them. A client that is about to use one may not notice that it has just been ended, so
// connections that nobody has used for longer are ended first, and one that is used all the time in one of its pauses.
func drain(all map[*joined]bool) {
	for began := time.Now(); len(all) > 0 && time.Since(began) < drained; time.Sleep(5 * time.Millisecond) {
		while := time.Second
		if left := drained - time.Since(began); left < drained/5 {
			while = 20 * time.Millisecond
		} else if left < drained/2 {
			while = 300 * time.Millisecond
		}
		for one := range all {
			if !unread(one.client) && one.end(while) {
				one.close()
				delete(all, one)
			}
		}
	}
	closeAll(all)
}

func (l *leader) listen(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go l.connect(ctx, client)
		}
	}()
	return nil
}

// connect joins a client's connection with one to the leader.
func (l *leader) connect(ctx context.Context, client net.Conn) {
	j, err := l.dial(ctx, client)
	if err != nil {
		l.said.Printf("a client is sent away: %v", err)
		_ = client.Close()
		return
	}
	// Whichever end closes first ends both.
	done := make(chan net.Conn, 2)
	pass := func(to, from net.Conn, says func([]byte) ([]byte, bool)) {
		_, _ = io.Copy(noting{to, says, j.passed}, from) // an error ends the connection, as its end does
		done <- from
	}
	go pass(j.server, client, func(said []byte) ([]byte, bool) { said = rename(said); return said, j.clientSays(said) })
	go pass(client, j.server, func(said []byte) ([]byte, bool) { return said, j.serverSays(said) })
	if first := <-done; first == j.server && j.busy() {
		l.said.Print("the server ends a connection with something under way")
	}
	j.close()
	l.mu.Lock()
	delete(l.joined, j)
	l.mu.Unlock()
}

// noting writes to one end of a joined connection, of which note is taken.
type noting struct {
	to     net.Conn
	says   func([]byte) (pass []byte, more bool)
	passed func()
}

func (n noting) Write(p []byte) (int, error) {
	p, more := n.says(p)
	if !more {
		return 0, net.ErrClosed
	}
	defer n.passed()
	return n.to.Write(p)
}

// Two names of the same variable, of the same length: MariaDB knows the first only since 11.1
// (https://mariadb.com/docs/server/reference/system-variables/tx_isolation).
const (
	isolation       = "\x03SET transaction_isolation"
	isolationBefore = "\x03SET tx_isolation         "
)

// rename lets a client set transaction_isolation. Dex, if it is refused that, opens its connections anew, and then keeps idle ones
// (https://github.com/dexidp/dex/blob/v2.45.1/storage/sql/config.go#L226), whose ends it does not notice: each that is handed over would cost
// somebody a sign-in. A client sends the statement alone, so that what was read begins with it.
func rename(said []byte) []byte {
	const header = 4
	if len(said) <= header || !bytes.HasPrefix(said[header:], []byte(isolation)) {
		return said
	}
	said = slices.Clone(said)
	copy(said[header:], isolationBefore)
	return said
}

// between is how long a new connection is held while one leader follows another.
const between = 5 * time.Second

// dial connects to the leader, and notes the connection with that of the client.
func (l *leader) dial(ctx context.Context, client net.Conn) (*joined, error) {
	why := errors.New("no copy leads")
	for end := time.Now().Add(between); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		l.mu.Lock()
		host, address := l.host, l.addresses[l.host]
		l.mu.Unlock()
		if host == "" {
			continue
		}
		var server net.Conn
		if server, why = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", at(cmp.Or(address, host), serverPort)); why != nil {
			continue
		}
		j := &joined{client: client, server: server}
		l.mu.Lock()
		same := l.host == host
		if same {
			l.joined[j] = true
		}
		l.mu.Unlock()
		if same {
			return j, nil
		}
		_ = server.Close()
		why = fmt.Errorf("%s leads no longer", host)
	}
	return nil, cmp.Or(ctx.Err(), why)
}
