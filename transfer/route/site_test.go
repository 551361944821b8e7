package route

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store/bucket"
	"davit/transfer"
)

// home is where a real site lives, and the link it watches.
type home struct {
	dir  string
	name string
	link Link
	wrap func(bucket.Bucket) bucket.Bucket // stands before the store, if set
}

// world is two sites, dev and prod, and two folders between them.
type world struct {
	dir       string
	dev, prod *home
}

func worldAt(dir string) *world {
	out, in := filepath.Join(dir, "out"), filepath.Join(dir, "in")
	return &world{dir,
		&home{dir: filepath.Join(dir, "dev"), name: "dev", link: Link{Peer: "prod", Inbox: in, Outbox: out, SendResults: true}},
		&home{dir: filepath.Join(dir, "prod"), name: "prod", link: Link{Peer: "dev", Inbox: out, Outbox: in, SendResults: true, Accept: true}}}
}

func (h *home) options() (transfer.Options, error) {
	identity, err := os.ReadFile(filepath.Join(h.dir, "identity"))
	if err != nil {
		return transfer.Options{}, err
	}
	signing, err := os.ReadFile(filepath.Join(h.dir, "signing"))
	if err != nil {
		return transfer.Options{}, err
	}
	keys, err := manifest.ParseSiteKeys(identity, signing, nil)
	return transfer.Options{Name: h.name, Index: filepath.Join(h.dir, "index.sqlite"), WorkDir: filepath.Join(h.dir, "work"), Keys: keys,
		Actor: "tester@" + h.name, Davit: "test"}, err
}

// site opens the site; done closes it.
func (h *home) site(ctx context.Context) (*transfer.Site, func() error, error) {
	o, err := h.options()
	if err != nil {
		return nil, nil, err
	}
	dir, err := bucket.OpenDir(filepath.Join(h.dir, "store"))
	if err != nil {
		return nil, nil, err
	}
	o.Bucket = dir
	if h.wrap != nil {
		o.Bucket = h.wrap(dir)
	}
	s, err := transfer.Open(ctx, o)
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return s, func() error { return errors.Join(s.Close(), dir.Close()) }, nil
}

