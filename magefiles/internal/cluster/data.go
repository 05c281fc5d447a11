package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/move"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// movedFile says that the stack's logs go on elsewhere, and where.
func movedFile(c config.Config) string { return filepath.Join(c.State, "cluster", "moved") }

// Moved is an error if the stack's logs go on in a cluster: if they went on here as well, there would be two histories of each.
func Moved(c config.Config) error {
	where, err := os.ReadFile(movedFile(c))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the logs of this stack go on in %s: with the same keys they must not go on here too, since that would make two histories of each. "+
		"If they have never been used there, delete %s to go on here", strings.TrimSpace(string(where)), movedFile(c))
}

// Move is what is about to be moved, and where to.
type Move struct {
	s         *stack.Stack
	settings  Settings
	workloads []Workload
	where     string // the cluster and namespace, for people
}

// NewMove finds out whether the stack's data can be moved, before anything is stopped for it.
func NewMove(ctx context.Context, s *stack.Stack, settings Settings) (Move, error) {
	workloads, err := settings.complete(s.Config, s.Services)
	if err != nil {
		return Move{}, err
	}
	where, err := target(ctx, s, settings)
	if err != nil {
		return Move{}, err
	}
	for _, w := range workloads {
		if len(w.Volumes) == 0 && w.Awaits.Database == "" {
			continue
		}
		pods, err := podsOf(ctx, s, settings, w.Name)
		if err != nil {
			return Move{}, err
		}
		if len(pods) == 0 {
			return Move{}, fmt.Errorf("%s has no pod of %s, which would take data: apply what `"+project.Command+" cluster:render` has written first", where, w.Name)
		}
	}
	if settings.Attestations != "" {
		if _, err := bucket(ctx, s, settings); err != nil {
			return Move{}, err
		}
	}
	return Move{s, settings, workloads, where}, nil
}

// Data moves what the stack has signed, and what it has logged, into the cluster, and proves that all of it is there. MariaDB has to run
// on this machine, if the stack has one, and nothing else.
func (m Move) Data(ctx context.Context) error {
	s, settings, workloads, where := m.s, m.settings, m.workloads, m.where
	// From here on nobody adds to the logs on this machine.
	if err := statedir.WriteSecret(movedFile(s.Config), []byte(where+"\n")); err != nil {
		return err
	}
	// A Rekor that goes on there looks for all of them.
	if settings.Attestations != "" {
		step := s.Console.Step("bucket")
		said, err := bucket(ctx, s, settings, s.Config.Data("rekor-attestations"))
		if err != nil {
			step.Fail()
			return err
		}
		step.Done("%s", strings.TrimSpace(said))
	}
	moved := false
	for _, w := range workloads {
		if w.Awaits.Install || w.Awaits.Database != "" && !moved {
			dsn := path.Join(image.State, RootDSN)
			if w.Awaits.Database != "" {
				dsn = path.Join(image.State, w.Awaits.Database)
			}
			moved = true
			if err := send(ctx, s, settings, w, "databases", func(out io.Writer) (move.Digest, error) {
				db, err := database.Open(ctx, s.Config)
				if err != nil {
					return move.Digest{}, err
				}
				defer db.Close()
				return move.SendDatabase(ctx, db, database.Names(), out)
			}, "-database", "-dsn-file="+dsn); err != nil {
				return err
			}
		}
		for _, volume := range w.Volumes {
			if w.Awaits.Install {
				continue // MariaDB's own files, whose tables are moved
			}
			if err := send(ctx, s, settings, w, volume.Folder, func(out io.Writer) (move.Digest, error) {
				return move.SendFolder(ctx, filepath.Join(s.Config.State, filepath.FromSlash(volume.Folder)), out, volume.derived...)
			}, "-folder="+path.Join(image.State, volume.Folder)); err != nil {
				return err
			}
		}
	}
	s.Console.Printf("All of it is in %s. `"+project.Command+" cluster:status` shows how it goes on there. This stack stays as it was, and does not start: what is added there it does not have.", where)
	return nil
}

// bucket runs the program bucket, with the user's own credentials, and the CAs that the cluster's services trust.
func bucket(ctx context.Context, s *stack.Stack, settings Settings, folder ...string) (said string, err error) {
	staged, err := os.MkdirTemp(filepath.Join(s.Config.State, "tmp"), "bucket")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(staged)
	program, err := pack.Tool(ctx, s.Config.Root, "bucket", staged)
	if err != nil {
		return "", err
	}
	environ := os.Environ()
	if settings.CA != "" {
		environ = append(environ, "SSL_CERT_FILE="+settings.CA) // beside those in /etc/ssl/certs (crypto/x509)
	}
	said, err = command.OwnOutput(ctx, command.New(ctx, s.Config.Root, environ, program, append([]string{settings.Attestations}, folder...)...))
	if err != nil {
		return "", fmt.Errorf("attestations is %q: %w", settings.Attestations, err)
	}
	return said, nil
}

