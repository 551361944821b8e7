package transfer

import (
	"context"
	"errors"
	"slices"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/chunk"
	"davit/transfer/content"
)

// holding is what the peer can be relied on to have.
type holding struct {
	base     []manifest.BundleBase
	releases []*manifest.Release   // of the bases
	used     []bool                // the bundle builds on the base
	chunks   map[chunk.Name]uint32 // the bases that have it, a bit each
}

// Bases are looked for among the newest releases of the projects that are sent
// and the newest of each other project.
const (
	basesSame  = 8
	basesOther = 24 // together 32: a bit each
)

// by returns whether the peer has a chunk with one of the bases.
func (h *holding) by(at int) func(chunk.Name) bool {
	return func(n chunk.Name) bool { return h.chunks[n]&(1<<at) != 0 }
}

// lean reports whether the peer has a chunk, and counts on the base it has it
// with: one that is needed anyway, if there is one.
func (h *holding) lean(n chunk.Name) bool {
	bits, ok := h.chunks[n]
	if !ok {
		return false
	}
	at := -1
	for i, used := range h.used {
		if bits&(1<<i) != 0 && (at < 0 || used) {
			if at = i; used {
				break
			}
		}
	}
	h.used[at] = true
	return true
}

// due makes the bundle a full one when so many of the same projects went before
// it that built on others: a link with no way back then heals by itself.
func (x *export) due(ctx context.Context) error {
	if x.report.Full = x.req.Full; x.report.Full || x.req.FullEvery == 0 || len(x.releases) == 0 {
		return nil
	}
	shipments, err := x.s.Index.Shipments(ctx, index.ShipmentFilter{Peer: x.req.Peer})
	if err != nil {
		return err
	}
	lean := 0
	for _, sh := range slices.Backward(shipments) {
		if sh.State == index.ShipmentLost || !slices.ContainsFunc(sh.Releases, func(r manifest.ReleaseRef) bool {
			return slices.ContainsFunc(x.releases, func(o *manifest.Release) bool { return o.Project == r.Project })
		}) {
			continue
		}
		if len(sh.Base) == 0 {
			break
		}
		lean++
	}
	x.report.Full = lean >= x.req.FullEvery-1
	return nil
}

// broughtBy returns the serial of the newest bundle that took a release to the
// peer, 0 for none.
func (x *export) broughtBy(ctx context.Context, base manifest.BundleBase) (int64, error) {
	shipments, err := x.s.Index.Shipments(ctx, index.ShipmentFilter{Peer: x.req.Peer, Project: base.Project, Version: base.Version})
	if err != nil {
		return 0, err
	}
	for _, sh := range slices.Backward(shipments) {
		if sh.State != index.ShipmentLost && slices.ContainsFunc(sh.Releases, func(r manifest.ReleaseRef) bool { return r.Release == base.Release }) {
			return sh.Serial, nil
		}
	}
	return 0, nil
}

func (x *export) held(ctx context.Context) (*holding, error) {
	h := &holding{chunks: map[chunk.Name]uint32{}}
	if x.report.Full {
		return h, nil
	}
	holds, err := x.s.Index.Holdings(ctx, x.req.Peer)
	if err != nil {
		return nil, err
	}
	var refs []manifest.ReleaseRef
	for _, v := range holds {
		if v.Since.Before(x.peer.Added) {
			continue // known of the peer's site before it began anew
		}
		refs = append(refs, manifest.ReleaseRef{Release: v.Release, Project: v.Project, Version: v.Version})
	}
	if x.req.AssumeDelivered {
		shipments, err := x.s.Index.Shipments(ctx, index.ShipmentFilter{Peer: x.req.Peer, State: index.ShipmentExported})
		if err != nil {
			return nil, err
		}
		for _, sh := range shipments {
			for _, r := range sh.Releases {
				if !slices.Contains(refs, r) {
					refs = append(refs, r)
				}
			}
		}
	}
	for _, ref := range x.chooseBases(refs) {
		r, err := x.s.release(ctx, ref.Release)
		if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrDamaged) {
			continue // sent once, no longer here: it cannot help
		}
		if err != nil {
			return nil, err
		}
		at := len(h.base)
		h.releases, h.used = append(h.releases, r), append(h.used, false)
		h.base = append(h.base, manifest.BundleBase{Project: ref.Project, Version: ref.Version, Release: ref.Release})
		for e, err := range x.s.chunksOf(ctx, content.Refs(r)) {
			if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrList) {
				x.s.log.Warn("a release that the peer holds is not whole here, so less of it is counted on; run davit check", "release", ref.Project+" "+ref.Version, "error", err)
				h.releases[at] = &manifest.Release{} // no base for deltas
				break
			}
			if err != nil {
				return nil, err
			}
			h.chunks[e.Name] |= 1 << at
		}
	}
	return h, nil
}

func (x *export) chooseBases(refs []manifest.ReleaseRef) []manifest.ReleaseRef {
	sent := map[string]bool{}
	for _, r := range x.report.Releases {
		sent[r.Project] = true
	}
	slices.SortStableFunc(refs, func(a, b manifest.ReleaseRef) int { return manifest.CompareVersions(b.Version, a.Version) })
	// The newest of each project that is sent, then the second of each, and so on.
	taken := map[string]int{}
	var same [basesSame][]manifest.ReleaseRef
	var other []manifest.ReleaseRef
	for _, r := range refs {
		n := taken[r.Project]
		taken[r.Project]++
		switch {
		case sent[r.Project] && n < basesSame:
			same[n] = append(same[n], r)
		case !sent[r.Project] && n == 0 && len(other) < basesOther:
			other = append(other, r)
		}
	}
	all := append(slices.Concat(same[:]...), other...)
	return all[:min(len(all), basesSame+basesOther)]
}