// with does something at the site.
func (h *home) with(t testing.TB, fn func(*transfer.Site)) {
	t.Helper()
	s, done, err := h.site(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	fn(s)
	if err := done(); err != nil {
		t.Fatal(err)
	}
}

// watcher watches the site's link; scans follow each other at once.
func (h *home) watcher(report func(Event), change ...func(*Config)) (*Watcher, error) {
	cfg := Config{Name: h.name, Actor: "tester@" + h.name, Links: []Link{h.link}, Work: filepath.Join(h.dir, "work"), Report: report,
		Open: func(ctx context.Context) (Site, error) {
			s, done, err := h.site(ctx)
			if err != nil {
				return nil, err
			}
			return OfSite(s, done), nil
		},
		Tick: func(time.Duration) (<-chan time.Time, func()) {
			ticks := make(chan time.Time)
			close(ticks)
			return ticks, func() {}
		}}
	for _, f := range change {
		f(&cfg)
	}
	return New(cfg)
}

// pass is one pass of a new watcher; it returns what was told.
func (h *home) pass(t testing.TB, change ...func(*Config)) []Event {
	t.Helper()
	var events []Event
	w, err := h.watcher(func(e Event) { events = append(events, e) }, change...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	return events
}

func kinds(events []Event) string {
	var out []string
	for _, e := range events {
		out = append(out, string(e.Kind))
	}
	return strings.Join(out, ", ")
}

// newWorld makes two sites that know each other, and a release at dev.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := worldAt(t.TempDir())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cards := map[string][]byte{}
	for _, h := range []*home{w.dev, w.prod} {
		must(os.MkdirAll(h.link.Inbox, 0o755))
		must(os.MkdirAll(h.dir, 0o755))
		keys, err := manifest.GenerateSiteKeys()
		must(err)
		must(os.WriteFile(filepath.Join(h.dir, "identity"), keys.MarshalIdentity(), 0o600))
		must(os.WriteFile(filepath.Join(h.dir, "signing"), keys.MarshalSigning(), 0o600))
		o, err := h.options()
		must(err)
		dir, err := bucket.CreateDir(filepath.Join(h.dir, "store"))
		must(err)
		o.Bucket = dir
		s, err := transfer.Create(t.Context(), o)
		must(err)
		cards[h.name], err = s.CardEnvelope(t.Context())
		must(err)
		must(s.Close())
		must(dir.Close())
	}
	w.dev.with(t, func(s *transfer.Site) {
		_, err := s.AddPeer(t.Context(), transfer.PeerRequest{Card: cards["prod"], Send: []string{"releases"}, Accept: []string{"results"}})
		must(err)
	})
	w.prod.with(t, func(s *transfer.Site) {
		_, err := s.AddPeer(t.Context(), transfer.PeerRequest{Card: cards["dev"], Send: []string{"results"}, Accept: []string{"releases"}})
		must(err)
	})
	return w
}

// release makes a release at dev and lays its bundle into the outbox.
func (w *world) release(t testing.TB, version string, size int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.bin")
	data := make([]byte, size)
	x := uint64(size) + 88172645463325252
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	if err := os.WriteFile(file, append(data, version...), 0o644); err != nil {
		t.Fatal(err)
	}
	w.dev.with(t, func(s *transfer.Site) {
		if _, err := s.CreateRelease(t.Context(), transfer.ReleaseRequest{Project: "shop", Version: version,
			Packages: []transfer.PackageSource{{Source: file, Name: "app", Version: version, Path: "app.bin"}}}); err != nil {
			t.Fatal(err)
		}
		out, err := bucket.OpenDir(w.dev.link.Outbox)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if _, err := Deliver(t.Context(), s, transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: version}},
			Medium: out, MediumName: "out", VolumeSize: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	})
}

// settled wants all releases held by prod, known so at dev, and every file
// where it belongs.
func (w *world) settled(t testing.TB, versions ...string) {
	t.Helper()
	w.prod.with(t, func(s *transfer.Site) {
		for _, v := range versions {
			if _, err := s.VerifyRelease(t.Context(), "shop", v); err != nil {
				t.Fatal(err)
			}
		}
		received, err := s.Index.Received(t.Context(), "dev")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[manifest.BundleID]bool{}
		releases := 0
		for _, r := range received {
			if seen[r.Bundle] {
				t.Fatalf("bundle %s was taken in twice", r.Bundle)
			}
			seen[r.Bundle] = true
			releases += len(r.Releases)
		}
		if releases != len(versions) {
			t.Fatalf("%d releases came, want %d", releases, len(versions))
		}
		if r, err := s.Check(t.Context(), transfer.CheckRequest{ReadData: true}); err != nil || len(r.Problems) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	})
	w.dev.with(t, func(s *transfer.Site) {
		shipments, err := s.Index.Shipments(t.Context(), index.ShipmentFilter{Peer: "prod"})
		if err != nil {
			t.Fatal(err)
		}
		acknowledged := 0
		for _, sh := range shipments {
			if sh.State == index.ShipmentAcknowledged && len(sh.Releases) > 0 {
				acknowledged++
			}
		}
		if acknowledged != len(versions) {
			t.Fatalf("%d bundles are acknowledged, want %d", acknowledged, len(versions))
		}
	})
	for _, inbox := range []string{w.dev.link.Inbox, w.prod.link.Inbox} {
		entries, err := os.ReadDir(inbox)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				t.Fatalf("%s is left in %s", e.Name(), inbox)
			}
		}
		if entries, err := os.ReadDir(filepath.Join(inbox, failedDir)); err == nil {
			t.Fatalf("%v in failed", entries)
		}
	}
}