// target is the cluster and namespace that kubectl speaks to, for people.
func target(ctx context.Context, s *stack.Stack, settings Settings) (string, error) {
	var view struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	err := ask(ctx, s, settings, &view, "config", "view", "--minify")
	if err == nil && len(view.Clusters) == 0 {
		err = errors.New("its configuration names none")
	}
	if err != nil {
		return "", fmt.Errorf("kubectl has no cluster: choose one with KUBECONFIG or `kubectl config use-context`: %w", err)
	}
	return fmt.Sprintf("the namespace %s of the cluster at %s", settings.Namespace, view.Clusters[0].Cluster.Server), nil
}

// send sends what write writes to the program data in a pod of a workload, and compares what is there with what was sent.
func send(ctx context.Context, s *stack.Stack, settings Settings, w Workload, what string, write func(io.Writer) (move.Digest, error), args ...string) (err error) {
	step := s.Console.Step(w.Name)
	defer func() {
		if err != nil {
			step.Fail()
		}
	}()
	step.Detail("waits for its pod")
	name, container, err := waiting(ctx, s, settings, w)
	if err != nil {
		return err
	}
	step.Detail("sends the %s", what)
	var sent move.Digest
	said, err := tell(ctx, s, settings, func(out io.Writer) (err error) {
		sent, err = write(out)
		return err
	}, append([]string{"exec", "--stdin", name, "--container=" + container, "--", program("data"), "receive"}, args...)...)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", w.Name, what, err)
	}
	var there move.Digest
	if err := json.Unmarshal([]byte(said), &there); err != nil {
		return fmt.Errorf("%s: %s: the pod %s says %q, and not what it has received", w.Name, what, name, said)
	}
	if !there.Equal(sent) {
		return fmt.Errorf("%s: %s: the pod %s has other data than was sent", w.Name, what, name)
	}
	step.Done("%s: %s", what, inWords(there))
	return nil
}

// inWords sums up what was moved in a few words.
func inWords(d move.Digest) string {
	var rows, files, size int64
	for _, part := range d.Parts {
		rows, files, size = rows+part.Rows, files+part.Files, size+part.Bytes
	}
	said := fmt.Sprintf("%d files", files)
	if len(d.Parts) > 1 {
		said = fmt.Sprintf("%d rows of %d tables", rows, len(d.Parts))
	}
	said += fmt.Sprintf(", %d bytes, read back", size)
	for _, tree := range d.Trees {
		said += fmt.Sprintf("; the tree of %s has %d entries and the root %.16s…", tree.Name, tree.Size, tree.Root)
	}
	if lines := strings.Split(d.Checkpoint, "\n"); len(lines) > 1 {
		said += fmt.Sprintf("; the checkpoint of %s is of %s entries", lines[0], lines[1])
	}
	return said
}

// waiting finds a pod of a workload that takes data, and the container to send it to.
func waiting(ctx context.Context, s *stack.Stack, settings Settings, w Workload) (name, in string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for why := ""; ; {
		pods, err := podsOf(ctx, s, settings, w.Name)
		if err != nil {
			return "", "", err
		}
		if len(pods) == 0 {
			why = "there is none any more"
		}
		for _, one := range pods {
			if len(w.Peers) > 0 && one.Metadata.Name != w.Name+"-0" {
				continue // it gets its data from the first copy
			}
			for _, container := range append(one.Status.Init, one.Status.Containers...) {
				// A pod that has its data already compares it with what is sent.
				if container.State.Running != nil && (container.Name == AwaitContainer || container.Name == w.Services[0].Name) {
					return one.Metadata.Name, container.Name, nil
				}
			}
			why = one.why()
		}
		select {
		case <-ctx.Done():
			return "", "", fmt.Errorf("no pod of %s takes data: %s", w.Name, why)
		case <-time.After(time.Second):
		}
	}
}

// why says what keeps a pod from running.
func (p pod) why() string {
	for _, one := range append(p.Status.Init, p.Status.Containers...) {
		for _, found := range []*reason{one.State.Waiting, one.State.Terminated} {
			if found != nil && found.Reason != "Completed" && found.Reason != "PodInitializing" {
				return strings.TrimSuffix(fmt.Sprintf("%s: %s: %s", one.Name, found.Reason, found.Message), ": ")
			}
		}
	}
	for _, one := range p.Status.Conditions {
		if one.Status != "True" && one.Message != "" {
			return one.Message
		}
	}
	return p.Status.Phase
}
