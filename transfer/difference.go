package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer/content"
	"davit/transfer/delta"
	"davit/transfer/delta/deflate"
)

// Packages and attachments travel as deltas where that is cheaper: as what sets
// them apart from the same in a release that the peer holds.
//
//	base, target ▸ content.Make, which proves it ▸ kept under work/deltas ▸ age for the peer ▸ payload
//	payload ▸ quarantine ▸ content.Apply ▸ the store
//
// A delta that was made once is kept, sealed to the site's own keys, so that a
// dry run, the real one and an export to another peer make it once together.

const (
	deltaLeast = 64 << 10 // bytes of a file for which a delta is tried
	deltaGain  = 3 << 10  // bytes of new chunks that are not worth one
	deltasKept = 2 << 30  // bytes of deltas kept for later exports
	deltasDir  = "deltas"

	// deltaVersion is the version of deltas that this program writes and takes.
	deltaVersion = 1
)

// DeltaReport says how one package or attachment travels, and why.
type DeltaReport struct {
	Package, Version string
	Base             string // release the delta builds on, "" when there is none
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
	for _, r := range x.releases {
		for _, p := range content.Parts(r) {
			if slices.ContainsFunc(x.differences, func(d difference) bool { return p.Is(&d.BundleDelta) }) {
				continue
			}
			more, ok, err := x.delta(ctx, r, p, held)
			if err != nil {
				return nil, nil, fmt.Errorf("package %s: %w", p.Name, err)
			}
			if !ok {
				refs = append(refs, content.PackageRefs(p.Package)...)
			}
			loose = append(loose, more...)
		}
	}
	return refs, loose, nil
}

// delta makes or finds the delta of a package. When it goes as chunks instead,
// ok is false; else loose are the chunks that the delta does not bring.
func (x *export) delta(ctx context.Context, r *manifest.Release, p content.Part, held *holding) (loose []chunk.Entry, ok bool, err error) {
	if len(held.releases) == 0 || x.req.NoDelta || x.peer.Card.Delta != deltaVersion || p.Size == 0 ||
		p.Kind == manifest.PackageFile && p.Size < deltaLeast || len(x.differences) == manifest.MaxBundleDeltas {
		return nil, false, nil
	}
	at, base := chooseBase(r.Project, p, held)
	if base.Package == nil {
		if at, base, err = x.likest(ctx, r, p, held); err != nil && !is[*bucket.NoSpaceError](err) {
			return nil, false, err
		}
	}
	if base.Package == nil && !x.req.DryRun {
		return nil, false, nil
	}
	plain, err := x.plainCost(ctx, x.s.chunksOf(ctx, content.PackageRefs(p.Package)), held)
	if err != nil || plain < deltaGain {
		return nil, false, err
	}
	report := DeltaReport{Package: p.Name, Version: p.Version, Form: FormChunks, Bytes: plain, Plain: plain}
	defer func() { x.report.Packages = append(x.report.Packages, report) }()
	if base.Package == nil {
		report.Reason = "the peer holds no other version of it"
		return nil, false, nil
	}
	report.Base = held.base[at].Project + " " + held.base[at].Version
	made, err := x.s.difference(ctx, held.base[at].Release, base.Package, p.Package, content.Options{TempDir: x.s.work, Limit: plain,
		Budget: x.req.DeltaBudget, Encoders: encodersOf(x.peer.Card), Held: held.by(at)})
	if err != nil {
		return nil, false, err
	}
	report.Reason = made.Reason
	if made.Form == FormChunks {
		return nil, false, nil
	}
	d := difference{file: made.file, bytes: made.Bytes, BundleDelta: manifest.BundleDelta{Kind: p.Kind, Form: made.Form, Plain: plain,
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
		report.Reason = "its chunks take no more than a delta"
		return nil, false, nil
	}
	held.used[at] = true
	d.Plain = max(0, plain-rest)
	report.Form, report.Bytes, report.Files, report.Encoders = made.Form, d.Size+rest, made.Files, made.Encoders
	x.differences = append(x.differences, d)
	return loose, true, nil
}

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
	enc, err := pack.NewEncoder()
	if err != nil {
		return 0, err
	}
	var (
		cost       int64
		frame, out []byte
		seen       = map[chunk.Name]bool{}
	)
	flush := func() {
		out = enc.Encode(out[:0], frame)
		cost += int64(len(out))
		frame = frame[:0]
	}
	wanted := store.Without(entries, func(n chunk.Name) bool {
		_, has := held.chunks[n]
		again := seen[n]
		seen[n] = true
		return has || again
	})
	err = x.s.Store.Read(ctx, wanted, func(_ chunk.Entry, data []byte) error {
		if frame = append(frame, data...); len(frame) >= pack.FrameTarget {
			flush()
		}
		return nil
	})
	if len(frame) > 0 {
		flush()
	}
	return cost, err
}

