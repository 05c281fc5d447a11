package inspect

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature/payload"
	"google.golang.org/protobuf/encoding/protojson"

	"sigstore-local/magefiles/internal/config"
)

// Signature is a signature that is stored beside an image.
type Signature struct {
	Bundle []byte // in JSON
	// Payload is the text that was signed about the image, in the form that cosign v2 signs
	// (https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md); nil for a statement, which names the image itself.
	Payload []byte
	problem error // why it could not be read; the other signatures of the image still count
}

const (
	mostSignatures = 50       // how many signatures of an image are read
	mostBytes      = 64 << 20 // how many bytes the registry may send about an image
)

// Signatures are those of an image in the stack's registry, in both of the forms in which cosign stores them: its version 2 as layers
// of an image under a tag that is made from the digest, its version 3 as bundles that refer to the image. It returns the image's
// reference by digest, and the digest. The newest signatures of a form are first. Its error says that the reference is not of the
// stack's registry, or that the image could not be read. What is stored as a signature and is none is in the list, and Image
// reports it as refused: nobody can hide the others with it.
func Signatures(ctx context.Context, c config.Config, reference string) (image, digest string, signatures []Signature, err error) {
	parsed, err := name.ParseReference(reference)
	own := c.Localhost(config.Registry)
	if err != nil || parsed.Context().RegistryStr() != own {
		return "", "", nil, fmt.Errorf("the image is %q; accepted is one of the stack's registry, such as %s", bounded(reference), c.Image("rekor-cli"))
	}
	r := reader{parsed.Context(), []remote.Option{remote.WithContext(ctx), remote.WithTransport(&only{host: own})}}
	described, err := remote.Get(parsed, r.options...)
	if err != nil {
		return "", "", nil, fmt.Errorf("%s: %w", reference, err)
	}
	hash := described.Digest
	signed := r.repository.Digest(hash.String())
	signatures = r.referring(signed)
	for _, suffix := range []string{"att", "sig"} {
		signatures = append(signatures, r.layers(r.repository.Tag(fmt.Sprintf("%s-%s.%s", hash.Algorithm, hash.Hex, suffix)))...)
	}
	if err := ctx.Err(); err != nil {
		return "", "", nil, fmt.Errorf("the signatures of %s: %w", signed, err)
	}
	return signed.String(), hash.String(), signatures[:min(mostSignatures, len(signatures))], nil
}

// only sends requests to one host, and passes on so many bytes of all answers together: a manifest may name other hosts, and any size.
type only struct {
	host string
	sent atomic.Int64
}

// RoundTrip sends a request to the host.
func (o *only) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Host != o.host {
		return nil, fmt.Errorf("%s is not at %s, the stack's registry", request.URL.Redacted(), o.host)
	}
	response, err := remote.DefaultTransport.RoundTrip(request)
	if err == nil {
		response.Body = counted{response.Body, &o.sent}
	}
	return response, err
}

type counted struct {
	io.ReadCloser
	sent *atomic.Int64
}

// Read fails when mostBytes are passed.
func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.sent.Add(int64(n)) > mostBytes {
		return 0, fmt.Errorf("the registry sent more than %d bytes about the image", mostBytes)
	}
	return n, err
}

