package transfer

import (
	"context"
	"errors"

	"davit/manifest"
	"davit/store"
	"davit/transfer/content"
)

// relatives finds for the packages of one release other versions of them among
// what the peer holds.
type relatives struct {
	held    *holding
	project string
	same    map[content.Target]bool // what the peer holds as it is
	alike   map[relation][]relative // by name, and by name with all numbers alike

	strangers []relative // of the newest base of the project, those that no package of the release is called like
}

// relative is a package of a base.
type relative struct {
	content.Part
	at int // position of the base
}

// relation is a name that packages may have in common.
type relation struct {
	project    string // "" for any
	kind       string
	attachment bool
	name       string
	loose      bool // numbers in the name count as alike
}

const (
	likeEnough = 0.1     // of what is in either is in both
	likeMost   = 32      // packages that are looked into
	likeSizes  = 8       // times that sizes may differ
	likeBytes  = 1 << 30 // of all that are looked into
)

// newRelatives gathers the bases for a release. before, which may be nil, is
// that of another release of the same bundle.
func newRelatives(held *holding, r *manifest.Release, before *relatives) *relatives {
	k := &relatives{held: held, project: r.Project}
	if before != nil {
		k.same, k.alike = before.same, before.alike
	} else {
		k.same, k.alike = map[content.Target]bool{}, map[relation][]relative{}
		for at, h := range held.releases {
			for _, p := range content.Parts(h) {
				k.same[p.Target()] = true
				for _, project := range []string{h.Project, ""} {
					for _, name := range []relation{{name: p.Name}, {name: content.Pattern(p.Name), loose: true}} {
						name.project, name.kind, name.attachment = project, p.Kind, p.Attachment
						k.alike[name] = append(k.alike[name], relative{p, at})
					}
				}
			}
		}
	}
	names := map[string]bool{}
	for _, p := range content.Parts(r) {
		names[content.Pattern(p.Name)] = true
	}
	for at, h := range held.releases {
		if h.Project != r.Project {
			continue
		}
		for _, p := range content.Parts(h) {
			if !p.Attachment && p.Size > 0 && !names[content.Pattern(p.Name)] {
				k.strangers = append(k.strangers, relative{p, at})
			}
		}
		break // the newest
	}
	return k
}

// named finds another version of a package: in the same project and else in
// others, by its name and else by its name with other numbers in it; the newest
// that is not newer than it, else the oldest.
func (k *relatives) named(p content.Part) (relative, bool) {
	for _, project := range []string{k.project, ""} {
		for _, name := range []relation{{name: p.Name}, {name: content.Pattern(p.Name), loose: true}} {
			name.project, name.kind, name.attachment = project, p.Kind, p.Attachment
			var best relative
			for _, b := range k.alike[name] {
				if b.Size > 0 && (best.Package == nil || nearer(b.Version, best.Version, p.Version)) {
					best = b
				}
			}
			if best.Package != nil {
				return best, true
			}
		}
	}
	return relative{}, false
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

// likest finds by what is in it a package that was given another name.
func (k *relatives) likest(ctx context.Context, s *Site, p content.Part) (relative, bool, error) {
	if p.Attachment || p.Size > likeBytes {
		return relative{}, false, nil
	}
	var found []relative
	sum := p.Size
	for _, b := range k.strangers {
		if b.Kind != p.Kind || b.Size/likeSizes > p.Size || p.Size/likeSizes > b.Size || sum+b.Size > likeBytes {
			continue
		}
		if found = append(found, b); len(found) == likeMost {
			break
		}
		sum += b.Size
	}
	if len(found) == 0 {
		return relative{}, false, nil
	}
	own, err := s.sketch(ctx, p.Package)
	if err != nil {
		return relative{}, false, err
	}
	var best relative
	most := likeEnough
	for _, b := range found {
		sketch, err := s.sketch(ctx, b.Package)
		switch {
		case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrMissing):
			continue
		case err != nil:
			return relative{}, false, err
		}
		if like := own.Like(sketch); like > most {
			most, best = like, b
		}
	}
	return best, best.Package != nil, nil
}