// chooseBase finds another version of a package among the bases: in the same
// project and else in others, by its name and else by its name with other
// numbers in it; the newest that is not newer than it, else the oldest.
func chooseBase(project string, p content.Part, held *holding) (int, content.Part) {
	for _, own := range []bool{true, false} {
		for _, same := range []func(a, b string) bool{func(a, b string) bool { return a == b }, content.Similar} {
			var (
				best content.Part
				at   int
			)
			for i, r := range held.releases {
				if own != (r.Project == project) {
					continue
				}
				for _, b := range content.Parts(r) {
					if b.Kind != p.Kind || b.Attachment != p.Attachment || b.SHA256 == p.SHA256 && b.Size == p.Size || b.Size == 0 || !same(b.Name, p.Name) {
						continue
					}
					if best.Package == nil || nearer(b.Version, best.Version, p.Version) {
						at, best = i, b
					}
				}
			}
			if best.Package != nil {
				return at, best
			}
		}
	}
	return 0, content.Part{}
}

// nearer reports whether version a is a better base for c than b.
func nearer(a, b, c string) bool {
	aNewer, bNewer := manifest.CompareVersions(a, c) > 0, manifest.CompareVersions(b, c) > 0
	order := manifest.CompareVersions(a, b)
	switch {
	case aNewer != bNewer:
		return bNewer
	case aNewer:
		return order < 0
	}
	return order > 0
}

