package route

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"time"

	"davit/internal/durable"
)

// station is one inbox with the links that use it, or one link without an
// inbox. All of it belongs to one goroutine.
type station struct {
	w     *Watcher
	inbox string // "" for a link that only sends
	links []*link

	lock    *durable.Lock
	track   *tracker
	ticks   int               // full scans since the start
	classes map[int]*class    // of the files that are ready, by their id
	sets    map[group]*state  // bundles that stay, or have yet to be moved
	said    map[string]string // what was told and lasts, by what it is about
	pruned  time.Time         // when done/ was looked through last
}

// link is a Link with what sending on it came to.
type link struct {
	Link
	backoff
}

// backoff counts scans until something that failed is tried again.
type backoff struct{ due, wait int }

const longestWait = 60 // scans; ten minutes

func (b *backoff) later(now int) {
	b.wait = min(max(2*b.wait, 1), longestWait)
	b.due = now + b.wait
}

func newStation(w *Watcher, inbox string) *station {
	return &station{w: w, inbox: inbox, track: newTracker(), classes: map[int]*class{}, sets: map[group]*state{}, said: map[string]string{}}
}

// folder names the station in messages and for its lock.
func (s *station) folder() string {
	if s.inbox == "" {
		return s.links[0].Outbox
	}
	return s.inbox
}

// linkOf is the link with a peer, or nil.
func (s *station) linkOf(peer string) *link {
	for _, l := range s.links {
		if l.Peer == peer {
			return l
		}
	}
	return nil
}

func (s *station) peers() string {
	var names []string
	for _, l := range s.links {
		names = append(names, l.Peer)
	}
	return strings.Join(names, ", ")
}

// tellOnce tells something that lasts, once: again only when text has changed,
// or after it was settled.
func (s *station) tellOnce(about, text string, e Event) {
	if s.said[about] == text {
		return
	}
	s.said[about] = text
	e.Folder = s.folder()
	s.w.tell(e)
}

// settled reports whether something had been told, and forgets it.
func (s *station) settled(about string) bool {
	_, was := s.said[about]
	delete(s.said, about)
	return was
}

func (s *station) tell(e Event) {
	e.Folder = s.folder()
	s.w.tell(e)
}

// run looks at each tick and when the system tells of a change.
func (s *station) run(ctx context.Context) error {
	ear := newEar(s.inbox)
	defer ear.close()
	tick, stop := s.w.cfg.Tick(s.w.cfg.Interval)
	defer stop()
	watching, full := false, true
	for {
		ear.listen()
		if ear.deaf != nil {
			s.w.cfg.Log.Warn("no notice of changes; scans only", "folder", s.folder(), "error", ear.deaf)
			ear.deaf = nil
		}
		if err := s.hold(); err != nil {
			s.tellHeld(err)
		} else {
			s.settled("held")
			if !watching {
				watching = true
				s.tell(Event{Kind: Watching, Peer: s.peers()})
			}
			if full {
				s.ticks++
			}
			s.look(ctx, full, ear.take())
		}
		full = false
		for wake := false; !wake; {
			select {
			case <-ctx.Done():
				err := s.letGo()
				if watching {
					s.tell(Event{Kind: Stopped, Peer: s.peers()})
				}
				return err
			case <-tick:
				wake, full = true, true
			case ev, ok := <-ear.events():
				if wake = ok && ear.hear(ev); wake {
					ear.gather(ctx)
				}
			case err := <-ear.errors():
				// Events were lost; the next scan sees everything.
				s.w.cfg.Log.Warn("notice of changes", "folder", s.folder(), "error", err)
			}
		}
	}
}

func (s *station) tellHeld(err error) {
	kind := Retry
	var busy *BusyError
	if errors.As(err, &busy) {
		kind = Held
	}
	s.tellOnce("held", err.Error(), Event{Kind: kind, Peer: s.peers(), Reason: err.Error(), Err: err})
}

