// Package content knows what is in a package: it walks the files and chunks of
// one, verifies them against what was signed, and makes and applies the
// difference between two.
//
//	release ▸ packages ▸ [Walk] ▸ files and their chunks ▸ [Verify]
//	base, target ▸ [Make] ▸ difference ▸ … ▸ [Apply] ▸ target
//
// It needs a store and the documents, and knows nothing of sites, peers and
// bundles. FORMAT.md holds the format of a difference.
package content

import (
	"davit/manifest"
	"davit/store/chunk"
)

// Refs lists every stream that a release needs.
func Refs(r *manifest.Release) []chunk.Ref {
	var refs []chunk.Ref
	for i := range r.Packages {
		refs = append(refs, PackageRefs(&r.Packages[i])...)
	}
	for _, a := range r.Attachments {
		refs = append(refs, a.Content)
	}
	return refs
}

// PackageRefs lists every stream that a package needs.
func PackageRefs(p *manifest.Package) []chunk.Ref {
	if p.Tree != nil {
		return []chunk.Ref{p.Content, *p.Tree}
	}
	return []chunk.Ref{p.Content}
}

// OfAttachment describes an attachment as the package of one file that it
// could be.
func OfAttachment(a *manifest.Attachment) *manifest.Package {
	return &manifest.Package{Name: a.Name, Kind: manifest.PackageFile, MediaType: a.MediaType, Size: a.Size, Files: 1, SHA256: a.SHA256, Content: a.Content}
}

// Part is a package or an attachment of a release.
type Part struct {
	*manifest.Package
	Attachment bool
}

// Parts lists the packages and the attachments of a release.
func Parts(r *manifest.Release) []Part {
	var all []Part
	for i := range r.Packages {
		all = append(all, Part{Package: &r.Packages[i]})
	}
	for i := range r.Attachments {
		all = append(all, Part{OfAttachment(&r.Attachments[i]), true})
	}
	return all
}

// Target is what a delta gives: two parts with one target are the same bytes.
type Target struct {
	Kind   string
	SHA256 manifest.Digest
	Size   int64
}

// Target returns what a delta of this part gives.
func (p Part) Target() Target { return Target{p.Kind, p.SHA256, p.Size} }

// TargetOf returns what a delta in a bundle gives.
func TargetOf(d *manifest.BundleDelta) Target {
	return Target{d.Kind, d.Target.SHA256, d.Target.Size}
}

// IsBase reports whether a delta is from this part.
func (p Part) IsBase(d *manifest.BundleDelta) bool {
	name, other := d.Package, d.Attachment
	if p.Attachment {
		name, other = other, name
	}
	return p.Name == name && other == "" && p.Kind == d.Kind && d.Base == manifest.BundleFile{SHA256: p.SHA256, Size: p.Size}
}
