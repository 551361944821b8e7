package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
)

// ReceiptCode writes the newest receipt for a bundle of a peer as a code for
// the telephone; serial 0 means the newest bundle of releases. The error wraps
// manifest.ErrCodeState when a code cannot say what the receipt says.
func (s *Site) ReceiptCode(ctx context.Context, peer string, serial int64) (string, *manifest.Receipt, error) {
	all, err := s.Index.Received(ctx, peer)
	if err != nil {
		return "", nil, err
	}
	at := -1
	for i, b := range all {
		if serial == b.Serial || serial == 0 && b.Kind == manifest.KindReleases && (at < 0 || b.Serial > all[at].Serial) {
			at = i
		}
	}
	if at < 0 && serial == 0 {
		return "", nil, notFound("no bundle of releases came from %s yet", peer)
	}
	if at < 0 {
		return "", nil, notFound("no bundle with serial %d came from %s yet", serial, peer)
	}
	b := all[at]
	_, digest, err := s.Index.LastReceipt(ctx, peer, b.Bundle)
	if err != nil {
		return "", nil, err
	}
	if digest.IsZero() {
		return "", nil, notFound("bundle %d of %s has no receipt: receipts alone are not answered", b.Serial, peer)
	}
	e, err := s.envelope(ctx, receiptsDir, digest)
	if err != nil {
		return "", nil, err
	}
	r, err := manifest.Peek[manifest.Receipt](e)
	if err != nil {
		return "", nil, err
	}
	doc, err := s.bundle(ctx, b.Digest)
	if err != nil {
		return "", nil, err
	}
	text, err := manifest.ReceiptCode(doc.Secret, r)
	return text, r, err
}

// CodeReport says what a receipt code settled.
type CodeReport struct {
	Peer     string
	Serial   int64
	Repeat   bool      // it, or a later answer, was taken in before; nothing was changed
	At       time.Time // when that was
	Releases []manifest.ReceiptRelease
}

// ErrCodeForeign: a code is well typed and fits no bundle that was made here.
var ErrCodeForeign = errors.New("receipt code fits no bundle made here")

// SettleCode takes in a receipt that was read out. peer may be "": the code
// itself tells which bundle it answers.
//
//	code ▸ check characters ▸ MAC against each bundle sent, newest first ▸ audit entry: settled
func (s *Site) SettleCode(ctx context.Context, text, peer string) (*CodeReport, error) {
	defer s.verb()()
	unlock, err := s.exclusive(ctx, "import")
	if err != nil {
		return nil, fmt.Errorf("settle code: %w", err)
	}
	defer unlock()
	code, err := manifest.ParseCode(text)
	if err != nil {
		return nil, fmt.Errorf("settle code: %w", err)
	}
	shipments, err := s.Index.Shipments(ctx, index.ShipmentFilter{Peer: peer})
	if err != nil {
		return nil, fmt.Errorf("settle code: %w", err)
	}
	for _, sh := range slices.Backward(shipments) {
		doc, err := s.bundle(ctx, sh.Digest)
		if errors.Is(err, store.ErrMissing) {
			continue // broken off before its document was kept
		}
		if err != nil {
			return nil, fmt.Errorf("settle code: %w", err)
		}
		if code.Verify(doc.Secret, sh.Digest) {
			return s.settleCode(ctx, text, code, sh)
		}
	}
	return nil, fmt.Errorf("settle code: %w", ErrCodeForeign)
}

func (s *Site) settleCode(ctx context.Context, text string, code *manifest.Code, sh index.Shipment) (*CodeReport, error) {
	report := &CodeReport{Peer: sh.Peer, Serial: sh.Serial}
	states, ok := code.States(len(sh.Releases))
	if !ok {
		return nil, fmt.Errorf("settle code: %w", ErrCodeForeign)
	}
	for i, r := range sh.Releases {
		report.Releases = append(report.Releases, manifest.ReceiptRelease{Release: r.Release, Project: r.Project, Version: r.Version, State: states[i]})
	}
	revision, at, err := s.Index.SettledRevision(ctx, sh.Peer, sh.Bundle)
	if err != nil {
		return nil, fmt.Errorf("settle code: %w", err)
	}
	if revision >= code.Revision {
		report.Repeat, report.At = true, at
		return report, nil
	}
	fact := manifest.ReceiptSettled{Peer: sh.Peer, Bundle: sh.Bundle, Revision: code.Revision, Code: strings.TrimSpace(text),
		State: manifest.ReceiptWhole, Releases: report.Releases}
	if err := s.record(ctx, manifest.Fact{ReceiptSettled: &fact}); err != nil {
		return nil, fmt.Errorf("settle code: %w", err)
	}
	return report, nil
}
