package index

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"davit/manifest"
)

// Received is a bundle that was verified and taken in.
type Received struct {
	Peer     string
	Bundle   manifest.BundleID
	Serial   int64
	Digest   manifest.Digest // of the bundle document
	Previous manifest.Digest
	Kind     string
	State    string // manifest.ReceivedQuarantined or ReceivedDone
	At       time.Time
	Bytes    int64
	Saved    int64                      // bytes that deltas saved, as the sender has it
	Releases []manifest.ReceivedRelease // with their states now: also accepted and rejected
	Base     []manifest.BundleBase
}

// InboxItem is one release in one bundle that came.
type InboxItem struct {
	Peer         string
	Bundle       manifest.BundleID
	Serial       int64
	BundleDigest manifest.Digest
	Release      manifest.Digest
	Project      string
	Version      string
	Site         string // where it was created
	Created      time.Time
	Packages     int
	Size         int64
	State        string // manifest.StateWaiting … StateRejected
	Reason       string
	At           time.Time // when the bundle was taken in
	Base         []manifest.BundleBase
}

// Refusal is a bundle that was turned away.
type Refusal struct {
	Peer   string
	Bundle manifest.BundleID
	Serial int64
	Digest manifest.Digest
	Cause  string // manifest.CauseFork …
	Reason string
	At     time.Time
}

// Received lists the bundles that came from a peer, or from all if it is "",
// newest last.
func (x *Index) Received(ctx context.Context, peer string) ([]Received, error) {
	var all []Received
	err := x.snapshot(ctx, func(q querier) (err error) {
		all, err = received(ctx, q, "?1 = '' OR peer = ?1", peer)
		return err
	})
	return all, x.fail(ctx, "list received bundles", err)
}

// ReceivedBundle returns the bundle of that peer with that id. An id alone
// says nothing, for a peer can copy another's.
func (x *Index) ReceivedBundle(ctx context.Context, peer string, id manifest.BundleID) (Received, error) {
	r, err := x.lastReceived(ctx, "peer = ? AND bundle = ?", peer, id.String())
	return r, x.fail(ctx, "look up received bundle "+id.String(), err)
}

// ReceivedSerial returns the bundle of that peer with that serial; the newest,
// should a peer have begun anew.
func (x *Index) ReceivedSerial(ctx context.Context, peer string, serial int64) (Received, error) {
	r, err := x.lastReceived(ctx, "peer = ? AND serial = ?", peer, serial)
	return r, x.fail(ctx, "look up received bundle", err)
}

func (x *Index) lastReceived(ctx context.Context, where string, args ...any) (Received, error) {
	var last Received
	err := x.snapshot(ctx, func(q querier) error {
		all, err := received(ctx, q, where, args...)
		if err == nil && len(all) == 0 {
			err = ErrNotFound
		}
		if err == nil {
			last = all[len(all)-1]
		}
		return err
	})
	return last, err
}

func received(ctx context.Context, q querier, where string, args ...any) ([]Received, error) {
	rows, err := collect(ctx, q, func(r *sql.Rows, v *numbered[Received]) error {
		b := &v.v
		return r.Scan(&v.n, &b.Peer, text{&b.Bundle}, &b.Serial, text{&b.Digest}, text{&b.Previous}, &b.Kind, &b.State,
			moment{&b.At}, &b.Bytes, &b.Saved, list[manifest.BundleBase]{&b.Base})
	}, `SELECT n, peer, bundle, serial, digest, previous, kind, state, arrived, bytes, saved, base FROM received
		WHERE `+where+" ORDER BY n", args...)
	if err != nil {
		return nil, err
	}
	all := make([]Received, len(rows))
	for i, row := range rows {
		if row.v.Releases, err = collect(ctx, q, func(r *sql.Rows, v *manifest.ReceivedRelease) error {
			return r.Scan(text{&v.Release}, &v.Project, &v.Version, &v.Site, moment{&v.Created.Time}, &v.Packages, &v.Size, &v.State, &v.Reason)
		}, `SELECT release, project, version, site, created, packages, size, state, reason FROM received_releases
			WHERE received = ? ORDER BY position`, row.n); err != nil {
			return nil, err
		}
		all[i] = row.v
	}
	return all, nil
}