// Image verifies a signature of the image with a digest, such as sha256:0123…. Its error says that the digest or the expected key is
// none. A signature that could not be read is refused.
func Image(trusted root.TrustedMaterial, signature Signature, digest string, expected Expected) (Report, error) {
	read, err := parsed{}, signature.problem
	if err == nil {
		read, err = parse(signature.Bundle)
	}
	if err != nil {
		said := bounded(err.Error())
		unread := Check{Name: "form", Title: "It has the form of a signature", Outcome: Failed, Detail: said}
		return Report{Verdict: said, Checks: []Check{unread}}, nil
	}
	if signature.Payload == nil {
		return read.verify(trusted, Subject{Digest: digest}, "", expected)
	}
	// What was signed is a text about the image, and sigstore-go knows nothing of the text.
	text := Subject{Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(signature.Payload))}
	report, err := read.verify(trusted, text, digest, expected)
	if err != nil {
		return Report{}, err
	}
	c := Check{
		Name: "image", Title: "The text that was signed is about this image", Attacks: []string{"changed-image", "moved-signature"},
		Compared: "The image's digest, " + digest + ", with the one that the signed text names.", Outcome: Passed,
	}
	for i, one := range report.Checks {
		if one.Name != "digest" {
			continue
		}
		report.Checks[i].Title, report.Checks[i].Attacks = "It is about the text that is stored with it", nil
		report.Checks[i].Compared = strings.Replace(one.Compared, "of the artifact", "of the text", 1)
		if one.Outcome != Passed {
			c.Outcome, c.Compared, c.Detail = Skipped, "", "The signature is not over the text that is stored with it."
		}
	}
	var about payload.SimpleContainerImage
	if err := json.Unmarshal(signature.Payload, &about); c.Outcome == Passed && (err != nil || about.Critical.Image.DockerManifestDigest != digest) {
		c.Outcome, c.Detail = Failed, bounded(fmt.Sprintf("the signed text is about %q", about.Critical.Image.DockerManifestDigest))
		if report.OK {
			report.OK, report.Verdict = false, "the signature holds, but "+c.Detail
		}
	}
	report.Checks = append(report.Checks, c)
	return report, nil
}

// reader reads what is stored beside an image in a repository.
type reader struct {
	repository name.Repository
	options    []remote.Option
}

// missing says that the registry does not have something.
func missing(err error) bool {
	refused := (*transport.Error)(nil)
	return errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound
}

// unread is a signature that could not be read.
func unread(where fmt.Stringer, err error) Signature {
	return Signature{problem: fmt.Errorf("what is stored as a signature at %s could not be read: %w", where, err)}
}

// newest are the last ones of a list, to which each signature is added at the end.
func newest(all []v1.Descriptor) []v1.Descriptor {
	last := slices.Clone(all[max(0, len(all)-mostSignatures):])
	slices.Reverse(last)
	return last
}

// layers are the signatures in the layers of an image.
func (r reader) layers(tag name.Tag) []Signature {
	image, err := remote.Image(tag, r.options...)
	if missing(err) {
		return nil
	}
	var manifest *v1.Manifest
	if err == nil {
		manifest, err = image.Manifest()
	}
	if err != nil {
		return []Signature{unread(tag, err)}
	}
	var signatures []Signature
	for _, described := range newest(manifest.Layers) {
		one := Signature{}
		content, err := layer(image, described)
		if err == nil {
			one, err = fromLayer(content, described.Annotations)
		}
		if err != nil {
			one = unread(tag, err)
		}
		signatures = append(signatures, one)
	}
	return signatures
}

// layer is the content of a layer, as it is stored: a layer that holds a signature is not compressed.
func layer(image v1.Image, described v1.Descriptor) ([]byte, error) {
	tooLarge := fmt.Errorf("the layer %s has more than %d bytes", described.Digest, MaxBundle)
	if described.Size > MaxBundle {
		return nil, tooLarge
	}
	found, err := image.LayerByDigest(described.Digest)
	if err != nil {
		return nil, err
	}
	stored, err := found.Compressed()
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	content, err := io.ReadAll(io.LimitReader(stored, MaxBundle+1)) // a reader checks the digest when it comes to the end
	if err == nil && len(content) > MaxBundle {
		err = tooLarge
	}
	return content, err
}

