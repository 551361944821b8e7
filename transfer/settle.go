package transfer

import (
	"context"
	"davit/manifest/index"
	"errors"
	"fmt"
	"slices"
	"strings"

	"davit/manifest"
)

// settle turns the receipts and results of a bundle into facts.
func (in *incoming) settle(ctx context.Context) ([]manifest.Fact, error) {
	var facts []manifest.Fact
	receipts, results := 0, 0
	for _, d := range in.doc.Documents {
		switch d.Kind {
		case manifest.DocumentReceipt:
			r := in.out.Receipts[receipts]
			receipts++
			facts = append(facts, manifest.Fact{ReceiptSettled: &manifest.ReceiptSettled{Peer: in.doc.From, Bundle: r.Bundle,
				Revision: r.Revision, Receipt: d.Digest, State: r.State, Reason: r.Reason, Releases: r.Releases}})
		case manifest.DocumentResult:
			r := in.results[results]
			results++
			facts = append(facts, manifest.Fact{ResultSettled: &manifest.ResultSettled{Peer: in.doc.From, Result: d.Digest, ID: r.ID,
				Project: r.Project, Version: r.Version, Release: r.Release, Environment: r.Environment, Status: r.Status,
				Actor: r.Actor, Started: r.Started, Ended: r.Ended, Message: r.Message}})
		}
	}
	return facts, nil
}

// Settle takes in the bundles of results on a medium and leaves others alone.
func (s *Site) Settle(ctx context.Context, req ImportRequest) (*ImportReport, error) {
	req.Only = manifest.KindResults
	return s.Import(ctx, req)
}

// ErrAcknowledged: a receipt says that the bundle arrived.
var ErrAcknowledged = errors.New("it was acknowledged, so it is not lost")

// MarkLost records that a shipment is presumed lost: what it carried counts as
// not sent. It names the shipment by peer and serial.
func (s *Site) MarkLost(ctx context.Context, peer string, serial int64, reason string) error {
	sh, err := s.shipment(ctx, peer, serial)
	if err != nil {
		return err
	}
	if sh.State == index.ShipmentAcknowledged {
		return fmt.Errorf("bundle %d for %s: %w", serial, peer, ErrAcknowledged)
	}
	return s.record(ctx, manifest.Fact{ShipmentLost: &manifest.ShipmentLost{Bundle: sh.Bundle, Reason: reason}})
}

func joinComma(names []string) string { return strings.Join(names, ", ") }

func joinAnd(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return joinComma(names[:len(names)-1]) + " and " + names[len(names)-1]
}

// shipment finds a shipment by peer and serial.
func (s *Site) shipment(ctx context.Context, peer string, serial int64) (index.Shipment, error) {
	all, err := s.Index.Shipments(ctx, index.ShipmentFilter{Peer: peer})
	if err != nil {
		return index.Shipment{}, err
	}
	for _, sh := range slices.Backward(all) {
		if sh.Serial == serial {
			return sh, nil
		}
	}
	return index.Shipment{}, notFound("no bundle with serial %d was made for %s; see: davit shipment list", serial, peer)
}
