package route

import (
	"context"
	"errors"
	"fmt"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
)

// send exports what waits for the peers of the links that send results.
func (s *station) send(ctx context.Context, sess *session) {
	for _, l := range s.links {
		if !l.SendResults || s.ticks < l.due || ctx.Err() != nil {
			continue
		}
		if s.sendTo(ctx, sess, l) {
			l.backoff = backoff{}
		} else {
			l.later(s.ticks)
		}
	}
}

func (s *station) sendTo(ctx context.Context, sess *session, l *link) bool {
	about := "outbox:" + l.Peer
	// First the folder: a site has no use for a bundle that it cannot lay down.
	// It is never made, since a missing one is a share that is not mounted.
	dir, err := bucket.OpenDir(l.Outbox)
	if err != nil {
		s.gone(about, l.Outbox, l.Peer, err)
		return false
	}
	defer dir.Close()
	s.back(about, l.Outbox, l.Peer)
	site := s.openSite(ctx, sess)
	if site == nil {
		return false
	}
	req := l.Export
	req.Peer, req.Results, req.Releases, req.DryRun = l.Peer, true, nil, false
	req.Full, req.FullEvery = false, 0 // or all receipts would go again at each scan
	req.Medium, req.MediumName = dir, l.Outbox
	s.w.at("export")
	step, stop := s.w.step(ctx)
	report, err := Deliver(step, site, req)
	stop()
	s.w.at("exported")
	if err != nil {
		if ctx.Err() == nil {
			s.tellOnce("send:"+l.Peer, err.Error(), Event{Kind: Retry, Peer: l.Peer, Reason: fmt.Sprintf("results for %s were not sent: %v", l.Peer, err), Err: err})
		}
		return false
	}
	s.settled("send:" + l.Peer)
	if report.Nothing == "" {
		s.tell(Event{Kind: Sent, Peer: l.Peer, Files: report.Files, Sent: report})
	}
	return true
}

// OfSite lets a watcher use an open site. done, which may be nil, ends the use.
func OfSite(s *transfer.Site, done func() error) Site { return &ofSite{s, done} }

type ofSite struct {
	*transfer.Site
	done func() error
}

// Export implements Exporter. What a crash left under way has a result too,
// and it goes along.
func (o *ofSite) Export(ctx context.Context, req transfer.ExportRequest) (*transfer.ExportReport, error) {
	if err := o.EndInterrupted(ctx); err != nil {
		return nil, fmt.Errorf("end interrupted deployments: %w", err)
	}
	return o.Site.Export(ctx, req)
}

// Known implements Site.
func (o *ofSite) Known(ctx context.Context, from string, id manifest.BundleID) (bool, error) {
	_, err := o.Index.ReceivedBundle(ctx, from, id)
	if errors.Is(err, transfer.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Close implements Site.
func (o *ofSite) Close() error {
	if o.done == nil {
		return nil
	}
	return o.done()
}
