package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/bucket"
	"davit/transfer/content"
)

// Decision says what was decided about one release in the inbox.
type Decision struct {
	Project, Version string
	Release          manifest.Digest
	Peer             string
	State            string // accepted or rejected, else what it still is
	Reason           string // why it was not accepted
	Err              error  // the same for scripts; nil when decided
}

// WaitingError: a release cannot be accepted yet.
type WaitingError struct {
	Project, Version string
	Reason           string
}

func (e *WaitingError) Error() string {
	return fmt.Sprintf("release %s %s is not complete: %s", e.Project, e.Version, e.Reason)
}

// OlderError: a release would be a step back.
type OlderError struct{ Project, Version, Held string }

func (e *OlderError) Error() string {
	return fmt.Sprintf("release %s %s is older than %s, which is held here; accept it with --allow-rollback", e.Project, e.Version, e.Held)
}

// judge compares the releases of a bundle with those held here.
func (s *Site) judge(ctx context.Context, v *manifest.ReceivedRelease) error {
	v.State, v.Reason = manifest.StateWaiting, ""
	switch held, err := s.Index.Release(ctx, v.Project, v.Version); {
	case err == nil && held.Digest == v.Release:
		v.State = manifest.StateHeld
		return nil
	case err == nil:
		v.State, v.Reason = manifest.StateConflict, fmt.Sprintf("another release of that version is held here (%s); releases are never changed", held.Digest.Short())
		return nil
	case !errors.Is(err, ErrNotFound):
		return err
	}
	newest, err := s.newest(ctx, v.Project)
	if err != nil {
		return err
	}
	if newest != "" && manifest.CompareVersions(v.Version, newest) < 0 {
		v.State, v.Reason = manifest.StateOlder, newest+needsRollback
	}
	return nil
}

// needsRollback ends the reason of a release that waits for nothing but a word.
const needsRollback = " is held here; needs --allow-rollback"

// newest returns the highest version of a project that is visible here.
func (s *Site) newest(ctx context.Context, project string) (string, error) {
	all, err := s.Index.Releases(ctx, project)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[len(all)-1].Version, nil
}

func (in *incoming) judge(ctx context.Context) error {
	for i := range in.out.Releases {
		if err := in.s.judge(ctx, &in.out.Releases[i]); err != nil {
			return err
		}
	}
	missing, err := in.s.missingBases(ctx, in.doc.Base)
	in.out.Missing = missing
	return err
}

