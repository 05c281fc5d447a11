// Bucket copies the attestations that a Rekor keeps in a folder into a bucket, and reads back what is there. It is a program of its own
// because the clients of buckets are large, and the magefiles do without them.
//
// Usage: bucket URL [FOLDER]
//
// URL is the bucket's, as Rekor's setting attestation_storage_bucket has it (https://gocloud.dev/howto/blob/#services). Credentials are those
// that the services' own tools find. Without a folder, bucket only finds out whether the bucket can be reached.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: bucket URL [FOLDER]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	said, err := run(ctx, os.Args[1], os.Args[2:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(said)
}

func run(ctx context.Context, url string, folder ...string) (said string, err error) {
	to, err := blob.OpenBucket(ctx, url)
	if err != nil {
		return "", fmt.Errorf("open the bucket: %w", err)
	}
	defer to.Close()
	switch there, err := to.IsAccessible(ctx); {
	case err != nil:
		return "", fmt.Errorf("reach the bucket: %w", err)
	case !there:
		return "", errors.New("there is no such bucket, or it is not this user's")
	case len(folder) == 0:
		return "the bucket can be reached", nil
	}
	if _, err := os.Stat(folder[0]); errors.Is(err, os.ErrNotExist) {
		return "0 attestations", nil
	}
	from, err := fileblob.OpenBucket(folder[0], nil)
	if err != nil {
		return "", err
	}
	defer from.Close()
	count, size := 0, 0
	for all := from.List(nil); ; {
		one, err := all.Next(ctx)
		if errors.Is(err, io.EOF) {
			return fmt.Sprintf("%d attestations, %d bytes, read back", count, size), nil
		}
		if err != nil {
			return "", err
		}
		content, err := from.ReadAll(ctx, one.Key)
		if err != nil {
			return "", err
		}
		if err := put(ctx, to, one.Key, content); err != nil {
			return "", fmt.Errorf("attestation %s: %w", one.Key, err)
		}
		count, size = count+1, size+len(content)
	}
}

// put stores an object that is not there yet. One that is there is never changed.
func put(ctx context.Context, bucket *blob.Bucket, key string, content []byte) error {
	there, err := bucket.Exists(ctx, key)
	if err != nil {
		return err
	}
	if !there {
		if err := bucket.WriteAll(ctx, key, content, nil); err != nil {
			return err
		}
	}
	found, err := bucket.ReadAll(ctx, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(found, content) {
		return errors.New("the bucket has another one of that name")
	}
	return nil
}