// TestTwoWayLink: a pair of folders carries releases out and receipts back, and
// falls silent when all is said.
func TestTwoWayLink(t *testing.T) {
	w := newWorld(t)
	w.release(t, "1.0", 1_300_000)
	w.prod.link.Export.Full = true // for releases; receipts go once all the same
	events := w.prod.pass(t)
	if kinds(events) != "taken in, sent" || events[0].State != Done || len(events[0].Files) != 2 || len(events[0].Accepted) != 1 {
		t.Fatalf("%s: %+v", kinds(events), events)
	}
	if got := kinds(w.dev.pass(t)); got != "taken in" { // receipts are not answered
		t.Fatal(got)
	}
	for range 3 {
		if got := kinds(w.prod.pass(t)) + kinds(w.dev.pass(t)); got != "" {
			t.Fatal(got)
		}
	}
	// Two releases, the second on top of the first, and the receipts in one bundle.
	w.release(t, "1.1", 1_300_000)
	w.release(t, "1.2", 1_300_000)
	if got := kinds(w.prod.pass(t)); got != "taken in, taken in, sent" {
		t.Fatal(got)
	}
	if got := kinds(w.dev.pass(t)); got != "taken in" {
		t.Fatal(got)
	}
	w.settled(t, "1.0", "1.1", "1.2")
}

// A link that asks leaves the release in the site's inbox, and the files in done/.
func TestAsks(t *testing.T) {
	w := newWorld(t)
	w.release(t, "1.0", 1000)
	w.prod.link.Accept = false
	events := w.prod.pass(t)
	if kinds(events) != "taken in, sent" || events[0].State != Quarantine || events[0].Moved[0] != "done/davit-dev-to-prod-000001.v01of01" {
		t.Fatalf("%s: %+v", kinds(events), events)
	}
	w.prod.with(t, func(s *transfer.Site) {
		if _, err := s.Accept(t.Context(), "shop", "1.0", "", false); err != nil {
			t.Fatal(err)
		}
	})
	if got := kinds(w.dev.pass(t)) + ", " + kinds(w.prod.pass(t)) + ", " + kinds(w.dev.pass(t)); got != "taken in, sent, taken in" {
		t.Fatal(got)
	}
	w.settled(t, "1.0")
}

// What a real site refuses goes to failed/, with what to do.
func TestRefusedBySite(t *testing.T) {
	w := newWorld(t)
	w.release(t, "1.0", 1000)
	w.prod.with(t, func(s *transfer.Site) {
		if err := s.RemovePeer(t.Context(), "dev"); err != nil {
			t.Fatal(err)
		}
	})
	w.prod.link.SendResults = false
	events := w.prod.pass(t)
	if kinds(events) != "refused" {
		t.Fatalf("%s: %+v", kinds(events), events)
	}
	text, err := os.ReadFile(filepath.Join(w.prod.link.Inbox, events[0].Moved[0]+reasonEnd))
	if err != nil || !strings.Contains(string(text), "davit peer add CARD") {
		t.Fatal(string(text), err)
	}
}

// Both sites use one folder, both ways.
func TestOneFolderBothWays(t *testing.T) {
	w := newWorld(t)
	w.prod.link.Outbox, w.dev.link.Inbox = w.dev.link.Outbox, w.dev.link.Outbox
	w.release(t, "1.0", 1000)
	var all []string
	for range 4 {
		all = append(all, kinds(w.prod.pass(t)), kinds(w.dev.pass(t)))
	}
	all = slices.DeleteFunc(all, func(s string) bool { return s == "" })
	if got := fmt.Sprint(all); got != "[taken in, sent taken in]" {
		t.Fatal(got)
	}
	w.settled(t, "1.0")
}

// BenchmarkIdle is what a look costs at which there is nothing to do.
func BenchmarkIdle(b *testing.B) {
	w := newWorld(b)
	watcher, err := w.prod.watcher(func(Event) {})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		watcher.stations[0].ticks++
		watcher.stations[0].look(b.Context(), true, noNews())
	}
}
