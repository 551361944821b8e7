package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/bundle"
)

// errUnfinished stands for everything that waits for more: bytes, volumes, or
// a decision of a person about a name.
var errUnfinished = fmt.Errorf("not whole yet: %w", bundle.ErrIncomplete)

// class is what the ends of one file said.
type class struct {
	group
	volume  int
	spare   int                 // volumes that the bundle can do without
	damaged *bundle.DamagedFile // then the rest is not known
	backoff
}

// group is what all volumes of one bundle have in common.
type group struct {
	bundle.Label
	Volumes            int
	Payload, Documents int64
}

func (a group) compare(b group) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Serial, b.Serial),
		cmp.Compare(a.Bundle.String(), b.Bundle.String()), cmp.Compare(a.Volumes, b.Volumes))
}

// state is what became of a bundle whose files stay, or have yet to be moved.
type state struct {
	backoff
	made    string   // the ids of its files
	told    string   // what was said of it last
	asked   bool     // the site does not know it
	verdict *verdict // while its files have to be moved
}

// verdict says where files go.
type verdict struct {
	dir    string // doneDir or failedDir
	reason string // beside those in failedDir
	event  Event  // to be told when they are moved
}

// take takes in what is ready. Files are looked at when they are new, bundles
// when one of their files is; what failed, when its time has come.
func (s *station) take(ctx context.Context, sess *session, v *view) (took bool) {
	if !s.classify(ctx, v) {
		return false
	}
	groups := map[group][]string{}
	for name, f := range v.files {
		if c := s.classes[f.id]; c != nil && c.damaged == nil {
			groups[c.group] = append(groups[c.group], name)
		}
	}
	maps.DeleteFunc(s.sets, func(g group, _ *state) bool { return groups[g] == nil })
	for _, g := range slices.SortedFunc(maps.Keys(groups), group.compare) {
		if ctx.Err() != nil {
			return took
		}
		names := sorted(groups[g])
		st := s.sets[g]
		if st == nil {
			st = &state{}
			s.sets[g] = st
		}
		if made := v.made(names); made != st.made {
			st.made, st.backoff, st.verdict = made, backoff{}, nil
		} else if st.due == 0 || st.due > s.ticks {
			continue
		}
		st.due = 0
		took = s.takeGroup(ctx, sess, v, g, names, st) || took
	}
	return took
}

// made tells one set of files from any other.
func (v *view) made(names []string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%d ", v.files[n].id)
	}
	return b.String()
}

// classify reads the ends of the files that are new. It is false when the
// folder failed.
func (s *station) classify(ctx context.Context, v *view) bool {
	known := map[int]*class{}
	var fresh []string
	for name, f := range v.files {
		if c := s.classes[f.id]; c == nil || c.damaged != nil && c.due <= s.ticks {
			fresh = append(fresh, name)
		}
		if c := s.classes[f.id]; c != nil {
			known[f.id] = c
		}
	}
	s.classes = known
	s.forgetFiles(v)
	if len(fresh) == 0 {
		return true
	}
	found, err := bundle.Scan(ctx, v.only(fresh))
	if err != nil {
		if ctx.Err() == nil {
			s.gone("inbox", s.inbox, s.peers(), err)
		}
		return false
	}
	for _, set := range found.Sets {
		for n, names := range set.Present {
			for _, name := range names {
				s.classes[v.files[name].id] = &class{group: group{set.Label, set.Volumes, set.Payload, set.Documents}, volume: n, spare: set.Spare()}
			}
		}
	}
	for _, d := range found.Damaged {
		f := v.files[d.Name]
		c := s.classes[f.id]
		if c == nil {
			c = &class{}
			s.classes[f.id] = c
		}
		c.damaged = &d
		c.later(s.ticks)
		s.takeDamaged(v, f, d)
	}
	return true
}

// forgetFiles drops what was told of files that are gone.
func (s *station) forgetFiles(v *view) {
	for about := range s.said {
		if name, ok := strings.CutPrefix(about, "file:"); ok && v.files[name] == nil {
			delete(s.said, about)
		}
	}
}

// takeDamaged deals with a file that is no volume by its own account. Nearly
// always it is one that is not finished, so it stays.
func (s *station) takeDamaged(v *view, f *seen, d bundle.DamagedFile) {
	e := Event{Kind: Waiting, Files: []string{d.Name}, State: Incoming, Err: d.Err}
	switch {
	case errors.Is(d.Err, errChanged):
		s.track.forget(d.Name)
		return
	case errors.Is(d.Err, bundle.ErrVersion):
		reason := fmt.Sprintf("it is of a format that this davit does not know (%v). Use a newer davit, then move it back into the folder above", d.Err)
		e.Kind, e.Reason = Refused, reason
		moved, err := s.moveAll(v, []string{d.Name}, &verdict{dir: failedDir, reason: "Refused: " + reason})
		if err == nil && len(moved) > 0 {
			e.Moved, e.State = moved, Failed
			s.tell(e)
			return
		}
	default:
		e.Err = errUnfinished
		e.Reason = d.Reason + ". It stays here until it is whole; if nobody writes to it any more, have it copied again"
	}
	s.tellOnce("file:"+d.Name, fmt.Sprint(f.id, e.Reason), e)
}