// ownEncoders lists the deflate encoders that this program has, for the card.
func ownEncoders() []uint16 {
	var all []uint16
	for _, e := range deflate.Encoders() {
		all = append(all, uint16(e))
	}
	slices.Sort(all)
	return all
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

// keptDelta is what stands before a delta that is kept.
type keptDelta struct {
	Form     string   `json:"form"` // FormChunks: there is none that is worth it
	Bytes    int64    `json:"bytes"`
	Files    int      `json:"files"`
	Encoders []string `json:"encoders"`
	Reason   string   `json:"reason"`
	file     string
}

// difference makes the delta from one package to another, or finds it among
// those made before. It depends on the two, on the release of the base and on
// the encoders of the peer, and on nothing else that the peer has.
func (s *Site) difference(ctx context.Context, release manifest.Digest, base, target *manifest.Package, o content.Options) (keptDelta, error) {
	dir := filepath.Join(s.work, deltasDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keptDelta{}, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d %v %s %v %v", deltaVersion, o.Encoders, release, content.PackageRefs(base), content.PackageRefs(target)))
	file := filepath.Join(dir, hex.EncodeToString(key[:16]))
	if f, _, kept, err := s.openKept(file); err == nil {
		f.Close()
		now := s.now()
		os.Chtimes(file, now, now) // the oldest go first
		return kept, nil
	}
	raw, err := os.CreateTemp(s.work, "davit-delta-*")
	if err != nil {
		return keptDelta{}, err
	}
	defer dropFile(raw)
	made := keptDelta{file: file}
	result, err := content.Make(ctx, s.Store, base, target, raw, o)
	switch {
	case err == nil:
		made.Form, made.Bytes, made.Reason, made.Files = result.Form, result.Bytes, result.Reason, result.Files
		for _, e := range result.Encoders {
			made.Encoders = append(made.Encoders, e.String())
		}
	case errors.Is(err, delta.ErrNotWorth), errors.Is(err, delta.ErrTooLarge):
		made.Form, made.Reason = FormChunks, err.Error()
		if result != nil && result.Reason != "" {
			made.Reason = result.Reason
		}
	case ctx.Err() != nil:
		return keptDelta{}, context.Cause(ctx)
	case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrMissing):
		// If it is the target, the export fails when it reads that.
		return keptDelta{Form: FormChunks, Reason: "it or its base is damaged here; run davit check"}, nil
	default:
		if err = noSpace(s.work, err); is[*bucket.NoSpaceError](err) {
			return keptDelta{Form: FormChunks, Reason: "there is no room in the work folder to make a delta"}, nil
		}
		return keptDelta{}, err
	}
	if err := s.keepDelta(file, made, raw); err != nil {
		return keptDelta{}, noSpace(s.work, err)
	}
	return made, s.pruneDeltas(dir)
}

// looseChunks lists the chunks that a kept delta does not bring.
func (s *Site) looseChunks(made keptDelta, kind string) ([]chunk.Entry, error) {
	f, r, _, err := s.openKept(made.file)
	if err != nil {
		return nil, fmt.Errorf("read delta again: %w", err)
	}
	defer f.Close()
	return content.Loose(kind, r)
}

// keepDelta writes a delta to its place, sealed to the site's own keys.
func (s *Site) keepDelta(file string, made keptDelta, raw *os.File) error {
	keys, err := s.keys.PackKeys()
	if err != nil {
		return err
	}
	head, err := json.Marshal(made)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "davit-delta-*")
	if err != nil {
		return err
	}
	defer dropFile(temp)
	w, err := pack.NewEncryptor(temp, keys)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(head, '\n')); err != nil {
		return err
	}
	if made.Form != FormChunks {
		if _, err := raw.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if n, err := io.Copy(w, raw); err != nil {
			return err
		} else if n != made.Bytes {
			return fmt.Errorf("internal error: the delta has %d bytes instead of %d", n, made.Bytes)
		}
	}
	if err := errors.Join(w.Close(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}

// openKept opens a delta that was kept; r reads the delta itself.
func (s *Site) openKept(file string) (*os.File, io.Reader, keptDelta, error) {
	kept := keptDelta{file: file}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, kept, err
	}
	keys, err := s.keys.PackKeys()
	if err == nil {
		var plain io.Reader
		if plain, err = pack.NewDecryptor(bufio.NewReaderSize(f, 256<<10), keys); err == nil {
			r := bufio.NewReaderSize(plain, 64<<10)
			var head []byte
			if head, err = r.ReadSlice('\n'); err == nil {
				if err = json.Unmarshal(head, &kept); err == nil {
					return f, r, kept, nil
				}
			}
		}
	}
	f.Close()
	return nil, nil, kept, err
}

// pruneDeltas removes the deltas that were not used for the longest time.
func (s *Site) pruneDeltas(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var (
		files []os.FileInfo
		sum   int64
	)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, info)
			sum += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if sum <= deltasKept {
			break
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
		sum -= f.Size()
	}
	return nil
}

