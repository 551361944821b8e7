package manifest

import (
	"errors"
	"math"

	"davit/store/pack"
)

// Kinds of bundles.
const (
	KindReleases = "releases" // outward: releases and what they need
	KindResults  = "results"  // back: results and receipts
)

// Kinds of documents a bundle carries.
const (
	DocumentRelease = "release"
	DocumentReceipt = "receipt"
	DocumentResult  = "result"
)

// ModeSealed says that everything in the bundle lies inside age.
const ModeSealed = "sealed"

// Bundle describes one shipment to one peer. Sender, recipient and serial
// stand inside the signature, so that a bundle cannot be passed on as
// another's, replayed unseen or swapped for one of the same serial.
type Bundle struct {
	Version   int              `json:"version"`
	ID        BundleID         `json:"id"`
	From      string           `json:"from"`
	To        string           `json:"to"`
	FromKey   Digest           `json:"fromKey"` // Card.KeyDigest of the sender
	ToKey     Digest           `json:"toKey"`   // Card.KeyDigest of the recipient
	Serial    int64            `json:"serial"`
	Previous  Digest           `json:"previous"` // of the bundle document before it; zero for serial 1 alone
	Created   Time             `json:"created"`
	Kind      string           `json:"kind"`
	Mode      string           `json:"mode"`
	Secret    Digest           `json:"secret"` // random; receipt codes are made with it
	Documents []BundleDocument `json:"documents,omitempty"`
	Base      []BundleBase     `json:"base,omitempty"` // releases the receiver must hold already
	Packs     []BundlePack     `json:"packs,omitempty"`
	Deltas    []BundleDelta    `json:"deltas,omitempty"`
	Values    []BundleValue    `json:"values,omitempty"`
}

// BundleDocument names a document that travels in the bundle.
type BundleDocument struct {
	Kind   string `json:"kind"`
	Digest Digest `json:"digest"`
}

// BundleBase names a release whose chunks the bundle leaves out.
type BundleBase struct {
	Project string `json:"project"`
	Version string `json:"version"`
	Release Digest `json:"release"`
	Serial  int64  `json:"serial,omitempty"` // of the sender's bundle that brought it last; 0 when none did
}

// BundlePack names a pack in the payload; packs lie there in this order.
type BundlePack struct {
	Name pack.Name `json:"name"`
	Size int64     `json:"size"`
}

// BundleDelta is a package or an attachment that travels as what sets it apart
// from one that the receiver holds. It exists in transit only: the receiver
// stores what it gives. Deltas lie in the payload after the packs, in this
// order, each an age file.
type BundleDelta struct {
	Name   Digest     `json:"name"` // SHA-256 of the age file
	Size   int64      `json:"size"` // of the age file
	Kind   string     `json:"kind"` // of target and base: PackageFile or PackageTree
	Target BundleFile `json:"target"`
	Base   BundleFile `json:"base"`
	// Where the receiver finds the base: a package or an attachment of a
	// release that stands among the bundle's bases.
	Release    Digest `json:"release"`
	Package    string `json:"package,omitempty"`
	Attachment string `json:"attachment,omitempty"`
	// For people: how the delta was made, and about how many bytes the chunks
	// would take that it stands for.
	Form  string `json:"form"`
	Plain int64  `json:"plain"`
}

// BundleFile is a file or a tree known by its content: the SHA-256 of a tree
// is that of its listing.
type BundleFile struct {
	SHA256 Digest `json:"sha256"`
	Size   int64  `json:"size"`
}

// BundleValue is a parameter value sealed to the recipient.
type BundleValue struct {
	Project     string `json:"project"`
	Environment string `json:"environment,omitempty"` // empty: every environment
	Name        string `json:"name"`
	Sealed      string `json:"sealed"`
}

// Bounds of a bundle document.
const (
	MaxBundleDocuments = 10_000
	MaxBundleBases     = 10_000
	MaxBundlePacks     = 100_000
	MaxBundleDeltas    = 10_000
	MaxBundleValues    = 10_000
)

// PayloadType implements Document.
func (b *Bundle) PayloadType() string { return PayloadBundle }

