package galera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// Position says how new the data of a copy is.
type Position struct {
	Data    bool   `json:"data"`    // whether it has any
	Cluster string `json:"cluster"` // the UUID of the cluster that wrote it
	Number  int64  `json:"number"`  // of the last transaction; -1 if it was never in a cluster
}

// noCluster is the UUID of data that was never in a cluster.
const noCluster = "00000000-0000-0000-0000-000000000000"

func (p Position) String() string {
	switch {
	case !p.Data:
		return "no data"
	case p.Cluster == noCluster:
		return "data that was never in a cluster"
	default:
		return fmt.Sprintf("the data of %s until transaction %d", p.Cluster, p.Number)
	}
}

// alone are data that no other copy has.
func (p Position) alone() bool { return p.Data && p.Cluster == noCluster }

func (p Position) newer(other Position) bool {
	if p.Data != other.Data {
		return p.Data
	}
	return p.Number > other.Number
}

// stateFile is Galera's, in the data folder (https://galeracluster.com/library/documentation/node-provisioning.html).
const stateFile = "grastate.dat"

var (
	clusterLine   = regexp.MustCompile(`(?m)^uuid:\s+(\S+)`)
	numberLine    = regexp.MustCompile(`(?m)^seqno:\s+(-?\d+)`)
	startLine     = regexp.MustCompile(`(?m)^safe_to_bootstrap:.*$`)
	recoveredLine = regexp.MustCompile(`WSREP: Recovered position:? (\S+):(-?\d+)`)
)

// hasData says whether a data folder has a database.
func hasData(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, "mysql"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// position finds out how new the data is. After a kill only the tables know that, and mariadbd asks them.
func (c Copy) position(ctx context.Context) (Position, error) {
	there, err := hasData(c.Dir)
	if err != nil || !there {
		return Position{Cluster: noCluster, Number: -1}, err
	}
	if _, err := os.Stat(filepath.Join(c.Dir, aloneMark)); err == nil {
		return Position{true, noCluster, -1}, nil
	}
	text, err := os.ReadFile(filepath.Join(c.Dir, stateFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Position{}, err
	}
	if p, ok := parsed(string(text)); ok && p.Number >= 0 {
		return p, nil
	}
	var out bytes.Buffer
	command := exec.CommandContext(ctx, c.Server[0], c.args("--wsrep-recover", "--wsrep-cluster-address=gcomm://",
		// It is not to answer anybody.
		"--skip-networking")...)
	command.Stdout, command.Stderr = &out, &out
	if err := command.Run(); err != nil {
		return Position{}, fmt.Errorf("ask the tables how new they are: %w: %s", err, out.String())
	}
	found := recoveredLine.FindStringSubmatch(out.String())
	if found == nil {
		return Position{}, fmt.Errorf("ask the tables how new they are: mariadbd says nothing of it: %s", out.String())
	}
	number, err := strconv.ParseInt(found[2], 10, 64)
	return Position{true, found[1], number}, err
}

// aloneMark says that an ordinary server writes the data: Galera's numbers then say nothing of how new they are.
const aloneMark = "alone"

// Alone notes that from now on an ordinary server writes the data in a folder.
func Alone(dir string) error { return os.WriteFile(filepath.Join(dir, aloneMark), nil, 0o600) }

// parsed reads Galera's file.
func parsed(text string) (Position, bool) {
	one, other := clusterLine.FindStringSubmatch(text), numberLine.FindStringSubmatch(text)
	if one == nil || other == nil {
		return Position{}, false
	}
	n, err := strconv.ParseInt(other[1], 10, 64)
	return Position{true, one[1], n}, err == nil
}

// allowStart notes in Galera's file that this copy may start a cluster: Galera itself would allow only the one that ended last. What an
// ordinary server has written begins a new cluster.
func allowStart(dir string) error {
	file, alone := filepath.Join(dir, stateFile), filepath.Join(dir, aloneMark)
	if _, err := os.Stat(alone); err == nil {
		return errors.Join(os.RemoveAll(file), os.Remove(alone))
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || strings.Contains(string(text), "safe_to_bootstrap: 1") {
		return err
	}
	return renameio.WriteFile(file, startLine.ReplaceAll(text, []byte("safe_to_bootstrap: 1")), 0o600, renameio.WithTempDir(dir))
}
