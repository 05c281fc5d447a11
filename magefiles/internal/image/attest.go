package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"al.essio.dev/pkg/shellescape"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/client"
	"sigstore-local/magefiles/internal/command"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
)

// Sign signs an image keyless, by the running stack as its user, with its bill of materials and its provenance, which is in a file, and
// returns the commands that verify these. If the image is in the registry, its signatures are there too; if it is in an archive, each
// statement is in a bundle beside that.
func Sign(ctx context.Context, s *stack.Stack, image Image, provenance string) (verify []string, err error) {
	step := s.Console.Step("sign")
	defer func() {
		if err != nil {
			step.Fail()
			return
		}
		step.Done("%s signed it, its SBOM and its provenance", s.Config.Email)
	}()
	archive := filepath.IsAbs(image.Reference)
	trust := client.Trusts(s.Config)[0]
	if archive {
		trust = client.Root
	}
	cosign, err := pack.Signer(ctx, s, trust)
	if err != nil {
		return nil, err
	}
	// both signs by one command, and notes the other, which verifies it.
	both := func(sign, check []string) error {
		verify = append(verify, shellescape.QuoteCommand(slices.Concat([]string{"cosign"}, check, []string{image.Reference})))
		return cosign(append(sign, image.Reference)...)
	}
	identity := pack.Identity(s.Config)
	if !archive {
		if err := both([]string{"sign"}, append([]string{"verify"}, identity...)); err != nil {
			return nil, err
		}
	}
	for _, one := range []struct{ kind, file, suffix string }{{"spdxjson", image.SBOM, ".spdx.sigstore.json"}, {"slsaprovenance1", provenance, ".provenance.sigstore.json"}} {
		attest, check := []string{"attest"}, []string{"verify-attestation"}
		inBundle, byBundle := []string(nil), identity
		if archive {
			attest, check = []string{"attest-blob"}, []string{"verify-blob-attestation"}
			inBundle, byBundle = pack.InBundle(s.Config, image.Reference+one.suffix)
		}
		if err := both(slices.Concat(attest, []string{"--type", one.kind, "--predicate", one.file}, inBundle), slices.Concat(check, []string{"--type", one.kind}, byBundle)); err != nil {
			return nil, err
		}
	}
	return verify, nil
}

// Provenance writes a predicate of SLSA provenance (https://slsa.dev/spec/v1.0/provenance) about an image: from which sources and
// packages this project has made it.
func Provenance(ctx context.Context, s *stack.Stack, version string, image Image, file string, began time.Time) error {
	bill, err := os.ReadFile(image.SBOM)
	if err != nil {
		return err
	}
	type object = map[string]any
	dependencies := []object{{"name": "the bill of materials", "uri": "https://spdx.dev/Document", "digest": object{"sha256": fmt.Sprintf("%x", sha256.Sum256(bill))}}}
	git := func(args ...string) (string, error) {
		said, err := command.Output(ctx, command.New(ctx, s.Config.Root, os.Environ(), "git", args...))
		return strings.TrimSpace(said), err
	}
	// A copy of the sources without git has no commit.
	if commit, err := git("rev-parse", "HEAD"); err == nil {
		sources := object{"name": "the sources", "digest": object{"gitCommit": commit}}
		if changed, err := git("status", "--porcelain"); err != nil || changed != "" {
			sources["annotations"] = object{"changedSince": true}
		}
		dependencies = append(dependencies, sources)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Config.Checkouts)) {
		source, err := s.Source(name)
		if err != nil {
			return err
		}
		for _, program := range slices.Sorted(maps.Keys(source.Programs)) {
			// Where the checkout is on this machine is nobody's business.
			revision := strings.TrimSpace(strings.TrimPrefix(build.From(s.Config, s.Config.Program(program)), s.Config.Checkouts[name]))
			dependencies = append(dependencies, object{"name": program, "annotations": object{"checkoutOf": source.Module, "revision": revision}})
		}
	}
	text, err := json.MarshalIndent(object{
		"buildDefinition": object{
			"buildType":            "https://" + project.Module + "/image",
			"externalParameters":   object{"version": version, "stack": s.Config.Stack},
			"resolvedDependencies": dependencies,
		},
		"runDetails": object{
			"builder":  object{"id": "https://" + project.Module},
			"metadata": object{"startedOn": began.UTC().Format(time.RFC3339), "finishedOn": time.Now().UTC().Format(time.RFC3339)},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
