package index

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"davit/manifest"
)

// States of a release that can be seen here.
const (
	ReleaseCreated  = "created"  // made at this site
	ReleaseAccepted = "accepted" // came from a peer
)

// Release is a release that can be seen here.
type Release struct {
	Digest   manifest.Digest
	Project  string
	Version  string
	Site     string            // where it was created
	Peer     string            // whom it came from, "" if it was created here
	Bundle   manifest.BundleID // in which bundle, zero if it was created here
	Created  time.Time
	Packages int
	Size     int64
	State    string // ReleaseCreated or ReleaseAccepted
}

const releaseColumns = "SELECT digest, project, version, site, peer, bundle, created, packages, size, state FROM releases"

func scanRelease(r *sql.Rows, v *Release) error {
	return r.Scan(text{&v.Digest}, &v.Project, &v.Version, &v.Site, &v.Peer, text{&v.Bundle}, moment{&v.Created},
		&v.Packages, &v.Size, &v.State)
}

// Releases lists the releases of a project, or of all projects if it is "", by
// project and then by version, oldest first.
func (x *Index) Releases(ctx context.Context, project string) ([]Release, error) {
	all, err := collect(ctx, x.read, scanRelease, releaseColumns+" WHERE ?1 = '' OR project = ?1", project)
	if err != nil {
		return nil, x.fail(ctx, "list releases", err)
	}
	slices.SortFunc(all, func(a, b Release) int { return compareReleases(a.Project, a.Version, b.Project, b.Version) })
	return all, nil
}

func compareReleases(aProject, aVersion, bProject, bVersion string) int {
	return cmp.Or(cmp.Compare(aProject, bProject), manifest.CompareVersions(aVersion, bVersion))
}

// Release returns the release of that project and version.
func (x *Index) Release(ctx context.Context, project, version string) (Release, error) {
	r, err := one(ctx, x.read, scanRelease, releaseColumns+" WHERE project = ? AND version = ?", project, version)
	return r, x.fail(ctx, "look up release "+project+" "+version, err)
}

// ReleaseByDigest returns the release with that document.
func (x *Index) ReleaseByDigest(ctx context.Context, d manifest.Digest) (Release, error) {
	r, err := one(ctx, x.read, scanRelease, releaseColumns+" WHERE digest = ?", digestText(d))
	return r, x.fail(ctx, "look up release "+d.Short(), err)
}

func (p *projection) releaseCreated(f *manifest.ReleaseCreated) error {
	if err := p.free(f.Release, f.Project, f.Version); err != nil {
		return err
	}
	err := p.exec(`INSERT INTO releases (digest, project, version, site, peer, bundle, created, packages, size, state)
		VALUES (?, ?, ?, ?, '', '', ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING`,
		digestText(f.Release), f.Project, f.Version, f.Site, f.Created.Unix(), f.Packages, f.Size, ReleaseCreated)
	if err != nil {
		return err
	}
	return p.overtake(f.Release, f.Project, f.Version)
}

// free refuses a second release of one project and version.
func (p *projection) free(d manifest.Digest, project, version string) error {
	taken, err := p.exists("SELECT 1 FROM releases WHERE project = ? AND version = ? AND digest <> ?", project, version, digestText(d))
	if err == nil && taken {
		err = contradict("there is another release %s %s", project, version)
	}
	return err
}

// overtake updates undecided inbox items, once a release can be seen here: the
// same release in other bundles is held, another one of its version conflicts.
func (p *projection) overtake(d manifest.Digest, project, version string) error {
	return p.exec(`UPDATE received_releases SET state = iif(release = ?1, 'held', 'conflict'), reason = ''
		WHERE project = ?2 AND version = ?3 AND state IN ('waiting', 'older')`, digestText(d), project, version)
}

// receivedRelease finds a release in a bundle that came.
func (p *projection) receivedRelease(peer string, bundle manifest.BundleID, release manifest.Digest) (int64, error) {
	n, err := p.number(`SELECT b.n FROM received b JOIN received_releases c ON c.received = b.n
		WHERE peer = ? AND bundle = ? AND release = ?`, peer, bundle.String(), digestText(release))
	if errors.Is(err, sql.ErrNoRows) {
		err = contradict("no bundle %s of %s with that release was received", bundle, peer)
	}
	return n, err
}

func (p *projection) releaseAccepted(f *manifest.ReleaseAccepted) error {
	n, err := p.receivedRelease(f.Peer, f.Bundle, f.Release)
	if err != nil {
		return err
	}
	if err := p.free(f.Release, f.Project, f.Version); err != nil {
		return err
	}
	if err := p.exec(`INSERT INTO releases (digest, project, version, site, peer, bundle, created, packages, size, state)
		SELECT release, project, version, site, ?, ?, created, packages, size, ? FROM received_releases
		WHERE received = ? AND release = ? ON CONFLICT (digest) DO NOTHING`,
		f.Peer, f.Bundle.String(), ReleaseAccepted, n, digestText(f.Release)); err != nil {
		return err
	}
	if err := p.exec("UPDATE received_releases SET state = 'accepted', reason = '' WHERE received = ? AND release = ?",
		n, digestText(f.Release)); err != nil {
		return err
	}
	return p.overtake(f.Release, f.Project, f.Version)
}

func (p *projection) releaseRejected(f *manifest.ReleaseRejected) error {
	n, err := p.receivedRelease(f.Peer, f.Bundle, f.Release)
	if err != nil {
		return err
	}
	done, err := p.changed("UPDATE received_releases SET state = 'rejected', reason = ? WHERE received = ? AND release = ? AND state <> 'accepted'",
		f.Reason, n, digestText(f.Release))
	if err == nil && done == 0 {
		err = contradict("it was accepted")
	}
	return err
}