// fromLayer makes a bundle of a layer and its annotations.
func fromLayer(content []byte, annotations map[string]string) (Signature, error) {
	material := &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{}}}
	if text := annotations["dev.sigstore.cosign/certificate"]; text != "" {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return Signature{}, errors.New("a signature's certificate is no PEM")
		}
		material.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &protocommon.X509CertificateChain{
			Certificates: []*protocommon.X509Certificate{{RawBytes: block.Bytes}},
		}}
	}
	if text := annotations["dev.sigstore.cosign/bundle"]; text != "" {
		entry, err := fromAnnotation(text)
		if err != nil {
			return Signature{}, fmt.Errorf("a signature's log entry: %w", err)
		}
		material.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if text := annotations["dev.sigstore.cosign/rfc3161timestamp"]; text != "" {
		var stored struct{ SignedRFC3161Timestamp []byte }
		if err := json.Unmarshal([]byte(text), &stored); err != nil {
			return Signature{}, fmt.Errorf("a signature's timestamp: %w", err)
		}
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stored.SignedRFC3161Timestamp}},
		}
	}
	made := &protobundle.Bundle{MediaType: "application/vnd.dev.sigstore.bundle+json;version=0.1", VerificationMaterial: material}
	one := Signature{}
	if text := annotations["dev.cosignproject.cosign/signature"]; text != "" {
		signature, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return Signature{}, fmt.Errorf("a signature: %w", err)
		}
		digest := sha256.Sum256(content)
		made.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest[:]}, Signature: signature,
		}}
		one.Payload = content
	} else {
		var envelope struct {
			PayloadType, Payload string
			Signatures           []struct{ KeyID, Sig string }
		}
		if err := json.Unmarshal(content, &envelope); err != nil || len(envelope.Signatures) == 0 {
			return Signature{}, errors.New("a layer holds neither a signature nor a signed statement")
		}
		statement, err := base64.StdEncoding.DecodeString(envelope.Payload)
		if err != nil {
			return Signature{}, fmt.Errorf("a statement: %w", err)
		}
		dsse := &protodsse.Envelope{Payload: statement, PayloadType: envelope.PayloadType}
		for _, by := range envelope.Signatures {
			signature, err := base64.StdEncoding.DecodeString(by.Sig)
			if err != nil {
				return Signature{}, fmt.Errorf("a statement's signature: %w", err)
			}
			dsse.Signatures = append(dsse.Signatures, &protodsse.Signature{Sig: signature, Keyid: by.KeyID})
		}
		made.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: dsse}
	}
	var err error
	one.Bundle, err = protojson.Marshal(made)
	return one, err
}

// fromAnnotation is a log entry as cosign v2 stores it, with the log's promise and without a proof.
func fromAnnotation(text string) (*protorekor.TransparencyLogEntry, error) {
	var stored struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte
			IntegratedTime int64
			LogIndex       int64
			LogID          string
		}
	}
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, err
	}
	var kind struct{ Kind, APIVersion string }
	if err := json.Unmarshal(stored.Payload.Body, &kind); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(stored.Payload.LogID)
	if err != nil {
		return nil, err
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex: stored.Payload.LogIndex, LogId: &protocommon.LogId{KeyId: id}, IntegratedTime: stored.Payload.IntegratedTime,
		KindVersion:      &protorekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion},
		InclusionPromise: &protorekor.InclusionPromise{SignedEntryTimestamp: stored.SignedEntryTimestamp}, CanonicalizedBody: stored.Payload.Body,
	}, nil
}

// referring are the bundles that refer to an image.
func (r reader) referring(image name.Digest) []Signature {
	index, err := remote.Referrers(image, r.options...)
	if missing(err) {
		return nil
	}
	var manifest *v1.IndexManifest
	if err == nil {
		manifest, err = index.IndexManifest()
	}
	if err != nil {
		return []Signature{unread(image, err)}
	}
	bundles := slices.DeleteFunc(slices.Clone(manifest.Manifests), func(one v1.Descriptor) bool {
		return !strings.HasPrefix(one.ArtifactType, "application/vnd.dev.sigstore.bundle")
	})
	var signatures []Signature
	for _, described := range newest(bundles) {
		at := r.repository.Digest(described.Digest.String())
		content, err := r.bundle(at)
		if err != nil {
			signatures = append(signatures, unread(at, err))
			continue
		}
		signatures = append(signatures, Signature{Bundle: content})
	}
	return signatures
}

// bundle is the bundle that an artifact holds as its only layer.
func (r reader) bundle(at name.Digest) ([]byte, error) {
	artifact, err := remote.Image(at, r.options...)
	if err != nil {
		return nil, err
	}
	held, err := artifact.Manifest()
	if err != nil {
		return nil, err
	}
	if len(held.Layers) != 1 {
		return nil, fmt.Errorf("it has %d layers; a bundle is the only one", len(held.Layers))
	}
	return layer(artifact, held.Layers[0])
}
