package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"sigstore-local/magefiles/internal/project"
)

// Names of the files that EnsureTimestamping makes.
const (
	TimestampingKey   = "key.pem"
	TimestampingChain = "chain.pem"
)

// timestamping are the certificates of a chain, the root first: clients want exactly one of each.
var timestamping = []string{"Sigstore Local TSA Root", "Sigstore Local TSA Intermediate", "Sigstore Local TSA"}

// EnsureTimestamping makes the folder dir with a timestamp authority's private key and certificate chain (RFC 3161,
// section 2.3), unless it is there. The keys of the two CAs above it are forgotten: they sign nothing else.
func EnsureTimestamping(dir string, now time.Time) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		if err != nil {
			return err
		}
		return checkTimestamping(dir, now)
	}
	// The folder is made under another name and then moved, so that an incomplete one does not pass for complete.
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	key, chain, err := timestampingCertificates(now)
	if err != nil {
		return err
	}
	if err := writePrivate(filepath.Join(fresh, TimestampingKey), key); err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(fresh, TimestampingChain), chain, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, dir)
}

// checkTimestamping refuses a key and a chain that do not belong together, and a time at which the chain is not valid.
func checkTimestamping(dir string, now time.Time) error {
	keyFile, chainFile := filepath.Join(dir, TimestampingKey), filepath.Join(dir, TimestampingChain)
	content, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("%w: "+fix, err)
	}
	key, err := parse(content, "")
	if err != nil {
		return fmt.Errorf("%s: %w: "+fix, keyFile, err)
	}
	chain, err := Chain(chainFile)
	if err != nil {
		return fmt.Errorf("%w: "+fix, err)
	}
	if len(chain) != len(timestamping) {
		return fmt.Errorf("%s holds %d certificates, not %d: "+fix, chainFile, len(chain), len(timestamping))
	}
	if public, ok := key.Public().(*ecdsa.PublicKey); !ok || !public.Equal(chain[0].PublicKey) {
		return fmt.Errorf("%s is not the certificate of the key in %s: "+fix, chainFile, keyFile)
	}
	return CheckClock("the timestamp authority's certificate", chain[0], now)
}

// CheckClock is an error if a certificate is not valid at now: what its key signs would not be valid either.
func CheckClock(name string, certificate *x509.Certificate, now time.Time) error {
	if now.Before(certificate.NotBefore) || now.After(certificate.NotAfter) {
		return fmt.Errorf("the clock says %s, and %s is valid from %s to %s: set the clock, or make new keys with `"+project.Command+" reset`",
			now.UTC().Format(time.RFC3339), name, certificate.NotBefore.UTC().Format(time.RFC3339), certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// timestampingCertificates makes a leaf's key and its chain, the leaf first, as PEM.
func timestampingCertificates(now time.Time) (leafKey, chain []byte, err error) {
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i, name := range timestamping {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
		if err != nil {
			return nil, nil, err
		}
		template := &x509.Certificate{
			SerialNumber: serial,
			Subject:      pkix.Name{Organization: []string{"Sigstore Local"}, CommonName: name},
			// Valid from a minute ago, since a signature and its timestamp may be of the same second as the chain.
			NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(10, 0, 0), // as Fulcio's root
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		switch i {
		case 1:
			template.MaxPathLenZero = true
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
		case 2:
			template.IsCA, template.KeyUsage = false, x509.KeyUsageDigitalSignature
			// template.ExtKeyUsage would make an extension that is not critical, as it must be here.
			usages, err := asn1.Marshal([]asn1.ObjectIdentifier{oidTimeStamping})
			if err != nil {
				return nil, nil, err
			}
			template.ExtraExtensions = []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usages}}
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			return nil, nil, err
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			return nil, nil, err
		}
		parentKey = key
		chain = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), chain...)
	}
	leafKey, err = encode(parentKey)
	return leafKey, chain, err
}

// RFC 5280, section 4.2.1.12.
var (
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
)
