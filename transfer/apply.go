package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"davit/internal/durable"
	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/pack"
	"davit/transfer/content"
	"davit/transfer/delta"
	"davit/transfer/delta/deflate"
)

// ownEncoders lists the deflate encoders that this program has, for the card.
func ownEncoders() []uint16 {
	var all []uint16
	for _, e := range deflate.Encoders() {
		all = append(all, uint16(e))
	}
	slices.Sort(all)
	return all
}

// deltaObject is where a delta lies in quarantine.
func deltaObject(bundle, name manifest.Digest) string {
	return quarantineDir + bundle.String() + "/delta-" + name.String()
}

// wantedDeltas refuses deltas that are for nothing.
func (in *incoming) wantedDeltas() error {
	wanted := map[content.Target]bool{}
	for _, r := range in.releases {
		for _, p := range content.Parts(r) {
			wanted[p.Target()] = true
		}
	}
	for i := range in.doc.Deltas {
		if !wanted[content.TargetOf(&in.doc.Deltas[i])] {
			return refuse(manifest.CauseContent, "it carries a delta of something that is in none of its releases")
		}
	}
	return nil
}

// applyDeltas makes the packages of a release that travelled as deltas, where
// the base is here and the package is not. What it makes lies in the store
// unreferenced until the release is accepted. It is a *RefusedError when a
// delta does not give what was signed, and a *WaitingError when something else
// stands in the way.
func (s *Site) applyDeltas(ctx context.Context, view *store.Store, doc *manifest.Bundle, digest manifest.Digest, r *manifest.Release) error {
	by := map[content.Target]*manifest.BundleDelta{}
	for i := range doc.Deltas {
		by[content.TargetOf(&doc.Deltas[i])] = &doc.Deltas[i]
	}
	for _, p := range content.Parts(r) {
		d := by[p.Target()]
		if d == nil {
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
		if err := s.applyDelta(ctx, digest, d, r, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) applyDelta(ctx context.Context, bundle manifest.Digest, d *manifest.BundleDelta, target *manifest.Release, p content.Part) error {
	waits := func(format string, args ...any) error {
		return &WaitingError{target.Project, target.Version, fmt.Sprintf(format, args...)}
	}
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
	made, err := s.openDelta(ctx, bundle, d)
	switch {
	case errors.Is(err, bucket.ErrNotExist), errors.Is(err, pack.ErrDamaged):
		return waits("the delta of package %s is damaged or gone here (%v); import the bundle again", p.Name, err)
	case errors.Is(err, pack.ErrWrongKey):
		return refuse(manifest.CauseContent, "the delta of package %s is encrypted for other keys", p.Name)
	case err != nil:
		return err
	}
	defer dropFile(made)
	size, err := made.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	o := content.Options{TempDir: s.work, Room: func(need int64) error {
		if free, err := durable.Free(s.work); err == nil && free < need {
			return &bucket.NoSpaceError{Where: s.work, Need: need, Have: free}
		}
		return nil
	}}
	err = noSpace(s.work, content.Apply(ctx, s.Store, parts[j].Package, p.Package, made, size, o))
	var encoders *delta.EncoderError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case is[*bucket.NoSpaceError](err):
		return waits("there is no room to put package %s together from its delta: %v. Make room, or ask the sender for it with --no-delta", p.Name, err)
	case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrMissing), errors.Is(err, content.ErrContent):
		return waits("package %s of %s %s, which it builds on, is damaged here: %v; run davit check, or ask the sender for this one with --full", parts[j].Name, r.Project, r.Version, err)
	case errors.As(err, &encoders), errors.Is(err, delta.ErrVersion), errors.Is(err, content.ErrVersion):
		return refuse(manifest.CauseVersion, "package %s: %v; use a newer davit, or ask the sender for it with --no-delta", p.Name, err)
	case errors.Is(err, delta.ErrDamaged), errors.Is(err, content.ErrDamaged), errors.Is(err, delta.ErrWrongBase), errors.Is(err, delta.ErrTooLarge):
		return refuse(manifest.CauseContent, "the delta of package %s does not give what was signed: %v", p.Name, err)
	}
	return fmt.Errorf("apply delta of package %s: %w", p.Name, err)
}

// openDelta decrypts a delta from quarantine into a temporary file. What lies
// there was compared with its name when it came; if it is another now, it is
// removed, so that the next import brings it again, and the error wraps
// pack.ErrDamaged.
func (s *Site) openDelta(ctx context.Context, bundle manifest.Digest, d *manifest.BundleDelta) (*os.File, error) {
	name := deltaObject(bundle, d.Name)
	sealed, err := s.bucket.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open delta: %w", err)
	}
	defer sealed.Close()
	keys, err := s.keys.PackKeys()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(sealed, 0, sealed.Size())); err != nil {
		return nil, fmt.Errorf("read delta: %w", err)
	}
	if manifest.Digest(sum.Sum(nil)) != d.Name {
		return nil, errors.Join(fmt.Errorf("%w: its bytes are not what its name says", pack.ErrDamaged), s.bucket.Delete(ctx, name))
	}
	plain, err := pack.NewDecryptor(bufio.NewReaderSize(io.NewSectionReader(sealed, 0, sealed.Size()), 256<<10), keys)
	if errors.Is(err, pack.ErrDamaged) {
		return nil, refuse(manifest.CauseContent, "a delta in it is not encrypted as it must be: %v", err)
	}
	if err != nil {
		return nil, err
	}
	made, err := os.CreateTemp(s.work, "davit-delta-*")
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(made, plain); err != nil {
		dropFile(made)
		if errors.Is(err, pack.ErrDamaged) {
			return nil, refuse(manifest.CauseContent, "a delta in it is not encrypted as it must be: %v", err)
		}
		return nil, noSpace(s.work, err)
	}
	return made, nil
}
