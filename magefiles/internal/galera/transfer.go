package galera

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/move"
)

// transferName is what mariadbd calls the program that copies data folders: wsrep_sst_ and the name of the method.
const transferName = "wsrep_sst_move"

// IsTransfer says whether this process was called by mariadbd to copy a data folder.
func IsTransfer() bool { return filepath.Base(os.Args[0]) == transferName }

// The names of files in a data folder.
const (
	incoming = "sst.incoming" // the folder that takes a copy
	marker   = "sst.replaces" // says that the data is being replaced by what came
	flushed  = "tables_flushed"
	failed   = "sst_error"
)

// ours are the files of a data folder that belong to one copy, and are not copied: Galera's own, and what is written meanwhile.
var ours = []string{
	aloneMark, stateFile, "galera.cache", "gvwstate.dat", "sst_in_progress", "wsrep_sst.pid", incoming, marker, flushed, failed, "ib_buffer_pool", "ibtmp1", "ddl_recovery.log", "multi-master.info",
}

// head comes before the files.
type head struct {
	State  string `json:"state"`  // the cluster's UUID and the number of the last transaction, as in UUID:123
	Bypass bool   `json:"bypass"` // no files come: the copy gets what it lacks from Galera
}

// Transfer does what mariadbd asks for with args, in and out as Galera has it (https://galeracluster.com/library/documentation/scriptable-sst.html):
// a copy that needs data receives a data folder, and one that has it sends it.
func Transfer(ctx context.Context, args []string, out io.Writer) error {
	given := map[string]string{}
	for i := 0; i < len(args) && args[i] != "--mysqld-args"; i++ {
		name, value, ok := strings.Cut(args[i], "=")
		if !ok && name != "--bypass" && i+1 < len(args) {
			i++
			value = args[i]
		}
		given[name] = value
	}
	dir := filepath.Clean(given["--datadir"])
	address := given["--address"]
	_, bypass := given["--bypass"]
	switch role := given["--role"]; {
	case given["--datadir"] == "" || address == "":
		return fmt.Errorf("mariadbd names no data folder or address: %q", args)
	case role == "joiner":
		return join(ctx, dir, address, out)
	case role == "donor":
		return donate(ctx, dir, address, head{given["--gtid"], bypass}, out)
	default:
		return fmt.Errorf("--role is %q; accepted are joiner and donor", role)
	}
}

// join receives a data folder.
func join(ctx context.Context, dir, address string, out io.Writer) error {
	listener, err := net.Listen("tcp", at(address, transferPort))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	defer listener.Close()
	fmt.Fprintf(out, "ready %s\n", listener.Addr())
	connection, err := listener.Accept()
	if err != nil {
		return err
	}
	defer connection.Close()
	in := bufio.NewReader(connection)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var first head
	if err := json.Unmarshal(line, &first); err != nil {
		return err
	}
	if !first.Bypass {
		if err := receive(ctx, dir, in); err != nil {
			return err
		}
	}
	// The other end goes on once all is here.
	if _, err := fmt.Fprintln(connection, "received"); err != nil {
		return err
	}
	fmt.Fprintln(out, first.State)
	return nil
}

// receive replaces the data by that of another copy, once all of it is here.
func receive(ctx context.Context, dir string, in io.Reader) error {
	fresh := filepath.Join(dir, incoming)
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if _, err := move.ReceiveFolder(ctx, fresh, in); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, marker), nil, 0o600); err != nil {
		return err
	}
	if err := clear(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(fresh)
	if err != nil {
		return err
	}
	for _, one := range entries {
		if strings.HasPrefix(one.Name(), ".") {
			continue // a mark of what is received
		}
		if err := os.Rename(filepath.Join(fresh, one.Name()), filepath.Join(dir, one.Name())); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(fresh), os.Remove(filepath.Join(dir, marker)))
}

// clear deletes the data in a folder, and leaves Galera's files.
func clear(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, one := range entries {
		if !slices.Contains(ours, one.Name()) && one.Name() != "lost+found" {
			if err := os.RemoveAll(filepath.Join(dir, one.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// discardIncomplete deletes data that a process was replacing when it was killed: the other copies have it.
func discardIncomplete(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, incoming)); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, marker)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(clear(dir), os.RemoveAll(filepath.Join(dir, stateFile)), os.Remove(filepath.Join(dir, marker)))
}

// donate sends the data folder.
func donate(ctx context.Context, dir, address string, first head, out io.Writer) error {
	connection, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if !first.Bypass {
		if first.State, err = flush(ctx, dir, out); err != nil {
			return err
		}
	}
	if err := send(ctx, connection, dir, first); err != nil {
		return err
	}
	if !first.Bypass {
		// The data can be changed again.
		fmt.Fprintln(out, "continue")
	}
	if line, err := bufio.NewReader(connection).ReadString('\n'); line != "received\n" {
		return errors.Join(fmt.Errorf("%s has not received the data", address), err)
	}
	fmt.Fprintln(out, "done", first.State)
	return nil
}

func send(ctx context.Context, connection net.Conn, dir string, first head) error {
	w := bufio.NewWriterSize(connection, 1<<20)
	if err := json.NewEncoder(w).Encode(first); err != nil {
		return err
	}
	if !first.Bypass {
		if _, err := move.SendFolder(ctx, dir, w, ours...); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	// The archive ends with the stream.
	return connection.(*net.TCPConn).CloseWrite()
}

// flush asks mariadbd to write all to the disk and to change nothing until it is told to, and returns the state of what is there.
func flush(ctx context.Context, dir string, out io.Writer) (state string, err error) {
	file, wrong := filepath.Join(dir, flushed), filepath.Join(dir, failed)
	if err := errors.Join(os.RemoveAll(file), os.RemoveAll(wrong)); err != nil {
		return "", err
	}
	fmt.Fprintln(out, "flush tables")
	for {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), ":") && strings.HasSuffix(string(text), "\n") {
			return strings.TrimSpace(string(text)), os.Remove(file)
		}
		if _, err := os.Stat(wrong); err == nil {
			return "", errors.Join(errors.New("mariadbd could not write its tables to the disk"), os.Remove(wrong))
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