// once scans as often as quiet files need, and returns.
func (s *station) once(ctx context.Context) error {
	if err := s.hold(); err != nil {
		return err
	}
	defer s.letGo()
	tick, stop := s.w.cfg.Tick(s.w.cfg.Interval)
	defer stop()
	var growing []string
	for {
		s.ticks++
		// Results of what was taken in go out once, at the end.
		if growing = s.lookOnce(ctx); len(growing) == 0 || s.ticks >= quietScans {
			break
		}
		select {
		case <-ctx.Done():
		case <-tick:
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(growing) > 0 {
		sort.Strings(growing)
		s.tell(Event{Kind: Waiting, Files: growing, State: Incoming, Reason: "still being written, or replaced while it was looked at", Err: errUnfinished})
	}
	sess := &session{w: s.w}
	defer sess.close(s)
	s.send(ctx, sess)
	return nil
}

func (s *station) lookOnce(ctx context.Context) []string {
	sess := &session{w: s.w}
	defer sess.close(s)
	_, growing := s.receive(ctx, sess, true, noNews())
	return growing
}

// look is one look at the inbox, and a delivery to the outboxes.
func (s *station) look(ctx context.Context, full bool, n news) {
	sess := &session{w: s.w}
	defer sess.close(s)
	took, _ := s.receive(ctx, sess, full, n)
	if (took || full) && ctx.Err() == nil {
		s.send(ctx, sess)
	}
}

// receive takes in what is ready. It reports whether the site took anything,
// and the files that are not ready.
func (s *station) receive(ctx context.Context, sess *session, full bool, n news) (took bool, growing []string) {
	if s.inbox == "" {
		return false, nil
	}
	p, err := enter(s.inbox)
	if err != nil {
		s.gone("inbox", s.inbox, s.peers(), err)
		return false, nil
	}
	defer p.close()
	l, err := p.list(ctx, s.track.markers, s.track.unchanged)
	if err != nil {
		if ctx.Err() == nil {
			s.gone("inbox", s.inbox, s.peers(), err)
		}
		return false, nil
	}
	s.back("inbox", s.inbox, s.peers())
	s.track.observe(l, full, n)
	s.tellOdd(l.odd)
	var ready map[string]*seen
	ready, growing = s.track.ready()
	took = s.take(ctx, sess, &view{place: p, files: ready, track: s.track})
	if full && ctx.Err() == nil {
		s.clearMarkers(p, l)
		s.prune(p)
	}
	return took, growing
}

func (s *station) tellOdd(odd []string) {
	if len(odd) == 0 {
		s.settled("odd")
		return
	}
	s.tellOnce("odd", strings.Join(odd, "\n"), Event{Kind: Odd, Files: odd, State: Incoming, Err: errUnfinished,
		Reason: "the name has characters that davit does not take; give it its own name again, letters, digits, '.', '_' and '-'"})
}

// gone tells once that a folder cannot be reached.
func (s *station) gone(about, path, peer string, err error) {
	why := err
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		why = p.Err // the sentence names the path
	}
	s.tellOnce(about, "gone", Event{Kind: Gone, Peer: peer, Err: err,
		Reason: fmt.Sprintf("%s cannot be reached (%v); is it mounted? It is looked for at each scan", path, why)})
}

func (s *station) back(about, path, peer string) {
	if s.settled(about) {
		s.tell(Event{Kind: Back, Peer: peer, Reason: path + " is there again"})
	}
}

// session is the site as long as one look needs it.
type session struct {
	w    *Watcher
	site Site
}

func (x *session) open(ctx context.Context) (Site, error) {
	if x.site == nil {
		site, err := x.w.cfg.Open(ctx)
		if err != nil {
			return nil, fmt.Errorf("open site: %w", err)
		}
		x.site = site
	}
	return x.site, nil
}

func (x *session) close(s *station) {
	if x.site == nil {
		return
	}
	if err := x.site.Close(); err != nil {
		s.tell(Event{Kind: Retry, Reason: fmt.Sprintf("close site: %v", err), Err: err})
	}
	x.site = nil
}

// openSite opens the site, or tells once that it cannot be.
func (s *station) openSite(ctx context.Context, sess *session) Site {
	site, err := sess.open(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.tellOnce("site", err.Error(), Event{Kind: Retry, Reason: err.Error(), Err: err})
		}
		return nil
	}
	s.settled("site")
	return site
}

// names are the files of something in the order of their names.
func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}
