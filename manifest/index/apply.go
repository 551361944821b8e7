package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"davit/manifest"
)

// Apply adds an entry to the audit log and projects its facts, in one
// transaction that is durable when nil is returned. It is ErrSequence unless
// the entry follows the last one. A fact that contradicts what is known has no
// effect but a row in the table of contradictions.
func (x *Index) Apply(ctx context.Context, e *manifest.Entry, digest manifest.Digest) error {
	payload, err := payloadOf(e, digest)
	if err == nil {
		err = x.update(ctx, func(tx *sql.Tx) error { return project(ctx, tx, e, digest, payload, false) })
	}
	return x.fail(ctx, fmt.Sprintf("apply entry %d", e.Sequence), err)
}

// errChecked rolls back what a check tried.
var errChecked = errors.New("checked")

// Check does what Apply does, short of changing anything, and returns a
// *FactError for the first fact that Apply would set aside.
func (x *Index) Check(ctx context.Context, e *manifest.Entry, digest manifest.Digest) error {
	payload, err := payloadOf(e, digest)
	if err == nil {
		err = x.update(ctx, func(tx *sql.Tx) error {
			if err := project(ctx, tx, e, digest, payload, true); err != nil {
				return err
			}
			return errChecked
		})
	}
	if errors.Is(err, errChecked) {
		return nil
	}
	return x.fail(ctx, "check entry", err)
}

func payloadOf(e *manifest.Entry, digest manifest.Digest) ([]byte, error) {
	payload, err := manifest.EncodeDocument(e)
	if err == nil && manifest.DigestOf(payload) != digest {
		err = fmt.Errorf("the digest given is %s, that of the entry %s", digest.Short(), manifest.DigestOf(payload).Short())
	}
	return payload, err
}

// projection is one entry on its way into the tables. The tables depend on the
// entries and their order alone: no clock, no random number.
type projection struct {
	ctx      context.Context
	tx       *sql.Tx
	sequence int64
	at       int64 // time of the entry
}

func project(ctx context.Context, tx *sql.Tx, e *manifest.Entry, digest manifest.Digest, payload []byte, strict bool) error {
	last, err := head(ctx, tx)
	if err != nil {
		return err
	}
	if e.Sequence != last.Sequence+1 || e.Previous != last.Digest {
		return fmt.Errorf("%w: it is %d after %q, the log is at %d, %q", ErrSequence,
			e.Sequence, short(e.Previous), last.Sequence, short(last.Digest))
	}
	names, err := listText(factNames(e))
	if err != nil {
		return err
	}
	p := projection{ctx, tx, e.Sequence, e.Time.Unix()}
	if err := p.exec("INSERT INTO entries (sequence, digest, previous, time, actor, facts, payload) VALUES (?, ?, ?, ?, ?, ?, ?)",
		e.Sequence, digestText(digest), digestText(e.Previous), p.at, e.Actor, names, payload); err != nil {
		return err
	}
	for _, f := range e.Facts {
		err := p.fact(f)
		var c contradiction
		if errors.As(err, &c) {
			if strict {
				return &FactError{e.Sequence, f.Name(), string(c)}
			}
			err = p.exec("INSERT INTO contradictions (sequence, fact, reason) VALUES (?, ?, ?)", e.Sequence, f.Name(), string(c))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

func short(d manifest.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.Short()
}

// contradiction says why a fact cannot be. Whoever returns it has changed
// nothing.
type contradiction string

func (c contradiction) Error() string { return string(c) }

func contradict(format string, args ...any) error { return contradiction(fmt.Sprintf(format, args...)) }

func (p *projection) fact(f manifest.Fact) error {
	switch {
	case f.SiteCreated != nil:
		return p.siteCreated(f.SiteCreated)
	case f.PeerAdded != nil:
		return p.peerAdded(f.PeerAdded)
	case f.PeerRemoved != nil:
		return p.peerRemoved(f.PeerRemoved)
	case f.ReleaseCreated != nil:
		return p.releaseCreated(f.ReleaseCreated)
	case f.ShipmentSealed != nil:
		return p.shipmentSealed(f.ShipmentSealed)
	case f.ShipmentExported != nil:
		return p.shipmentExported(f.ShipmentExported)
	case f.ShipmentLost != nil:
		return p.shipmentLost(f.ShipmentLost)
	case f.BundleReceived != nil:
		return p.bundleReceived(f.BundleReceived)
	case f.BundleRefused != nil:
		return p.bundleRefused(f.BundleRefused)
	case f.ReleaseAccepted != nil:
		return p.releaseAccepted(f.ReleaseAccepted)
	case f.ReleaseRejected != nil:
		return p.releaseRejected(f.ReleaseRejected)
	case f.ReceiptIssued != nil:
		return p.receiptIssued(f.ReceiptIssued)
	case f.ReceiptSettled != nil:
		return p.receiptSettled(f.ReceiptSettled)
	case f.ResultSettled != nil:
		return p.resultSettled(f.ResultSettled)
	case f.ValueSet != nil:
		return p.valueSet(f.ValueSet)
	case f.ValueUnset != nil:
		return p.valueUnset(f.ValueUnset)
	case f.DeployStarted != nil:
		return p.deployStarted(f.DeployStarted)
	case f.DeployEnded != nil:
		return p.deployEnded(f.DeployEnded)
	case f.StoreChanged != nil:
		return p.storeChanged(f.StoreChanged)
	}
	return fmt.Errorf("a fact that this program does not know") // Validate refuses it before
}

func (p *projection) exec(query string, args ...any) error {
	_, err := p.tx.ExecContext(p.ctx, query, args...)
	return err
}

// changed runs a statement and returns how many rows it changed.
func (p *projection) changed(query string, args ...any) (int64, error) {
	done, err := p.tx.ExecContext(p.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// number runs a query for one number, or an INSERT … RETURNING n.
func (p *projection) number(query string, args ...any) (int64, error) {
	var n int64
	err := p.tx.QueryRowContext(p.ctx, query, args...).Scan(&n)
	return n, err
}
