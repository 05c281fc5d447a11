package galera

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// What a client and a server said to each other: the server's lines begin with <. Each is a packet's sequence and content.
func TestNothingIsUnderWayBetweenTransactions(t *testing.T) {
	const (
		ok       = "<1 \x00\x00\x00\x02\x00\x00\x00"             // autocommit
		opened   = "<1 \x00\x00\x00\x03\x00\x00\x00"             // and in a transaction
		many     = "<1 \x00\xfc\x01\x02\xfd\x01\x02\x03\x03\x00" // the same, with longer numbers before it
		greeting = "<0 \x0a10.11"
		login    = ">1 user"
		again    = "<2 \xfemysql_native_password\x00"
		password = ">3 secret"
		begin    = ">0 \x03BEGIN"
		query    = ">0 \x03SELECT 1"
		columns  = "<1 \x01"
		column   = "<2 \x03def"
		row      = "<4 \x011"
		empty    = "<4 \x00" // a text without letters
		end      = "<5 \xfe\x00\x00\x02\x00"
		endOpen  = "<5 \xfe\x00\x00\x03\x00"
		endNow   = "<5 \xfe\x00\x00\x02\x00\x00\x00" // the form of most clients
		endNowIn = "<5 \xfe\x00\x00\x03\x00\x00\x00"
		failed   = "<1 \xff\x51\x04no"
		prepare  = ">0 \x16SELECT ?"
		prepared = "<1 \x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
		execute  = ">0 \x17\x01"
		data     = ">0 \x18\x01\x00\x00\x00\x00\x00long"
		closes   = ">0 \x19\x01\x00\x00\x00"
	)
	in := []string{greeting, login, ok}
	for name, one := range map[string]struct {
		said  []string
		quiet bool
	}{
		"nothing":                     {nil, false},
		"a greeting":                  {[]string{greeting}, false},
		"a login":                     {[]string{greeting, login}, false},
		"a login in another way":      {[]string{greeting, login, again, password}, false},
		"logged in":                   {in, true},
		"logged in in another way":    {[]string{greeting, login, again, password, ok}, true},
		"a query":                     {append(in, query), false},
		"the beginning of an answer":  {append(in, query, columns, column), false},
		"rows":                        {append(in, query, columns, column, end, row), false},
		"an answer":                   {append(in, query, columns, column, end, row, end), true},
		"an empty text":               {append(in, query, columns, column, end, empty, end), true},
		"an answer in another form":   {append(in, query, columns, column, row, endNow), true},
		"that in a transaction":       {append(in, begin, opened, query, columns, column, row, endNowIn), false},
		"a statement without columns": {append(in, prepare, prepared), false},
		"a statement that is wrong":   {append(in, prepare, failed), true},
		"data for a statement":        {append(in, prepare, prepared, column, end, data), false},
		"an error":                    {append(in, query, failed), true},
		"a transaction":               {append(in, begin, opened), false},
		"an error in a transaction":   {append(in, begin, opened, query, failed), false},
		"a query in a transaction":    {append(in, begin, opened, query, columns, column, endOpen, row, endOpen), false},
		"many rows in a transaction":  {append(in, begin, opened, query, many), false},
		"the end of a transaction":    {append(in, begin, opened, query, many, query, ok), true},
		"a statement that is ready":   {append(in, prepare, prepared, column, end), false},
		"a statement that was run":    {append(in, prepare, prepared, column, end, execute, ok), true},
		"a statement that was closed": {append(in, prepare, prepared, column, end, execute, ok, closes), true},
		"a query after that":          {append(in, closes, query), false},
	} {
		for size := range 8 { // the packets arrive in pieces
			var talk talk
			for _, packet := range one.said {
				side, rest := packet[0], packet[3:]
				bytes := append([]byte{byte(len(rest)), 0, 0, packet[1] - '0'}, rest...)
				for len(bytes) > 0 {
					n := min(size+1, len(bytes))
					if side == '<' {
						talk.serverSays(bytes[:n])
					} else {
						talk.clientSays(bytes[:n])
					}
					if talk.quiet(-1) {
						t.Errorf("%s: nothing is under way though %q is not passed on", name, packet)
					}
					talk.passed()
					bytes = bytes[n:]
					if len(bytes) > 0 && talk.quiet(-1) {
						t.Errorf("%s: in the middle of %q nothing is under way", name, packet)
					}
				}
			}
			if got := talk.quiet(-1); got != one.quiet {
				t.Errorf("%s: that nothing is under way is %t", name, got)
			}
			if talk.quiet(time.Hour) {
				t.Errorf("%s: it was used just now", name)
			}
		}
	}
}

func TestNothingIsPassedOnAfterTheEnd(t *testing.T) {
	var talk talk
	if talk.end(-1) {
		t.Error("it ends before the login")
	}
	for _, said := range []string{"\x05\x00\x00\x00\x0a10.1", "\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"} {
		if !talk.serverSays([]byte(said)) {
			t.Errorf("%q is not passed on", said)
		}
		talk.passed()
	}
	if talk.busy() || !talk.end(-1) {
		t.Error("it does not end after the login")
	}
	if talk.clientSays([]byte("\x02\x00\x00\x00\x03Q")) {
		t.Error("a query is passed on after the end")
	}
}

func TestWhatNobodyHasReadIsNoticed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if unread(server) {
		t.Error("nobody has sent anything")
	}
	if _, err := io.Copy(client, strings.NewReader("a query")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !unread(server); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what was sent is not noticed")
		}
	}
	if _, err := io.ReadFull(server, make([]byte, 7)); err != nil || unread(server) {
		t.Errorf("it is read, %v", err)
	}
}

func TestBothNamesOfAVariableAreKnown(t *testing.T) {
	for given, want := range map[string]string{
		"\x2a\x00\x00\x00\x03SET transaction_isolation = 'SERIALIZABLE'": "\x2a\x00\x00\x00\x03SET tx_isolation          = 'SERIALIZABLE'",
		"\x2a\x00\x00\x00\x03SET autocommit = 1":                         "\x2a\x00\x00\x00\x03SET autocommit = 1",
		"\x2a":                                                           "\x2a",
	} {
		if got := string(rename([]byte(given))); got != want {
			t.Errorf("%q becomes %q", given, got)
		}
	}
}