func dropFile(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// writeDeltas encrypts the deltas for the peer into the payload.
func (x *export) writeDeltas(w io.Writer) error {
	for i := range x.differences {
		d := &x.differences[i]
		f, r, _, err := x.s.openKept(d.file)
		if err != nil {
			return fmt.Errorf("read delta of package %s again: %w", d.Package, err)
		}
		sum := sha256.New()
		enc, err := pack.NewEncryptor(io.MultiWriter(w, sum), x.keys)
		if err == nil {
			var n int64
			if n, err = io.Copy(enc, r); err == nil && n != d.bytes {
				err = fmt.Errorf("internal error: the delta of package %s has %d bytes instead of %d", d.Package, n, d.bytes)
			}
			if err == nil {
				err = enc.Close()
			}
		}
		f.Close()
		if err != nil {
			return err
		}
		x.bundle.Deltas[i].Name = manifest.Digest(sum.Sum(nil))
	}
	return nil
}

// deltaObject is where a delta lies in quarantine.
func deltaObject(bundle, name manifest.Digest) string {
	return quarantineDir + bundle.String() + "/delta-" + name.String()
}

// wantedDeltas refuses deltas that are for nothing.
func (in *incoming) wantedDeltas() error {
	for _, d := range in.doc.Deltas {
		if !slices.ContainsFunc(in.releases, func(r *manifest.Release) bool {
			return slices.ContainsFunc(content.Parts(r), func(p content.Part) bool { return p.Is(&d) })
		}) {
			return refuse(manifest.CauseContent, "it carries a delta of something that is in none of its releases")
		}
	}
	return nil
}

// applyDeltas makes the packages of a release that travelled as deltas, where
// the base is here and the package is not. What it makes lies in the store
// unreferenced until the release is accepted. It is a *RefusedError when a
// delta does not give what was signed.
func (s *Site) applyDeltas(ctx context.Context, view *store.Store, doc *manifest.Bundle, digest manifest.Digest, r *manifest.Release) error {
	for _, p := range content.Parts(r) {
		at := slices.IndexFunc(doc.Deltas, func(d manifest.BundleDelta) bool { return p.Is(&d) })
		if at < 0 {
			continue
		}
		whole := true
		for _, ref := range content.PackageRefs(p.Package) {
			switch err := view.Complete(ctx, ref); {
			case errors.Is(err, store.ErrMissing):
				whole = false
			case err != nil:
				return err
			}
		}
		if whole {
			continue
		}
		if err := s.applyDelta(ctx, digest, &doc.Deltas[at], r, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) applyDelta(ctx context.Context, bundle manifest.Digest, d *manifest.BundleDelta, target *manifest.Release, p content.Part) error {
	if _, err := s.Index.ReleaseByDigest(ctx, d.Release); errors.Is(err, ErrNotFound) {
		return nil // a base that is not here; whoever asks for the package says so
	} else if err != nil {
		return err
	}
	r, err := s.release(ctx, d.Release)
	if err != nil {
		return err
	}
	parts := content.Parts(r)
	j := slices.IndexFunc(parts, func(b content.Part) bool { return b.IsBase(d) })
	if j < 0 {
		return refuse(manifest.CauseContent, "the delta of package %s is for a package %s that release %s %s does not have", p.Name, d.Package+d.Attachment, r.Project, r.Version)
	}
	sealed, err := s.bucket.Open(ctx, deltaObject(bundle, d.Name))
	if err != nil {
		return fmt.Errorf("open delta of package %s: %w", p.Name, err)
	}
	defer sealed.Close()
	keys, err := s.keys.PackKeys()
	if err != nil {
		return err
	}
	made, err := os.CreateTemp(s.work, "davit-delta-*")
	if err != nil {
		return err
	}
	defer dropFile(made)
	plain, err := pack.NewDecryptor(bufio.NewReaderSize(io.NewSectionReader(sealed, 0, sealed.Size()), 256<<10), keys)
	if err != nil {
		return deltaError(p, err)
	}
	size, err := io.Copy(made, plain)
	if err != nil {
		return deltaError(p, noSpace(s.work, err))
	}
	if err := content.Apply(ctx, s.Store, parts[j].Package, p.Package, made, size, content.Options{TempDir: s.work}); err != nil {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrMissing), errors.Is(err, content.ErrContent):
			return &WaitingError{target.Project, target.Version, fmt.Sprintf(
				"package %s of %s %s, which it builds on, is damaged here: %v; run davit check, or ask the sender for this one with --full", parts[j].Name, r.Project, r.Version, err)}
		}
		return deltaError(p, noSpace(s.work, err))
	}
	return nil
}

// deltaError tells a delta that is wrong from a machine that fails.
func deltaError(p content.Part, err error) error {
	var encoders *delta.EncoderError
	switch {
	case errors.As(err, &encoders), errors.Is(err, delta.ErrVersion), errors.Is(err, content.ErrVersion):
		return refuse(manifest.CauseVersion, "package %s: %v; use a newer davit, or ask the sender for it with --no-delta", p.Name, err)
	case errors.Is(err, delta.ErrDamaged), errors.Is(err, content.ErrDamaged), errors.Is(err, delta.ErrWrongBase), errors.Is(err, delta.ErrTooLarge),
		errors.Is(err, pack.ErrDamaged), errors.Is(err, pack.ErrWrongKey):
		return refuse(manifest.CauseContent, "the delta of package %s does not give what was signed: %v", p.Name, err)
	}
	return err
}
