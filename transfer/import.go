package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	Repaired []string // volumes that parity stood in for
	Kept     int      // volumes of an incomplete one that are kept for the next medium
	Saved    int64    // bytes that deltas spared it, as the sender has it
	Gap      []int64  // serials before this one that have not arrived; never blocks
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
	pile, err := s.pile(ctx, req.Medium, req.DryRun)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer pile.kept.Close()
	found, err := bundle.Scan(ctx, pile)
	if err != nil {
		return nil, fmt.Errorf("import from %s: %w", req.MediumName, err)
	}
	report := &ImportReport{DryRun: req.DryRun, Damaged: found.Damaged, Foreign: found.Foreign}
	for _, set := range found.Sets {
		if req.Only != "" && set.Kind != req.Only {
			continue
		}
		out := s.importSet(ctx, pile, set, req)
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
		if (out.State == OutcomeTaken || out.State == OutcomeRepeat) && !req.DryRun {
			if err := pile.letGo(ctx, set.Bundle); err != nil {
				return report, fmt.Errorf("import %s: remove kept volumes: %w", set.Label, err)
			}
		}
		report.Bundles = append(report.Bundles, out)
	}
	// A damaged file of a bundle that parity made whole is no damage any more.
	report.Damaged = slices.DeleteFunc(report.Damaged, func(d bundle.DamagedFile) bool {
		return d.Useful && d.Header != nil && slices.ContainsFunc(report.Bundles, func(b BundleOutcome) bool {
			return b.Label == d.Header.Label && (b.State == OutcomeTaken || b.State == OutcomeRepeat)
		})
	})
	if req.Accept && !req.DryRun {
		if report.Accepted, err = s.acceptOpen(ctx, req.AllowRollback, report.Bundles); err != nil {
			return report, fmt.Errorf("accept: %w", err)
		}
	}
	return report, nil
}

// importSet takes in one bundle. An outcome with Err set is not finished: the
// caller says what the error means.
func (s *Site) importSet(ctx context.Context, pile *pile, set *bundle.Set, req ImportRequest) BundleOutcome {
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
	if !set.Enough() {
		s.incomplete(ctx, pile, set, req, &out)
		return out
	}
	if lost := set.Missing(); len(lost) > 0 {
		for _, v := range lost {
			out.Repaired = append(out.Repaired, set.Name(v, set.Volumes))
		}
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
	var beyond *bundle.StripeError
	if errors.As(out.Err, &beyond) {
		out = first
		s.incomplete(ctx, pile, set, req, &out)
		out.Reason += "; more than parity can replace"
	}
	if out.State != OutcomeTaken {
		out.Repaired = nil
	}
	return out
}

// incomplete says what of a bundle must still be brought, and keeps what is
// here for the next medium.
func (s *Site) incomplete(ctx context.Context, pile *pile, set *bundle.Set, req ImportRequest, out *BundleOutcome) {
	out.State = OutcomeIncomplete
	for _, v := range set.Missing() {
		out.Missing = append(out.Missing, set.Name(v, set.Volumes))
	}
	out.Reason = fmt.Sprintf("%d of %d volumes are not here", len(out.Missing), set.Volumes)
	// What is damaged too must be brought with the same courier.
	damaged := map[string]bool{}
	for _, d := range damages(set.Verify(ctx, nil)) {
		damaged[d.File] = true
		out.Missing = append(out.Missing, d.File)
		out.Reason += ", and " + d.Error()
	}
	if !req.DryRun {
		out.Kept, out.Err = s.keepVolumes(ctx, pile, set, damaged)
	}
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
