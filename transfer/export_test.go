package transfer

import (
	"context"

	"davit/manifest"
)

// ForgeRelease records a release as a site's own without looking at it, as a
// peer gone bad could.
func (s *Site) ForgeRelease(ctx context.Context, r *manifest.Release) error {
	_, digest, err := s.sign(ctx, releasesDir, r)
	if err != nil {
		return err
	}
	return s.record(ctx, manifest.Fact{ReleaseCreated: &manifest.ReleaseCreated{Release: digest,
		Project: r.Project, Version: r.Version, Created: r.Created, Site: r.Site, Packages: len(r.Packages)}})
}

// NewMask is the writer that keeps secrets out of logs.
var NewMask = newMaskWriter

// Record writes an audit entry.
func (s *Site) Record(ctx context.Context, facts ...manifest.Fact) error {
	return s.record(ctx, facts...)
}

// SetDeltasKept changes how many bytes of deltas are kept.
func SetDeltasKept(n int64) { deltasKept = n }