// missingBases names the releases a bundle builds on that are not here.
func (s *Site) missingBases(ctx context.Context, base []manifest.BundleBase) ([]string, error) {
	var missing []string
	for _, b := range base {
		_, err := s.Index.ReleaseByDigest(ctx, b.Release)
		if errors.Is(err, ErrNotFound) {
			name := b.Project + " " + b.Version
			if b.Serial > 0 {
				name += fmt.Sprintf(" (bundle %d)", b.Serial)
			}
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// examine verifies what the bundle brings, in quarantine.
func (in *incoming) examine(ctx context.Context) (err error) {
	if err := in.judge(ctx); err != nil {
		return err
	}
	view, err := in.s.quarantineView(ctx, in.doc, in.envelope.Digest())
	if err != nil {
		return err
	}
	defer view.Close()
	for i := range in.releases {
		v := &in.out.Releases[i]
		if v.State == manifest.StateConflict {
			continue
		}
		if v.State == manifest.StateHeld {
			// What was lost here comes back with the same release.
			for _, ref := range content.Refs(in.releases[i]) {
				if err := in.s.Store.Complete(ctx, ref); errors.Is(err, store.ErrMissing) {
					in.heal = true
				} else if err != nil {
					return err
				}
			}
			if in.heal {
				err := in.s.applyDeltas(ctx, view, in.doc, in.envelope.Digest(), in.releases[i])
				if err != nil && !is[*WaitingError](err) {
					return err
				}
			}
			continue
		}
		err := in.s.examineRelease(ctx, view, in.releases[i], in.doc, in.envelope.Digest())
		var missing *WaitingError
		switch {
		case errors.As(err, &missing):
			v.Reason = missing.Reason
		case err != nil:
			return err
		}
	}
	for _, r := range in.results {
		if err := view.Complete(ctx, r.Log.Content); errors.Is(err, store.ErrMissing) {
			return refuse(manifest.CauseContent, "the log of deployment %s is not in it", r.ID)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// quarantineView sees the store with the packs of a bundle, wherever they are
// on their way: still in quarantine, or in the store and not in the index,
// where a crash may have left them.
func (s *Site) quarantineView(ctx context.Context, doc *manifest.Bundle, digest manifest.Digest) (*store.Store, error) {
	var guests []store.Guest
	for _, p := range doc.Packs {
		for _, object := range []string{quarantined(digest, p.Name).Object, store.PackObject(p.Name)} {
			_, err := s.bucket.Stat(ctx, object)
			if err == nil {
				guests = append(guests, store.Guest{Name: p.Name, Object: object})
				break
			}
			if !errors.Is(err, bucket.ErrNotExist) {
				return nil, err
			}
		}
	}
	return s.Store.Overlay(ctx, guests)
}

// examineRelease verifies one release against a view in which its chunks
// should all be. It is a *WaitingError when some are missing, a *RefusedError
// when it is not what it says.
func (s *Site) examineRelease(ctx context.Context, view *store.Store, r *manifest.Release, doc *manifest.Bundle, digest manifest.Digest) error {
	known, err := s.knownBases(ctx, doc.Base)
	if err != nil {
		return err
	}
	if err = s.applyDeltas(ctx, view, doc, digest, r); err == nil {
		err = content.Verify(ctx, view, r, known)
	}
	switch {
	case errors.Is(err, store.ErrMissing):
		missing, berr := s.missingBases(ctx, doc.Base)
		if berr != nil {
			return berr
		}
		reason := "chunks of it are neither here nor in the bundle; run davit check, or ask the sender for it with --full"
		if len(missing) > 0 {
			reason = fmt.Sprintf("it builds on %s, not held here; import and accept that first, or ask the sender for this one with --full", list(missing))
		}
		return &WaitingError{r.Project, r.Version, reason}
	case errors.Is(err, content.ErrContent), errors.Is(err, store.ErrList), errors.Is(err, manifest.ErrMalformed), errors.Is(err, manifest.ErrVersion):
		return refuse(manifest.CauseContent, "release %s %s is not what it says it is: %v", r.Project, r.Version, err)
	}
	return err
}

func list(names []string) string {
	const most = 5
	if len(names) <= most {
		return joinAnd(names)
	}
	return fmt.Sprintf("%s and %d more", joinComma(names[:most]), len(names)-most)
}

// commit records the bundle: documents first, then one entry for all of it.
func (in *incoming) commit(ctx context.Context) error {
	s, d := in.s, in.doc
	if err := s.keep(ctx, bundlesDir, in.envelope); err != nil {
		return err
	}
	for i, e := range in.letter {
		if err := s.keep(ctx, dirOf(d.Documents[i].Kind), e); err != nil {
			return err
		}
	}
	got := &manifest.BundleReceived{Peer: d.From, Bundle: d.ID, Serial: d.Serial, Digest: in.envelope.Digest(),
		Previous: d.Previous, Kind: d.Kind, Bytes: in.set.Payload, Saved: d.Saved(), State: manifest.ReceivedQuarantined,
		Releases: in.out.Releases, Base: d.Base}
	if !slices.ContainsFunc(in.out.Releases, undecided) {
		// Nothing to decide: packs are adopted for the results' logs, or are
		// of no use to anybody.
		got.State = manifest.ReceivedDone
	}
	if in.heal || got.State == manifest.ReceivedDone && len(in.results) > 0 {
		if err := s.adopt(ctx, d, in.envelope.Digest()); err != nil {
			return err
		}
	}
	facts := []manifest.Fact{{BundleReceived: got}}
	settled, err := in.settle(ctx)
	if err != nil {
		return err
	}
	facts = append(facts, settled...)
	if in.answers() {
		issued, err := s.receipt(ctx, in.doc, in.envelope.Digest(), 1, in.out.Releases)
		if err != nil {
			return err
		}
		facts = append(facts, *issued)
	}
	if err := s.record(ctx, facts...); err != nil {
		return err
	}
	if got.State == manifest.ReceivedDone {
		return s.clearQuarantine(ctx, d, in.envelope.Digest())
	}
	return nil
}

// answers: receipts alone are not answered, or two sites would acknowledge
// acknowledgements for ever.
func (in *incoming) answers() bool {
	return len(in.releases)+len(in.results) > 0
}

// undecided reports whether a release still waits for a decision.
func undecided(v manifest.ReceivedRelease) bool {
	return v.State == manifest.StateWaiting || v.State == manifest.StateOlder
}

func dirOf(kind string) string {
	switch kind {
	case manifest.DocumentReceipt:
		return receiptsDir
	case manifest.DocumentResult:
		return resultsDir
	}
	return releasesDir
}

// adopt makes all packs of a bundle part of the store.
func (s *Site) adopt(ctx context.Context, d *manifest.Bundle, digest manifest.Digest) error {
	for _, p := range d.Packs {
		if err := s.Store.Adopt(ctx, quarantined(digest, p.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) clearQuarantine(ctx context.Context, d *manifest.Bundle, digest manifest.Digest) error {
	for _, p := range parts(d, digest) {
		if err := s.bucket.Delete(ctx, p.object); err != nil {
			return err
		}
	}
	return nil
}

// receipt signs the answer to a bundle.
func (s *Site) receipt(ctx context.Context, d *manifest.Bundle, digest manifest.Digest, revision int64, releases []manifest.ReceivedRelease) (*manifest.Fact, error) {
	r := &manifest.Receipt{Version: 1, Site: s.Name(), Peer: d.From, Bundle: d.ID, Serial: d.Serial, Digest: digest,
		Revision: revision, Created: manifest.NewTime(s.now()), State: manifest.ReceiptWhole}
	for _, v := range releases {
		state := v.State
		switch v.State {
		case manifest.StateHeld:
			state = manifest.StateAccepted
		case manifest.StateOlder:
			state = manifest.StateWaiting
		}
		r.Releases = append(r.Releases, manifest.ReceiptRelease{Release: v.Release, Project: v.Project, Version: v.Version, State: state, Reason: v.Reason})
	}
	missing, err := s.missingBases(ctx, d.Base)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 && slices.ContainsFunc(releases, undecided) {
		r.State, r.Missing = manifest.ReceiptIncomplete, missing
	}
	_, id, err := s.sign(ctx, receiptsDir, r)
	if err != nil {
		return nil, err
	}
	return &manifest.Fact{ReceiptIssued: &manifest.ReceiptIssued{Peer: d.From, Bundle: d.ID, Revision: revision, Receipt: id}}, nil
}

// bundle reads a bundle document that was received or sent.
func (s *Site) bundle(ctx context.Context, digest manifest.Digest) (*manifest.Bundle, error) {
	e, err := s.envelope(ctx, bundlesDir, digest)
	if err != nil {
		return nil, err
	}
	return manifest.Peek[manifest.Bundle](e)
}

// acceptOpen accepts what the bundles on a medium brought, lower versions
// first, and what waited in the inbox for just that. What else lies there was
// left undecided by somebody.
func (s *Site) acceptOpen(ctx context.Context, rollback bool, bundles []BundleOutcome) ([]Decision, error) {
	items, err := s.Index.InboxOpen(ctx)
	if err != nil {
		return nil, err
	}
	items = slices.DeleteFunc(items, func(it index.InboxItem) bool {
		here := slices.ContainsFunc(bundles, func(b BundleOutcome) bool {
			return b.Label.Bundle == it.Bundle && b.Label.From == it.Peer && (b.State == OutcomeTaken || b.State == OutcomeRepeat)
		})
		waited := it.State == manifest.StateWaiting && it.Reason != "" ||
			rollback && it.State == manifest.StateOlder && !strings.HasSuffix(it.Reason, needsRollback)
		return !here && !waited
	})
	slices.SortStableFunc(items, func(a, b index.InboxItem) int { return manifest.CompareVersions(a.Version, b.Version) })
	var decisions []Decision
	// One accepted release may be what another waited for, in any order.
	for again := true; again; {
		again = false
		for i := range items {
			it := &items[i]
			if it.State == manifest.StateAccepted {
				continue
			}
			d, err := s.accept(ctx, *it, rollback)
			if err != nil && ctx.Err() != nil {
				return decisions, err
			}
			if err != nil { // one release must not stand in the way of the others
				d.Err, d.Reason = err, err.Error()
			}
			at := slices.IndexFunc(decisions, func(o Decision) bool { return o.Release == d.Release && o.Peer == d.Peer })
			if at < 0 {
				decisions = append(decisions, d)
			} else {
				decisions[at] = d
			}
			if d.State == manifest.StateAccepted {
				it.State, again = manifest.StateAccepted, true
			}
		}
	}
	return decisions, nil
}

// Accept makes a release in the inbox visible. An older one needs rollback.
//
// from names the peer where several sent a release of that name; "" will do
// where one did.
func (s *Site) Accept(ctx context.Context, project, version, from string, rollback bool) (Decision, error) {
	defer s.verb()()
	unlock, err := s.exclusive(ctx, "import")
	if err != nil {
		return Decision{}, fmt.Errorf("accept: %w", err)
	}
	defer unlock()
	it, err := s.inboxItem(ctx, project, version, from)
	if err != nil {
		return Decision{}, fmt.Errorf("accept: %w", err)
	}
	d, err := s.accept(ctx, it, rollback)
	if err == nil {
		err = d.Err
	}
	if err != nil {
		return d, fmt.Errorf("accept: %w", err)
	}
	return d, nil
}

// AmbiguousError: several peers sent a release of one name, and not the same.
type AmbiguousError struct {
	Project, Version string
	Peers            []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s each sent another release %s %s; say whose is meant with --from PEER", joinAnd(e.Peers), e.Project, e.Version)
}

// inboxItem finds the open item of that name, from one peer if that is named.
func (s *Site) inboxItem(ctx context.Context, project, version, from string) (index.InboxItem, error) {
	items, err := s.Index.Inbox(ctx)
	if err != nil {
		return index.InboxItem{}, err
	}
	var (
		decided string
		found   []index.InboxItem
		peers   []string
		differ  bool
	)
	for _, it := range slices.Backward(items) {
		if it.Project != project || it.Version != version || from != "" && it.Peer != from {
			continue
		}
		if it.State == manifest.StateAccepted || it.State == manifest.StateRejected || it.State == manifest.StateHeld {
			decided = it.State
			continue
		}
		if !slices.Contains(peers, it.Peer) {
			peers = append(peers, it.Peer)
		}
		found = append(found, it)
		differ = differ || it.Release != found[0].Release
	}
	if differ && len(peers) > 1 {
		return index.InboxItem{}, &AmbiguousError{project, version, peers}
	}
	if len(found) > 0 {
		return found[0], nil
	}
	if decided != "" {
		return index.InboxItem{}, notFound("release %s %s is %s already; there is nothing to decide", project, version, decided)
	}
	return index.InboxItem{}, notFound("there is no release %s %s in the inbox; see: davit inbox list", project, version)
}

// accept adopts the packs of a release's bundle and records the acceptance. A
// decision with Err set was not made; the error it returns is another's.
func (s *Site) accept(ctx context.Context, it index.InboxItem, rollback bool) (Decision, error) {
	d := Decision{Project: it.Project, Version: it.Version, Release: it.Release, Peer: it.Peer, State: it.State}
	no := func(err error) (Decision, error) {
		d.Err, d.Reason = err, err.Error()
		return d, nil
	}
	v := manifest.ReceivedRelease{Release: it.Release, Project: it.Project, Version: it.Version}
	if err := s.judge(ctx, &v); err != nil {
		return d, err
	}
	d.State = v.State
	switch v.State {
	case manifest.StateConflict:
		held, err := s.Index.Release(ctx, it.Project, it.Version)
		if err != nil {
			return d, err
		}
		return no(&ConflictError{Project: it.Project, Version: it.Version, Held: held.Digest, New: it.Release})
	case manifest.StateOlder:
		if !rollback {
			newest, err := s.newest(ctx, it.Project)
			if err != nil {
				return d, err
			}
			return no(&OlderError{it.Project, it.Version, newest})
		}
	}
	doc, err := s.bundle(ctx, it.BundleDigest)
	if err != nil {
		return d, err
	}
	if err := s.stillGranted(ctx, doc); is[*RefusedError](err) {
		return no(err)
	} else if err != nil {
		return d, err
	}
	r, err := s.release(ctx, it.Release)
	if err != nil {
		return d, err
	}
	if v.State != manifest.StateHeld {
		view, err := s.quarantineView(ctx, doc, it.BundleDigest)
		if err != nil {
			return d, err
		}
		err = s.examineRelease(ctx, view, r, doc, it.BundleDigest)
		view.Close()
		var waiting *WaitingError
		var refused *RefusedError
		if errors.As(err, &waiting) || errors.As(err, &refused) {
			return no(err)
		}
		if err != nil {
			return d, err
		}
		if err := s.adopt(ctx, doc, it.BundleDigest); err != nil {
			return d, err
		}
	}
	fact := manifest.Fact{ReleaseAccepted: &manifest.ReleaseAccepted{Release: it.Release, Project: it.Project, Version: it.Version,
		Peer: it.Peer, Bundle: it.Bundle, Rollback: v.State == manifest.StateOlder}}
	if err := s.decide(ctx, doc, it, manifest.StateAccepted, "", fact); err != nil {
		return d, err
	}
	d.State = manifest.StateAccepted
	return d, nil
}

// stillGranted: what was granted when a bundle came may have been withdrawn.
func (s *Site) stillGranted(ctx context.Context, doc *manifest.Bundle) error {
	peer, err := s.Index.Peer(ctx, doc.From)
	switch {
	case errors.Is(err, ErrNotFound):
		return refuse(manifest.CauseGrant, "%s, who sent it, is no peer any more", doc.From)
	case err != nil:
		return err
	case peer.Card.KeyDigest() != doc.FromKey:
		return refuse(manifest.CauseSignature, "%s has other keys since it sent it; have it sent again", doc.From)
	case !slices.Contains(peer.Accept, manifest.GrantReleases):
		return refuse(manifest.CauseGrant, "%v", &GrantError{doc.From, manifest.GrantReleases, "accept"})
	}
	return nil
}

// Reject turns a release in the inbox down. The reason goes back to the sender.
func (s *Site) Reject(ctx context.Context, project, version, from, reason string) (Decision, error) {
	defer s.verb()()
	fail := func(err error) (Decision, error) { return Decision{}, fmt.Errorf("reject: %w", err) }
	unlock, err := s.exclusive(ctx, "import")
	if err != nil {
		return fail(err)
	}
	defer unlock()
	it, err := s.inboxItem(ctx, project, version, from)
	if err != nil {
		return fail(err)
	}
	doc, err := s.bundle(ctx, it.BundleDigest)
	if err != nil {
		return fail(err)
	}
	fact := manifest.Fact{ReleaseRejected: &manifest.ReleaseRejected{Release: it.Release, Project: it.Project, Version: it.Version,
		Peer: it.Peer, Bundle: it.Bundle, Reason: reason}}
	if err := s.decide(ctx, doc, it, manifest.StateRejected, reason, fact); err != nil {
		return fail(err)
	}
	return Decision{Project: project, Version: version, Release: it.Release, Peer: it.Peer, State: manifest.StateRejected, Reason: reason}, nil
}

// decide records a decision with a new receipt, and clears the quarantine when
// nothing of the bundle waits any more.
func (s *Site) decide(ctx context.Context, doc *manifest.Bundle, it index.InboxItem, state, reason string, fact manifest.Fact) error {
	items, err := s.Index.Inbox(ctx)
	if err != nil {
		return err
	}
	var releases []manifest.ReceivedRelease
	waiting := false
	for _, o := range items {
		if o.Bundle != it.Bundle || o.Peer != it.Peer {
			continue
		}
		v := manifest.ReceivedRelease{Release: o.Release, Project: o.Project, Version: o.Version, State: o.State, Reason: o.Reason}
		if o.Release == it.Release {
			v.State, v.Reason = state, reason
		}
		waiting = waiting || undecided(v)
		releases = append(releases, v)
	}
	revision, _, err := s.Index.LastReceipt(ctx, it.Peer, it.Bundle)
	if err != nil {
		return err
	}
	issued, err := s.receipt(ctx, doc, it.BundleDigest, revision+1, releases)
	if err != nil {
		return err
	}
	if err := s.record(ctx, fact, *issued); err != nil {
		return err
	}
	if waiting {
		return nil
	}
	return s.clearQuarantine(ctx, doc, it.BundleDigest)
}

// knownBases gathers what was verified with the bases that are held here.
func (s *Site) knownBases(ctx context.Context, base []manifest.BundleBase) (*content.Known, error) {
	var releases []*manifest.Release
	for _, b := range base {
		if _, err := s.Index.ReleaseByDigest(ctx, b.Release); errors.Is(err, ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		r, err := s.release(ctx, b.Release)
		if err != nil {
			return nil, err
		}
		releases = append(releases, r)
	}
	return content.NewKnown(releases), nil
}
