// Hsm prepares a PKCS#11 token for Fulcio, and shows what a module holds. It is a program of its own because PKCS#11
// needs cgo, which the magefiles do without.
//
// Usage:
//
//	hsm init -module FILE -token LABEL -pin-file FILE -so-pin-file FILE
//	hsm certificate -module FILE -token LABEL -pin-file FILE
//	hsm list -module FILE -token LABEL -pin-file FILE
//
// init makes the token, unless there is one of that label, and the CA's key pair on it, unless it is there. certificate
// prints the CA's certificate as PEM, or nothing if there is none. list prints slots, tokens and objects.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

type options struct {
	module, token, pinFile, soPINFile string
}

func main() {
	actions := map[string]func(*session, options) error{"init": initToken, "certificate": printCertificate, "list": list}
	if len(os.Args) < 2 || actions[os.Args[1]] == nil {
		fail(2, "usage: hsm init|certificate|list -module FILE -token LABEL -pin-file FILE [-so-pin-file FILE]")
	}
	var o options
	flags := flag.NewFlagSet("hsm "+os.Args[1], flag.ExitOnError)
	flags.StringVar(&o.module, "module", "", "the PKCS#11 module, a shared library `file`")
	flags.StringVar(&o.token, "token", "", "the token's `label`")
	flags.StringVar(&o.pinFile, "pin-file", "", "the `file` that holds the user's PIN")
	flags.StringVar(&o.soPINFile, "so-pin-file", "", "the `file` that holds the security officer's PIN")
	_ = flags.Parse(os.Args[2:]) // ends the process if it fails
	if o.module == "" || o.token == "" || o.pinFile == "" {
		fail(2, "hsm: -module, -token and -pin-file are needed")
	}
	s, err := open(o.module)
	if err != nil {
		fail(1, err.Error())
	}
	err = actions[os.Args[1]](s, o)
	s.close()
	if err != nil {
		fail(1, err.Error())
	}
}

func fail(code int, message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(code)
}

// readPIN reads a PIN from a file of one line.
func readPIN(file string) (string, error) {
	content, err := os.ReadFile(file)
	return strings.TrimSuffix(string(content), "\n"), err
}
