package route

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/bundle"
)

// What lasts is told once, and tried again less and less often.
func TestFailures(t *testing.T) {
	r := newRig(t)
	r.site.fail = &bucket.NoSpaceError{Where: "the store", Need: 10, Have: 1}
	names := r.put(r.make(1))
	tries := 0
	r.site.verdict = nil
	r.w.hook = func(step string) {
		if step == "import" {
			tries++
		}
	}
	r.scan(100)
	e := r.heard(Retry)[0]
	if e.State != Incoming || !strings.Contains(e.Reason, "Make room") {
		t.Fatalf("%+v", e)
	}
	if tries < 5 || tries > 10 {
		t.Errorf("%d tries in 100 scans", tries)
	}
	r.wantTree(names[0], "davit-there-to-here-000001.ready")
	r.site.fail = nil
	r.scan(longestWait)
	r.heard(TakenIn)
	r.wantTree("done/" + names[0])
}

func TestLeftAlone(t *testing.T) {
	r := newRig(t)
	theirs := r.put(r.make(1, func(l *bundle.Label) { l.To = "elsewhere" }))
	ours := r.put(r.make(1, func(l *bundle.Label) { l.From, l.To = "here", "there" }))
	r.write("davit copy (2).v01of01", []byte("x"))
	r.write("x.zip", []byte("x"))
	before := r.tree()
	r.scan(5)
	events := r.heard(Odd, Elsewhere)
	if events[0].Files[0] != "davit copy (2).v01of01" || events[1].Files[0] != theirs[0] {
		t.Fatal(r.story())
	}
	r.wantTree(before...)
	r.wantTaken(0, 0)
	_ = ours
}

// A share that goes and returns, also in the middle of a look.
func TestShareDisappears(t *testing.T) {
	r := newRig(t)
	away := r.dir + ".away"
	names := r.put(r.make(1))
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(r.dir, away)
	r.scan(20)
	if e := r.heard(Gone)[0]; !strings.Contains(e.Reason, "looked for at each scan") {
		t.Fatalf("%+v", e)
	}
	move(away, r.dir)
	r.scan(1)
	r.heard(Back, TakenIn)
	r.wantTree("done/" + names[0])

	second := r.put(r.make(1))
	r.w.hook = func(step string) {
		if step == "import" {
			move(r.dir, away)
		}
	}
	r.scan(2)
	r.w.hook = nil
	move(away, r.dir)
	r.scan(5)
	r.wantTree("done/"+names[0], "done/"+second[0])
	r.wantTaken(-1, 2)
}

func TestTwoWatchers(t *testing.T) {
	r := newRig(t)
	names := r.put(r.make(1))
	if err := r.w.stations[0].hold(); err != nil {
		t.Fatal(err)
	}
	first := r.w
	r.start(func(c *Config) { c.Actor = "second" })
	var busy *BusyError
	if err := r.w.Once(t.Context()); !errors.As(err, &busy) || !strings.Contains(busy.Holder, "tester, process ") {
		t.Fatal(err)
	}
	r.wantTree(names[0], "davit-there-to-here-000001.ready")
	if err := first.stations[0].letGo(); err != nil {
		t.Fatal(err)
	}
	if err := r.w.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.heard(TakenIn)

	// Without the lock, as on two machines that share a folder and a store:
	// nothing is lost, and nothing taken in twice.
	var all []string
	for range 30 {
		all = append(all, r.put(r.make(1))...)
	}
	other := &rig{t: t, dir: r.dir, work: t.TempDir(), site: r.site, now: r.now}
	other.start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 4 {
			s := other.w.stations[0]
			s.ticks++
			s.look(t.Context(), true, noNews())
		}
	}()
	for range 4 {
		s := r.w.stations[0]
		s.ticks++
		s.look(t.Context(), true, noNews())
	}
	<-done
	r.scan(3)
	r.wantTree(under("done", append(all, names[0]))...)
	r.wantTaken(-1, 31)
}

func TestRetention(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Links[0].KeepDone = 30 * 24 * time.Hour })
	r.write("done/other.txt", []byte("x"))
	var names []string
	for range 3 {
		names = append(names, r.put(r.make(1))...)
		r.scan(1)
		r.now = r.now.Add(10 * 24 * time.Hour)
	}
	r.heard(TakenIn, TakenIn, TakenIn)
	r.now = r.now.Add(time.Hour)
	r.scan(1)
	if e := r.heard(Removed)[0]; !slices.Equal(e.Files, names[:1]) {
		t.Fatalf("%+v", e)
	}
	r.wantTree("done/"+names[1], "done/"+names[2], "done/other.txt")
	r.scan(5)
	r.heard()

	r.start(func(c *Config) { c.Links[0].KeepSize = 8000 }) // of two files of some 7,200 bytes
	r.scan(1)
	r.heard(Removed)
	r.wantTree("done/"+names[2], "done/other.txt")
	r.start()
	r.now = r.now.Add(1000 * 24 * time.Hour)
	r.scan(1)
	r.wantTree("done/"+names[2], "done/other.txt")
}

