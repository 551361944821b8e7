package transfer

import (
	"context"
	"errors"
	"slices"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/chunk"
)

// holding is what the peer can be relied on to have.
type holding struct {
	base     []manifest.BundleBase
	releases []*manifest.Release // of the bases
	used     []bool              // the bundle builds on the base
	chunks   map[chunk.Name]int  // position in base
}

// Bases are looked for among the newest releases of the projects that are sent
// and the newest of each other project.
const (
	basesSame  = 8
	basesOther = 24
)

func (x *export) held(ctx context.Context) (*holding, error) {
	h := &holding{chunks: map[chunk.Name]int{}}
	if x.req.Full {
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
		if errors.Is(err, store.ErrMissing) {
			continue // sent once, no longer here: it cannot help
		}
		if err != nil {
			return nil, err
		}
		at := len(h.base)
		h.releases, h.used = append(h.releases, r), append(h.used, false)
		h.base = append(h.base, manifest.BundleBase{Project: ref.Project, Version: ref.Version, Release: ref.Release})
		for e, err := range x.s.chunksOf(ctx, releaseRefs(r)) {
			if errors.Is(err, store.ErrMissing) {
				break
			}
			if err != nil {
				return nil, err
			}
			if _, ok := h.chunks[e.Name]; !ok {
				h.chunks[e.Name] = at
			}
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
	taken := map[string]int{}
	var same, other []manifest.ReleaseRef
	for _, r := range refs {
		taken[r.Project]++
		switch {
		case sent[r.Project] && taken[r.Project] <= basesSame:
			same = append(same, r)
		case !sent[r.Project] && taken[r.Project] == 1 && len(other) < basesOther:
			other = append(other, r)
		}
	}
	return append(same, other...)
}
