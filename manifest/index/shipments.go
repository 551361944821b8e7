package index

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"davit/manifest"
)

// States of a shipment.
const (
	ShipmentSealed       = "sealed"       // it has its serial; its volumes may be unfinished
	ShipmentExported     = "exported"     // every volume is durable on the medium
	ShipmentAcknowledged = "acknowledged" // a receipt says that it arrived whole, or was refused
	ShipmentLost         = "lost"         // presumed lost
)

// Shipment is our record of a bundle we made.
type Shipment struct {
	Peer         string
	Bundle       manifest.BundleID
	Serial       int64
	Digest       manifest.Digest // of the bundle document
	Kind         string
	State        string
	Receipt      string // state of its newest receipt, "" when there is none
	Sealed       time.Time
	Exported     time.Time
	Settled      time.Time // when its newest receipt was taken in
	Releases     []manifest.ReleaseRef
	Answers      []manifest.ReceiptRelease // what its newest receipt says of each release
	Base         []manifest.BundleBase
	Documents    []manifest.BundleDocument
	Bytes        int64
	Volumes      int
	ContentBytes int64
	Saved        int64 // bytes that deltas saved, about
	Medium       string
	Reason       string // of the receipt, or for presuming it lost
}

// ShipmentFilter chooses shipments; what is empty chooses all.
type ShipmentFilter struct {
	Peer    string
	Project string
	Version string
	State   string
}

// Shipments lists shipments, newest last.
func (x *Index) Shipments(ctx context.Context, f ShipmentFilter) ([]Shipment, error) {
	var all []Shipment
	err := x.snapshot(ctx, func(q querier) (err error) {
		all, err = shipments(ctx, q, `(?1 = '' OR peer = ?1) AND (?2 = '' OR state = ?2)
			AND ((?3 = '' AND ?4 = '') OR EXISTS (SELECT 1 FROM shipment_releases WHERE shipment = n
				AND (?3 = '' OR project = ?3) AND (?4 = '' OR version = ?4)))`, f.Peer, f.State, f.Project, f.Version)
		return err
	})
	return all, x.fail(ctx, "list shipments", err)
}

// Shipment returns one shipment.
func (x *Index) Shipment(ctx context.Context, bundle manifest.BundleID) (Shipment, error) {
	var all []Shipment
	err := x.snapshot(ctx, func(q querier) (err error) {
		if all, err = shipments(ctx, q, "bundle = ?", bundle.String()); err == nil && len(all) == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return Shipment{}, x.fail(ctx, "look up shipment "+bundle.String(), err)
	}
	return all[0], nil
}

func shipments(ctx context.Context, q querier, where string, args ...any) ([]Shipment, error) {
	rows, err := collect(ctx, q, func(r *sql.Rows, v *numbered[Shipment]) error {
		s := &v.v
		return r.Scan(&v.n, &s.Peer, text{&s.Bundle}, &s.Serial, text{&s.Digest}, &s.Kind, &s.State, &s.Receipt,
			moment{&s.Sealed}, moment{&s.Exported}, moment{&s.Settled}, list[manifest.BundleBase]{&s.Base},
			&s.Bytes, &s.Volumes, &s.ContentBytes, &s.Saved, &s.Medium, &s.Reason)
	}, `SELECT n, peer, bundle, serial, digest, kind, state, receipt, sealed, exported, settled, base,
		bytes, volumes, content_bytes, saved, medium, reason FROM shipments WHERE `+where+" ORDER BY n", args...)
	if err != nil {
		return nil, err
	}
	all := make([]Shipment, len(rows))
	for i, row := range rows {
		s := row.v
		if s.Releases, err = collect(ctx, q, func(r *sql.Rows, v *manifest.ReleaseRef) error {
			return r.Scan(text{&v.Release}, &v.Project, &v.Version)
		}, "SELECT release, project, version FROM shipment_releases WHERE shipment = ? ORDER BY position", row.n); err != nil {
			return nil, err
		}
		if s.Answers, err = collect(ctx, q, func(r *sql.Rows, v *manifest.ReceiptRelease) error {
			return r.Scan(text{&v.Release}, &v.Project, &v.Version, &v.State, &v.Reason)
		}, "SELECT release, project, version, state, reason FROM receipt_releases WHERE peer = ? AND bundle = ? ORDER BY project, version", s.Peer, s.Bundle.String()); err != nil {
			return nil, err
		}
		if s.Documents, err = collect(ctx, q, scanDocument,
			"SELECT kind, digest FROM shipment_documents WHERE shipment = ? ORDER BY position", row.n); err != nil {
			return nil, err
		}
		all[i] = s
	}
	return all, nil
}

// numbered is a row with its number, by which its lists are found.
type numbered[T any] struct {
	n int64
	v T
}

func scanDocument(r *sql.Rows, v *manifest.BundleDocument) error {
	return r.Scan(&v.Kind, text{&v.Digest})
}

// LastSerial returns the serial and the digest of the newest bundle for a
// peer; 0 and zero when there was none.
func (x *Index) LastSerial(ctx context.Context, peer string) (int64, manifest.Digest, error) {
	h, err := one(ctx, x.read, func(r *sql.Rows, h *Head) error { return r.Scan(&h.Sequence, text{&h.Digest}) },
		"SELECT serial, digest FROM shipments WHERE peer = ? ORDER BY serial DESC LIMIT 1", peer)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, manifest.Digest{}, nil
	}
	return h.Sequence, h.Digest, x.fail(ctx, "look up last serial for "+peer, err)
}

