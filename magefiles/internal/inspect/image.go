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

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"sigstore-local/magefiles/internal/config"
)

// Signature is a signature that is stored beside an image.
type Signature struct {
	Bundle []byte // in JSON
	// Payload is the text that was signed about the image, in the form that cosign v2 signs
	// (https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md); nil for a statement, which names the image itself.
	Payload []byte
}

// mostSignatures is how many signatures of an image are read.
const mostSignatures = 50

// only is a way to the stack's registry and to nowhere else: a manifest may name other addresses for a layer, and an answer may redirect.
type only struct{ host string }

func (o only) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != o.host {
		return nil, fmt.Errorf("%s is asked for; accepted is the stack's registry, %s", r.URL.Host, o.host)
	}
	return remote.DefaultTransport.RoundTrip(r)
}

// Signatures are those of an image in the stack's registry, in both of the forms in which cosign stores them: its version 2 as layers
// of an image under a tag that is made from the digest, its version 3 as bundles that refer to the image. It returns the image's
// reference by digest, and the digest. The newest signatures of a form are first.
func Signatures(ctx context.Context, c config.Config, reference string) (image, digest string, signatures []Signature, err error) {
	parsed, err := name.ParseReference(reference)
	own := c.Localhost(config.Registry)
	if err != nil || parsed.Context().RegistryStr() != own {
		return "", "", nil, fmt.Errorf("the image is %q; accepted is one of the stack's registry, such as %s", reference, c.Image("rekor-cli"))
	}
	with := []remote.Option{remote.WithContext(ctx), remote.WithTransport(only{own})}
	described, err := remote.Get(parsed, with...)
	if err != nil {
		return "", "", nil, fmt.Errorf("%s: %w", reference, err)
	}
	hash := described.Digest
	repository := parsed.Context()
	for _, suffix := range []string{"sig", "att"} {
		found, err := legacy(repository.Tag(fmt.Sprintf("%s-%s.%s", hash.Algorithm, hash.Hex, suffix)), with...)
		if err != nil {
			return "", "", nil, err
		}
		signatures = append(signatures, found...)
	}
	found, err := referring(repository.Digest(hash.String()), with...)
	if err != nil {
		return "", "", nil, err
	}
	signatures = append(signatures, found...)
	// Each is stored after those that were there.
	slices.Reverse(signatures)
	return repository.Digest(hash.String()).String(), hash.String(), signatures[:min(mostSignatures, len(signatures))], nil
}

// Image verifies a signature of the image with a digest.
func Image(trusted root.TrustedMaterial, signature Signature, digest string, expected Expected) (Report, error) {
	if signature.Payload == nil {
		return Bundle(trusted, signature.Bundle, Subject{Digest: digest}, expected)
	}
	signed := fmt.Sprintf("sha256:%x", sha256.Sum256(signature.Payload))
	report, err := Bundle(trusted, signature.Bundle, Subject{Digest: signed}, expected)
	if err != nil {
		return Report{}, err
	}
	for i, one := range report.Checks {
		if one.Name == "digest" {
			report.Checks[i].Title = "It is about the text that is stored with it"
			report.Checks[i].Attacks = nil
		}
	}
	// What was signed is a text about the image, and sigstore-go knows nothing of the text.
	var payload struct {
		Critical struct {
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			}
		}
	}
	c := Check{
		Name: "image", Title: "The text that was signed is about this image", Attacks: []string{"changed-image", "moved-signature"},
		Compared: "The image's digest, " + digest + ", with the one that the signed text names.", Outcome: Passed,
	}
	if err := json.Unmarshal(signature.Payload, &payload); err != nil || !strings.EqualFold(payload.Critical.Image.Digest, digest) {
		c.Outcome, c.Detail = Failed, fmt.Sprintf("the signed text is about %q", payload.Critical.Image.Digest)
		if report.OK {
			report.OK, report.Verdict = false, "the signature holds, but "+c.Detail
		}
	} else if report.OK {
		report.Verdict = strings.Replace(report.Verdict, signed, digest, 1)
	}
	report.Checks = append(report.Checks, c)
	return report, nil
}

// missing says that the registry does not have something.
func missing(err error) bool {
	refused := (*transport.Error)(nil)
	return errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound
}

// legacy are the signatures in the layers of an image.
func legacy(tag name.Tag, with ...remote.Option) ([]Signature, error) {
	image, err := remote.Image(tag, with...)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	var signatures []Signature
	for _, described := range manifest.Layers[:min(mostSignatures, len(manifest.Layers))] {
		payload, err := layer(image, described.Digest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tag, err)
		}
		one, err := fromLayer(payload, described.Annotations)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tag, err)
		}
		signatures = append(signatures, one)
	}
	return signatures, nil
}

func layer(image v1.Image, digest v1.Hash) ([]byte, error) {
	found, err := image.LayerByDigest(digest)
	if err != nil {
		return nil, err
	}
	content, err := found.Compressed() // as it is stored: these layers are not compressed
	if err != nil {
		return nil, err
	}
	defer content.Close()
	text, err := io.ReadAll(io.LimitReader(content, MaxBundle+1))
	if err == nil && len(text) > MaxBundle {
		err = fmt.Errorf("the layer %s has more than %d bytes", digest, MaxBundle)
	}
	return text, err
}

// fromLayer makes a bundle of a layer and its annotations.
func fromLayer(payload []byte, annotations map[string]string) (Signature, error) {
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
		digest := sha256.Sum256(payload)
		made.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest[:]}, Signature: signature,
		}}
		one.Payload = payload
	} else {
		var envelope struct {
			PayloadType, Payload string
			Signatures           []struct{ KeyID, Sig string }
		}
		if err := json.Unmarshal(payload, &envelope); err != nil || len(envelope.Signatures) == 0 {
			return Signature{}, errors.New("a layer holds neither a signature nor a signed statement")
		}
		content, err := base64.StdEncoding.DecodeString(envelope.Payload)
		if err != nil {
			return Signature{}, fmt.Errorf("a statement: %w", err)
		}
		dsse := &protodsse.Envelope{Payload: content, PayloadType: envelope.PayloadType}
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
func referring(image name.Digest, with ...remote.Option) ([]Signature, error) {
	index, err := remote.Referrers(image, with...)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what refers to %s: %w", image, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("what refers to %s: %w", image, err)
	}
	var signatures []Signature
	for _, described := range manifest.Manifests {
		if !strings.HasPrefix(described.ArtifactType, "application/vnd.dev.sigstore.bundle") || len(signatures) == mostSignatures {
			continue
		}
		artifact, err := remote.Image(image.Context().Digest(described.Digest.String()), with...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", described.Digest, err)
		}
		held, err := artifact.Manifest()
		if err != nil || len(held.Layers) != 1 {
			return nil, fmt.Errorf("%s holds no bundle", described.Digest)
		}
		content, err := layer(artifact, held.Layers[0].Digest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", described.Digest, err)
		}
		signatures = append(signatures, Signature{Bundle: content})
	}
	return signatures, nil
}