// takeGroup decides on one bundle. It reports whether the site took it in.
func (s *station) takeGroup(ctx context.Context, sess *session, v *view, g group, names []string, st *state) bool {
	e := Event{Label: &g.Label, Peer: g.From, Files: names, State: Incoming}
	if st.verdict != nil { // it was taken or refused, and could not be moved
		s.finish(v, st.verdict.event, st)
		return false
	}
	if g.To != s.w.cfg.Name {
		// In a folder that serves both ways our own bundles wait for the peer.
		if g.From != s.w.cfg.Name {
			e.Kind, e.Reason = Elsewhere, fmt.Sprintf("it is for %s", g.To)
			s.stay(e, st)
		}
		return false
	}
	if missing := s.missing(v, g, names); len(missing) > s.classes[v.files[names[0]].id].spare {
		s.takePart(ctx, sess, v, g, e, st, missing)
		return false
	}
	return s.takeSet(ctx, sess, v, e, st)
}

// missing names the volumes that are not there, or not ready.
func (s *station) missing(v *view, g group, names []string) []string {
	have := map[int]bool{}
	for _, n := range names {
		have[s.classes[v.files[n].id].volume] = true
	}
	var missing []string
	for n := 1; n <= g.Volumes; n++ {
		if !have[n] {
			missing = append(missing, g.Name(n, g.Volumes))
		}
	}
	return missing
}

// takePart deals with a bundle of which volumes are missing: the rest of one
// that was moved when somebody pulled the plug, or the beginning of one.
func (s *station) takePart(ctx context.Context, sess *session, v *view, g group, e Event, st *state, missing []string) {
	if reason := v.intended(e.Files); reason != "" {
		e.Kind, e.Reason = Refused, reason
		st.verdict = &verdict{dir: failedDir, reason: reason}
		s.finish(v, e, st)
		return
	}
	if !st.asked {
		site := s.openSite(ctx, sess)
		if site == nil {
			st.later(s.ticks)
			return
		}
		known, err := site.Known(ctx, g.From, g.Bundle)
		if err != nil {
			s.retry(ctx, e, st, err)
			return
		}
		if known {
			e.Kind, e.Reason = Repeat, "it was taken in before"
			st.verdict = &verdict{dir: doneDir}
			s.finish(v, e, st)
			return
		}
		st.asked = true
	}
	written := 0
	for _, name := range missing {
		if f := s.track.files[name]; f != nil && v.files[name] == nil {
			written++
		}
	}
	if written == len(missing) {
		return // all of it is here, and about to be ready
	}
	const most = 8
	text := strings.Join(missing[:min(most, len(missing))], ", ")
	if more := len(missing) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	e.Kind, e.Err = Waiting, errUnfinished
	e.Reason = fmt.Sprintf("%d of %d volumes are missing: %s", len(missing), g.Volumes, text)
	s.stay(e, st)
}