// Holding is a release that a peer holds.
type Holding struct {
	Release manifest.Digest
	Project string
	Version string
	Since   time.Time // when we learned it
}

// Holdings lists what a peer holds, by project and version: what the newest
// receipt of some bundle calls accepted, and what can be seen here and came
// from that peer.
func (x *Index) Holdings(ctx context.Context, peer string) ([]Holding, error) {
	all, err := collect(ctx, x.read, func(r *sql.Rows, h *Holding) error {
		return r.Scan(text{&h.Release}, &h.Project, &h.Version, moment{&h.Since})
	}, `SELECT release, project, version, min(since) FROM (
			SELECT c.release, c.project, c.version, s.settled AS since FROM receipt_releases c
				JOIN receipts_settled s USING (peer, bundle) WHERE s.peer = ?1 AND c.state = 'accepted'
			UNION ALL
			SELECT c.release, c.project, c.version, b.arrived FROM received b
				JOIN received_releases c ON c.received = b.n JOIN releases v ON v.digest = c.release WHERE b.peer = ?1)
		GROUP BY release`, peer)
	if err != nil {
		return nil, x.fail(ctx, "list what "+peer+" holds", err)
	}
	slices.SortFunc(all, func(a, b Holding) int { return compareReleases(a.Project, a.Version, b.Project, b.Version) })
	return all, nil
}

func (p *projection) shipmentSealed(f *manifest.ShipmentSealed) error {
	base, err := listText(f.Base)
	if err != nil {
		return err
	}
	n, err := p.number(`INSERT INTO shipments (bundle, peer, serial, digest, previous, kind, state, sealed, base, bytes, volumes, content_bytes, saved, medium)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING n`,
		f.Bundle.String(), f.Peer, f.Serial, digestText(f.Digest), digestText(f.Previous), f.Kind, ShipmentSealed, p.at, base,
		f.Bytes, f.Volumes, f.ContentBytes, f.Saved, f.Medium)
	if errors.Is(err, sql.ErrNoRows) {
		return contradict("serial %d for %s is used up, or the bundle was sealed before", f.Serial, f.Peer)
	}
	if err != nil {
		return err
	}
	for i, r := range f.Releases {
		if err := p.exec("INSERT INTO shipment_releases (shipment, position, release, project, version) VALUES (?, ?, ?, ?, ?)",
			n, i, digestText(r.Release), r.Project, r.Version); err != nil {
			return err
		}
	}
	for i, d := range f.Documents {
		if err := p.exec("INSERT INTO shipment_documents (shipment, position, kind, digest) VALUES (?, ?, ?, ?)",
			n, i, d.Kind, digestText(d.Digest)); err != nil {
			return err
		}
	}
	return nil
}

func (p *projection) shipmentExported(f *manifest.ShipmentExported) error {
	// A bundle that was presumed lost may be exported again; a receipt that
	// came first is worth more.
	n, err := p.changed(`UPDATE shipments SET exported = ?, state = iif(state = 'acknowledged', state, 'exported'),
		reason = iif(state = 'lost', '', reason) WHERE bundle = ?`, p.at, f.Bundle.String())
	if err == nil && n == 0 {
		err = contradict("there is no shipment %s", f.Bundle)
	}
	return err
}

func (p *projection) shipmentLost(f *manifest.ShipmentLost) error {
	n, err := p.changed("UPDATE shipments SET state = 'lost', reason = ? WHERE bundle = ? AND state <> 'acknowledged'",
		f.Reason, f.Bundle.String())
	if err == nil && n == 0 {
		err = contradict("there is no shipment %s that could be lost", f.Bundle)
	}
	return err
}
