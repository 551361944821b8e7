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
