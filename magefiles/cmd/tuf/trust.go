package main

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"sigstore-local/magefiles/internal/keys"
)

// clientTrustConfig is the media type of a ClientTrustConfig (sigstore_trustroot.proto).
const clientTrustConfig = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"

// The names of the repository's files, which are those of the public Sigstore's as far as that has them.
const (
	trustedRootTarget       = "trusted_root.json"
	signingConfigTarget     = "signing_config.v0.2.json"
	clientTrustConfigTarget = "client_trust_config.json"
)

// always is the time from which the services' keys are valid for clients: the beginning of 1970. The time at which a key was made
// is not known, since its file can be a copy that was put back later, and an earlier time does no harm, since nothing was signed
// with the key before it was made.
var always = time.Unix(0, 0).UTC()

// target is a file of the repository.
type target struct {
	text  []byte
	usage string // what older versions of cosign use the file for; empty if they do not
	uri   string // of the service whose signatures the file verifies
}

// trust makes the files by which clients trust the stack, by the names that the public Sigstore gives them.
func trust(d description) (map[string]target, error) {
	trusted, err := trustedRoot(d)
	if err != nil {
		return nil, err
	}
	signing, err := signingConfig(d.services)
	if err != nil {
		return nil, err
	}
	files := map[string]target{}
	for name, message := range map[string]proto.Message{
		trustedRootTarget:   trusted,
		signingConfigTarget: signing,
		clientTrustConfigTarget: &prototrustroot.ClientTrustConfig{
			MediaType: clientTrustConfig, TrustedRoot: trusted, SigningConfig: signing,
		},
	} {
		written, err := text(message)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = target{text: written}
	}
	// The files of single keys that came before the trusted root. cosign finds them by their usage.
	for name, single := range map[string]struct {
		*endpoint
		usage string
	}{"fulcio.crt.pem": {&d.Fulcio, "Fulcio"}, "ctfe.pub": {d.TrillianCT, "CTFE"}, "tesseract.pub": {d.Tesseract, "CTFE"}, "rekor.pub": {d.Rekor, "Rekor"}} {
		if single.endpoint == nil {
			continue
		}
		text, err := os.ReadFile(single.File)
		if err != nil {
			return nil, err
		}
		files[name] = target{text, single.usage, single.URL}
	}
	return files, nil
}

// text is a message as JSON, written the same way each time, which protojson avoids on purpose.
func text(message proto.Message) ([]byte, error) {
	varying, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(varying, &value); err != nil {
		return nil, err
	}
	stable, err := json.MarshalIndent(value, "", "  ")
	return append(stable, '\n'), err
}

func trustedRoot(d description) (*prototrustroot.TrustedRoot, error) {
	ca, err := certificates(d.Fulcio.File, 1)
	if err != nil {
		return nil, err
	}
	var authorities []root.TimestampingAuthority
	if d.TSA != nil {
		tsa, err := certificates(d.TSA.File, 3)
		if err != nil {
			return nil, err
		}
		authorities = append(authorities, &root.SigstoreTimestampingAuthority{
			Leaf: tsa[0], Intermediates: tsa[1:2], Root: tsa[2], ValidityPeriodStart: tsa[0].NotBefore, ValidityPeriodEnd: tsa[0].NotAfter, URI: d.TSA.URL,
		})
	}
	logs := map[string]map[string]*root.TransparencyLog{"ct": {}, "rekor": {}}
	for _, log := range []struct {
		kind string
		*endpoint
		id func(crypto.PublicKey) ([]byte, error)
	}{
		{"ct", d.TrillianCT, keyHash}, {"ct", d.Tesseract, keyHash}, {"rekor", d.Rekor, keyHash},
		// C2SP's key ID, of the origin and the key, in full (https://c2sp.org/signed-note).
		{"rekor", d.RekorV2, func(key crypto.PublicKey) ([]byte, error) {
			_, id, err := note.KeyHash(d.Origin, key)
			return id, err
		}},
	} {
		if log.endpoint == nil {
			continue
		}
		key, _, err := keys.Public(log.File)
		if err != nil {
			return nil, err
		}
		id, err := log.id(key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", log.File, err)
		}
		logs[log.kind][string(id)] = &root.TransparencyLog{
			BaseURL: log.URL, ID: id, HashFunc: crypto.SHA256, PublicKey: key, ValidityPeriodStart: always,
		}
	}
	made, err := root.NewTrustedRoot(root.TrustedRootMediaType01,
		[]root.CertificateAuthority{&root.FulcioCertificateAuthority{
			Root: ca[0], ValidityPeriodStart: ca[0].NotBefore, ValidityPeriodEnd: ca[0].NotAfter, URI: d.Fulcio.URL,
		}},
		logs["ct"], authorities, logs["rekor"])
	if err != nil {
		return nil, err
	}
	text, err := made.MarshalJSON()
	if err != nil {
		return nil, err
	}
	message, err := root.NewTrustedRootProtobuf(text)
	if err != nil {
		return nil, err
	}
	// The library writes the logs in the order of a map, which varies.
	for _, logs := range [][]*prototrustroot.TransparencyLogInstance{message.Tlogs, message.Ctlogs} {
		slices.SortFunc(logs, func(a, b *prototrustroot.TransparencyLogInstance) int { return strings.Compare(a.BaseUrl, b.BaseUrl) })
	}
	return message, nil
}

func signingConfig(d services) (*prototrustroot.SigningConfig, error) {
	service := func(url string, version uint32) root.Service {
		return root.Service{URL: url, MajorAPIVersion: version, ValidityPeriodStart: always, Operator: "sigstore-local"}
	}
	// A client takes the newest version that it knows.
	var logs, authorities []root.Service
	if d.RekorV2 != nil && d.RekorV2.Signs {
		logs = append(logs, service(d.RekorV2.address(), 2))
	}
	if d.Rekor != nil && d.Rekor.Signs {
		logs = append(logs, service(d.Rekor.address(), 1))
	}
	if d.TSA != nil && d.TSA.Signs {
		authorities = append(authorities, service(d.TSA.address()+"/api/v1/timestamp", 1))
	}
	any := root.ServiceConfiguration{Selector: prototrustroot.ServiceSelector_ANY}
	made, err := root.NewSigningConfig(root.SigningConfigMediaType02,
		[]root.Service{service(d.Fulcio.address(), 1)},
		[]root.Service{service(d.Issuer, 1)},
		logs, any, authorities, any)
	if err != nil {
		return nil, err
	}
	text, err := made.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return root.NewSigningConfigProtobuf(text)
}

// keyHash is the ID of a log by RFC 6962, section 3.2, which Rekor v1 uses too.
func keyHash(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// certificates reads a chain of count certificates.
func certificates(file string, count int) ([]*x509.Certificate, error) {
	chain, err := keys.Chain(file)
	if err == nil && len(chain) != count {
		err = fmt.Errorf("%s holds %d certificates; accepted are %d", file, len(chain), count)
	}
	return chain, err
}
