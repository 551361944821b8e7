package transfer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer/content"
	"davit/transfer/delta/deflate"
)

// Packages and attachments travel as deltas where that is cheaper: as what sets
// them apart from the same in a release that the peer holds.
//
//	lacking? ▸ base (relatives.go) ▸ content.Make, which proves it ▸ kept (kept.go) ▸ age for the peer ▸ payload
//	payload ▸ quarantine ▸ content.Apply (apply.go) ▸ the store

const (
	deltaLeast = 8 << 10 // bytes of a file for which a delta is tried
	deltaGain  = 3 << 10 // bytes of new chunks that are not worth one

	// deltaVersion is the version of deltas that this program writes and takes.
	deltaVersion = 1
)

// DeltaReport says how one package or attachment travels, and why.
type DeltaReport struct {
	Package, Version string
	Attachment       bool
	Base             string // release that a delta would build on, "" when there is none
	Form             string // chunks, or the form of the delta
	Bytes            int64  // in the bundle, with the chunks that a delta leaves to packs
	Plain            int64  // bytes its new chunks would take
	Files            int    // of a tree, that changed
	Encoders         []string
	Reason           string // why not a cheaper form
}

// FormChunks: the package travels as chunks.
const FormChunks = "chunks"

// difference is one delta that goes into a bundle.
type difference struct {
	manifest.BundleDelta
	file  string // where the delta is kept
	bytes int64  // of the delta itself
}

// deltas decides for each package how it travels, and returns the streams and
// the chunks that travel as such.
func (x *export) deltas(ctx context.Context, held *holding) ([]chunk.Ref, []chunk.Entry, error) {
	var refs []chunk.Ref
	var loose []chunk.Entry
	able := len(held.releases) > 0 && !x.req.NoDelta && x.peer.Card.Delta == deltaVersion
	var kin *relatives
	done := map[content.Target]bool{}
	for _, r := range x.releases {
		if able {
			kin = newRelatives(held, r, kin)
		}
		for _, p := range content.Parts(r) {
			if done[p.Target()] {
				continue
			}
			if !able || p.Size == 0 || p.Kind == manifest.PackageFile && p.Size < deltaLeast || kin.same[p.Target()] {
				refs = append(refs, content.PackageRefs(p.Package)...)
				continue
			}
			more, ok, err := x.delta(ctx, kin, p, held)
			if err != nil {
				return nil, nil, fmt.Errorf("package %s: %w", p.Name, err)
			}
			if done[p.Target()] = ok; !ok {
				refs = append(refs, content.PackageRefs(p.Package)...)
			}
			loose = append(loose, more...)
		}
	}
	return refs, loose, nil
}

// delta makes or finds the delta of a package. When it goes as chunks instead,
// ok is false; else loose are the chunks that the delta does not bring.
func (x *export) delta(ctx context.Context, kin *relatives, p content.Part, held *holding) (loose []chunk.Entry, ok bool, err error) {
	plain, err := x.plainCost(ctx, x.s.chunksOf(ctx, content.PackageRefs(p.Package)), held)
	if err != nil || plain < deltaGain || len(x.differences) == manifest.MaxBundleDeltas {
		return nil, false, err
	}
	report := DeltaReport{Package: p.Name, Version: p.Version, Attachment: p.Attachment, Form: FormChunks, Bytes: plain, Plain: plain}
	defer func() { x.report.Packages = append(x.report.Packages, report) }()
	base, found := kin.named(p)
	if !found {
		if base, found, err = kin.likest(ctx, x.s, p); err != nil && !is[*bucket.NoSpaceError](err) {
			return nil, false, err
		}
	}
	if !found {
		report.Reason = "the peer holds no other version of it"
		return nil, false, nil
	}
	at := base.at
	report.Base = held.base[at].Project + " " + held.base[at].Version
	made, err := x.s.difference(ctx, held.base[at].Release, base.Package, p.Package, plain, content.Options{TempDir: x.s.work,
		Budget: x.req.DeltaBudget, Encoders: encodersOf(x.peer.Card), Held: held.by(at)})
	if err != nil {
		return nil, false, err
	}
	report.Reason = made.Reason
	if made.Form == FormChunks {
		return nil, false, nil
	}
	d := difference{file: made.file, bytes: made.Bytes, BundleDelta: manifest.BundleDelta{Kind: p.Kind, Form: made.Form,
		Target:  manifest.BundleFile{SHA256: p.SHA256, Size: p.Size},
		Base:    manifest.BundleFile{SHA256: base.SHA256, Size: base.Size},
		Release: held.base[at].Release}}
	if base.Attachment {
		d.Attachment = base.Name
	} else {
		d.Package = base.Name
	}
	if d.Size, err = pack.EncryptedSize(made.Bytes, x.keys); err != nil {
		return nil, false, err
	}
	if loose, err = x.s.looseChunks(made, p.Kind); err != nil {
		return nil, false, err
	}
	rest, err := x.plainCost(ctx, entriesOf(loose), held)
	if err != nil {
		return nil, false, err
	}
	if d.Size+rest >= plain {
		report.Reason = noSmaller
		return nil, false, nil
	}
	held.used[at] = true
	d.Plain = max(0, plain-rest)
	report.Form, report.Bytes, report.Files, report.Encoders = made.Form, d.Size+rest, made.Files, made.Encoders
	x.differences = append(x.differences, d)
	return loose, true, nil
}

// noSmaller is why most packages go as chunks.
const noSmaller = "its chunks take no more than a delta"

func entriesOf(list []chunk.Entry) iter.Seq2[chunk.Entry, error] {
	return func(yield func(chunk.Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// plainCost is about what the chunks that the peer lacks take in packs,
// compressed.
func (x *export) plainCost(ctx context.Context, entries iter.Seq2[chunk.Entry, error], held *holding) (int64, error) {
	var (
		cost       int64
		frame, out []byte
		seen       = map[chunk.Name]bool{}
	)
	flush := func() error {
		if x.encoder == nil {
			enc, err := pack.NewEncoder()
			if err != nil {
				return err
			}
			x.encoder = enc
		}
		out = x.encoder.Encode(out[:0], frame)
		cost += int64(len(out))
		frame = frame[:0]
		return nil
	}
	wanted := store.Without(entries, func(n chunk.Name) bool {
		_, has := held.chunks[n]
		again := seen[n]
		seen[n] = true
		return has || again
	})
	err := x.s.Store.Read(ctx, wanted, func(_ chunk.Entry, data []byte) error {
		if frame = append(frame, data...); len(frame) >= pack.FrameTarget {
			return flush()
		}
		return nil
	})
	if err == nil && len(frame) > 0 {
		err = flush()
	}
	return cost, err
}

// encodersOf lists the deflate encoders that a peer has. None is not the nil
// that means all.
func encodersOf(c *manifest.Card) []deflate.Encoder {
	all := []deflate.Encoder{}
	for _, e := range c.Encoders {
		all = append(all, deflate.Encoder(e))
	}
	return all
}

// writeDeltas encrypts the deltas for the peer into the payload.
func (x *export) writeDeltas(w io.Writer) error {
	for i := range x.differences {
		d := &x.differences[i]
		sum := sha256.New()
		if err := x.s.copyKept(io.MultiWriter(w, sum), d, x.keys); err != nil {
			return err
		}
		x.bundle.Deltas[i].Name = manifest.Digest(sum.Sum(nil))
	}
	return nil
}
