package runner

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"

	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/targets"
)

// Packaged runs the targets that are handed out beside this program, without their sources, and returns the exit code.
func Packaged() int {
	NoticeBrokenPipes()
	code, err := packaged(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
	}
	return code
}

func packaged(args []string) (int, error) {
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return 1, err
	}
	wd, err := os.Getwd()
	if err != nil {
		return 1, err
	}
	root := filepath.Dir(program)
	compiled := In(root)
	known, err := targets.Read(compiled.ListFile())
	if err != nil {
		return 1, fmt.Errorf("%w: %s works only in its own folder, to which a symbolic link may lead", err, project.Command)
	}
	switch {
	case len(args) == 0:
		args = []string{"status"}
	case len(args) == 1 && args[0] == "-l":
		return list(known), nil
	case args[0] == "-h" || args[0] == "--help":
		if len(args) == 2 {
			return Help(known, args[1]), nil
		}
		fmt.Printf("%s TARGET\n\nA whole Sigstore on this machine. `%s -l` lists the targets, and `%s -h TARGET` says more about one.\n",
			project.Command, project.Command, project.Command)
		return 0, nil
	}
	if code := Check(known, args); code != 0 {
		return code, nil
	}
	return Execute(exec.Command(compiled.Program, args...), root, wd, true)
}

// In is the program of targets that were handed out in the folder root.
func In(root string) Compiled { return Compiled{Program: filepath.Join(root, "bin", "targets")} }

// list prints the targets as mage does.
func list(known targets.List) int {
	var out Output
	table := tabwriter.NewWriter(&out, 0, 4, 4, ' ', 0)
	fmt.Fprintln(table, "Targets:")
	for _, one := range known {
		fmt.Fprintf(table, "  %s\t%s\n", one.Name, one.Synopsis)
	}
	if err := table.Flush(); err != nil && !out.broken {
		return 1
	}
	return out.Code(0)
}
