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
type talk struct {
	mu       sync.Mutex
	client   packets
	server   packets
	loggedIn bool
	waits    bool // one of them waits for the other, or for the rest of what it says
	prepared bool // a statement was prepared, and is about to be executed
	open     bool // a transaction is
	last     time.Time
}

// Commands (https://mariadb.com/docs/server/reference/clientserver-protocol/2-text-protocol), and the flag of a server in a transaction.
const (
	comQuit         = 0x01
	comStmtPrepare  = 0x16
	comSendLongData = 0x18
	comStmtClose    = 0x19

	inTransaction = 0x0001
)

// clientSays takes note of what a client sends.
func (t *talk) clientSays(said []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.waits = time.Now(), true
	t.client.add(said, func(sequence byte, head []byte, _ int) {
		if !t.loggedIn || sequence != 0 || len(head) == 0 {
			return
		}
		t.prepared = head[0] == comStmtPrepare
		// These are not answered.
		t.waits = head[0] != comQuit && head[0] != comStmtClose && head[0] != comSendLongData
	})
	t.waits = t.waits || t.client.partial()
}

// serverSays takes note of what a server sends.
func (t *talk) serverSays(said []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.waits = time.Now(), true
	t.server.add(said, func(_ byte, head []byte, length int) {
		flags, ends := status(head, length)
		if !t.loggedIn {
			t.loggedIn = ends && head[0] == 0x00
		}
		if ends && !t.prepared { // the answer to that begins with a packet of another form
			t.open = flags&inTransaction != 0
		}
		t.waits = !ends && (len(head) == 0 || head[0] != 0xff)
	})
	t.waits = t.waits || t.server.partial()
}

// quiet says whether nothing is under way, and nothing was said for a while.
func (t *talk) quiet(while time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.loggedIn && !t.waits && !t.prepared && !t.open && time.Since(t.last) > while
}

// status is the state of a server in a packet that may end an answer, OK or EOF
// (https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets/ok_packet). A row may look like one; the packet
// that ends the rows follows it.
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
