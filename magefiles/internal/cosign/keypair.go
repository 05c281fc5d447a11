package cosign

import (
	"context"
	"fmt"
	"os"

	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/config"
)

// KeyPair makes what is missing of a key pair in the files prefix.key and prefix.pub, with cosign in the environment env. The
// password of the private key is in env, as COSIGN_PASSWORD.
func KeyPair(ctx context.Context, c config.Config, env []string, prefix string) error {
	private, public := prefix+".key", prefix+".pub"
	var args []string
	switch {
	case there(private) && there(public):
		return nil
	case there(private):
		args = []string{"public-key", "--key", private, "--outfile", public}
	case there(public):
		return fmt.Errorf("the private key %s, whose public half is in %s, is not there: put back a copy of it, or delete the public half too, to get a new pair",
			private, public)
	default:
		args = []string{"generate-key-pair", "--output-key-prefix", prefix}
	}
	_, err := command.Combined(ctx, command.New(ctx, c.Home(), env, c.Program("cosign"), args...))
	return err
}

// HasKeyPair says whether anything is there of the key pair in the files prefix.key and prefix.pub.
func HasKeyPair(prefix string) bool { return there(prefix+".key") || there(prefix+".pub") }

func there(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
