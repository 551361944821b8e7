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
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer/delta"
	"davit/transfer/delta/deflate"
)

// Packages that are files travel as deltas where that is cheaper: as what sets
// them apart from the same package in a release that the peer holds.
//
//	base, target ▸ delta.Make, which proves it ▸ kept under work/deltas ▸ age for the peer ▸ payload
//	payload ▸ quarantine ▸ delta.Apply ▸ sha256 ▸ chunks ▸ the store
//
// A delta that was made once is kept, sealed to the site's own keys, so that a
// dry run, the real one and an export to another peer make it once together.

const (
	deltaLeast   = 64 << 10         // bytes of a package for which a delta is tried
	deltaGain    = 4 << 10          // bytes of new chunks that are not worth one
	deltaBudget  = 30 * time.Second // for proving, a GiB of package
	deltaPatient = 5 * time.Second  // and at least
	deltasKept   = 2 << 30          // bytes of deltas kept for later exports
	deltasDir    = "deltas"

	// deltaVersion is the delta format that this program writes and takes.
	deltaVersion = 1
)

// DeltaReport says how one package travels, and why.
type DeltaReport struct {
	Package, Version string
	Base             string // release the delta builds on, "" when there is none
	Form             string // chunks, or the form of the delta
	Bytes            int64  // in the bundle
	Plain            int64  // bytes its new chunks would take
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

// deltas decides for each package how it travels, and returns the streams that
// travel as chunks.
func (x *export) deltas(ctx context.Context, held *holding) ([]chunk.Ref, error) {
	var refs []chunk.Ref
	for _, r := range x.releases {
		for i := range r.Packages {
			p := &r.Packages[i]
			d, err := x.delta(ctx, p, held)
			if err != nil {
				return nil, fmt.Errorf("package %s: %w", p.Name, err)
			}
			if d == nil {
				refs = append(refs, packageRefs(p)...)
				continue
			}
			if !slices.ContainsFunc(x.differences, func(o difference) bool { return o.Target == d.Target }) {
				x.differences = append(x.differences, *d)
			}
		}
		for _, a := range r.Attachments {
			refs = append(refs, a.Content)
		}
	}
	return refs, nil
}

// delta makes or finds the delta of a package; nil when it goes as chunks.
func (x *export) delta(ctx context.Context, p *manifest.Package, held *holding) (*difference, error) {
	if p.Kind != manifest.PackageFile || p.Size < deltaLeast || x.req.NoDelta || x.peer.Card.Delta != deltaVersion {
		return nil, nil
	}
	plain, err := x.plainCost(ctx, p.Content, held)
	if err != nil || plain < deltaGain {
		return nil, err
	}
	report := DeltaReport{Package: p.Name, Version: p.Version, Form: FormChunks, Bytes: plain, Plain: plain}
	defer func() { x.report.Packages = append(x.report.Packages, report) }()
	at, base := chooseBase(p, held)
	if base == nil {
		report.Reason = "the peer holds no other version of it"
		return nil, nil
	}
	report.Base = held.base[at].Project + " " + held.base[at].Version
	made, err := x.s.difference(ctx, base, p, plain, delta.Options{TempDir: x.s.work, Workers: 0, Limit: plain,
		Budget: budget(p.Size, x.req.DeltaBudget), Encoders: encodersOf(x.peer.Card)})
	if err != nil {
		return nil, err
	}
	report.Reason = made.Reason
	if made.Form == FormChunks {
		return nil, nil
	}
	d := &difference{file: made.file, bytes: made.Bytes, BundleDelta: manifest.BundleDelta{
		Target: manifest.BundleFile{SHA256: p.SHA256, Size: p.Size}, Base: manifest.BundleFile{SHA256: base.SHA256, Size: base.Size},
		Release: held.base[at].Release, Package: base.Name}}
	if d.Size, err = pack.EncryptedSize(made.Bytes, x.keys); err != nil {
		return nil, err
	}
	if d.Size >= plain {
		report.Reason = "its chunks take no more than a delta"
		return nil, nil
	}
	held.used[at] = true
	report.Form, report.Bytes = made.Form, d.Size
	return d, nil
}

func budget(size int64, perGiB time.Duration) time.Duration {
	if perGiB == 0 {
		perGiB = deltaBudget
	}
	return max(deltaPatient, time.Duration(float64(perGiB)*float64(size)/(1<<30)))
}

// plainCost is about what the chunks of a stream that the peer lacks take in
// packs, compressed.
func (x *export) plainCost(ctx context.Context, ref chunk.Ref, held *holding) (int64, error) {
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
	wanted := store.Without(x.s.Store.Entries(ctx, ref), func(n chunk.Name) bool {
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

// versions matches what differs in the names of successive packages.
var versions = regexp.MustCompile(`[0-9]+`)

// chooseBase finds an older version of a package among the bases: by its name,
// else by its name with other numbers in it.
func chooseBase(p *manifest.Package, held *holding) (int, *manifest.Package) {
	for _, name := range []func(string) string{func(s string) string { return s },
		func(s string) string { return versions.ReplaceAllString(s, "#") }} {
		for i, r := range held.releases {
			for j := range r.Packages {
				b := &r.Packages[j]
				if b.Kind == manifest.PackageFile && b.SHA256 != p.SHA256 && b.Size > 0 && name(b.Name) == name(p.Name) {
					return i, b
				}
			}
		}
	}
	return 0, nil
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
	Form   string `json:"form"` // FormChunks: there is none that is worth it
	Bytes  int64  `json:"bytes"`
	Reason string `json:"reason"`
	file   string
}

// difference makes the delta from one package to another, or finds it among
// those made before.
func (s *Site) difference(ctx context.Context, base, target *manifest.Package, plain int64, o delta.Options) (keptDelta, error) {
	dir := filepath.Join(s.work, deltasDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keptDelta{}, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d %v %s %s", deltaVersion, o.Encoders, base.SHA256, target.SHA256))
	file := filepath.Join(dir, hex.EncodeToString(key[:16]))
	if f, _, kept, err := s.openKept(file); err == nil {
		f.Close()
		now := s.now()
		os.Chtimes(file, now, now) // the oldest go first
		return kept, nil
	}
	baseFile, err := s.contentFile(ctx, base.Content)
	if err != nil {
		return keptDelta{}, err
	}
	defer dropFile(baseFile)
	targetFile, err := s.contentFile(ctx, target.Content)
	if err != nil {
		return keptDelta{}, err
	}
	defer dropFile(targetFile)
	raw, err := os.CreateTemp(s.work, "davit-delta-*")
	if err != nil {
		return keptDelta{}, err
	}
	defer dropFile(raw)
	made := keptDelta{file: file}
	result, err := delta.Make(ctx, baseFile, base.Size, targetFile, target.Size, raw, o)
	switch {
	case err == nil:
		made.Form, made.Bytes, made.Reason = result.Form, result.Bytes, result.Reason
	case errors.Is(err, delta.ErrNotWorth), errors.Is(err, delta.ErrTooLarge):
		made.Form, made.Reason = FormChunks, err.Error()
		if result != nil && result.Reason != "" {
			made.Reason = result.Reason
		}
	case ctx.Err() != nil:
		return keptDelta{}, context.Cause(ctx)
	default:
		return keptDelta{}, noSpace(s.work, err)
	}
	if err := s.keepDelta(file, made, raw); err != nil {
		return keptDelta{}, noSpace(s.work, err)
	}
	return made, s.pruneDeltas(dir)
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

// contentFile writes a stream to a temporary file.
func (s *Site) contentFile(ctx context.Context, ref chunk.Ref) (*os.File, error) {
	f, err := os.CreateTemp(s.work, "davit-content-*")
	if err != nil {
		return nil, err
	}
	err = s.Store.Read(ctx, s.Store.Entries(ctx, ref), func(_ chunk.Entry, data []byte) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		dropFile(f)
		return nil, noSpace(s.work, err)
	}
	return f, nil
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

// applyDeltas makes the packages of a release that travelled as deltas, where
// the base is here and the package is not. What it makes lies in the store
// unreferenced until the release is accepted. It is a *RefusedError when a
// delta does not give what was signed.
func (s *Site) applyDeltas(ctx context.Context, view *store.Store, doc *manifest.Bundle, digest manifest.Digest, r *manifest.Release) error {
	for i := range r.Packages {
		p := &r.Packages[i]
		at := slices.IndexFunc(doc.Deltas, func(d manifest.BundleDelta) bool { return d.Target.SHA256 == p.SHA256 && d.Target.Size == p.Size })
		if at < 0 || p.Kind != manifest.PackageFile {
			continue
		}
		switch err := view.Complete(ctx, p.Content); {
		case err == nil:
			continue
		case !errors.Is(err, store.ErrMissing):
			return err
		}
		if err := s.applyDelta(ctx, digest, &doc.Deltas[at], p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) applyDelta(ctx context.Context, bundle manifest.Digest, d *manifest.BundleDelta, p *manifest.Package) error {
	if _, err := s.Index.ReleaseByDigest(ctx, d.Release); errors.Is(err, ErrNotFound) {
		return nil // a base that is not here; whoever asks for the package says so
	} else if err != nil {
		return err
	}
	r, err := s.release(ctx, d.Release)
	if err != nil {
		return err
	}
	j := slices.IndexFunc(r.Packages, func(b manifest.Package) bool {
		return b.Name == d.Package && b.Kind == manifest.PackageFile && b.SHA256 == d.Base.SHA256 && b.Size == d.Base.Size
	})
	if j < 0 {
		return refuse(manifest.CauseContent, "the delta of package %s is for a package %s that release %s %s does not have", p.Name, d.Package, r.Project, r.Version)
	}
	base, err := s.contentFile(ctx, r.Packages[j].Content)
	if err != nil {
		return err
	}
	defer dropFile(base)
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
	out, err := os.CreateTemp(s.work, "davit-target-*")
	if err != nil {
		return err
	}
	defer dropFile(out)
	if err := delta.Apply(ctx, base, d.Base.Size, made, size, out, delta.Options{TempDir: s.work}); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return deltaError(p, noSpace(s.work, err))
	}
	ref, sum, err := s.storeFile(ctx, out)
	if err != nil {
		return err
	}
	if manifest.Digest(sum.SHA256) != p.SHA256 || ref != p.Content {
		return refuse(manifest.CauseContent, "the delta of package %s gives another file than the one that was signed", p.Name)
	}
	return nil
}

// deltaError tells a delta that is wrong from a machine that fails.
func deltaError(p *manifest.Package, err error) error {
	var encoders *delta.EncoderError
	switch {
	case errors.As(err, &encoders), errors.Is(err, delta.ErrVersion):
		return refuse(manifest.CauseVersion, "package %s: %v; use a newer davit, or ask the sender for it with --no-delta", p.Name, err)
	case errors.Is(err, delta.ErrDamaged), errors.Is(err, delta.ErrWrongBase), errors.Is(err, delta.ErrTooLarge), isDamage(err), errors.Is(err, pack.ErrWrongKey):
		return refuse(manifest.CauseContent, "the delta of package %s does not give what was signed: %v", p.Name, err)
	}
	return err
}