// Whoever writes to the folder can do no harm outside of it.
func TestHostileFolder(t *testing.T) {
	r := newRig(t)
	outside := t.TempDir()
	old := filepath.Join(outside, "old.v01of01")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"done", "failed"} {
		if err := os.Symlink(outside, filepath.Join(r.dir, name)); err != nil {
			t.Skip(err)
		}
	}
	if err := os.Symlink(old, filepath.Join(r.dir, "link.v01of01")); err != nil {
		t.Fatal(err)
	}
	r.put(r.make(1))
	r.site.verdict = func(set *bundle.Set) (string, string) {
		if set.Serial == 2 {
			return transfer.OutcomeRefused, "\x1b[2Jfor a reason"
		}
		return "", ""
	}
	r.put(r.make(1))
	r.now = r.now.Add(1000 * 24 * time.Hour)
	r.start(func(c *Config) { c.Links[0].KeepDone = time.Hour })
	r.scan(5)
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	r.wantTaken(-1, 1)
	for _, name := range []string{"done", "failed"} {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.scan(2 * longestWait)
	text, err := os.ReadFile(filepath.Join(r.dir, "failed", "davit-there-to-here-000002.v01of01"+reasonEnd))
	if err != nil || strings.Contains(string(text), "\x1b") {
		t.Fatalf("%q, %v", text, err)
	}
	// Markers are held in memory, so only so many are.
	for i := range 20 {
		r.write(fmt.Sprintf("m%d.ready", i), append([]byte(markerFirst+"\n1 "), bytes.Repeat([]byte("x"), 1<<20)...))
	}
	r.scan(1)
	if n := len(r.w.stations[0].track.markers); n < 5 || n > 16 {
		t.Errorf("%d markers of a MiB are held", n)
	}
}

func TestOnce(t *testing.T) {
	r := newRig(t)
	ready := r.put(r.make(1))
	copied, data := one(r.make(1))
	r.write(copied, data)
	if err := r.w.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.heard(TakenIn, TakenIn)
	r.wantTree("done/"+ready[0], "done/"+copied)
	// One that is written to all the time is said to be.
	growing, data := one(r.make(1))
	n := 100
	r.start(func(c *Config) {
		c.Tick = func(time.Duration) (<-chan time.Time, func()) {
			ticks := make(chan time.Time)
			go func() {
				for range 2 {
					n += 100
					r.write(growing, data[:n])
					ticks <- time.Time{}
				}
			}()
			return ticks, func() {}
		}
	})
	r.write(growing, data[:n])
	if err := r.w.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := r.heard(Waiting)[0]; !errors.Is(e.Err, bundle.ErrIncomplete) || e.Files[0] != growing {
		t.Fatalf("%+v", e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.w.Once(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestSend(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	r := newRig(t, func(c *Config) { c.Links[0].Outbox, c.Links[0].SendResults = out, true })
	r.put(r.make(1))
	r.scan(5)
	r.heard(TakenIn, Gone)
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	r.scan(longestWait)
	events := r.heard(Back, Sent)
	if events[1].Sent.Receipts != 1 {
		t.Fatalf("%+v", events[1])
	}
	name := events[1].Files[0]
	data, err := os.ReadFile(filepath.Join(out, markerName([]string{name})))
	if err != nil || string(data) != "# davit ready 1\n8 "+name+"\n" {
		t.Fatalf("%q, %v", data, err)
	}
	r.scan(10)
	r.heard()
	// In one look two bundles come and one answer goes, at once.
	r.put(r.make(1))
	r.put(r.make(1))
	r.peek()
	if e := r.heard(TakenIn, TakenIn, Sent)[2]; e.Sent.Receipts != 2 {
		t.Fatalf("%+v", e.Sent)
	}
}

// The link's peer decides whether a bundle is accepted by itself, not the folder.
func TestAccept(t *testing.T) {
	r := newRig(t)
	var asked []bool
	r.start(func(c *Config) {
		c.Links = []Link{{Peer: "there", Inbox: r.dir, Accept: true}, {Peer: "far", Inbox: r.dir + "/."}}
		c.Open = func(ctx context.Context) (Site, error) {
			s, err := r.site.open(ctx)
			return &spy{s, func(req transfer.ImportRequest) { asked = append(asked, req.Accept) }}, err
		}
	})
	if len(r.w.stations) != 1 {
		t.Fatal("one folder is watched twice")
	}
	for _, from := range []string{"far", "stranger", "there"} {
		r.put(r.make(1, func(l *bundle.Label) { l.From = from }))
	}
	r.scan(1)
	if got := fmt.Sprint(asked); got != "[false false true]" {
		t.Fatal(got)
	}
	for _, bad := range []Config{{}, {Links: []Link{{Peer: "a"}}}, {Links: []Link{{Peer: "a", SendResults: true}}}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

type spy struct {
	Site
	see func(transfer.ImportRequest)
}

func (s *spy) Import(ctx context.Context, req transfer.ImportRequest) (*transfer.ImportReport, error) {
	s.see(req)
	return s.Site.Import(ctx, req)
}
