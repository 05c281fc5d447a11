//go:build !cgo

package main

import (
	"errors"

	"sigstore-local/magefiles/internal/project"
)

// session lets this program compile without cgo, and so without a C compiler. It can do nothing.
type session struct{}

var errNoCgo = errors.New("hsm was compiled without cgo, which PKCS#11 needs: install a C compiler and run `" + project.Command + " build`")

func open(string) (*session, error)            { return nil, errNoCgo }
func (*session) close()                        {}
func initToken(*session, options) error        { return errNoCgo }
func printCertificate(*session, options) error { return errNoCgo }
func list(*session, options) error             { return errNoCgo }
