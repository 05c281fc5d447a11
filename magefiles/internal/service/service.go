// Package service runs the stack's daemons in the background. Services differ in data, not in behaviour: a Service says what
// to run and how to tell that it works, and an Engine starts, watches and stops it. The files follow a service's life:
// service, which describes it, then configure, start, process, status and stop.
package service

import (
	"context"
	"slices"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/console"
)

// Service describes a daemon.
type Service struct {
	// Name is what the service is called: in messages, and in the names of its log and PID file.
	Name string
	// About says in a few words what it is.
	About string
	// Uses are the other services, keys, passwords and data that its arguments, variables and configuration files name.
	Uses []Use
	// Publishes are the services and public keys that the service only passes on to its clients, in the form of Use.Of.
	Publishes []string
	// Program is the absolute path of the executable; Args are its arguments, which hold no secret, since every user of
	// the machine can read them.
	Program string
	Args    []string
	// Module is the path of the module whose version counts as the program's, if that is not the program's own module.
	Module string
	// Packages are the import paths of the programs that have to be built to run it. A program that is not to be called as the
	// last element of its path has its name before that, as in "tesseract=example.org/cmd/posix".
	Packages []string
	// Source is what a checkout can replace; nil if no checkout can.
	Source *config.Source
	// Stacks are those that it is part of, beside the whole stack, which every service is part of.
	Stacks []config.Stack
	// From is the checkout and revision that the program was built from; empty for a pinned version.
	From string
	// For is what the service is configured for, in a word, if that depends on the stack: a service that runs for something else is
	// ended and started again. Empty if it does not depend on it.
	For string
	// Env are variables of the form NAME=value beside those that every daemon gets.
	Env []string
	// Templates names the templates from which its configuration is rendered at each start.
	Templates []string
	// Listens are the ports that it listens on, first the one that others use. They must be free when it is started.
	Listens []config.Port
	// Sockets are the Unix sockets that are deleted before it is started: it leaves them behind when it is killed, and does
	// not replace them itself.
	Sockets []string
	// Address is where clients reach it.
	Address string
	// Ready is a request that succeeds only if the service works, and so do the services that it depends on.
	Ready Probe
	// EndsOnSecondTerm says that after SIGTERM the program idles before it ends, unless it is sent a second one.
	EndsOnSecondTerm bool
	// Tree is the display name of its Trillian tree; empty if it has none. Templates have the tree's ID as the value Tree.
	Tree string
	// Derived are the folders below the state folder that it makes anew from the rest of its data if they are missing.
	Derived []string
	// First are the arguments with which the program is run to its end before it is started; nil if it needs no such run.
	First []string
	// Single says why there can be only one copy of it at a time; empty if several can run beside each other.
	Single string
	// Elects says that its copies on a cluster elect one among them, by leases.
	Elects bool
	// Peers are the ports by which its copies on a cluster, each of which keeps all data, talk to each other; none if it has no such
	// copies. The first takes connections as long as the copy lives.
	Peers []config.Port
	// Here says that it shows the machine that it runs on, and so is no part of a cluster.
	Here bool
	// Grace is how long it may take to end before it is killed; 10 seconds if zero.
	Grace time.Duration
	// Hint is what to try if it does not start.
	Hint string
	// Passes says which lines of its log tell that something has passed between two parts. Of several that match a line, the first counts.
	Passes []Passage
}

// Passage is something that passes between two parts of the stack, as the log of one of them tells.
type Passage struct {
	// Line is a regular expression (RE2) that matches the line of the log. It begins with ^, so that no text that a client sends,
	// and that a daemon logs within a line, is taken for such a line. Of what the line says, a group named time is when it was
	// written, in a form that package traffic knows. A group named took is how long the request took until then, as Go writes a
	// duration, and one named ms is the same in milliseconds.
	Line string
	// From and To are the names of the services or clients, or Token, as in an arrow of the stack's drawing: To is what From uses.
	From, To string
	// What passes, in a word or two.
	What string
}

// PodName is the variable that holds the name of a copy's pod on a cluster, where arguments name it as $(POD_NAME).
const PodName = "POD_NAME"

// Token is the name of the PKCS#11 token that holds the CA's key.
const Token = "token"

// Use says what a service uses something for. A test proves that a description lists all that the service's arguments,
// variables and configuration files name, and nothing else.
type Use struct {
	// Of is a service's name; MariaDB's and that of a database, as in mariadb/rekor; the path of a file or folder below
	// the state folder, as in keys/rekor.pem; or Token.
	Of string
	// To is what the service does with it, as in "log the certificate"; empty if the service only signs, as Signs says.
	To string
	// Signs is what the service signs with the key that is there.
	Signs string
	// Public is the file with which others verify what Signs says; empty if there is none.
	Public string
}

// Engine starts and stops services as its configuration says.
type Engine struct {
	// Self is the name of the service that this process itself is; empty if it is none. Its PID file must not be opened: when a
	// process closes a file, it gives up all locks that it has on that file (fcntl(2)), and would pass for dead.
	Self    string
	Config  config.Config
	Console *console.Console
	// StartTimeout is how long a service may take until it is ready.
	StartTimeout time.Duration
	// Database makes a request that the stack's database answers only once clients can use it.
	Database func(context.Context) error
}

func (e *Engine) pidFile(s Service) string { return e.Config.Run(s.Name + ".pid") }

// With is s with another value for flag, which its arguments have as flag=value. It panics if they do not, which is a
// programmer's mistake.
func (s Service) With(flag, value string) Service {
	at := slices.IndexFunc(s.Args, func(arg string) bool { return strings.HasPrefix(arg, flag+"=") })
	s.Args = slices.Clone(s.Args)
	s.Args[at] = flag + "=" + value
	return s
}

// UsedBy are the names of those of services that names use, and of those that these use, and so on.
func UsedBy(services []Service, names []string) []string {
	var used []string
	for _, one := range services {
		users := UsersOf(services, []string{one.Name})
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(users, name) }) {
			used = append(used, one.Name)
		}
	}
	return used
}

// UsersOf are the names of those of services that use one of names, or one that does, and so on. They cannot go on without it.
func UsersOf(services []Service, names []string) []string {
	var users []string
	for found := true; found; {
		found = false
		for _, one := range services {
			if slices.Contains(users, one.Name) || slices.Contains(names, one.Name) {
				continue
			}
			if slices.ContainsFunc(one.Uses, func(use Use) bool {
				used, _, _ := strings.Cut(use.Of, "/")
				return slices.Contains(names, used) || slices.Contains(users, used)
			}) {
				users, found = append(users, one.Name), true
			}
		}
	}
	return users
}