// Validate implements Document.
func (b *Bundle) Validate() error {
	if err := at("bundle",
		between(int64(b.Version), 1, 1),
		at("id", present(b.ID)),
		at("from", CheckSite(b.From)),
		at("to", CheckSite(b.To)),
		at("to", absent("the sender itself", b.From == b.To)),
		at("fromKey", present(b.FromKey)),
		at("toKey", present(b.ToKey)),
		at("toKey", absent("the sender's own key", b.FromKey == b.ToKey)),
		at("serial", chain(b.Serial, b.Previous)),
		at("created", b.Created.Validate()),
		at("kind", oneOf(b.Kind, KindReleases, KindResults)),
		at("mode", oneOf(b.Mode, ModeSealed)),
		at("secret", present(b.Secret)),
		checkDocuments(b.Documents),
		checkBases(b.Base),
		b.checkPacks(),
		b.checkDeltas(),
		b.checkValues(),
	); err != nil {
		return err
	}
	if len(b.Documents) == 0 && len(b.Packs) == 0 {
		return errors.New("bundle: carries nothing")
	}
	if b.Kind == KindResults {
		// What a peer may send is granted by kind, so the kind must say the truth.
		if err := at("bundle of results",
			absent("base", len(b.Base) > 0),
			absent("deltas", len(b.Deltas) > 0),
			absent("values", len(b.Values) > 0),
		); err != nil {
			return err
		}
		for i, d := range b.Documents {
			if err := item("bundle of results: document", i, d.Kind, absent("a release", d.Kind == DocumentRelease)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkDocuments(documents []BundleDocument) error {
	if err := list("documents", len(documents), 0, MaxBundleDocuments); err != nil {
		return err
	}
	once := seen[Digest]{}
	for i, d := range documents {
		if err := item("document", i, d.Kind,
			at("kind", oneOf(d.Kind, DocumentRelease, DocumentReceipt, DocumentResult)),
			at("digest", present(d.Digest), once.add(d.Digest)),
		); err != nil {
			return err
		}
	}
	return nil
}

func checkBases(bases []BundleBase) error {
	if err := list("base releases", len(bases), 0, MaxBundleBases); err != nil {
		return err
	}
	once := seen[Digest]{}
	for i, r := range bases {
		if err := item("base release", i, r.Project,
			CheckProject(r.Project),
			CheckVersion(r.Version),
			at("release", present(r.Release), once.add(r.Release)),
			at("serial", between(r.Serial, 0, math.MaxInt64)),
		); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) checkPacks() error {
	if err := list("packs", len(b.Packs), 0, MaxBundlePacks); err != nil {
		return err
	}
	once := seen[pack.Name]{}
	var total int64
	for i, p := range b.Packs {
		if err := item("pack", i, "",
			at("name", present(p.Name), once.add(p.Name)),
			at("size", between(p.Size, 1, MaxSize-total)),
		); err != nil {
			return err
		}
		total += p.Size
	}
	return nil
}

func (b *Bundle) checkDeltas() error {
	if err := list("deltas", len(b.Deltas), 0, MaxBundleDeltas); err != nil {
		return err
	}
	bases := map[Digest]bool{}
	for _, r := range b.Base {
		bases[r.Release] = true
	}
	names, targets := seen[Digest]{}, seen[string]{}
	var total int64
	for i, d := range b.Deltas {
		if err := item("delta", i, d.Package,
			at("name", present(d.Name), names.add(d.Name)),
			at("size", between(d.Size, 1, MaxSize-total)),
			at("target", d.Target.check(), targets.add(d.Kind+d.Target.SHA256.String())),
			at("base", d.Base.check()),
			at("kind", oneOf(d.Kind, PackageFile, PackageTree)),
			d.checkPlace(),
			at("form", checkLine(d.Form, 1, maxForm)),
			at("plain", between(d.Plain, 0, MaxSize)),
			at("release", present(d.Release), absent("a release that is no base of the bundle", !bases[d.Release])),
		); err != nil {
			return err
		}
		total += d.Size
	}
	return nil
}

// maxForm bounds the name of a form in bytes.
const maxForm = 32

func (d *BundleDelta) checkPlace() error {
	if d.Attachment == "" {
		return at("package", CheckPackage(d.Package))
	}
	return first(
		at("attachment", CheckPath(d.Attachment)),
		absent("both a package and an attachment", d.Package != ""),
		absent("an attachment that is a tree", d.Kind != PackageFile))
}

// Saved is about how many bytes deltas spare a bundle.
func (b *Bundle) Saved() int64 {
	var sum int64
	for _, d := range b.Deltas {
		sum = min(MaxSize, sum+max(0, d.Plain-d.Size))
	}
	return sum
}

func (f BundleFile) check() error {
	return first(at("sha256", present(f.SHA256)), at("size", between(f.Size, 1, MaxSize)))
}

func (b *Bundle) checkValues() error {
	if err := list("values", len(b.Values), 0, MaxBundleValues); err != nil {
		return err
	}
	once := seen[[3]string]{}
	for i, v := range b.Values {
		_, sealed := decodeSealed(v.Sealed)
		if err := item("value", i, v.Name,
			checkValueName(v.Project, v.Environment, v.Name),
			once.add([3]string{v.Project, v.Environment, v.Name}),
			sealed,
		); err != nil {
			return err
		}
	}
	return nil
}

// checkValueName checks what a value belongs to.
func checkValueName(project, environment, name string) error {
	if err := first(CheckProject(project), CheckParameter(name)); err != nil {
		return err
	}
	if environment == "" {
		return nil
	}
	return CheckEnvironment(environment)
}
