package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"sigstore-local/magefiles/internal/config"
)

// serve serves an empty registry until the test ends, and counts its requests.
func serve(t *testing.T, options ...registry.Option) (config.Config, *atomic.Int64) {
	t.Helper()
	handler := registry.New(append(options, registry.Logger(log.New(io.Discard, "", 0)))...)
	asked := &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	must(t, err)
	c, err := config.Load(t.TempDir(), []string{"SIGLOCAL_PORT_REGISTRY=" + port})
	must(t, err)
	return c, asked
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	hash, err := of.Digest()
	must(t, err)
	return hash.String()
}

// push stores an image or an index.
func push(t *testing.T, reference string, what remote.Taggable) {
	t.Helper()
	parsed, err := name.ParseReference(reference)
	must(t, err)
	must(t, remote.Push(parsed, what))
}

// pushImage stores an image that nobody has signed, and returns its digest.
func pushImage(t *testing.T, c config.Config, repository string) string {
	t.Helper()
	made, err := random.Image(10, 1)
	must(t, err)
	push(t, c.Image(repository), made)
	return digestOf(t, made)
}

// beside is the reference of what cosign v2 stores beside an image.
func beside(c config.Config, repository, digest, suffix string) string {
	return c.Image(repository) + ":" + strings.Replace(digest, ":", "-", 1) + "." + suffix
}

// stored is a layer as cosign v2 stores a signature.
func stored(t *testing.T, content []byte, b *protobundle.Bundle) mutate.Addendum {
	t.Helper()
	annotations := map[string]string{"dev.cosignproject.cosign/signature": ""}
	if b.GetMessageSignature() != nil {
		annotations["dev.cosignproject.cosign/signature"] = base64.StdEncoding.EncodeToString(*signatureOf(b))
	}
	if raw := b.VerificationMaterial.GetCertificate().GetRawBytes(); raw != nil {
		annotations["dev.sigstore.cosign/certificate"] = string(cryptoutils.PEMEncode(cryptoutils.CertificatePEMType, raw))
	}
	if stamps := b.VerificationMaterial.GetTimestampVerificationData().GetRfc3161Timestamps(); len(stamps) > 0 {
		text, err := json.Marshal(map[string]any{"SignedRFC3161Timestamp": stamps[0].SignedTimestamp})
		must(t, err)
		annotations["dev.sigstore.cosign/rfc3161timestamp"] = string(text)
	}
	entry := b.VerificationMaterial.TlogEntries[0]
	text, err := json.Marshal(map[string]any{
		"SignedEntryTimestamp": entry.InclusionPromise.SignedEntryTimestamp, "Payload": map[string]any{
			"body": entry.CanonicalizedBody, "integratedTime": entry.IntegratedTime, "logIndex": entry.LogIndex, "logID": hex.EncodeToString(entry.LogId.KeyId),
		},
	})
	must(t, err)
	annotations["dev.sigstore.cosign/bundle"] = string(text)
	return mutate.Addendum{Layer: static.NewLayer(content, "application/vnd.dev.cosign.simplesigning.v1+json"), Annotations: annotations}
}

