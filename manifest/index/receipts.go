package index

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"davit/manifest"
)

// LastReceipt returns the newest receipt we issued for a bundle of a peer; 0
// and zero when there is none.
func (x *Index) LastReceipt(ctx context.Context, peer string, bundle manifest.BundleID) (int64, manifest.Digest, error) {
	h, err := one(ctx, x.read, func(r *sql.Rows, h *Head) error { return r.Scan(&h.Sequence, text{&h.Digest}) },
		"SELECT revision, receipt FROM receipts_issued WHERE peer = ? AND bundle = ? ORDER BY revision DESC LIMIT 1", peer, bundle.String())
	if errors.Is(err, sql.ErrNoRows) {
		return 0, manifest.Digest{}, nil
	}
	return h.Sequence, h.Digest, x.fail(ctx, "look up receipt for "+bundle.String(), err)
}

// onTheWay says that a document is in a bundle for peer ?1 that was not lost
// or refused.
const onTheWay = ` EXISTS (SELECT 1 FROM shipment_documents t JOIN shipments s ON s.n = t.shipment
	WHERE t.digest = document AND s.peer = ?1 AND s.state <> 'lost' AND s.receipt <> 'refused')`

// PendingDocuments lists what the peer should get and is not on its way to it:
// first the newest receipt for each of its bundles, then the results of
// releases that it sent; each in the order of issue.
func (x *Index) PendingDocuments(ctx context.Context, peer string) ([]manifest.BundleDocument, error) {
	all, err := collect(ctx, x.read, scanDocument, `SELECT kind, document FROM (
		SELECT 'receipt' AS kind, receipt AS document, n AS issued FROM receipts_issued r
			WHERE peer = ?1 AND NOT`+onTheWay+`
			AND revision = (SELECT max(revision) FROM receipts_issued WHERE peer = r.peer AND bundle = r.bundle)
		UNION ALL
		SELECT 'result', result AS document, closed FROM deployments
			WHERE site = '' AND result <> '' AND NOT`+onTheWay+`
			AND EXISTS (SELECT 1 FROM received b JOIN received_releases c ON c.received = b.n
				WHERE b.peer = ?1 AND c.release = deployments.release)
		) ORDER BY kind, issued`, peer)
	return all, x.fail(ctx, "list documents for "+peer, err)
}

// SettledRevision returns the revision of the newest receipt of a peer for a
// bundle and when it was taken in; 0 when there is none.
func (x *Index) SettledRevision(ctx context.Context, peer string, bundle manifest.BundleID) (int64, time.Time, error) {
	type settled struct {
		revision int64
		at       time.Time
	}
	v, err := one(ctx, x.read, func(r *sql.Rows, v *settled) error { return r.Scan(&v.revision, moment{&v.at}) },
		"SELECT revision, settled FROM receipts_settled WHERE peer = ? AND bundle = ?", peer, bundle.String())
	if errors.Is(err, sql.ErrNoRows) {
		return 0, time.Time{}, nil
	}
	return v.revision, v.at, x.fail(ctx, "look up answer to "+bundle.String(), err)
}

func (p *projection) receiptIssued(f *manifest.ReceiptIssued) error {
	n, err := p.changed("INSERT INTO receipts_issued (peer, bundle, revision, receipt, issued) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		f.Peer, f.Bundle.String(), f.Revision, digestText(f.Receipt), p.at)
	if err == nil && n == 0 {
		err = contradict("revision %d of the receipt for %s was issued before", f.Revision, f.Bundle)
	}
	return err
}

// receiptSettled takes in a peer's receipt. One that is not newer than what we
// have, which bundles in any order bring, is a sign of life and nothing else.
func (p *projection) receiptSettled(f *manifest.ReceiptSettled) error {
	if err := p.heard(f.Peer); err != nil {
		return err
	}
	bundle := f.Bundle.String()
	n, err := p.changed(`INSERT INTO receipts_settled (peer, bundle, revision, receipt, state, reason, settled) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET revision = excluded.revision, receipt = excluded.receipt, state = excluded.state,
			reason = excluded.reason, settled = excluded.settled WHERE revision < excluded.revision`,
		f.Peer, bundle, f.Revision, digestText(f.Receipt), f.State, f.Reason, p.at)
	if err != nil || n == 0 {
		return err
	}
	if err := p.exec("DELETE FROM receipt_releases WHERE peer = ? AND bundle = ?", f.Peer, bundle); err != nil {
		return err
	}
	for _, r := range f.Releases {
		if err := p.exec(`INSERT INTO receipt_releases (peer, bundle, release, project, version, state, reason)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			f.Peer, bundle, digestText(r.Release), r.Project, r.Version, r.State, r.Reason); err != nil {
			return err
		}
	}
	// Only the peer it was for can acknowledge a bundle. An incomplete one is
	// still on its way.
	return p.exec(`UPDATE shipments SET receipt = ?1, settled = ?2, reason = ?3,
		state = iif(?1 = 'incomplete', state, 'acknowledged') WHERE bundle = ?4 AND peer = ?5`,
		f.State, p.at, f.Reason, bundle, f.Peer)
}
