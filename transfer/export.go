package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer/bundle"
)

// ReleaseName names a release for people.
type ReleaseName struct{ Project, Version string }

func (n ReleaseName) String() string { return n.Project + " " + n.Version }

// ExportRequest says what a bundle shall carry, to whom and by what.
type ExportRequest struct {
	Peer       string
	Releases   []ReleaseName
	Results    bool // results and receipts alone
	Medium     bucket.Bucket
	MediumName string  // for people and the ledger
	VolumeSize int64   // bytes; bundle.DefaultVolumeSize if 0
	Parity     float64 // share of the volumes that repairs the rest, up to 0.5; 0 for none

	Full            bool                    // count nothing as held by the peer
	FullEvery       int                     // as Full, for each so-manieth bundle of releases; 0: never
	AssumeDelivered bool                    // also count what was exported and not acknowledged
	NoDelta         bool                    // send packages as chunks alone
	DeltaBudget     time.Duration           // for proving deltas, a GiB of package; 10 minutes if 0
	DryRun          bool                    // work out the exact sizes, write nothing
	Progress        func(done, total int64) // bytes of the payload; may be nil
}

// ExportReport says what a bundle is, or with DryRun would be.
type ExportReport struct {
	Nothing      string // why there is nothing to send; else the rest is set
	DryRun       bool
	Peer         string
	Full         bool              // nothing is counted as held: as asked, or since it was time
	Bundle       manifest.BundleID // zero in a dry run
	Serial       int64
	Kind         string
	Files        []string // volumes on the medium
	Bytes        int64    // on the medium, all volumes
	Spare        int      // volumes, whichever, that may be lost
	ContentBytes int64    // plaintext of the releases
	Saved        int64    // bytes that deltas save, about
	SentBytes    int64    // plaintext of the chunks that are in the bundle
	SentChunks   int64
	Packs        int
	Deltas       int
	Packages     []DeltaReport // how packages travel of which the peer may hold another version
	Base         []manifest.BundleBase
	Releases     []manifest.ReleaseRef
	Receipts     int
	Results      int
	OnTheWay     []int64 // serials of bundles that carry one of the releases too and are not acknowledged
	Lost         []int64 // serials of shipments that were broken off and are now presumed lost
}

// NotFoundError says what there is not, and where to look. It matches
// ErrNotFound.
type NotFoundError struct{ Message string }

func (e *NotFoundError) Error() string { return e.Message }
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

func notFound(format string, args ...any) error {
	return &NotFoundError{fmt.Sprintf(format, args...)}
}

// RequestError says that what was asked for cannot be meant.
type RequestError struct{ Message string }

func (e *RequestError) Error() string { return e.Message }

// GrantError: what is asked is not granted to, or by, the peer.
type GrantError struct{ Peer, Grant, Direction string }

func (e *GrantError) Error() string {
	if e.Direction == "send" {
		return fmt.Sprintf("nothing allows sending %s to %s; grant it with: davit peer grant %s --send %s", e.Grant, e.Peer, e.Peer, e.Grant)
	}
	return fmt.Sprintf("nothing allows taking %s from %s; grant it with: davit peer grant %s --accept %s", e.Grant, e.Peer, e.Peer, e.Grant)
}