// about is the text that cosign v2 signs about an image.
func about(digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}`, digest)
}

func layersOf(t *testing.T, layers ...mutate.Addendum) v1.Image {
	t.Helper()
	made, err := mutate.Append(empty.Image, layers...)
	must(t, err)
	return made
}

// garbage is a layer that is no signature.
func garbage(text string) mutate.Addendum {
	return mutate.Addendum{Layer: static.NewLayer([]byte(text), "text/plain")}
}

// referrer stores a bundle that refers to an image, as cosign v3 does.
func referrer(t *testing.T, c config.Config, repository, digest string, content []byte) {
	t.Helper()
	hash, err := v1.NewHash(digest)
	must(t, err)
	made := mutate.MediaType(layersOf(t, mutate.Addendum{Layer: static.NewLayer(content, bundleType)}), types.OCIManifestSchema1)
	made = mutate.ConfigMediaType(made, bundleType)
	made = mutate.Subject(made, v1.Descriptor{MediaType: types.DockerManifestSchema2, Digest: hash, Size: 1}).(v1.Image)
	push(t, c.Image(repository)+"@"+digestOf(t, made), made)
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// reports are those of the signatures of an image, with its digest.
func reports(t *testing.T, s *sigstore, c config.Config, repository string) (string, []Report) {
	t.Helper()
	image, digest, signatures, err := Signatures(t.Context(), c, c.Image(repository))
	must(t, err)
	if want := c.Image(repository) + "@" + digest; image != want {
		t.Errorf("the image is %q, not %q", image, want)
	}
	var made []Report
	for _, one := range signatures {
		report, err := Image(s, one, digest, Expected{Identity: alice, Issuer: issuer})
		must(t, err)
		consistent(t, report)
		made = append(made, report)
	}
	return digest, made
}

// ok checks the outcomes of reports.
func ok(t *testing.T, made []Report, want ...bool) {
	t.Helper()
	var got []bool
	for _, one := range made {
		got = append(got, one.OK)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("OK are %t, not %t", got, want)
		for _, one := range made {
			t.Log(one.Verdict)
		}
	}
}

// signedManifest stores an image and returns its manifest, whose digest is that of the image.
func signedManifest(t *testing.T, c config.Config, repository string) []byte {
	t.Helper()
	made, err := random.Image(10, 1)
	must(t, err)
	push(t, c.Image(repository), made)
	raw, err := made.RawManifest()
	must(t, err)
	return raw
}

func TestSignatures(t *testing.T) {
	for name, options := range map[string][]registry.Option{"referrers API": {registry.WithReferrersSupport(true)}, "referrers under a tag": nil} {
		t.Run(name, func(t *testing.T) {
			s := newSigstore(t)
			c, _ := serve(t, options...)
			manifest := signedManifest(t, c, "signed")
			digest, made := reports(t, s, c, "signed")
			ok(t, made)

			text := about(digest)
			push(t, beside(c, "signed", digest, "sig"), layersOf(t, stored(t, text, s.sign(t, signing{artifact: text, stamp: true}))))
			_, made = reports(t, s, c, "signed")
			ok(t, made, true)
			if !strings.Contains(made[0].Verdict, "has signed "+digest) || len(of(made[0], Skipped)) > 0 {
				t.Errorf("%s, and %q are skipped", made[0].Verdict, of(made[0], Skipped))
			}

			statement := s.sign(t, signing{artifact: manifest, statement: true})
			envelope, err := json.Marshal(map[string]any{
				"payloadType": statement.GetDsseEnvelope().PayloadType, "payload": statement.GetDsseEnvelope().Payload,
				"signatures": []any{map[string]any{"sig": *signatureOf(statement)}},
			})
			must(t, err)
			push(t, beside(c, "signed", digest, "att"), layersOf(t, stored(t, envelope, statement), garbage("garbage")))
			_, made = reports(t, s, c, "signed")
			ok(t, made, false, true, true) // the newest is first

			referrer(t, c, "signed", digest, marshal(t, s.sign(t, signing{artifact: manifest, statement: true, tiles: true})))
			_, made = reports(t, s, c, "signed")
			ok(t, made, true, false, true, true)

			referrer(t, c, "signed", digest, []byte("garbage"))
			_, made = reports(t, s, c, "signed")
			if len(made) != 5 {
				t.Errorf("there are %d signatures, not 5", len(made))
			}
		})
	}
}

func TestMovedSignature(t *testing.T) {
	s := newSigstore(t)
	c, _ := serve(t)
	other := pushImage(t, c, "other")
	digest := pushImage(t, c, "moved")
	text := about(other)
	signed := s.sign(t, signing{artifact: text})
	push(t, beside(c, "moved", digest, "sig"), layersOf(t, stored(t, text, signed), stored(t, about(digest), signed), stored(t, []byte("garbage"), s.sign(t, signing{artifact: []byte("garbage")}))))
	_, made := reports(t, s, c, "moved")
	ok(t, made, false, false, false)
	for i, want := range []string{"image", "entry validity signature", "image"} {
		if got := strings.Join(of(made[i], Failed), " "); got != want {
			t.Errorf("%q fails, not %q: %s", got, want, made[i].Verdict)
		}
	}
	if want := fmt.Sprintf("the signature holds, but the signed text is about %q", other); made[2].Verdict != want {
		t.Errorf("the verdict is %q, not %q", made[2].Verdict, want)
	}
	// What is compared with the image is nothing, if nobody has signed the text.
	if last := made[1].Checks[len(made[1].Checks)-1]; last.Name != "image" || last.Outcome != Skipped {
		t.Errorf("of a text that nobody has signed: %+v", last)
	}
}

func TestIndex(t *testing.T) {
	s := newSigstore(t)
	c, _ := serve(t)
	index, err := random.Index(10, 1, 2)
	must(t, err)
	push(t, c.Image("platforms"), index)
	text := about(digestOf(t, index))
	push(t, beside(c, "platforms", digestOf(t, index), "sig"), layersOf(t, stored(t, text, s.sign(t, signing{artifact: text}))))
	digest, made := reports(t, s, c, "platforms")
	ok(t, made, true)
	if want := digestOf(t, index); digest != want {
		t.Errorf("the digest is %s, not that of the index, %s", digest, want)
	}
}

func TestOtherRegistry(t *testing.T) {
	c, _ := serve(t)
	elsewhere, asked := serve(t)
	for _, reference := range []string{elsewhere.Image("x"), "debian", "localhost/x", "user@" + c.Image("x"), "http://" + c.Image("x"), "", strings.Repeat("x", 10000)} {
		if _, _, _, err := Signatures(t.Context(), c, reference); err == nil || !strings.Contains(err.Error(), "accepted is one of the stack's registry") {
			t.Errorf("%.50q: the error is %v", reference, err)
		}
	}
	if asked.Load() > 0 {
		t.Error("another registry was asked")
	}
}

// A manifest may name URLs of a layer, and an attacker's manifest those of whatever the reader can reach.
func TestOtherHost(t *testing.T) {
	s := newSigstore(t)
	c, _ := serve(t)
	digest := pushImage(t, c, "signed")
	asked := &atomic.Int64{}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	layer := garbage("garbage")
	layer.MediaType, layer.URLs = types.DockerForeignLayer, []string{elsewhere.URL, "http://example.org/"}
	push(t, beside(c, "signed", digest, "sig"), layersOf(t, layer))
	_, made := reports(t, s, c, "signed")
	ok(t, made, false)
	if asked.Load() > 0 {
		t.Error("another host was asked")
	}
	request := httptest.NewRequest(http.MethodGet, elsewhere.URL, nil)
	if _, err := (&only{host: c.Localhost(config.Registry)}).RoundTrip(request); err == nil || asked.Load() > 0 {
		t.Errorf("a request to another host: %v", err)
	}
}

func TestHugeAndMany(t *testing.T) {
	s := newSigstore(t)
	c, _ := serve(t)
	digest := pushImage(t, c, "huge")
	text := about(digest)
	good := stored(t, text, s.sign(t, signing{artifact: text}))
	push(t, beside(c, "huge", digest, "sig"), layersOf(t, good, garbage(strings.Repeat("x", MaxBundle+1))))
	_, made := reports(t, s, c, "huge")
	ok(t, made, false, true)
	if want := fmt.Sprintf("has more than %d bytes", MaxBundle); !strings.Contains(made[0].Verdict, want) {
		t.Errorf("the verdict is %q, without %q", made[0].Verdict, want)
	}

	// The newest signatures are read, and no more than the limit.
	layers := []mutate.Addendum{}
	for i := range mostSignatures + 10 {
		layers = append(layers, garbage(fmt.Sprint("garbage ", i)))
	}
	push(t, beside(c, "huge", digest, "sig"), layersOf(t, append(layers, good)...))
	_, made = reports(t, s, c, "huge")
	if len(made) != mostSignatures || !made[0].OK {
		t.Errorf("there are %d signatures, and the newest is %t", len(made), made[0].OK)
	}

	// All layers together are too large.
	layers = layers[:0]
	for i := range mostBytes/MaxBundle + 1 {
		layers = append(layers, garbage(string(bytes.Repeat([]byte{byte('a' + i)}, MaxBundle))))
	}
	push(t, beside(c, "huge", digest, "sig"), layersOf(t, append(layers, good)...))
	_, made = reports(t, s, c, "huge")
	if !made[0].OK || !strings.Contains(made[len(made)-1].Verdict, "the registry sent more than") {
		t.Errorf("the newest is %t, and the oldest %s", made[0].OK, made[len(made)-1].Verdict)
	}
}

func TestImageRefuses(t *testing.T) {
	s := newSigstore(t)
	if _, err := Image(s, Signature{Bundle: marshal(t, s.sign(t, signing{}))}, "latest", Expected{Identity: alice, Issuer: issuer}); err == nil {
		t.Error("a digest that is none is accepted")
	}
	c, _ := serve(t)
	if _, _, _, err := Signatures(t.Context(), c, c.Image("none")); err == nil || !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") && !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Errorf("an image that is not there: %v", err)
	}
}

func FuzzLayer(f *testing.F) {
	f.Add([]byte(`{"payloadType":"a","payload":"YQ==","signatures":[{"sig":"YQ=="}]}`), "", "", `{"Payload":{"body":"e30="}}`, "{}")
	f.Add([]byte("text"), "YQ==", "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n", "null", "null")
	s := newSigstore(f)
	f.Fuzz(func(t *testing.T, content []byte, signature, certificate, entry, stamp string) {
		one, err := fromLayer(content, map[string]string{
			"dev.cosignproject.cosign/signature": signature, "dev.sigstore.cosign/certificate": certificate,
			"dev.sigstore.cosign/bundle": entry, "dev.sigstore.cosign/rfc3161timestamp": stamp,
		})
		if err != nil {
			one = Signature{problem: err}
		}
		report, err := Image(s, one, "sha256:"+strings.Repeat("0", 64), Expected{Identity: alice, Issuer: issuer})
		must(t, err)
		consistent(t, report)
	})
}