// takeSet has the site take one whole bundle in, and moves its files.
func (s *station) takeSet(ctx context.Context, sess *session, v *view, e Event, st *state) bool {
	site := s.openSite(ctx, sess)
	if site == nil {
		st.later(s.ticks)
		return false
	}
	accept := false
	if l := s.linkOf(e.Label.From); l != nil {
		accept = l.Accept
	}
	s.w.at("import")
	step, stop := s.w.step(ctx)
	report, err := site.Import(step, transfer.ImportRequest{Medium: v.only(e.Files), MediumName: s.inbox, Accept: accept})
	stop()
	s.w.at("imported")
	if report != nil {
		e.Accepted = report.Accepted
		for i := range report.Bundles {
			if report.Bundles[i].Label.Bundle == e.Label.Bundle {
				e.Bundle = &report.Bundles[i]
			}
		}
	}
	if err == nil && e.Bundle == nil {
		err = errChanged // it was there when it was looked at
	}
	if err != nil {
		// Also when it was recorded and accepting it failed: as a repeat it is
		// accepted then.
		s.retry(ctx, e, st, err)
		return false
	}
	switch b := e.Bundle; b.State {
	case transfer.OutcomeTaken, transfer.OutcomeRepeat:
		e.Kind, e.Reason = TakenIn, b.Reason
		if b.State == transfer.OutcomeRepeat {
			e.Kind = Repeat
		}
		st.verdict = &verdict{dir: doneDir}
		s.finish(v, e, st)
		return b.State == transfer.OutcomeTaken || len(e.Accepted) > 0
	case transfer.OutcomeRefused:
		e.Kind, e.Reason, e.Err = Refused, b.Reason, b.Err
		st.verdict = &verdict{dir: failedDir, reason: "Refused: " + b.Reason}
	case transfer.OutcomeDamaged:
		e.Kind, e.Reason, e.Err = Damaged, b.Reason, b.Err
		st.verdict = &verdict{dir: failedDir, reason: "Damaged: " + b.Reason}
		// Only what is damaged has to be brought again.
		if bad := damagedFiles(b.Err, e.Files); len(bad) > 0 {
			e.Files = bad
		}
	case transfer.OutcomeElsewhere:
		e.Kind, e.Reason = Elsewhere, b.Reason
		s.stay(e, st)
		return false
	default: // unreadable, failed, incomplete: of the folder or the site, not of the bundle
		s.retry(ctx, e, st, cmp.Or(b.Err, errors.New(b.Reason)))
		return false
	}
	if changed := v.changed(e.Files); len(changed) > 0 {
		// It is not what was judged any more.
		s.changed(e, changed)
		return false
	}
	s.finish(v, e, st)
	return false
}

// stay tells, once, of files that are left where they are.
func (s *station) stay(e Event, st *state) {
	if st.told != e.Reason {
		st.told = e.Reason
		s.tell(e)
	}
}

// retry tells, once, of a failure that is not the bundle's, and comes back to it.
func (s *station) retry(ctx context.Context, e Event, st *state, err error) {
	if ctx.Err() != nil {
		st.made = "" // broken off by us
		return
	}
	if errors.Is(err, errChanged) {
		s.changed(e, e.Files)
		return
	}
	st.later(s.ticks)
	e.Kind, e.Err, e.Reason = Retry, err, err.Error()
	var full *bucket.NoSpaceError
	if errors.As(err, &full) {
		e.Reason += ". Make room; nothing is lost"
	}
	s.stay(e, st)
}

// changed lets files be looked at as if they had just come.
func (s *station) changed(e Event, names []string) {
	for _, n := range names {
		s.track.forget(n)
	}
	e.Kind, e.Files, e.State, e.Err, e.Bundle = Changed, names, Incoming, nil, nil
	e.Reason = "changed while it was read, and is looked at again when it is ready"
	s.tell(e)
}

// finish moves the files of a bundle where they belong. What is not moved now
// is tried again.
func (s *station) finish(v *view, e Event, st *state) {
	st.verdict.event = e
	changed := v.changed(e.Files)
	files := slices.DeleteFunc(slices.Clone(e.Files), func(n string) bool { return slices.Contains(changed, n) })
	s.removeMarkers(v, files)
	moved, err := s.moveAll(v, files, st.verdict)
	e.Moved = moved
	e.State = Failed
	if st.verdict.dir == doneDir {
		e.State = Done
		if waits(e) {
			e.State = Quarantine
		}
	}
	if err != nil {
		st.later(s.ticks)
		e.Reason = strings.TrimPrefix(e.Reason+"; ", "; ") + fmt.Sprintf("its files cannot be moved to %s: %v. That is tried again", st.verdict.dir, err)
		e.Err = cmp.Or(e.Err, err)
		s.stay(e, st)
		return
	}
	st.verdict = nil
	s.tell(e)
	if len(changed) > 0 {
		s.changed(e, changed)
	}
}

// waits reports whether somebody has to decide on what the bundle brought.
func waits(e Event) bool {
	if e.Bundle == nil {
		return false
	}
	for _, r := range e.Bundle.Releases {
		accepted := slices.ContainsFunc(e.Accepted, func(d transfer.Decision) bool {
			return d.Release == r.Release && d.State == manifest.StateAccepted
		})
		if !accepted && (r.State == manifest.StateWaiting || r.State == manifest.StateOlder) {
			return true
		}
	}
	return false
}

// damagedFiles are those of the files that an error says are damaged.
func damagedFiles(err error, files []string) []string {
	var bad []string
	var look func(error)
	look = func(err error) {
		if d, ok := err.(*bundle.DamageError); ok && slices.Contains(files, d.File) && !slices.Contains(bad, d.File) {
			bad = append(bad, d.File)
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			if next := u.Unwrap(); next != nil {
				look(next)
			}
		case interface{ Unwrap() []error }:
			for _, next := range u.Unwrap() {
				look(next)
			}
		}
	}
	look(err)
	return bad
}
