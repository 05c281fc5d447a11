package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/project"
)

// Features are of use elsewhere than behind a target only as long as they know nothing of mage.
func TestNothingButTheTargetsAndTheRunnerKnowsMage(t *testing.T) {
	out, err := exec.Command("go", "list", "-test", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", project.Module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	knowing := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, "github.com/magefile/mage/") {
				knowing[strings.TrimSuffix(fields[0], ".test")] = true
			}
		}
	}
	want := []string{project.Module + "/magefiles", project.Module + "/magefiles/cmd/magefile"}
	if got := slices.Sorted(maps.Keys(knowing)); !slices.Equal(got, want) {
		t.Errorf("these import mage: %q, and not %q alone", got, want)
	}
}

// source is the root package, type-checked as far as it goes without its imports.
type source struct {
	set   *token.FileSet
	files []*ast.File
	info  types.Info
}

func readSource(t *testing.T) source {
	t.Helper()
	s := source{set: token.NewFileSet(), info: types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "mage_output_file.go" {
			continue
		}
		file, err := parser.ParseFile(s.set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, file)
	}
	if len(s.files) < 15 {
		t.Fatalf("only the files %v are there", names)
	}
	// What is imported is not known, and not asked about.
	unknown := types.Config{Error: func(error) {}, Importer: nothing{}}
	pkg, _ := unknown.Check("main", s.set, s.files, &s.info)
	for ident, object := range s.info.Uses {
		if object.Pkg() != pkg {
			delete(s.info.Uses, ident)
		}
	}
	return s
}

// nothing imports every package as an empty one.
type nothing struct{}

func (nothing) Import(path string) (*types.Package, error) {
	return types.NewPackage(path, filepath.Base(path)), nil
}

// stops says whether a function ends services: Stop of a namespace, or one of those of the same form for a part of it.
func stops(function *ast.FuncDecl, targets [][2]string) bool {
	name := function.Name.Name
	if function.Recv != nil {
		name = named(function.Recv.List[0].Type) + "." + name
	}
	return function.Recv != nil && function.Name.Name == "Stop" || slices.ContainsFunc(targets, func(one [2]string) bool { return one[1] == name })
}

// targetsOf are the targets of components that start them and stop them, by name, as they stand where components are made.
func targetsOf(s source) [][2]string {
	var targets [][2]string
	for _, file := range s.files {
		ast.Inspect(file, func(node ast.Node) bool {
			one, ok := node.(*ast.CompositeLit)
			if !ok || one.Type == nil || named(one.Type) != "component" {
				return true
			}
			var target [2]string
			for _, element := range one.Elts {
				pair := element.(*ast.KeyValueExpr)
				switch named(pair.Key) {
				case "start":
					target[0] = named(pair.Value)
				case "stop":
					target[1] = named(pair.Value)
				}
			}
			targets = append(targets, target)
			return true
		})
	}
	return targets
}

// A file that uses another, which uses the first in turn, can be neither read nor moved alone. Stop depends on services in
// the reverse order of Start, so the two make cycles by their nature, and functions that stop are left out.
func TestNoFilesOfTheTargetsUseEachOtherInACycle(t *testing.T) {
	s := readSource(t)
	uses, targets := map[string]map[string]bool{}, targetsOf(s)
	for _, file := range s.files {
		from := s.set.File(file.Pos()).Name()
		uses[from] = map[string]bool{}
		for _, declaration := range file.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && stops(function, targets) {
				continue
			}
			ast.Inspect(declaration, func(node ast.Node) bool {
				ident, ok := node.(*ast.Ident)
				if !ok {
					return true
				}
				object := s.info.Uses[ident]
				if object == nil || object.Parent() != nil && object.Parent() != object.Pkg().Scope() {
					return true // of another package, or local
				}
				if _, field := object.(*types.Var); field && object.Parent() == nil {
					return true
				}
				if to := s.set.File(object.Pos()).Name(); to != from {
					uses[from][to] = true
				}
				return true
			})
		}
	}
	arrows := 0
	for _, to := range uses {
		arrows += len(to)
	}
	if arrows < 30 {
		t.Fatalf("only %d uses among files are found: %v", arrows, uses)
	}
	var way []string
	done := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if at := slices.Index(way, name); at >= 0 {
			t.Errorf("these files use each other: %s", strings.Join(append(way[at:], name), ", "))
			return
		}
		if done[name] {
			return
		}
		way = append(way, name)
		for _, to := range slices.Sorted(maps.Keys(uses[name])) {
			visit(to)
		}
		way, done[name] = way[:len(way)-1], true
	}
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		visit(name)
	}
}

// named is a function as it is called in a list of dependencies: rekorKey, or Rekor.Start.
func named(expression ast.Expr) string {
	switch expression := expression.(type) {
	case *ast.Ident:
		return expression.Name
	case *ast.SelectorExpr:
		if receiver, ok := expression.X.(*ast.Ident); ok {
			return receiver.Name + "." + expression.Sel.Name
		}
	}
	return ""
}

// dependencies are, by the names of functions, what they need by needs and up, but for what stands in an if.
func dependencies(s source) map[string][]string {
	found := map[string][]string{}
	for _, file := range s.files {
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			name := function.Name.Name
			if function.Recv != nil {
				name = named(function.Recv.List[0].Type) + "." + name
			}
			ast.Inspect(function.Body, func(node ast.Node) bool {
				if conditional, ok := node.(*ast.IfStmt); ok {
					// The condition itself is met always.
					ast.Inspect(conditional, func(inner ast.Node) bool {
						if inner == ast.Node(conditional.Body) {
							return false
						}
						found[name] = append(found[name], needed(inner)...)
						return true
					})
					return false
				}
				found[name] = append(found[name], needed(node)...)
				return true
			})
		}
	}
	return found
}

// needed are the targets that a call of needs or up names.
func needed(node ast.Node) []string {
	call, ok := node.(*ast.CallExpr)
	if !ok || !slices.Contains([]string{"needs", "up"}, named(call.Fun)) {
		return nil
	}
	var targets []string
	for _, argument := range call.Args[1:] {
		if name := named(argument); name != "" {
			targets = append(targets, name)
		}
	}
	return targets
}

// reach says whether a function needs another, directly or by others.
func reach(needs map[string][]string, from, to string) bool {
	seen := map[string]bool{}
	var visit func(name string) bool
	visit = func(name string) bool {
		if name == to {
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		return slices.ContainsFunc(needs[name], visit)
	}
	return slices.ContainsFunc(needs[from], visit)
}

// A service that is started after another has to be stopped before it: otherwise it would run without it.
func TestStopMirrorsStart(t *testing.T) {
	s := readSource(t)
	needs := dependencies(s)
	targets := targetsOf(s)
	if len(targets) != len(components()) {
		t.Fatalf("the targets are %v", targets)
	}
	mirrored := 0
	for _, one := range targets {
		for _, other := range targets {
			if one == other || !reach(needs, one[0], other[0]) {
				continue
			}
			mirrored++
			if !reach(needs, other[1], one[1]) {
				t.Errorf("%s needs %s, and %s does not need %s", one[0], other[0], other[1], one[1])
			}
		}
	}
	if mirrored < 12 {
		t.Errorf("only %d pairs are found: %v", mirrored, needs)
	}
}
