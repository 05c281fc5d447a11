package galera

import (
	"cmp"
	"encoding/binary"
	"net"
	"sync"
	"syscall"
	"time"
)

// talk follows what a client and a server say to each other, as far as it takes to know whether something is under way
// (https://mariadb.com/docs/server/reference/clientserver-protocol). Its zero value is of a connection on which nothing was said yet.
//
// It does not count the packets of an answer: rows of a prepared statement, and the end of the columns before the rows, look like the end of
// an answer to it until the rest arrives. Nor does it forget a statement that was prepared and never executed. So a connection that is quiet
// has to be so for a while, and one that is not is to be ended at some time.
type talk struct {
	mu       sync.Mutex
	asks     packets // the client's
	answers  packets // the server's
	loggedIn bool
	waits    bool // one of them waits for the other, or for the rest of what it says
	prepared bool // a statement was prepared, and is about to be executed
	open     bool // a transaction is
	passing  int  // how much of what was said has not been passed on yet
	last     time.Time
	ended    bool // nothing more is passed on
}

// Commands (https://mariadb.com/docs/server/reference/clientserver-protocol/2-text-protocol), and the flag of a server in a transaction.
const (
	comQuit         = 0x01
	comStmtPrepare  = 0x16
	comSendLongData = 0x18
	comStmtClose    = 0x19

	inTransaction = 0x0001
)

// clientSays takes note of what a client sends. It may be passed on only if it returns true, and passed has to be called then.
func (t *talk) clientSays(said []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waits = true
	t.asks.add(said, func(sequence byte, head []byte, _ int) {
		if !t.loggedIn || sequence != 0 || len(head) == 0 {
			return
		}
		switch head[0] {
		case comQuit, comStmtClose, comSendLongData: // are not answered
			t.waits = false
		default:
			t.waits, t.prepared = true, head[0] == comStmtPrepare
		}
	})
	t.waits = t.waits || t.asks.partial()
	return t.begin()
}

// serverSays takes note of what a server sends, as clientSays does.
func (t *talk) serverSays(said []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waits = true
	t.answers.add(said, func(_ byte, head []byte, length int) {
		flags, ends := status(head, length)
		fails := length > 0 && head[0] == 0xff
		if !t.loggedIn {
			t.loggedIn = ends && head[0] == 0x00
		}
		if ends && !t.prepared { // the answer to that begins with a packet of another form
			t.open = flags&inTransaction != 0
		}
		t.prepared = t.prepared && !fails
		t.waits = !ends && !fails
	})
	t.waits = t.waits || t.answers.partial()
	return t.begin()
}

func (t *talk) begin() bool {
	if t.ended {
		return false
	}
	t.passing++
	return true
}

// passed takes note that what was said has been passed on.
func (t *talk) passed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passing--
	t.last = time.Now()
}

// end ends the talk if nothing is under way, and nothing was said for a while. It says whether it has.
func (t *talk) end(while time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = t.ended || t.quiet(while)
	return t.ended
}

// quiet is what end asks, with mu locked.
func (t *talk) quiet(while time.Duration) bool {
	return t.loggedIn && !t.waits && !t.prepared && !t.open && t.passing == 0 && time.Since(t.last) > while
}

// busy says whether somebody who has logged in has something under way.
func (t *talk) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.ended && t.loggedIn && (t.waits || t.prepared || t.open)
}

// status is the state of a server in a packet that ends an answer, OK or EOF
// (https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets/ok_packet).
func status(head []byte, length int) (flags uint16, ends bool) {
	switch {
	case length == 5 && len(head) == 5 && head[0] == 0xfe:
		return binary.LittleEndian.Uint16(head[3:]), true
	case length > 0 && (head[0] == 0x00 || head[0] == 0xfe):
		rest := head[1:]
		for range 2 { // how many rows, and the last ID that was given, are before it
			if len(rest) == 0 {
				return 0, false
			}
			size := cmp.Or(map[byte]int{0xfc: 3, 0xfd: 4, 0xfe: 9}[rest[0]], 1)
			if len(rest) < size {
				return 0, false
			}
			rest = rest[size:]
		}
		if len(rest) >= 2 {
			return binary.LittleEndian.Uint16(rest), true
		}
	}
	return 0, false
}

// packets are those that one side sends.
type packets struct {
	header []byte // its length in three bytes, and its place in a sequence
	head   []byte // the beginning of its content
	left   int    // of its content
}

// add calls each for every packet that is complete with what is said now.
func (p *packets) add(said []byte, each func(sequence byte, head []byte, length int)) {
	const kept = 32
	for len(said) > 0 {
		if missing := 4 - len(p.header); missing > 0 {
			n := min(missing, len(said))
			p.header, said = append(p.header, said[:n]...), said[n:]
			if len(p.header) < 4 {
				return
			}
			p.head, p.left = p.head[:0], p.length()
		}
		n := min(p.left, len(said))
		p.head = append(p.head, said[:min(n, kept-len(p.head))]...)
		said, p.left = said[n:], p.left-n
		if p.left == 0 {
			each(p.header[3], p.head, p.length())
			p.header = p.header[:0]
		}
	}
}

func (p *packets) length() int {
	return int(p.header[0]) | int(p.header[1])<<8 | int(p.header[2])<<16
}

func (p *packets) partial() bool { return len(p.header) > 0 }

// unread says whether something has arrived on a connection that nobody has read yet.
func unread(connection net.Conn) (yes bool) {
	under, ok := connection.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := under.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(descriptor uintptr) { // an error means that it is closed
		n, _, err := syscall.Recvfrom(int(descriptor), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		yes = err == nil && n > 0
	})
	return yes
}
