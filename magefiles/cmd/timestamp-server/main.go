// Timestamp-server is sigstore's timestamp authority (RFC 3161), on upstream's packages. Upstream's own program also
// serves metrics on port 2112 of every address, which no setting moves, and ends if that is taken: by Rekor, or by
// another stack. This one takes the same arguments, as far as they are needed here, and serves no metrics.
//
// Usage: timestamp-server serve --host=HOST --port=PORT --file-signer-key-path=FILE --certificate-chain-path=FILE
//
// or, with the key at a key management service, --timestamp-signer=kms --kms-key-resource=URL in place of the key's file.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/sigstore/timestamp-authority/v2/pkg/log"
	"github.com/sigstore/timestamp-authority/v2/pkg/server"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// policy is the policy under which timestamps are given, upstream's default (the flag --default-policy-oid).
const policy = "1.3.6.1.4.1.57264.2"

func main() {
	flags := pflag.NewFlagSet("timestamp-server", pflag.ExitOnError)
	flags.String("host", "127.0.0.1", "the address to listen on")
	flags.Int("port", 3004, "the port to listen on")
	flags.String("timestamp-signer", "file", "where the private key is: file or kms")
	flags.String("file-signer-key-path", "", "the file of the private key, PKCS #8 as PEM")
	flags.String("kms-key-resource", "", "the URL of the private key at a key management service, as in awskms://…")
	flags.String("certificate-chain-path", "", "the file of the key's certificate, its intermediate and its root, as PEM")
	flags.Bool("disable-ntp-monitoring", true, "ask no time server; only true is accepted here")
	_ = flags.Parse(os.Args[1:]) // ends the process if it fails
	if flags.NArg() != 1 || flags.Arg(0) != "serve" {
		fmt.Fprintln(os.Stderr, "usage: timestamp-server serve [flags]\n"+flags.FlagUsages())
		os.Exit(2)
	}
	// Upstream's packages take their settings from viper, under the names of upstream's flags.
	if err := viper.BindPFlags(flags); err != nil {
		log.Logger.Fatal(err)
	}
	if kind := viper.GetString("timestamp-signer"); kind != "file" && kind != "kms" || !viper.GetBool("disable-ntp-monitoring") {
		log.Logger.Fatal("accepted are --timestamp-signer=file or kms, and --disable-ntp-monitoring=true alone")
	}
	for name, value := range map[string]any{
		"timestamp-signer-hash": "sha256", "enforce-intermediate-eku": true, "max-request-body-size": 1 << 20,
		"default-policy-oid": policy, "accepted-policy-oids": []string{policy},
	} {
		viper.SetDefault(name, value)
	}
	log.ConfigureLogger("prod")
	const timeout = 30 * time.Second // of a request and of its answer, upstream's default
	s := server.NewRestAPIServer(viper.GetString("host"), viper.GetInt("port"), []string{"http"}, false, timeout, timeout)
	// When the server is told to end, it closes idle connections at once.
	s.CleanupTimeout = 0
	if err := s.Serve(); err != nil {
		log.Logger.Fatal(err)
	}
}