// Refused lists the bundles that were turned away, newest last.
func (x *Index) Refused(ctx context.Context) ([]Refusal, error) {
	all, err := collect(ctx, x.read, func(r *sql.Rows, v *Refusal) error {
		return r.Scan(&v.Peer, text{&v.Bundle}, &v.Serial, text{&v.Digest}, &v.Cause, &v.Reason, moment{&v.At})
	}, "SELECT peer, bundle, serial, digest, cause, reason, refused FROM refused ORDER BY n")
	return all, x.fail(ctx, "list refused bundles", err)
}

// Inbox lists every release that ever came, in the order it came.
func (x *Index) Inbox(ctx context.Context) ([]InboxItem, error) { return x.inbox(ctx, "") }

// InboxOpen lists those of Inbox that wait for somebody: neither accepted nor
// rejected nor held.
func (x *Index) InboxOpen(ctx context.Context) ([]InboxItem, error) {
	return x.inbox(ctx, " WHERE c.state NOT IN ('accepted', 'rejected', 'held')")
}

func (x *Index) inbox(ctx context.Context, where string) ([]InboxItem, error) {
	all, err := collect(ctx, x.read, func(r *sql.Rows, v *InboxItem) error {
		return r.Scan(&v.Peer, text{&v.Bundle}, &v.Serial, text{&v.BundleDigest}, text{&v.Release}, &v.Project, &v.Version, &v.Site,
			moment{&v.Created}, &v.Packages, &v.Size, &v.State, &v.Reason, moment{&v.At}, list[manifest.BundleBase]{&v.Base})
	}, `SELECT b.peer, b.bundle, b.serial, b.digest, c.release, c.project, c.version, c.site, c.created, c.packages, c.size,
			c.state, c.reason, b.arrived, b.base
		FROM received b JOIN received_releases c ON c.received = b.n`+where+" ORDER BY b.n, c.position")
	return all, x.fail(ctx, "list inbox", err)
}

func (p *projection) bundleReceived(f *manifest.BundleReceived) error {
	base, err := listText(f.Base)
	if err != nil {
		return err
	}
	n, err := p.number(`INSERT INTO received (peer, bundle, serial, digest, previous, kind, state, arrived, bytes, saved, base)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (peer, bundle) DO UPDATE SET state = excluded.state WHERE digest = excluded.digest RETURNING n`,
		f.Peer, f.Bundle.String(), f.Serial, digestText(f.Digest), digestText(f.Previous), f.Kind, f.State, p.at, f.Bytes, f.Saved, base)
	if errors.Is(err, sql.ErrNoRows) {
		return contradict("another bundle %s of %s was received before", f.Bundle, f.Peer)
	}
	if err != nil {
		return err
	}
	for _, r := range f.Releases {
		// When the bundle comes up again, decisions stay.
		if err := p.exec(`INSERT INTO received_releases (received, position, release, project, version, site, created, packages, size, state, reason)
			VALUES (?1, (SELECT count(*) FROM received_releases WHERE received = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
			ON CONFLICT (received, release) DO UPDATE SET state = excluded.state, reason = excluded.reason
				WHERE state NOT IN ('accepted', 'rejected')`,
			n, digestText(r.Release), r.Project, r.Version, r.Site, r.Created.Unix(), r.Packages, r.Size, r.State, r.Reason); err != nil {
			return err
		}
	}
	return p.heard(f.Peer)
}

func (p *projection) bundleRefused(f *manifest.BundleRefused) error {
	return p.exec("INSERT INTO refused (peer, bundle, serial, digest, cause, reason, refused) VALUES (?, ?, ?, ?, ?, ?, ?)",
		f.Peer, f.Bundle.String(), f.Serial, digestText(f.Digest), f.Cause, f.Reason, p.at)
}
