package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A report is what a caller needs to know of a rig that is ready.
type report struct {
	Kubeconfig string       `json:"kubeconfig"`
	Kubectl    string       `json:"kubectl"`
	Outside    int          `json:"outside"`
	Nodes      []nodeReport `json:"nodes"`
	Registry   string       `json:"registry"`
}

type nodeReport struct {
	Name       string `json:"name"`
	PID        int    `json:"pid"`
	Address    string `json:"address"`
	Containerd string `json:"containerd"`
	Kubelet    int    `json:"kubelet"`
}

// keeper runs all the rest until its standard input ends, and leaves nothing but logs behind.
func keeper(s spec) (err error) {
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	defer func() {
		err = errors.Join(err, removeGroups(s.Groups), os.RemoveAll(s.state()), removeFile(filepath.Join(s.Dir, "ready.json")))
	}()
	if s.Nodes > 0 {
		if s.Groups, err = groupMounts(); err != nil {
			return fmt.Errorf("find the control groups: %w", err)
		}
		for i := range s.Groups {
			if err := s.Groups[i].make(); err != nil {
				return fmt.Errorf("make a control group: %w", err)
			}
		}
	}

	cmd, err := self("init", s)
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS |
		syscall.CLONE_NEWIPC
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	begin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	fromControl, toKeeper, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{toKeeper}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start in namespaces of its own: %w", err)
	}
	_ = toKeeper.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // returns once every process of the PID namespace has ended
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	for _, g := range s.Groups {
		if err := writeFile(filepath.Join(g.Own, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid)); err != nil {
			return fmt.Errorf("enter the control group: %w", err)
		}
	}
	_ = begin.Close()

	ready := make(chan error, 1)
	go func() {
		var r report
		if err := json.NewDecoder(fromControl).Decode(&r); err != nil {
			return // control has ended, and has said why
		}
		ready <- publish(s, r, cmd.Process.Pid)
	}()
	for {
		select {
		case <-stop:
			return nil
		case err := <-ended:
			ended <- err
			return errors.New("the control plane has ended")
		case err := <-ready:
			if err != nil {
				return fmt.Errorf("tell that all is ready: %w", err)
			}
		}
	}
}

// publish writes the report for the caller, with PIDs as the caller sees them.
func publish(s spec, r report, initPID int) error {
	pids, err := outerPIDs(initPID)
	if err != nil {
		return err
	}
	r.Outside = pids[r.Outside]
	for i := range r.Nodes {
		r.Nodes[i].PID, r.Nodes[i].Kubelet = pids[r.Nodes[i].PID], pids[r.Nodes[i].Kubelet]
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(s.Dir, "ready.json")
	if err := os.WriteFile(path+".new", append(line, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	_, err = fmt.Println(string(line))
	return err
}

// outerPIDs tells by which PID this process knows each process of the PID namespace of init.
func outerPIDs(initPID int) (map[int]int, error) {
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", initPID))
	if err != nil {
		return nil, err
	}
	statuses, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return nil, err
	}
	pids := map[int]int{}
	for _, status := range statuses {
		folder := filepath.Dir(status)
		if its, err := os.Readlink(filepath.Join(folder, "ns/pid")); err != nil || its != namespace {
			continue // of another namespace, or ended just now
		}
		text, err := os.ReadFile(status)
		if err != nil {
			continue
		}
		outer, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "NSpid:" {
				if inner, err := strconv.Atoi(fields[len(fields)-1]); err == nil {
					pids[inner] = outer
				}
			}
		}
	}
	return pids, nil
}

// first is the first process of its PID namespace: it has to collect the orphans that end, which os/exec cannot.
func first(s spec) error {
	_, _ = io.Copy(io.Discard, os.Stdin) // ends once the keeper has put this process into its control groups
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts from leaving the namespace: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	cmd, err := self("control", s)
	if err != nil {
		return err
	}
	if s.Nodes > 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWCGROUP
	}
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "to the keeper")}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start control: %w", err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("wait for control: %w", err)
		case pid == cmd.Process.Pid:
			os.Exit(1)
		}
	}
}

// A groupMount is where a hierarchy of control groups is mounted. There are many in version 1, and one in version 2.
type groupMount struct {
	Path, Type, Options string
	Own                 string   // the rig's group
	Enabled             []string // the controllers that the rig has enabled beside it
}

func groupMounts() ([]groupMount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var mounts []groupMount
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 || !strings.HasPrefix(right[0], "cgroup") {
			continue
		}
		var options []string
		if right[0] == "cgroup" { // the controllers; version 2 takes no options below the root
			options = slices.DeleteFunc(strings.Split(right[2], ","), func(o string) bool { return o == "rw" || o == "ro" })
		}
		mounts = append(mounts, groupMount{Path: left[4], Type: right[0], Options: strings.Join(options, ","),
			Own: filepath.Join(left[4], fmt.Sprintf("sigstore-local-rig-%d", os.Getpid()))})
	}
	if len(mounts) == 0 {
		return nil, errors.New("none is mounted")
	}
	return mounts, nil
}

// make makes the rig's group, below which all of the pods' groups will be.
func (g *groupMount) make() error {
	if g.Type == "cgroup2" {
		var err error
		if g.Enabled, err = enableControllers(g.Path); err != nil {
			return err
		}
	}
	if err := os.Mkdir(g.Own, 0o755); err != nil {
		return err
	}
	if g.Type == "cgroup2" {
		return nil
	}
	// In version 1, a new group has no processors and no memory until it is given some.
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(g.Path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(g.Own, name), string(value)); err != nil {
			return err
		}
	}
	return nil
}

// enableControllers lets the groups right below a group of version 2 limit all that the group itself can. It returns what could
// not be limited before.
func enableControllers(folder string) ([]string, error) {
	controllers, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	before, err := os.ReadFile(filepath.Join(folder, "cgroup.subtree_control"))
	if err != nil {
		return nil, err
	}
	var enabled []string
	for _, controller := range strings.Fields(string(controllers)) {
		if slices.Contains(strings.Fields(string(before)), controller) {
			continue
		}
		if err := writeFile(filepath.Join(folder, "cgroup.subtree_control"), "+"+controller); err != nil {
			return enabled, err
		}
		enabled = append(enabled, controller)
	}
	return enabled, nil
}

// leaveRootGroup makes room for pods' groups: in version 2, a group either has processes or limits the groups below it.
func leaveRootGroup(folder string) error {
	own := filepath.Join(folder, "rig")
	if err := os.MkdirAll(own, 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(text)) {
		if err := writeFile(filepath.Join(own, "cgroup.procs"), pid); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	_, err = enableControllers(folder)
	return err
}

// removeGroups removes control groups, deepest first. The kernel may need a moment to forget the processes in them.
func removeGroups(groups []groupMount) error {
	var err error
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		err = nil
		for _, g := range groups {
			var all []string
			_ = filepath.WalkDir(g.Own, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					all = append(all, path)
				}
				return nil
			})
			slices.Reverse(all)
			for _, path := range all {
				if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
					err = e
				}
			}
		}
		if err == nil {
			break
		}
	}
	for _, g := range groups {
		for _, controller := range g.Enabled {
			// Another rig that was started meanwhile uses it as well.
			if e := writeFile(filepath.Join(g.Path, "cgroup.subtree_control"), "-"+controller); !errors.Is(e, syscall.EBUSY) {
				err = errors.Join(err, e)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("remove control groups: %w", err)
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile writes to a file that exists already, such as those in /proc.
func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// command runs a program, and returns what it said as the error if it fails.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
