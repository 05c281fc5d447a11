// Command web is what the tests' pods run, and how they ask each other:
//
//	program             answers every request with the host's name
//	program get URL     prints an answer
//	program write FILE  makes a file
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "get" {
		response, err := (&http.Client{Timeout: 5 * time.Second}).Get(args[1])
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(os.Stdout, response.Body)
		return err
	}
	if len(args) == 2 && args[0] == "write" {
		return os.WriteFile(args[1], []byte("written by a pod\n"), 0o644)
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Println("web is here")
	return http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, name)
	}))
}
