package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/protobuf/encoding/protojson"

	"sigstore-local/magefiles/internal/config"
)

// newRegistry is the settings of a stack with a registry, in which there is an image that nobody has signed.
func newRegistry(t *testing.T, around func(http.Handler) http.Handler) (c config.Config, image name.Digest) {
	t.Helper()
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	if around != nil {
		handler = around(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err = config.Load("/checkout", []string{"SIGLOCAL_PORT_REGISTRY=" + at.Port()}, config.Part{Service: "registry", Ports: []config.Port{config.Registry}})
	if err != nil {
		t.Fatal(err)
	}
	digest := put(t, c, "app:latest", empty.Image)
	image, err = name.NewDigest(c.Image("app@" + digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	return c, image
}

// put stores an image, and says what its digest is.
func put(t *testing.T, c config.Config, reference string, image v1.Image) v1.Hash {
	t.Helper()
	parsed, err := name.ParseReference(c.Image(reference))
	if err == nil {
		err = remote.Write(parsed, image)
	}
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// beside is the tag under which cosign v2 stores the signatures of an image, or with another suffix its statements.
func beside(image name.Digest, suffix string) string {
	return "app:" + strings.Replace(image.DigestStr(), ":", "-", 1) + "." + suffix
}

func with(t *testing.T, image v1.Image, layers ...mutate.Addendum) v1.Image {
	t.Helper()
	made, err := mutate.Append(image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// payloadOf is the text that cosign v2 signs about an image with a digest.
func payloadOf(digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"app"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, digest)
}

// old is a layer as cosign v2 stores a signature, or a statement with its signature.
func (s *sigstore) old(t *testing.T, h how) mutate.Addendum {
	t.Helper()
	b := s.sign(t, h)
	material := b.VerificationMaterial
	entry := material.TlogEntries[0]
	marshal := func(value any) string {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	annotations := map[string]string{
		"dev.sigstore.cosign/bundle": marshal(object{"SignedEntryTimestamp": entry.InclusionPromise.SignedEntryTimestamp, "Payload": object{
			"body": entry.CanonicalizedBody, "integratedTime": entry.IntegratedTime, "logIndex": entry.LogIndex, "logID": hex.EncodeToString(entry.LogId.KeyId),
		}}),
	}
	if h.withKey == nil {
		annotations["dev.sigstore.cosign/certificate"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: material.GetCertificate().RawBytes}))
	}
	for _, stamp := range material.GetTimestampVerificationData().GetRfc3161Timestamps() {
		annotations["dev.sigstore.cosign/rfc3161timestamp"] = marshal(object{"SignedRFC3161Timestamp": stamp.SignedTimestamp})
	}
	content, mediaType := h.content, types.MediaType("application/vnd.dev.cosign.simplesigning.v1+json")
	if envelope := b.GetDsseEnvelope(); envelope != nil {
		content, mediaType = []byte(marshal(object{
			"payloadType": envelope.PayloadType, "payload": envelope.Payload, "signatures": []object{{"keyid": "", "sig": envelope.Signatures[0].Sig}},
		})), "application/vnd.dsse.envelope.v1+json"
		annotations["dev.cosignproject.cosign/signature"] = ""
	} else {
		annotations["dev.cosignproject.cosign/signature"] = base64.StdEncoding.EncodeToString(b.GetMessageSignature().Signature)
	}
	return mutate.Addendum{Layer: static.NewLayer(content, mediaType), Annotations: annotations}
}

// reports are those of all of an image's signatures, as the page asks for them.
func (s *sigstore) reports(t *testing.T, c config.Config, image name.Digest, expected Expected) (reports []Report) {
	t.Helper()
	named, digest, signatures, err := Signatures(t.Context(), c, image.String())
	if err != nil {
		t.Fatal(err)
	}
	if named != image.String() || digest != image.DigestStr() {
		t.Errorf("the image is %s and its digest %s", named, digest)
	}
	for _, one := range signatures {
		r, err := Image(s, one, digest, expected)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, r)
	}
	return reports
}

func TestSignaturesOfAnImageAreFoundInEachForm(t *testing.T) {
	s, key := newSigstore(t), newKey(t)
	expected := Expected{Identity: alice, Issuer: issuer, KeyPEM: pemOf(key)}
	c, image := newRegistry(t, nil)
	if got := s.reports(t, c, image, expected); got != nil {
		t.Fatalf("nobody has signed, and there are %d signatures", len(got))
	}
	payload := payloadOf(image.DigestStr())
	put(t, c, beside(image, "sig"), with(t, empty.Image, s.old(t, how{content: payload}), s.old(t, how{content: payload, stamped: true}), s.old(t, how{content: payload, withKey: key})))
	reports := s.reports(t, c, image, expected)
	want := []string{ // the newest is first
		"entry signature digest image",
		"entry timestamp certificate validity sct signature digest identity image",
		"entry certificate validity sct signature digest identity image",
	}
	check := func(reports []Report, want ...string) {
		t.Helper()
		if len(reports) != len(want) {
			t.Fatalf("there are %d signatures, want %d", len(reports), len(want))
		}
		for i, r := range reports {
			if got := strings.Join(ended(r, Passed), " "); got != want[i] || !r.OK || !strings.Contains(r.Verdict, image.DigestStr()) {
				t.Errorf("passed: %s; want %s:\n%s", got, want[i], shown(r))
			}
		}
	}
	check(reports, want...)

	// A statement is about the manifest, byte by byte.
	c, image = newRegistry(t, nil)
	about, err := empty.Image.RawManifest()
	if err != nil || digestOf(t, about) != image.DigestStr() {
		t.Fatal(err, string(about))
	}
	put(t, c, beside(image, "att"), with(t, empty.Image, s.old(t, how{statement: true, content: about})))
	text, err := protojson.Marshal(s.sign(t, how{v2: true, statement: true, content: about}))
	if err != nil {
		t.Fatal(err)
	}
	refer(t, c, image, bundleType, text)
	refer(t, c, image, "application/spdx+json", []byte("no signature"))
	check(s.reports(t, c, image, expected), "entry timestamp certificate validity sct signature digest identity", "entry certificate validity sct signature digest identity")
}

// refer stores content as an artifact that refers to an image, as cosign v3 stores a bundle.
func refer(t *testing.T, c config.Config, image name.Digest, artifactType string, content []byte) {
	t.Helper()
	described, err := remote.Head(image)
	if err != nil {
		t.Fatal(err)
	}
	made := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.MediaType(artifactType))
	made = with(t, made, mutate.Addendum{Layer: static.NewLayer(content, types.MediaType(artifactType))})
	referring, ok := mutate.Subject(made, *described).(v1.Image)
	if !ok {
		t.Fatal("what refers to an image is none")
	}
	put(t, c, "app:refers-"+digestOf(t, content)[len("sha256:"):], referring)
}

func TestASignatureOfAnotherImageIsRefused(t *testing.T) {
	s := newSigstore(t)
	c, image := newRegistry(t, nil)
	another := "sha256:" + strings.Repeat("0", 64)
	put(t, c, beside(image, "sig"), with(t, empty.Image, s.old(t, how{content: payloadOf(another)})))
	reports := s.reports(t, c, image, expectedOfAlice)
	if len(reports) != 1 || reports[0].OK || !slices.Equal(ended(reports[0], Failed), []string{"image"}) || !strings.Contains(reports[0].Verdict, another) {
		t.Fatalf("%+v", reports)
	}
	// A text that is changed to name the image is no longer the one that was signed.
	_, _, signatures, err := Signatures(t.Context(), c, image.String())
	if err != nil {
		t.Fatal(err)
	}
	signatures[0].Payload = payloadOf(image.DigestStr())
	r, err := Image(s, signatures[0], image.DigestStr(), expectedOfAlice)
	if err != nil || r.OK || !slices.Equal(ended(r, Failed), []string{"digest"}) {
		t.Error(err, shown(r))
	}
}

func TestOnlyTheStacksRegistryIsAsked(t *testing.T) {
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; w.Write(payloadOf("")) }))
	defer elsewhere.Close()
	at := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)
	c, image := newRegistry(t, nil)
	for _, reference := range []string{
		"", "app", "docker.io/library/app", "localhost:1/app", strings.TrimPrefix(at, "http://") + "/app", c.Localhost(config.Registry) + ".example.org/app", "http://" + c.Image("app"),
	} {
		_, _, _, err := Signatures(t.Context(), c, reference)
		if err == nil || !strings.Contains(err.Error(), "accepted is one of the stack's registry, such as "+c.Image("")) {
			t.Errorf("%q: %v", reference, err)
		}
	}
	// A manifest may say that a layer, which the registry does not have, is elsewhere.
	layer := static.NewLayer(payloadOf(""), types.DockerForeignLayer)
	put(t, c, beside(image, "sig"), with(t, empty.Image, mutate.Addendum{Layer: layer, URLs: []string{at + "/layer"}, MediaType: types.DockerForeignLayer}))
	if _, _, _, err := Signatures(t.Context(), c, image.String()); err == nil || !strings.Contains(err.Error(), "accepted is the stack's registry") {
		t.Errorf("a layer that is elsewhere: %v", err)
	}
	c, image = newRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".sig") {
				http.Redirect(w, r, at+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	if _, _, _, err := Signatures(t.Context(), c, image.String()); err == nil || !strings.Contains(err.Error(), "accepted is the stack's registry") {
		t.Errorf("a redirection: %v", err)
	}
	if asked > 0 {
		t.Errorf("another server was asked %d times", asked)
	}
}

func TestAnImageThatIsNotThereIsNamed(t *testing.T) {
	c, _ := newRegistry(t, nil)
	if _, _, _, err := Signatures(t.Context(), c, c.Image("none")); err == nil || !strings.Contains(err.Error(), c.Image("none")) {
		t.Error(err)
	}
}

func TestALayerThatIsTooLargeIsRefused(t *testing.T) {
	c, image := newRegistry(t, nil)
	put(t, c, beside(image, "sig"), with(t, empty.Image, mutate.Addendum{Layer: static.NewLayer(bytes.Repeat([]byte(" "), MaxBundle+1), "text/plain")}))
	if _, _, _, err := Signatures(t.Context(), c, image.String()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d bytes", MaxBundle)) {
		t.Error(err)
	}
}
