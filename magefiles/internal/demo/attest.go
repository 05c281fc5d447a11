package demo

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"sigstore-local/magefiles/internal/build"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
)

// Attest signs the provenance of an image, and verifies the image with a policy on the provenance.
func (d *Demo) Attest() error {
	c := d.Config
	began := time.Now()
	d.buildImage()
	text, err := provenance(c, began)
	if err != nil {
		return err
	}
	statement := d.write("provenance.json", text)
	accepts := d.write("policy.cue", policy(builderID))
	rejects := d.write("policy-other.cue", policy("https://example.org/builder"))
	d.secret("COSIGN_IDENTITY_TOKEN", d.mage("dex:token"), func() (string, error) { return stack.IDToken(d.ctx, c, c.Email) })
	d.step("Sign a statement about the image: SLSA provenance, which says from which source, how and by whom the image was built ("+statement+").",
		"cosign", "attest", "--type", "slsaprovenance1", "--predicate", statement, d.imageRef)
	verify := func(identity, policy, image string) []string {
		return []string{"cosign", "verify-attestation", "--type", "slsaprovenance1", "--certificate-identity=" + identity,
			"--certificate-oidc-issuer=" + c.Issuer(), "--policy", oneOfList(policy), image}
	}
	d.step("Verify who signed the statement, and that it says what the policy "+accepts+" asks for: this builder, and sources of sigstore.",
		verify(c.Email, accepts, d.imageRef)...)
	d.refused("With a policy that asks for another builder, the same statement is refused.", cosign.WrongPolicy, verify(c.Email, rejects, d.imageRef)...)
	d.refused("Another identity is refused.", cosign.WrongIdentity, verify(attack.Mallory, accepts, d.imageRef)...)
	d.refused("An image about which nobody made a statement is refused.", cosign.NoAttestation, verify(c.Email, accepts, d.unsigned())...)
	return d.done("The image has a signed statement about where it comes from, and only an image whose statement fits the policy is accepted.", "")
}

// oneOfList quotes a value for a flag that takes a list of values as CSV, in which quotation marks are special.
func oneOfList(value string) string {
	if !strings.Contains(value, `"`) {
		return value
	}
	return `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
}

// builderID identifies the builder in the provenance.
const builderID = "https://" + project.Module + "/demo"

// provenance is a predicate of SLSA provenance (https://slsa.dev/spec/v1.0/provenance) for the image of the demos.
func provenance(c config.Config, began time.Time) (string, error) {
	// The image is built from what the stack's own program of that name was built from.
	name := path.Base(ImagePackage(c))
	if name == "cosign" {
		name = c.Cosign()
	}
	built, err := buildinfo.ReadFile(filepath.Join(c.Programs, name))
	if err != nil {
		return "", err
	}
	module := built.Main
	// Go's module hash, as in-toto names it (https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md).
	hash, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(module.Sum, "h1:"))
	if err != nil || len(hash) != sha256.Size {
		return "", fmt.Errorf("the hash of %s is %q", module.Path, module.Sum)
	}
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"buildDefinition": object{
			"buildType":          builderID + "/ko",
			"externalParameters": object{"package": ImagePackage(c), "platform": "linux/" + runtime.GOARCH, "flags": build.ImageFlags},
			"resolvedDependencies": []object{{
				"uri": "pkg:golang/" + module.Path + "@" + module.Version, "digest": object{"dirHash": hex.EncodeToString(hash)},
			}},
		},
		"runDetails": object{
			"builder":  object{"id": builderID},
			"metadata": object{"startedOn": began.UTC().Format(time.RFC3339), "finishedOn": time.Now().UTC().Format(time.RFC3339)},
		},
	}, "", "  ")
	return string(text), err
}

// policy is a policy in CUE (https://cuelang.org) for statements: this builder, and sources of sigstore.
func policy(builder string) string {
	return fmt.Sprintf(`predicateType: "https://slsa.dev/provenance/v1"
predicate: {
	buildDefinition: resolvedDependencies: [...{uri: =~"^pkg:golang/github.com/sigstore/"}]
	runDetails: builder: id: %q
}
`, builder)
}
