// Package route carries bundles through watched folders: it takes in what
// arrives in an inbox, and lays receipts and results into an outbox. A pair of
// folders is a link both ways, one folder a link one way; whatever moves files
// between two sites (a share, a courier, the software of a data diode) needs to
// know nothing of davit.
//
// # What happens to a file
//
//	           ready?            import              move
//	incoming ─────────▸ look ─┬─▸ taken in, repeat ─▸ done/NAME
//	   ▴        │             ├─▸ refused, damaged ─▸ failed/NAME and failed/NAME.reason.txt
//	   │        ▾             ├─▸ volumes missing   ─ stays until the rest comes
//	   └── wait, look again ◂─┴─▸ folder or site failed, file changed meanwhile
//
// The inbox of the site itself, davit inbox list, is the quarantine: a bundle
// in done/ was recorded by the site, and its releases wait there for somebody
// unless the link accepts by itself.
//
// Only files named like volumes (*.v01of03), at the top of the folder, are
// touched, and the markers that vouch for them. Everything else is left alone:
// other files, folders, bundles for other sites. Nothing is ever overwritten, a
// name that is taken in done/ or failed/ gets a number.
//
// # When a file is ready
//
// A file that is still being written must be left alone, and nobody can see
// from outside whether it is. So one of three signs is needed:
//
//   - it was seen under a temporary name, and was renamed;
//   - a marker vouches for it (FORMAT.md): NAME.ready for one file, or the
//     marker that davit writes after the volumes of a bundle;
//   - neither size nor time nor identity changed in three full scans. Looks
//     between scans, when the system reports a change, do not count: three of
//     them may happen within a second.
//
// A sign can be wrong: a copy that stalls is quiet too. So a file that is cut
// off by its own account, as its header and end tell, stays where it is however
// quiet it is. Only one that is whole by its own account and damaged inside, or
// refused, goes to failed/. And the file that is moved must be the one that was
// read, in size, time and identity, before the move and after it; else it is
// left, or put back, and looked at again.
//
// # What survives a crash
//
// The folder and the site's log are all the memory there is. A bundle whose
// import was recorded and whose files were not moved is a repeat, and then
// moved. One of which some files were moved is known to the site, so the rest
// follow. What goes to failed/ has its reason written first; a reason without
// its file says what was under way. Nothing depends on the lock that keeps a
// second watcher of the same site away: with it, nobody does work twice;
// without it, the site's own locks and repeats keep the order.
//
// No file and no site is held open between two looks, so that a share can be
// unmounted, and davit gc and repair find the site free.
//
// # Sending
//
// A link that sends results exports what waits for the peer, at each scan and
// after each look that took something in, as one bundle. It ends by itself:
// bundles of receipts alone are not answered.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/manifest"
	"davit/transfer"
)

// A Link is how bundles come from one peer and go to it.
type Link struct {
	Peer   string
	Inbox  string // folder that is watched; "" for none
	Outbox string // folder that results are laid into; "" for none
	// Accept what comes from the peer and may be accepted, at once. Bundles
	// from others in the same inbox wait for a decision.
	Accept bool
	// SendResults exports receipts and results that wait for the peer.
	SendResults bool
	// Export says how bundles for the peer are made. What it carries, to whom
	// and where is set here.
	Export transfer.ExportRequest
	// KeepDone is how long files stay in done/, and KeepSize how many bytes of
	// them at most. 0 is for ever, and any number.
	KeepDone time.Duration
	KeepSize int64
}

// Importer takes in the bundles on a medium. It returns when what it reports is
// durable, and may be asked again for what it has already. *transfer.Site is one.
type Importer interface {
	Import(ctx context.Context, req transfer.ImportRequest) (*transfer.ImportReport, error)
}

// Exporter writes a bundle to a medium. *transfer.Site is one.
type Exporter interface {
	Export(ctx context.Context, req transfer.ExportRequest) (*transfer.ExportReport, error)
}

// Site is what a look needs of an open site.
type Site interface {
	Importer
	Exporter
	// Known reports whether a bundle was taken in before.
	Known(ctx context.Context, from string, id manifest.BundleID) (bool, error)
	// Close ends the look.
	Close() error
}

