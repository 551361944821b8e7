package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/bucket"
	"davit/store/pack"
	"davit/transfer/bundle"
)

// ImportRequest says where to look for bundles and what to do with them.
type ImportRequest struct {
	Medium        bucket.Reader // import cannot write to it
	MediumName    string        // for people
	Only          string        // take only bundles of this kind; "" takes all
	Accept        bool          // accept what may be accepted at once
	AllowRollback bool          // with Accept: also releases older than one held
	DryRun        bool          // verify and plan, change nothing
	Progress      func(done, total int64)
}

// What became of a bundle.
const (
	OutcomeTaken      = "taken in"
	OutcomeRepeat     = "repeat"     // it was taken in before
	OutcomeIncomplete = "incomplete" // volumes are missing
	OutcomeRefused    = "refused"
	OutcomeDamaged    = "damaged"
	OutcomeUnreadable = "unreadable" // the medium failed while it was read
	OutcomeFailed     = "failed"     // something else went wrong; Err says what
	OutcomeElsewhere  = "not for this site"
)

// ImportReport says what was found on a medium and what became of it.
type ImportReport struct {
	DryRun   bool
	Bundles  []BundleOutcome
	Damaged  []bundle.DamagedFile // files that could not even be told to which bundle they belong
	Foreign  int                  // other files, left alone
	Accepted []Decision           // by Accept, also from earlier bundles that became complete
}

// BundleOutcome says what became of one bundle.
type BundleOutcome struct {
	Label    bundle.Label
	State    string // one of the Outcome constants
	Cause    string // of a refusal: one of manifest.Cause constants
	Reason   string // for people
	Missing  []string
	Saved    int64   // bytes that deltas spared it, as the sender has it
	Gap      []int64 // serials before this one that have not arrived; never blocks
	Bytes    int64
	Releases []manifest.ReceivedRelease
	Receipts []manifest.Receipt
	Results  []manifest.Result
	// Documents are the releases' own, in the order of Releases.
	Documents []*manifest.Release
	Err       error
}

// RefusedError says that a bundle must not come in, and why.
type RefusedError struct{ Cause, Reason string }

func (e *RefusedError) Error() string { return "refused: " + e.Reason }

// refuse says no. What it says may quote the bundle, so it is clipped.
func refuse(cause, format string, args ...any) error {
	return &RefusedError{cause, clip(fmt.Sprintf(format, args...))}
}

// quarantineDir holds the packs of bundles whose releases nobody has decided
// on, as quarantine/DIGEST/PACK. The digest is that of the bundle document:
// senders choose their bundles' ids, and could choose another's.
const quarantineDir = "quarantine/"

func quarantined(bundle manifest.Digest, name pack.Name) store.Guest {
	return store.Guest{Name: name, Object: quarantineDir + bundle.String() + "/" + name.String()}
}

// Import takes in every bundle on a medium that is for this site. What is
// wrong with one bundle is said in its outcome and does not stop the others.
//
//	scan ▸ documents: open, verify ▸ ledger ▸ packs: verify, quarantine ▸ examine ▸ audit entry: received
//	                                                                        └ (Accept) ▸ adopt ▸ audit entry: accepted
func (s *Site) Import(ctx context.Context, req ImportRequest) (*ImportReport, error) {
	defer s.verb()()
	unlock, err := s.exclusive(ctx, "import")
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer unlock()
	found, err := bundle.Scan(ctx, req.Medium)
	if err != nil {
		return nil, fmt.Errorf("import from %s: %w", req.MediumName, err)
	}
	report := &ImportReport{DryRun: req.DryRun, Damaged: found.Damaged, Foreign: found.Foreign}
	for _, set := range found.Sets {
		if req.Only != "" && set.Kind != req.Only {
			continue
		}
		out := s.importSet(ctx, set, req)
		if out.Err != nil {
			var refused *RefusedError
			var medium *mediumError
			switch {
			case ctx.Err() != nil:
				return report, fmt.Errorf("import from %s: %w", req.MediumName, context.Cause(ctx))
			case errors.Is(out.Err, bundle.ErrIncomplete):
				out.State, out.Reason = OutcomeIncomplete, fmt.Sprintf("a volume went away while it was read: %v. Put the medium back and import again", out.Err)
			case errors.As(out.Err, &medium):
				out.State, out.Reason = OutcomeUnreadable, fmt.Sprintf("%v. Put the medium in again or copy it to another; what was read is kept", out.Err)
			case errors.As(out.Err, &refused):
				out.State, out.Cause, out.Reason = OutcomeRefused, refused.Cause, refused.Reason
			case isDamage(out.Err):
				out.State, out.Cause, out.Reason = OutcomeDamaged, manifest.CauseDamage, out.Err.Error()
			case is[*bucket.NoSpaceError](out.Err):
				return report, fmt.Errorf("import %s: %w", set.Label, out.Err)
			default:
				// One bundle must not stand in the way of the others.
				out.State, out.Reason = OutcomeFailed, out.Err.Error()
			}
		}
		if out.Err != nil {
			out.Releases, out.Documents, out.Receipts, out.Results = nil, nil, nil, nil // none of it came in
		}
		report.Bundles = append(report.Bundles, out)
	}
	if req.Accept && !req.DryRun {
		if report.Accepted, err = s.acceptOpen(ctx, req.AllowRollback, report.Bundles); err != nil {
			return report, fmt.Errorf("accept: %w", err)
		}
	}
	return report, nil
}

