package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"davit/manifest"
	"davit/store"
	"davit/store/pack"
	"davit/transfer/content"
	"davit/transfer/delta"
)

// Packages that were given another name find their older selves by what is in
// them. Sketches of packages are kept beside the deltas, as those are.

const (
	likeEnough   = 0.1 // of what is in either is in both
	likeMost     = 32  // packages that are looked into
	likeSizes    = 8   // times that sizes may differ
	likeBytes    = 1 << 30
	sketchPrefix = "sketch-"
)

// likest finds the package most like p in the newest base of the same project,
// among those that p's release does not have under their own names.
func (x *export) likest(ctx context.Context, r *manifest.Release, p content.Part, held *holding) (int, content.Part, error) {
	at := slices.IndexFunc(held.releases, func(h *manifest.Release) bool { return h.Project == r.Project })
	if at < 0 || p.Attachment {
		return 0, content.Part{}, nil
	}
	now := content.Parts(r)
	var found []content.Part
	sum := p.Size
	for _, b := range content.Parts(held.releases[at]) {
		if b.Kind != p.Kind || b.Attachment || b.Size == 0 || b.Size/likeSizes > p.Size || p.Size/likeSizes > b.Size || slices.ContainsFunc(now, func(o content.Part) bool {
			return o.Kind == b.Kind && (content.Similar(o.Name, b.Name) || o.SHA256 == b.SHA256)
		}) {
			continue
		}
		if sum += b.Size; len(found) == likeMost || sum > likeBytes {
			break
		}
		found = append(found, b)
	}
	if len(found) == 0 {
		return 0, content.Part{}, nil
	}
	own, err := x.s.sketch(ctx, p.Package)
	if err != nil {
		return 0, content.Part{}, err
	}
	var best content.Part
	most := likeEnough
	for _, b := range found {
		s, err := x.s.sketch(ctx, b.Package)
		switch {
		case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrMissing):
			continue
		case err != nil:
			return 0, content.Part{}, err
		}
		if like := own.Like(s); like > most {
			most, best = like, b
		}
	}
	return at, best, nil
}

// sketch makes the sketch of a package, or finds it.
func (s *Site) sketch(ctx context.Context, p *manifest.Package) (delta.Sketch, error) {
	dir := filepath.Join(s.work, deltasDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	keys, err := s.keys.PackKeys()
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d %v", deltaVersion, content.PackageRefs(p)))
	file := filepath.Join(dir, sketchPrefix+hex.EncodeToString(key[:16]))
	if sealed, err := os.ReadFile(file); err == nil {
		if b, err := pack.Decrypt(sealed, keys); err == nil && len(b)%8 == 0 {
			var out delta.Sketch
			for ; len(b) > 0; b = b[8:] {
				out = append(out, binary.LittleEndian.Uint64(b))
			}
			return out, nil
		}
	}
	out, err := content.Sketch(ctx, s.Store, p, s.work)
	if err != nil {
		return nil, noSpace(s.work, err)
	}
	var b []byte
	for _, h := range out {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	sealed, err := pack.Encrypt(b, keys)
	if err != nil {
		return nil, err
	}
	// Not durable, and half of one is none: it is made again then.
	if err := os.WriteFile(file, sealed, 0o600); err != nil {
		return nil, noSpace(s.work, err)
	}
	return out, nil
}
