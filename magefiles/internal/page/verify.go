package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"sigstore-local/magefiles/internal/certificate"
	"sigstore-local/magefiles/internal/inspect"
	"sigstore-local/magefiles/internal/logview"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/rekorlog"
	"sigstore-local/magefiles/internal/stack"
)

// verifyContent is what the page of verification shows.
type verifyContent struct {
	Image, Identity, Issuer, Digest, Key string // as asked for
	Bundles                              []string
	Problem                              string
	Subject                              string // what the reports are about
	Reports                              []report
}

// report is what a verifier says of one signature.
type report struct {
	inspect.Report
	Title       string
	Certificate []certificate.Field
	Entries     []change // links to the entries in the logs
}

// mostUpload is how many bytes may be sent to be verified: a bundle, and the form around it.
const mostUpload = inspect.MaxBundle + 1<<20

// showVerify verifies an image of the stack's registry or a bundle in the stack's data, if one is named.
func (s *Server) showVerify(w http.ResponseWriter, r *http.Request) {
	content := s.asked(r)
	var err error
	switch name := r.URL.Query().Get("bundle"); {
	case content.Image != "":
		err = s.verifyImage(r.Context(), &content)
	case name != "":
		file := s.bundle(name)
		if file == "" {
			err = fmt.Errorf("there is no bundle %q in the stack's data", bounded(100, name))
			break
		}
		var bundle []byte
		if bundle, err = os.ReadFile(file); err == nil {
			// A demo's bundle stands beside what it signs.
			if content.Digest == "" {
				content.Digest = digestOf(strings.TrimSuffix(strings.TrimSuffix(file, ".sigstore.json"), ".key"))
			}
			err = s.verify(&content, name, bundle)
		}
	}
	if err != nil {
		content.Problem = err.Error()
	}
	s.render(w, r, http.StatusOK, "verify", view{Title: "Verify", Section: "verify", Scripts: []string{"verify.js"}, Content: content})
}

// verifyBundle verifies a bundle that the browser has sent.
func (s *Server) verifyBundle(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, mostUpload)
	content, err := s.uploaded(r)
	if err != nil {
		content.Problem = err.Error()
	}
	s.render(w, r, http.StatusOK, "verify", view{Title: "Verify", Section: "verify", Scripts: []string{"verify.js"}, Content: content})
}

func (s *Server) uploaded(r *http.Request) (verifyContent, error) {
	if err := r.ParseMultipartForm(mostUpload); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			err = fmt.Errorf("what was sent has more than %d bytes", mostUpload)
		}
		r.Form = nil // what came of it is not all
		return s.asked(r), err
	}
	content := s.asked(r)
	file, header, err := r.FormFile("file")
	if err != nil {
		return content, errors.New("no bundle was sent; accepted is the file of a Sigstore bundle, such as artifact.sigstore.json")
	}
	defer file.Close()
	bundle, err := io.ReadAll(file)
	if err != nil {
		return content, err
	}
	return content, s.verify(&content, header.Filename, bundle)
}

// asked is what a request asks for.
func (s *Server) asked(r *http.Request) verifyContent {
	c := s.stack.Config
	content := verifyContent{Identity: c.Email, Issuer: c.Issuer()}
	if r.Form == nil {
		r.Form = r.URL.Query()
	}
	value := func(name, other string) string {
		if r.Form.Has(name) {
			return strings.TrimSpace(r.Form.Get(name))
		}
		return other
	}
	content.Image, content.Digest, content.Key = value("image", ""), value("digest", ""), value("key", "")
	content.Identity, content.Issuer = value("identity", content.Identity), value("issuer", content.Issuer)
	files, err := filepath.Glob(filepath.Join(c.Data(""), "*.sigstore.json"))
	if err == nil {
		for _, file := range files {
			content.Bundles = append(content.Bundles, filepath.Base(file))
		}
	}
	return content
}

// bundle is the path of a bundle of the demos'; empty if there is none of the name.
func (s *Server) bundle(name string) string {
	file := s.stack.Config.Data(name)
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > inspect.MaxBundle || filepath.Base(name) != name || !strings.HasSuffix(name, ".sigstore.json") {
		return ""
	}
	return file
}

// digestOf is the digest of a file; empty if there is none.
func digestOf(file string) string {
	opened, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer opened.Close()
	digest, err := inspect.Digest(opened)
	if err != nil {
		return ""
	}
	return digest
}

// expected is what the reader expects of a signature. Without a key that is named, the stack's own key for signing counts.
func (s *Server) expected(content *verifyContent) inspect.Expected {
	expected := inspect.Expected{Identity: content.Identity, Issuer: content.Issuer, KeyPEM: []byte(content.Key)}
	if content.Key == "" {
		expected.KeyPEM, _ = os.ReadFile(s.stack.Config.Key("cosign.pub"))
	}
	return expected
}

func (s *Server) verify(content *verifyContent, name string, bundle []byte) error {
	subject := inspect.Subject{}
	if content.Digest != "" {
		digest, err := rekorlog.ParseDigest(content.Digest)
		if err != nil {
			return err
		}
		subject.Digest = digest
	}
	trusted, err := s.trustedRoot()
	if err != nil {
		return err
	}
	made, err := inspect.Bundle(trusted, bundle, subject, s.expected(content))
	if err != nil {
		return err
	}
	content.Subject = bounded(200, name)
	content.Reports = append(content.Reports, s.report("The bundle", made))
	return nil
}

func (s *Server) verifyImage(ctx context.Context, content *verifyContent) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	trusted, err := s.trustedRoot()
	if err != nil {
		return err
	}
	image, digest, signatures, err := inspect.Signatures(ctx, s.stack.Config, content.Image)
	if err != nil {
		return err
	}
	content.Subject = image
	if len(signatures) == 0 {
		return fmt.Errorf("nobody has signed %s", image)
	}
	for i, signature := range signatures {
		made, err := inspect.Image(trusted, signature, digest, s.expected(content))
		if err != nil {
			return err
		}
		title := "Its signature"
		if len(signatures) > 1 {
			title = fmt.Sprintf("Signature %d of %d", i+1, len(signatures))
		}
		content.Reports = append(content.Reports, s.report(title, made))
	}
	return nil
}

// report adds to what inspect reports links into the rest of this page.
func (s *Server) report(title string, made inspect.Report) report {
	one := report{Report: made, Title: title}
	if made.Certificate != nil {
		one.Certificate = certificate.Describe(made.Certificate)
	}
	for _, entry := range made.Entries {
		if entry.Log == "" {
			continue // a log that is not this stack's
		}
		for _, about := range s.logs() {
			if about.Signatures && (about.Name == logview.RekorV2) == entry.Integrated.IsZero() {
				one.Entries = append(one.Entries, change{fmt.Sprintf("Entry %d of %s", entry.Index, about.Title), fmt.Sprintf("/logs/%s/%d", about.Name, entry.Index)})
			}
		}
	}
	return one
}

// trustedRoot is what clients of the stack trust.
func (s *Server) trustedRoot() (root.TrustedMaterial, error) {
	file := s.stack.Config.Trust("trusted_root.json")
	trusted, err := root.NewTrustedRootFromPath(file)
	if errors.Is(err, fs.ErrNotExist) {
		makes := "demo:bundle"
		if slices.Contains(stack.Names(s.stack.All()), "tuf") {
			makes = "tuf:start"
		}
		return nil, fmt.Errorf("the stack has no trusted root yet: `%s %s` makes it", project.Command, makes)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return trusted, nil
}