// importSet takes in one bundle. An outcome with Err set is not finished: the
// caller says what the error means.
func (s *Site) importSet(ctx context.Context, set *bundle.Set, req ImportRequest) BundleOutcome {
	out := BundleOutcome{Label: set.Label, Bytes: set.Payload, State: OutcomeTaken}
	switch known, err := s.Index.ReceivedBundle(ctx, set.From, set.Bundle); {
	case err == nil && !slices.ContainsFunc(known.Releases, undecided):
		out.State, out.Reason = OutcomeRepeat, repeats(known)
		return out
	case err == nil: // what of it got lost in quarantine can be had again
	case !errors.Is(err, ErrNotFound):
		out.Err = err
		return out
	}
	if set.To != s.Name() {
		out.State, out.Reason = OutcomeElsewhere, fmt.Sprintf("it is for %s", set.To)
		return out
	}
	if !set.Complete() {
		out.State = OutcomeIncomplete
		for _, v := range set.Missing() {
			out.Missing = append(out.Missing, set.Name(v, set.Volumes))
		}
		out.Reason = fmt.Sprintf("%d of %d volumes are not here", len(out.Missing), set.Volumes)
		// What is damaged too must be brought with the same courier.
		for _, d := range damages(set.Verify(ctx, nil)) {
			out.Missing = append(out.Missing, d.File)
			out.Reason += ", and " + d.Error()
		}
		return out
	}
	first := out
	in := &incoming{s: s, req: req, set: set, out: &out}
	if out.Err = in.run(ctx); isDamage(out.Err) && hasCopies(set) && set.Verify(ctx, nil) == nil {
		// Some volume is there twice and the first copy is bad; Verify has put
		// a good one in front.
		out = first
		in = &incoming{s: s, req: req, set: set, out: &out}
		out.Err = in.run(ctx)
	}
	return out
}

// damages lists the damage that a Verify found.
func damages(err error) []*bundle.DamageError {
	var d *bundle.DamageError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*bundle.DamageError
		for _, e := range joined.Unwrap() {
			all = append(all, damages(e)...)
		}
		return all
	}
	if errors.As(err, &d) {
		return []*bundle.DamageError{d}
	}
	return nil
}

