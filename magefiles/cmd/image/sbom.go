package main

import (
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/renameio/v2"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/pack"
	"sigstore-local/magefiles/internal/project"
)

// writeSBOM writes which Debian packages and Go modules the image is made of (https://spdx.github.io/spdx-spec/v2.3/).
func writeSBOM(c image.Contents, packages []debianPackage, digest v1.Hash) error {
	made := part(pack.Command, c.Version, fmt.Sprintf("pkg:oci/%s@%s", pack.Command, digest))
	made.PackageSPDXIdentifier = "Image"
	made.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: digest.Hex}}
	parts := []*spdx.Package{made}
	for _, one := range packages {
		deb := part(one.fields["Package"], one.fields["Version"], fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", one.fields["Package"], one.fields["Version"], one.fields["Architecture"]))
		deb.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(one.sum[:])}}
		deb.PackageSupplier = &common.Supplier{SupplierType: "Organization", Supplier: "Debian"}
		parts = append(parts, deb)
	}
	modules, err := goModules(c)
	if err != nil {
		return err
	}
	for _, purl := range slices.Sorted(maps.Keys(modules)) {
		parts = append(parts, part(modules[purl].Path, modules[purl].Version, purl))
	}
	document := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: pack.Command + " " + c.Version,
		DocumentNamespace: "https://" + project.Module + "/sbom/" + digest.Hex,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: project.Module + "-" + c.Version}}, Created: c.Time.Format("2006-01-02T15:04:05Z"),
		},
		Packages:      parts,
		Relationships: []*spdx.Relationship{relation("DOCUMENT", common.TypeRelationshipDescribe, "Image")},
	}
	for i, one := range parts[1:] {
		one.PackageSPDXIdentifier = common.ElementID(fmt.Sprintf("Package-%d", i+1))
		document.Relationships = append(document.Relationships, relation("Image", common.TypeRelationshipContains, one.PackageSPDXIdentifier))
	}
	out, err := renameio.NewPendingFile(c.SBOM, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if err := spdxjson.Write(document, out, spdxjson.Indent("  ")); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}

// part is a package of the image by its name, version and package URL (https://github.com/package-url/purl-spec).
func part(name, version, purl string) *spdx.Package {
	return &spdx.Package{
		PackageName: name, PackageVersion: version, PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION",
		PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: "purl", Locator: purl}},
	}
}

func relation(from common.ElementID, kind string, to common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: kind,
	}
}

// goModules are the modules that Go has noted in the programs, and Go's own library, by their package URLs.
func goModules(c image.Contents) (map[string]debug.Module, error) {
	modules := map[string]debug.Module{}
	for _, one := range slices.Concat(c.Programs...) {
		if !one.Program {
			continue
		}
		info, err := buildinfo.ReadFile(one.From)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(one.Name), err)
		}
		found := []*debug.Module{{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}, &info.Main}
		for _, module := range append(found, info.Deps...) {
			if module.Replace != nil {
				module = module.Replace
			}
			if module.Path == project.Module || module.Path == "" {
				continue // the image stands for it
			}
			purl := "pkg:golang/" + module.Path
			if module.Version != "" && module.Version != "(devel)" {
				purl += "@" + module.Version
			}
			modules[purl] = *module
		}
	}
	return modules, nil
}