// Export writes a bundle for a peer to a medium.
//
//	what the peer lacks ▸ deltas ▸ exact sizes ▸ packs for its keys ▸ documents ▸ volumes, hidden
//	▸ audit entry: sealed ▸ volumes, visible ▸ audit entry: exported
func (s *Site) Export(ctx context.Context, req ExportRequest) (*ExportReport, error) {
	if err := manifest.CheckSite(req.Peer); err != nil {
		return nil, fmt.Errorf("export: %w", peerError(req.Peer, ErrNotFound))
	}
	defer s.verb()()
	unlock, err := s.exclusive(ctx, "export-"+req.Peer)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	defer unlock()
	x, err := s.prepareExport(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if x.report.Nothing != "" || req.DryRun {
		return x.report, nil
	}
	if err := x.write(ctx); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return x.report, nil
}

// export is one Export at work.
type export struct {
	s         *Site
	req       ExportRequest
	peer      index.Peer
	keys      pack.Keys
	report    *ExportReport
	bundle    *manifest.Bundle
	documents []*manifest.Envelope
	releases  []*manifest.Release
	selection *store.Selection
	groups    []packGroup

	differences []difference  // deltas, in the order of the payload
	encoder     *pack.Encoder // to estimate; made when it is first needed

	payload int64 // bytes of all packs, deltas and documents
	docSize int64 // bytes of the documents part
}

// packGroup is the frames that go into one pack.
type packGroup struct {
	frames int
	size   int64 // of the pack, exactly
}

func (s *Site) prepareExport(ctx context.Context, req ExportRequest) (*export, error) {
	x := &export{s: s, req: req, report: &ExportReport{Peer: req.Peer, DryRun: req.DryRun}}
	var err error
	if x.peer, err = s.Index.Peer(ctx, req.Peer); err != nil {
		return nil, peerError(req.Peer, err)
	}
	if x.keys, err = manifest.RecipientKeys(x.peer.Card.Recipients); err != nil {
		return nil, err
	}
	if err := x.breakOff(ctx); err != nil {
		return nil, err
	}
	serial, previous, err := s.Index.LastSerial(ctx, req.Peer)
	if err != nil {
		return nil, err
	}
	x.bundle = &manifest.Bundle{Version: 1, ID: manifest.NewBundleID(), From: s.Name(), To: req.Peer,
		FromKey: s.Card.KeyDigest(), ToKey: x.peer.Card.KeyDigest(), Serial: serial + 1, Previous: previous,
		Created: manifest.NewTime(s.now()), Kind: manifest.KindReleases, Mode: manifest.ModeSealed, Secret: manifest.NewSecret()}
	if len(req.Releases) == 0 {
		x.bundle.Kind = manifest.KindResults
	}
	x.report.Serial, x.report.Kind = x.bundle.Serial, x.bundle.Kind
	if err := x.gatherReleases(ctx); err != nil {
		return nil, err
	}
	logs, err := x.gatherPending(ctx)
	if err != nil {
		return nil, err
	}
	if len(x.documents) == 0 {
		if x.report.Nothing == "" {
			x.report.Nothing = fmt.Sprintf("nothing waits to be sent to %s", req.Peer)
		}
		return x, nil
	}
	if len(req.Releases) > 0 && x.report.Nothing != "" {
		return x, nil // what was asked for is there already; receipts can wait for a bundle
	}
	if err := x.due(ctx); err != nil {
		return nil, err
	}
	held, err := x.held(ctx)
	if err != nil {
		return nil, err
	}
	refs, loose, err := x.deltas(ctx, held)
	if err != nil {
		return nil, err
	}
	x.selection, err = s.Store.Select(ctx, func(yield func(chunk.Entry, error) bool) {
		for _, part := range []iter.Seq2[chunk.Entry, error]{s.chunksOf(ctx, append(refs, logs...)), entriesOf(loose)} {
			for e, err := range part {
				if !yield(e, err) {
					return
				}
			}
		}
	}, held.lean)
	if err != nil {
		return nil, err
	}
	for i, b := range held.base {
		if held.used[i] {
			if b.Serial, err = x.broughtBy(ctx, b); err != nil {
				return nil, err
			}
			x.bundle.Base = append(x.bundle.Base, b)
		}
	}
	x.report.Base = x.bundle.Base
	x.report.SentChunks, x.report.SentBytes = x.selection.Chunks()
	return x, x.plan(ctx)
}

// peerError says what to do about a peer that is not known.
func peerError(name string, err error) error {
	if errors.Is(err, ErrNotFound) {
		return notFound("peer %q is not known here; introduce it with: davit peer add CARD", name)
	}
	return err
}

// breakOff settles shipments that a crash left between their entry and their
// publication. Nobody can tell what of them is on a medium, so they are
// presumed lost; should one arrive all the same, its receipt says so.
func (x *export) breakOff(ctx context.Context) error {
	sealed, err := x.s.Index.Shipments(ctx, index.ShipmentFilter{Peer: x.req.Peer, State: index.ShipmentSealed})
	if err != nil {
		return err
	}
	for _, sh := range sealed {
		x.report.Lost = append(x.report.Lost, sh.Serial)
		if x.req.DryRun {
			continue
		}
		if err := x.s.record(ctx, manifest.Fact{ShipmentLost: &manifest.ShipmentLost{Bundle: sh.Bundle,
			Reason: "the export was broken off while the bundle was being published"}}); err != nil {
			return err
		}
	}
	return nil
}

// gatherReleases collects the releases asked for.
func (x *export) gatherReleases(ctx context.Context) error {
	if len(x.req.Releases) == 0 {
		return nil
	}
	if !slices.Contains(x.peer.Send, manifest.GrantReleases) {
		return &GrantError{x.req.Peer, manifest.GrantReleases, "send"}
	}
	holds, err := x.s.Index.Holdings(ctx, x.req.Peer)
	if err != nil {
		return err
	}
	for i, name := range x.req.Releases {
		if slices.Contains(x.req.Releases[:i], name) {
			return &RequestError{fmt.Sprintf("release %s is named twice", name)}
		}
		rel, err := x.s.Index.Release(ctx, name.Project, name.Version)
		if err != nil {
			return releaseError(name, err)
		}
		if !x.req.Full && slices.ContainsFunc(holds, func(h index.Holding) bool { return h.Release == rel.Digest }) {
			x.report.Nothing = fmt.Sprintf("%s holds %s already; send it again with --full", x.req.Peer, name)
			continue
		}
		envelope, err := x.s.envelope(ctx, releasesDir, rel.Digest)
		if err != nil {
			return err
		}
		r, err := manifest.Peek[manifest.Release](envelope)
		if err != nil {
			return fmt.Errorf("read release %s: %w", name, err)
		}
		under, err := x.s.Index.Shipments(ctx, index.ShipmentFilter{Peer: x.req.Peer, Project: name.Project, Version: name.Version, State: index.ShipmentExported})
		if err != nil {
			return err
		}
		for _, sh := range under {
			x.report.OnTheWay = append(x.report.OnTheWay, sh.Serial)
		}
		x.add(manifest.DocumentRelease, envelope)
		x.report.Releases = append(x.report.Releases, manifest.ReleaseRef{Release: rel.Digest, Project: rel.Project, Version: rel.Version})
		x.report.ContentBytes += rel.Size
		x.releases = append(x.releases, r)
	}
	if len(x.report.Releases) > 0 {
		x.report.Nothing = ""
	}
	return nil
}

func releaseError(name ReleaseName, err error) error {
	if errors.Is(err, ErrNotFound) {
		return notFound("there is no release %s here; see: davit release list, and davit inbox list for what waits", name)
	}
	return err
}

// gatherPending collects the receipts and results that wait to be sent.
func (x *export) gatherPending(ctx context.Context) ([]chunk.Ref, error) {
	pending, err := x.s.Index.PendingDocuments(ctx, x.req.Peer)
	if err != nil {
		return nil, err
	}
	if x.req.Full && x.req.Results {
		if pending, err = x.allDocuments(ctx, pending); err != nil {
			return nil, err
		}
	}
	var refs []chunk.Ref
	for _, d := range pending {
		switch d.Kind {
		case manifest.DocumentReceipt:
			envelope, err := x.s.envelope(ctx, receiptsDir, d.Digest)
			if err != nil {
				return nil, err
			}
			x.add(d.Kind, envelope)
			x.report.Receipts++
		case manifest.DocumentResult:
			if !slices.Contains(x.peer.Send, manifest.GrantResults) {
				if x.req.Results {
					return nil, &GrantError{x.req.Peer, manifest.GrantResults, "send"}
				}
				continue
			}
			envelope, err := x.s.envelope(ctx, resultsDir, d.Digest)
			if err != nil {
				return nil, err
			}
			result, err := manifest.Peek[manifest.Result](envelope)
			if err != nil {
				return nil, err
			}
			x.add(d.Kind, envelope)
			x.report.Results++
			refs = append(refs, result.Log.Content)
		}
	}
	return refs, nil
}

// allDocuments adds what was sent to the peer before and is not acknowledged.
func (x *export) allDocuments(ctx context.Context, pending []manifest.BundleDocument) ([]manifest.BundleDocument, error) {
	shipments, err := x.s.Index.Shipments(ctx, index.ShipmentFilter{Peer: x.req.Peer})
	if err != nil {
		return nil, err
	}
	for _, sh := range shipments {
		for _, d := range sh.Documents {
			if d.Kind != manifest.DocumentRelease && !slices.Contains(pending, d) {
				pending = append(pending, d)
			}
		}
	}
	return pending, nil
}

func (x *export) add(kind string, e *manifest.Envelope) {
	x.documents = append(x.documents, e)
	x.bundle.Documents = append(x.bundle.Documents, manifest.BundleDocument{Kind: kind, Digest: e.Digest()})
}

func (s *Site) chunksOf(ctx context.Context, refs []chunk.Ref) iter.Seq2[chunk.Entry, error] {
	return func(yield func(chunk.Entry, error) bool) {
		for _, ref := range refs {
			for e, err := range s.Store.Chunks(ctx, ref) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// plan works out how large everything will be, to the byte.
func (x *export) plan(ctx context.Context) error {
	var (
		lengths []int
		chunks  int
		sum     int64
	)
	finish := func() error {
		if len(lengths) == 0 {
			return nil
		}
		size, err := pack.SealedSize(lengths, chunks, x.keys)
		if err != nil {
			return err
		}
		x.groups = append(x.groups, packGroup{len(lengths), size})
		x.payload += size
		lengths, chunks, sum = nil, 0, 0
		return nil
	}
	if err := x.selection.Sizes(ctx, func(f store.FrameSize) error {
		lengths = append(lengths, f.Compressed)
		chunks += f.Chunks
		if sum += int64(f.Compressed); sum >= store.DefaultPackSize || chunks > pack.MaxChunks-store.MaxFrameChunks {
			return finish()
		}
		return nil
	}); err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	// Names and signatures have one length whatever they are, so documents
	// with the wrong ones have the right size.
	for i, g := range x.groups {
		x.bundle.Packs = append(x.bundle.Packs, manifest.BundlePack{Name: pack.Name{0: byte(i), 1: byte(i >> 8), 31: 1}, Size: g.size})
	}
	for i, d := range x.differences {
		named := d.BundleDelta
		named.Name = manifest.Digest{0: byte(i), 1: byte(i >> 8), 31: 1}
		x.bundle.Deltas = append(x.bundle.Deltas, named)
		x.payload += d.Size
	}
	x.report.Deltas, x.report.Saved = len(x.differences), x.bundle.Saved()
	letter, err := x.letter()
	if err != nil {
		return err
	}
	if x.docSize, err = pack.EncryptedSize(int64(len(letter)), x.keys); err != nil {
		return err
	}
	x.payload += x.docSize
	volumes, err := x.volumes()
	if err != nil {
		return err
	}
	layout, err := bundle.PlanWith(x.payload, volumes)
	if err != nil {
		return &RequestError{err.Error()}
	}
	label := x.label()
	for i := range layout.Volumes {
		x.report.Files = append(x.report.Files, label.Name(i+1, len(layout.Volumes)))
	}
	x.report.Bytes, x.report.Packs, x.report.Spare = layout.Total, len(x.groups), layout.Spare()
	if free, ok := freeOn(ctx, x.req.Medium); ok && free < layout.Total {
		return &bucket.NoSpaceError{Where: x.req.MediumName, Need: layout.Total, Have: free}
	}
	return nil
}

// volumes says how the payload is laid out. Volumes with parity carry a signed
// seal of the payload.
func (x *export) volumes() (bundle.Options, error) {
	o := bundle.Options{VolumeSize: x.req.VolumeSize, Parity: x.req.Parity, TempDir: x.s.work}
	if o.Parity == 0 {
		return o, nil
	}
	o.Statement = func(payload [32]byte) ([]byte, error) {
		e, err := manifest.Sign(x.s.keys.Signing, &manifest.Seal{Version: 1, Bundle: x.bundle.ID, From: x.bundle.From, To: x.bundle.To,
			Serial: x.bundle.Serial, SHA256: payload, Size: x.payload})
		if err != nil {
			return nil, err
		}
		return e.Marshal()
	}
	// Digests and signatures have one length whatever they are.
	example, err := o.Statement([32]byte{1})
	o.StatementSize = len(example)
	return o, err
}

func freeOn(ctx context.Context, b bucket.Bucket) (int64, bool) {
	if sp, ok := b.(bucket.Spacer); ok {
		if n, err := sp.Free(ctx); err == nil {
			return n, true
		}
	}
	return 0, false
}

func (x *export) label() bundle.Label {
	return bundle.Label{Bundle: x.bundle.ID, From: x.bundle.From, To: x.bundle.To, Serial: x.bundle.Serial, Kind: x.bundle.Kind, Created: x.bundle.Created}
}

// letter is the documents part before encryption: a line for the bundle
// document, then one for each document in its order.
func (x *export) letter() ([]byte, error) {
	envelope, err := manifest.Sign(x.s.keys.Signing, x.bundle)
	if err != nil {
		return nil, err
	}
	return joinLetter(envelope, x.documents)
}

func joinLetter(first *manifest.Envelope, rest []*manifest.Envelope) ([]byte, error) {
	var out []byte
	for _, e := range append([]*manifest.Envelope{first}, rest...) {
		data, err := e.Marshal()
		if err != nil {
			return nil, err
		}
		out = append(append(out, bytes.TrimRight(data, "\n")...), '\n')
	}
	if len(out) > maxLetter {
		return nil, fmt.Errorf("the documents come to %d bytes, more than %d: send fewer releases at once", len(out), maxLetter)
	}
	return out, nil
}

// maxLetter bounds the documents part of a bundle, in bytes.
const maxLetter = 64 << 20

// staleExport is the age at which nobody writes to a hidden file any more.
const staleExport = 24 * time.Hour

// write writes the bundle that was planned.
func (x *export) write(ctx context.Context) error {
	s := x.s
	// What a broken-off export left on the medium takes the room of this one.
	if d, ok := x.req.Medium.(interface {
		Sweep(context.Context, time.Duration) (int, error)
	}); ok {
		if _, err := d.Sweep(ctx, staleExport); err != nil {
			x.s.log.Warn("sweep medium", "error", err) // they may be another's
		}
	}
	volumes, err := x.volumes()
	if err != nil {
		return err
	}
	w, err := bundle.NewWriterWith(ctx, x.req.Medium, x.label(), x.payload, x.docSize, volumes)
	if err != nil {
		return err
	}
	defer w.Abort()
	payload := &progressWriter{w: w, total: x.payload, progress: x.req.Progress}
	if err := x.writePacks(ctx, payload); err != nil {
		return err
	}
	if err := x.writeDeltas(payload); err != nil {
		return err
	}
	envelope, err := manifest.Sign(s.keys.Signing, x.bundle)
	if err != nil {
		return err
	}
	letter, err := joinLetter(envelope, x.documents)
	if err != nil {
		return err
	}
	sealed, err := pack.Encrypt(letter, x.keys)
	if err != nil {
		return err
	}
	if int64(len(sealed)) != x.docSize {
		return fmt.Errorf("internal error: the documents have %d bytes instead of the %d planned", len(sealed), x.docSize)
	}
	if _, err := w.Write(sealed); err != nil {
		return err
	}
	if err := w.Seal(); err != nil {
		return err
	}
	if err := s.keep(ctx, bundlesDir, envelope); err != nil {
		return err
	}
	b := x.bundle
	if err := s.record(ctx, manifest.Fact{ShipmentSealed: &manifest.ShipmentSealed{Peer: x.req.Peer, Bundle: b.ID,
		Serial: b.Serial, Digest: envelope.Digest(), Previous: b.Previous, Kind: b.Kind, Documents: b.Documents, Base: b.Base,
		Releases: x.report.Releases, Bytes: x.report.Bytes, Volumes: len(x.report.Files),
		ContentBytes: x.report.ContentBytes, Saved: b.Saved(), Medium: x.req.MediumName}}); err != nil {
		return err
	}
	if err := w.Publish(ctx); err != nil {
		lost := s.record(context.WithoutCancel(ctx), manifest.Fact{ShipmentLost: &manifest.ShipmentLost{Bundle: b.ID,
			Reason: "the medium did not take it"}})
		return errors.Join(err, lost)
	}
	x.report.Bundle = b.ID
	return s.record(ctx, manifest.Fact{ShipmentExported: &manifest.ShipmentExported{Bundle: b.ID}})
}

type progressWriter struct {
	w           *bundle.Writer
	done, total int64
	progress    func(done, total int64)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.done += int64(n)
	if p.progress != nil {
		p.progress(p.done, p.total)
	}
	return n, err
}

// writePacks packs the selected frames for the peer's keys.
func (x *export) writePacks(ctx context.Context, w *progressWriter) error {
	var (
		pw     *pack.Writer
		group  int
		frames int
	)
	err := x.selection.Frames(ctx, func(f pack.Frame) error {
		if pw == nil {
			var err error
			if pw, err = pack.NewWriter(w, x.keys); err != nil {
				return err
			}
		}
		if err := pw.Add(f); err != nil {
			return err
		}
		if frames++; frames < x.groups[group].frames {
			return nil
		}
		sum, err := pw.Close()
		if err != nil {
			return err
		}
		if sum.Size != x.groups[group].size {
			return fmt.Errorf("internal error: pack %d has %d bytes instead of the %d planned", group, sum.Size, x.groups[group].size)
		}
		x.bundle.Packs[group].Name = sum.Name
		pw, frames = nil, 0
		group++
		return nil
	})
	if err == nil && group != len(x.groups) {
		err = fmt.Errorf("internal error: %d packs written of the %d planned", group, len(x.groups))
	}
	return err
}