// Config says what to watch. Open and Report may be called by several
// goroutines, Report not at once.
type Config struct {
	Name  string // of this site
	Actor string // who watches, for those who find the folder taken
	Links []Link
	// Open opens the site for one look.
	Open func(ctx context.Context) (Site, error)
	Work string // folder on a local disk, for locks
	// Interval is the time between two full scans: DefaultInterval if 0.
	Interval time.Duration
	// Grace is how long the import or export under way may go on when the
	// watcher is told to stop: DefaultGrace if 0. What is broken off then is
	// taken up again by the next watcher.
	Grace  time.Duration
	Report func(Event)  // what happened
	Log    *slog.Logger // nothing is logged if nil

	// Now and Tick are the clock: the system's if nil. Tick sends every d until
	// the returned function is called.
	Now  func() time.Time
	Tick func(d time.Duration) (<-chan time.Time, func())
}

const (
	DefaultInterval = 10 * time.Second
	DefaultGrace    = 30 * time.Second
)

// BusyError says that another process watches a folder for this site.
type BusyError struct{ Folder, Holder string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%s is watched already, by %s; leave it to that one, or stop that one first", e.Folder, e.Holder)
}

// Watcher watches the folders of some links.
type Watcher struct {
	cfg      Config
	stations []*station
	report   sync.Mutex // one event at a time

	// hook, if set, is told of each step that changes something, before it and
	// after it; tests break off there.
	hook func(step string)
}

// New returns a watcher. It touches nothing yet.
func New(cfg Config) (*Watcher, error) {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Tick == nil {
		cfg.Tick = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(d)
			return t.C, t.Stop
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Report == nil {
		cfg.Report = func(Event) {}
	}
	w := &Watcher{cfg: cfg}
	byInbox := map[string]*station{}
	for _, l := range cfg.Links {
		if l.SendResults && l.Outbox == "" {
			return nil, fmt.Errorf("watch link with %s: results shall be sent and there is no outbox to lay them into", l.Peer)
		}
		key := ""
		if l.Inbox != "" {
			key = filepath.Clean(l.Inbox)
		} else if !l.SendResults {
			continue // nothing to do on it
		}
		st := byInbox[key]
		if key == "" || st == nil {
			st = newStation(w, key)
			w.stations = append(w.stations, st)
		}
		if key != "" {
			byInbox[key] = st
		}
		st.links = append(st.links, &link{Link: l})
	}
	if len(w.stations) == 0 {
		return nil, errors.New("watch: no link has an inbox, or results to send")
	}
	return w, nil
}

// Run watches until ctx ends, and then returns nil after the step under way.
// What goes wrong with a folder, a file or the site is reported and tried
// again.
func (w *Watcher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range w.stations {
		g.Go(func() error { return s.run(ctx) })
	}
	return g.Wait()
}

// Once does one full pass over all folders and returns: as many scans as it
// takes to see which files are quiet, everything that is ready, and results.
// The error is a *BusyError, or ctx's; what became of files is reported.
func (w *Watcher) Once(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	busy := make([]error, len(w.stations))
	for i, s := range w.stations {
		g.Go(func() error {
			err := s.once(ctx)
			var b *BusyError
			if errors.As(err, &b) {
				busy[i] = err // the other folders have their pass all the same
				return nil
			}
			if err != nil {
				return fmt.Errorf("watch %s: %w", s.folder(), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return errors.Join(busy...)
}

// step is a context for an import or export: it goes on when ctx ends, for the
// time of grace.
func (w *Watcher) step(ctx context.Context) (context.Context, func()) {
	on, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var mu sync.Mutex
	var timer *time.Timer // guarded by mu
	ended := false        // guarded by mu
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			timer = time.AfterFunc(w.cfg.Grace, func() { cancel(context.Cause(ctx)) })
		}
	})
	return on, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		ended = true
		if timer != nil {
			timer.Stop()
		}
		cancel(nil)
	}
}

func (w *Watcher) at(step string) {
	if w.hook != nil {
		w.hook(step)
	}
}

func (w *Watcher) tell(e Event) {
	w.report.Lock()
	defer w.report.Unlock()
	e.Time = w.cfg.Now()
	w.cfg.Report(e)
}