func repeats(r index.Received) string {
	return fmt.Sprintf("it was taken in on %s; nothing to do", r.At.Format("2006-01-02 15:04"))
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func isDamage(err error) bool {
	return errors.Is(err, bundle.ErrDamaged) || errors.Is(err, pack.ErrDamaged) || errors.Is(err, store.ErrDamaged)
}

func hasCopies(set *bundle.Set) bool {
	for _, files := range set.Present {
		if len(files) > 1 {
			return true
		}
	}
	return false
}

// mediumError says that it was the medium that failed.
type mediumError struct{ err error }

func (e *mediumError) Error() string { return fmt.Sprintf("the medium could not be read: %v", e.err) }
func (e *mediumError) Unwrap() error { return e.err }

// fromMedium marks errors of reading a payload, unless they say more.
func fromMedium(err error) error {
	if err == nil || isDamage(err) || errors.Is(err, bundle.ErrIncomplete) {
		return err
	}
	return &mediumError{err}
}

// incoming is one bundle on its way in.
type incoming struct {
	s   *Site
	req ImportRequest
	set *bundle.Set
	out *BundleOutcome

	peer     index.Peer
	doc      *manifest.Bundle
	envelope *manifest.Envelope
	letter   []*manifest.Envelope // the documents after the first
	releases []*manifest.Release
	results  []*manifest.Result

	again bool // a repeat of which releases still wait for a decision
	heal  bool // it brings chunks that a release held here has lost
}

func (in *incoming) run(ctx context.Context) error {
	payload, err := in.set.Open(ctx)
	if err != nil {
		return err
	}
	defer payload.Close()
	if err := in.open(ctx, payload); err != nil {
		return in.refused(ctx, err)
	}
	if err := in.consultLedger(ctx); err != nil {
		return in.refused(ctx, err)
	}
	if in.out.State == OutcomeRepeat {
		if in.again && !in.req.DryRun {
			return in.blame(ctx, in.quarantine(ctx, payload))
		}
		return nil
	}
	if err := in.verifyDocuments(ctx); err != nil {
		return in.refused(ctx, err)
	}
	if in.req.DryRun {
		return in.judge(ctx)
	}
	if err := in.quarantine(ctx, payload); err != nil {
		return in.refused(ctx, in.blame(ctx, err))
	}
	if err := in.examine(ctx); err != nil {
		return in.refused(ctx, err)
	}
	return in.commit(ctx)
}

// open decrypts and verifies the documents, and compares everything that
// stands outside the encryption with what is signed.
func (in *incoming) open(ctx context.Context, payload *bundle.Payload) error {
	size := payload.DocumentsSize()
	if size > maxLetter+maxLetter/1024 {
		return refuse(manifest.CauseContent, "its documents have %d bytes, more than any davit writes", size)
	}
	sealed := make([]byte, size)
	if _, err := payload.ReadAt(sealed, payload.Size()-size); err != nil && err != io.EOF {
		return fromMedium(err)
	}
	keys, err := in.s.keys.PackKeys()
	if err != nil {
		return err
	}
	letter, err := pack.Decrypt(sealed, keys)
	if errors.Is(err, pack.ErrWrongKey) {
		return refuse(manifest.CauseRecipient, "it is encrypted for other keys than this site's; the sender has another card of %s", in.s.Name())
	}
	if err != nil {
		return in.locate(ctx, err)
	}
	// One line after another: what is not signed by a peer gets no further
	// than the first.
	first, rest, _ := bytes.Cut(letter, []byte("\n"))
	if in.envelope, err = manifest.ParseEnvelope(first); err != nil {
		return refuse(manifest.CauseContent, "its bundle document cannot be read: %v", err)
	}
	claim, err := manifest.Peek[manifest.Bundle](in.envelope)
	if errors.Is(err, manifest.ErrVersion) {
		return refuse(manifest.CauseVersion, "%v", err)
	}
	if err != nil {
		return refuse(manifest.CauseContent, "its bundle document cannot be read: %v", err)
	}
	in.peer, err = in.s.Index.Peer(ctx, claim.From)
	if errors.Is(err, ErrNotFound) {
		return refuse(manifest.CauseSignature, "it says it comes from %q, which is not known here; if it is to be trusted, compare fingerprints and run: davit peer add CARD", claim.From)
	}
	if err != nil {
		return err
	}
	if in.doc, err = manifest.Open[manifest.Bundle](in.envelope, in.peer.Card.Signing); err != nil {
		return refuse(manifest.CauseSignature, "its signature is not that of %s: %v", claim.From, err)
	}
	in.out.Saved = in.doc.Saved()
	for len(rest) > 0 && len(in.letter) <= len(in.doc.Documents) {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		e, err := manifest.ParseEnvelope(line)
		if err != nil {
			return refuse(manifest.CauseContent, "document %d in it cannot be read: %v", len(in.letter)+1, err)
		}
		in.letter = append(in.letter, e)
	}
	return in.compare()
}

// compare holds the signed document against its surroundings.
func (in *incoming) compare() error {
	d, l := in.doc, in.set.Label
	switch {
	case d.To != in.s.Name() || d.ToKey != in.s.Card.KeyDigest():
		return refuse(manifest.CauseRecipient, "it was made for %s and not for this site", d.To)
	case d.FromKey != in.peer.Card.KeyDigest():
		return refuse(manifest.CauseSignature, "it was made with another card of %s than the one known here", d.From)
	case d.ID != l.Bundle || d.From != l.From || d.Serial != l.Serial || d.Kind != l.Kind:
		return refuse(manifest.CauseContent, "its label says %s, its signed document says bundle %s from %s, serial %d", l, d.ID, d.From, d.Serial)
	case len(d.Documents) != len(in.letter):
		return refuse(manifest.CauseContent, "it should carry %d documents and carries another number", len(d.Documents))
	case len(d.Documents) == 0:
		return refuse(manifest.CauseContent, "it carries no document, and packs alone are for nothing")
	case len(d.Values) > 0:
		return refuse(manifest.CauseVersion, "it carries parameter values, which this davit does not take; use a newer one")
	}
	sum := in.set.Documents
	for _, p := range d.Packs {
		sum += p.Size
	}
	for _, e := range d.Deltas {
		sum += e.Size
	}
	if sum != in.set.Payload {
		return refuse(manifest.CauseContent, "its parts come to %d bytes, its payload has %d", sum, in.set.Payload)
	}
	for i, e := range in.letter {
		if e.Digest() != d.Documents[i].Digest {
			return refuse(manifest.CauseContent, "document %d is not the one that was signed", i+1)
		}
	}
	return nil
}

// consultLedger tells repeats, forks and gaps.
func (in *incoming) consultLedger(ctx context.Context) error {
	x, d := in.s.Index, in.doc
	digest := in.envelope.Digest()
	fork := func(other int64) error {
		return refuse(manifest.CauseFork, "%s has signed two different histories at serial %d. Either its site was restored from an old copy, or someone has its keys. Nothing of this bundle was taken in; find out which before anything else", d.From, other)
	}
	received, err := x.Received(ctx, d.From)
	if err != nil {
		return err
	}
	have := map[int64]bool{}
	for _, r := range received {
		have[r.Serial] = true
		switch {
		case r.Bundle == d.ID && r.Digest == digest:
			in.out.State, in.out.Reason, in.again = OutcomeRepeat, repeats(r), slices.ContainsFunc(r.Releases, undecided)
			return nil
		case r.Bundle == d.ID || r.Serial == d.Serial, r.Serial == d.Serial-1 && r.Digest != d.Previous,
			r.Serial == d.Serial+1 && r.Previous != digest:
			// A peer that lost its keys begins again: another history under
			// other keys is no fork.
			if same, err := in.s.sameKeys(ctx, r.Digest, d.FromKey); err != nil {
				return err
			} else if same {
				return fork(min(r.Serial, d.Serial))
			}
			delete(have, r.Serial)
		}
	}
	for n := d.Serial - 1; n >= 1 && len(in.out.Gap) < maxGap; n-- {
		if !have[n] {
			in.out.Gap = append(in.out.Gap, n)
		}
	}
	slices.Reverse(in.out.Gap)
	return nil
}

// sameKeys reports whether a bundle that came was made with the same card.
func (s *Site) sameKeys(ctx context.Context, bundle, key manifest.Digest) (bool, error) {
	doc, err := s.bundle(ctx, bundle)
	if err != nil {
		return false, err
	}
	return doc.FromKey == key, nil
}

// maxGap bounds the missing serials that are named.
const maxGap = 100

// verifyDocuments checks grants and the signature of each document.
func (in *incoming) verifyDocuments(ctx context.Context) error {
	accepts := func(grant string) error {
		if slices.Contains(in.peer.Accept, grant) {
			return nil
		}
		return refuse(manifest.CauseGrant, "%v", &GrantError{in.doc.From, grant, "accept"})
	}
	for i, e := range in.letter {
		switch d := in.doc.Documents[i]; d.Kind {
		case manifest.DocumentRelease:
			if err := accepts(manifest.GrantReleases); err != nil {
				return err
			}
			r, err := in.s.openRelease(ctx, e)
			if err != nil {
				return err
			}
			// One may pass on another's releases where we take them from both.
			if r.Site != in.doc.From && r.Site != in.s.Name() {
				maker, err := in.s.Index.Peer(ctx, r.Site)
				if err != nil {
					return err
				}
				if !slices.Contains(maker.Accept, manifest.GrantReleases) {
					return refuse(manifest.CauseGrant, "%v", &GrantError{r.Site, manifest.GrantReleases, "accept"})
				}
			}
			in.releases = append(in.releases, r)
			in.out.Releases = append(in.out.Releases, received(r, e.Digest()))
			in.out.Documents = append(in.out.Documents, r)
		case manifest.DocumentResult:
			if err := accepts(manifest.GrantResults); err != nil {
				return err
			}
			r, err := manifest.Open[manifest.Result](e, in.peer.Card.Signing)
			if err != nil {
				return refuse(manifest.CauseSignature, "a result in it is not signed by %s: %v", in.doc.From, err)
			}
			if r.Site != in.doc.From {
				return refuse(manifest.CauseContent, "a result in it is of site %s", r.Site)
			}
			in.results = append(in.results, r)
			in.out.Results = append(in.out.Results, *r)
		case manifest.DocumentReceipt:
			r, err := manifest.Open[manifest.Receipt](e, in.peer.Card.Signing)
			if err != nil {
				return refuse(manifest.CauseSignature, "a receipt in it is not signed by %s: %v", in.doc.From, err)
			}
			if r.Site != in.doc.From || r.Peer != in.s.Name() {
				return refuse(manifest.CauseContent, "a receipt in it is from %s to %s", r.Site, r.Peer)
			}
			in.out.Receipts = append(in.out.Receipts, *r)
		default:
			return refuse(manifest.CauseVersion, "it carries a document of the unknown kind %q; use a newer davit", d.Kind)
		}
	}
	if err := in.wantedDeltas(); err != nil {
		return err
	}
	// A receipt needs no grant, and no packs.
	if len(in.releases)+len(in.results) == 0 && len(in.doc.Packs)+len(in.doc.Deltas) > 0 {
		return refuse(manifest.CauseContent, "it carries packs and nothing that needs them")
	}
	return nil
}

// openRelease verifies a release against the key of the site that made it,
// which need not be the one that sent it.
func (s *Site) openRelease(ctx context.Context, e *manifest.Envelope) (*manifest.Release, error) {
	claim, err := manifest.Peek[manifest.Release](e)
	if errors.Is(err, manifest.ErrVersion) {
		return nil, refuse(manifest.CauseVersion, "%v", err)
	}
	if err != nil {
		return nil, refuse(manifest.CauseContent, "a release in it cannot be read: %v", err)
	}
	key := s.Card.Signing
	if claim.Site != s.Name() {
		peer, err := s.Index.Peer(ctx, claim.Site)
		if errors.Is(err, ErrNotFound) {
			return nil, refuse(manifest.CauseSignature, "release %s %s was made by site %q, which is not known here; add its card first: davit peer add CARD", claim.Project, claim.Version, claim.Site)
		}
		if err != nil {
			return nil, err
		}
		key = peer.Card.Signing
	}
	r, err := manifest.Open[manifest.Release](e, key)
	if err != nil {
		return nil, refuse(manifest.CauseSignature, "release %s %s is not signed by %s: %v", claim.Project, claim.Version, claim.Site, err)
	}
	return r, nil
}

func received(r *manifest.Release, digest manifest.Digest) manifest.ReceivedRelease {
	v := manifest.ReceivedRelease{Release: digest, Project: r.Project, Version: r.Version, Site: r.Site,
		Created: r.Created, Packages: len(r.Packages), State: manifest.StateWaiting}
	for _, p := range r.Packages {
		v.Size += p.Size
	}
	for _, a := range r.Attachments {
		v.Size += a.Size
	}
	return v
}

// part is a pack or a delta in the payload: an object known by its SHA-256.
type part struct {
	what   string // for messages
	sum    [sha256.Size]byte
	size   int64
	object string // its place in quarantine
	store  string // where it may be already, "" for nowhere
}

// parts lists the packs and deltas of a bundle in the order of the payload.
func parts(d *manifest.Bundle, digest manifest.Digest) []part {
	var all []part
	for _, p := range d.Packs {
		all = append(all, part{"pack " + p.Name.String(), p.Name, p.Size, quarantined(digest, p.Name).Object, store.PackObject(p.Name)})
	}
	for _, e := range d.Deltas {
		all = append(all, part{"delta " + e.Name.String(), e.Name, e.Size, deltaObject(digest, e.Name), ""})
	}
	return all
}

// quarantine copies the packs and deltas that are not there yet. Each is
// committed only when its bytes are what its name says, so one that is there
// is whole.
func (in *incoming) quarantine(ctx context.Context, payload *bundle.Payload) error {
	s := in.s
	all := parts(in.doc, in.envelope.Digest())
	var need, at int64
	for _, p := range all {
		need += p.size
	}
	if free, ok := freeOn(ctx, s.bucket); ok && free < need+minFree {
		return &bucket.NoSpaceError{Where: "the store", Need: need + minFree, Have: free}
	}
	buf := make([]byte, 1<<20)
	for _, p := range all {
		_, err := s.bucket.Stat(ctx, p.object)
		if errors.Is(err, bucket.ErrNotExist) && p.store != "" {
			// Results are adopted before they are recorded, so a bundle that
			// was broken off there has its packs in the store.
			_, err = s.bucket.Stat(ctx, p.store)
		}
		if errors.Is(err, bucket.ErrNotExist) {
			err = copyPart(ctx, s.bucket, p, io.NewSectionReader(payload, at, p.size), buf, func(n int64) {
				if in.req.Progress != nil {
					in.req.Progress(at+n, need)
				}
			})
		}
		if err != nil {
			return err
		}
		at += p.size
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range in.doc.Packs {
		guest := quarantined(in.envelope.Digest(), p.Name)
		if _, err := s.bucket.Stat(ctx, guest.Object); errors.Is(err, bucket.ErrNotExist) {
			continue
		}
		g.Go(func() error {
			err := s.Store.VerifyGuest(ctx, guest)
			switch {
			case errors.Is(err, pack.ErrWrongKey):
				return refuse(manifest.CauseContent, "pack %s in it is encrypted for other keys", p.Name)
			case errors.Is(err, pack.ErrVersion):
				return refuse(manifest.CauseVersion, "pack %s in it is of a format that this davit does not know; use a newer one", p.Name)
			case isDamage(err):
				// It was whole when it was put there; the next import copies it again.
				return errors.Join(err, s.bucket.Delete(ctx, guest.Object))
			}
			return err
		})
	}
	return g.Wait()
}

// copyPart writes one part into quarantine if it is what its name says.
func copyPart(ctx context.Context, b bucket.Bucket, p part, r io.Reader, buf []byte, progress func(int64)) error {
	w, err := b.Create(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	sum := sha256.New()
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := r.Read(buf)
		if k > 0 {
			sum.Write(buf[:k])
			if _, err := w.Write(buf[:k]); err != nil {
				return err
			}
			n += int64(k)
			progress(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fromMedium(err)
		}
	}
	if [sha256.Size]byte(sum.Sum(nil)) != p.sum {
		return fmt.Errorf("%s: %w: its bytes are not what the signed document says", p.what, store.ErrDamaged)
	}
	return w.Commit(ctx, p.object)
}

// blame turns damage in the payload into the place on the medium, if the
// medium's own sums show one.
func (in *incoming) blame(ctx context.Context, err error) error {
	var medium *mediumError
	if isDamage(err) || errors.As(err, &medium) {
		return in.locate(ctx, err)
	}
	return err
}

func (in *incoming) locate(ctx context.Context, err error) error {
	if verr := in.set.Verify(ctx, nil); verr != nil {
		return fmt.Errorf("%w. Copy the bundle again, or have it sent again", verr)
	}
	if !isDamage(err) {
		return err
	}
	return fmt.Errorf("%w. The volumes are as they were written, so the damage was there before; have it sent again", err)
}

// refused records a refusal in the audit log, once, and passes err on.
func (in *incoming) refused(ctx context.Context, err error) error {
	var r *RefusedError
	// What no peer has signed is not worth a line in the log: anybody could
	// fill it.
	if !errors.As(err, &r) || in.req.DryRun || in.doc == nil {
		return err
	}
	known, lerr := in.s.Index.Refused(ctx)
	if lerr != nil {
		return lerr
	}
	fact := manifest.BundleRefused{Peer: in.doc.From, Bundle: in.doc.ID, Serial: in.doc.Serial, Digest: in.envelope.Digest(), Cause: r.Cause, Reason: r.Reason}
	for _, k := range known {
		if k.Bundle == fact.Bundle && k.Cause == fact.Cause {
			return err
		}
	}
	if rerr := in.s.record(ctx, manifest.Fact{BundleRefused: &fact}); rerr != nil {
		return rerr
	}
	return err
}
