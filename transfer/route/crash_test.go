package route

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/bundle"
)

// errKilled ends a watcher at one of its steps.
var errKilled = errors.New("killed")

// until lets a watcher do one pass and breaks it off at a step. It reports
// whether it came that far.
func (r *rig) until(step int) (killed bool) {
	n := 0
	r.w.hook = func(string) {
		if n++; n == step {
			panic(errKilled)
		}
	}
	defer func() {
		r.w.hook = nil
		if p := recover(); p != nil {
			if p != errKilled {
				panic(p)
			}
			killed = true
		}
	}()
	for range quietScans {
		s := r.w.stations[0]
		s.ticks++
		s.look(r.t.Context(), true, noNews())
	}
	return false
}

// TestKilledAtEachStep: a watcher is broken off at each of its steps, and the
// next one finds everything where it belongs.
func TestKilledAtEachStep(t *testing.T) {
	steps := 0
	var made []map[string][]byte
	for maker := newRig(t); len(made) < 3; {
		made = append(made, maker.make(3))
	}
	for step := 1; ; step++ {
		r := newRig(t)
		bad := map[string]bool{}
		r.site.verdict = func(set *bundle.Set) (string, string) {
			if set.Serial == 2 {
				return transfer.OutcomeRefused, "for a reason"
			}
			return "", ""
		}
		all := map[string][]byte{}
		for i, files := range made {
			for _, name := range r.put(files) {
				all[name] = files[name]
				bad[name] = i+1 == 2
			}
		}
		if !r.until(step) {
			break
		}
		steps++
		r.start()
		r.scan(2 * quietScans)
		var want []string
		for name := range all {
			if bad[name] {
				want = append(want, "failed/"+name, "failed/"+name+reasonEnd)
			} else {
				want = append(want, "done/"+name)
			}
		}
		r.wantTree(want...)
		for name, data := range all {
			dir := map[bool]string{true: "failed", false: "done"}[bad[name]]
			if got, err := os.ReadFile(filepath.Join(r.dir, dir, name)); err != nil || string(got) != string(data) {
				t.Fatalf("step %d: %s: %v", step, name, err)
			}
		}
		r.wantTaken(-1, 2)
	}
	if steps < 25 {
		t.Fatalf("only %d steps were broken: this test checks nothing", steps)
	}
	t.Logf("%d steps", steps)
}

// A file that got the reason of another must not be moved for it.
func TestReasonOfAnother(t *testing.T) {
	r := newRig(t)
	files := r.make(2)
	names := sorted([]string{markerless(files, 0), markerless(files, 1)})
	r.write("failed/"+names[0]+reasonEnd, []byte("Refused: long ago.\n\nFile: "+names[0]+", 12 bytes, written 2020-01-01T00:00:00Z\n"))
	r.write(names[0], files[names[0]])
	r.scan(4)
	r.heard(Waiting)
	r.write(names[1], files[names[1]])
	r.scan(3)
	r.heard(TakenIn)
}

func markerless(files map[string][]byte, n int) string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	return sorted(names)[n]
}

// TestMoveFails: what cannot be moved is not taken in again, and is moved when
// that can be.
func TestMoveFails(t *testing.T) {
	r := newRig(t)
	r.write("done", []byte("a file is in the way of the folder"))
	names := r.put(r.make(1))
	r.scan(20)
	e := r.heard(TakenIn)[0]
	if e.State != Done || !strings.Contains(e.Reason, "cannot be moved to done") || e.Err == nil {
		t.Fatalf("%+v", e)
	}
	r.wantTaken(1, 1)
	if err := os.Remove(filepath.Join(r.dir, "done")); err != nil {
		t.Fatal(err)
	}
	r.scan(longestWait)
	r.heard(TakenIn)
	r.wantTree("done/" + names[0])
	r.wantTaken(1, 1)
}

// TestTenThousand: 10,000 bundles and as many foreign files.
func TestTenThousand(t *testing.T) {
	const many = 10_000
	r := newRig(t)
	start := time.Now()
	waiting := 0
	for i := range many {
		r.write(fmt.Sprintf("foreign-%05d.txt", i), nil)
		if i%100 == 0 { // of each hundredth only one of two volumes comes
			files := r.make(2)
			name := markerless(files, 1)
			r.write(name, files[name])
			waiting++
			continue
		}
		files := r.make(1)
		for name, data := range files {
			r.write(name, data)
		}
	}
	t.Logf("made in %v", time.Since(start))
	start = time.Now()
	r.scan(2)
	looks := time.Since(start) / 2
	start = time.Now()
	r.scan(1)
	took := time.Since(start)
	r.wantTaken(many-waiting, many-waiting)
	start = time.Now()
	r.scan(10)
	idle := time.Since(start) / 10
	r.wantTaken(many-waiting, many-waiting)
	t.Logf("a look at 20,000 files %v, taking 9,900 in %v, a look at what is left %v", looks, took, idle)
	if looks > 5*time.Second || idle > 5*time.Second || took > 3*time.Minute {
		t.Error("too slow")
	}
	if n := len(r.tree()); n != 2*many {
		t.Errorf("%d files, want %d", n, 2*many)
	}
}

// TestNotices: with ticks that never come, what the system tells is enough.
func TestNotices(t *testing.T) {
	r := newRig(t)
	taken := make(chan Event, 100)
	r.start(func(c *Config) {
		c.Tick = func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }
		c.Report = func(e Event) { taken <- e }
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.w.Run(ctx) }()
	want := func(k Kind) {
		t.Helper()
		select {
		case e := <-taken:
			if e.Kind != k {
				t.Fatalf("%s: %s; want %s", e.Kind, e.Reason, k)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no %s", k)
		}
	}
	want(Watching)
	if r.w.stations[0].lock == nil {
		t.Fatal("no lock")
	}
	r.put(r.make(2)) // copied, marker last
	want(TakenIn)
	// Written and renamed faster than anybody looks, as davit's exporter does.
	dir, err := bucket.OpenDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for name, data := range r.make(1) {
		if err := bucket.Put(ctx, dir, name, data); err != nil {
			t.Fatal(err)
		}
	}
	want(TakenIn)
	cancel()
	want(Stopped)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if r.w.stations[0].lock != nil {
		t.Fatal("the lock is held")
	}
}

// A share that comes back is another folder under the same name, and is listened
// to again.
func TestNoticesAfterReturn(t *testing.T) {
	r := newRig(t)
	events := make(chan Event, 100)
	tick := make(chan time.Time)
	r.start(func(c *Config) {
		c.Tick = func(time.Duration) (<-chan time.Time, func()) { return tick, func() {} }
		c.Report = func(e Event) { events <- e }
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.w.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	want := func(k Kind) {
		t.Helper()
		select {
		case e := <-events:
			if e.Kind != k {
				t.Fatalf("%s: %s; want %s", e.Kind, e.Reason, k)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no %s", k)
		}
	}
	want(Watching)
	for i, seen := range []bool{true, false} { // or it is away for less than a scan
		if err := os.Rename(r.dir, fmt.Sprint(r.dir, i)); err != nil {
			t.Fatal(err)
		}
		if seen {
			tick <- time.Time{}
			want(Gone)
		}
		if err := os.Mkdir(r.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		tick <- time.Time{}
		if seen {
			want(Back)
		}
		tick <- time.Time{} // the look before this one is over
		r.put(r.make(1))
		want(TakenIn)
	}
}

// A second watcher waits, says who is there, and takes over.
func TestTakesOver(t *testing.T) {
	r := newRig(t)
	if err := r.w.stations[0].hold(); err != nil {
		t.Fatal(err)
	}
	first := r.w.stations[0]
	events := make(chan Event, 100)
	tick := make(chan time.Time)
	r.start(func(c *Config) {
		c.Tick = func(time.Duration) (<-chan time.Time, func()) { return tick, func() {} }
		c.Report = func(e Event) { events <- e }
	})
	r.put(r.make(1))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.w.Run(ctx) }()
	for range 5 {
		tick <- time.Time{}
	}
	if e := <-events; e.Kind != Held || !strings.Contains(e.Reason, "by tester, process") {
		t.Fatalf("%+v", e)
	}
	if err := first.letGo(); err != nil {
		t.Fatal(err)
	}
	tick <- time.Time{}
	for _, want := range []Kind{Watching, TakenIn} {
		if e := <-events; e.Kind != want {
			t.Fatalf("%+v", e)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestStops: the step under way ends by itself, and no other begins; one that
// takes longer than the grace is broken off.
func TestStops(t *testing.T) {
	for _, patient := range []bool{true, false} {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		var broken atomic.Bool
		r.start(func(c *Config) {
			c.Grace = time.Millisecond
			if patient {
				c.Grace = time.Hour
			}
			c.Open = func(ctx context.Context) (Site, error) {
				s, err := r.site.open(ctx)
				return &slow{s, cancel, patient, &broken}, err
			}
		})
		names := r.put(r.make(1))
		others := r.put(r.make(1))
		if err := r.w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if patient {
			r.heard(Watching, TakenIn, Stopped)
			r.wantTree("done/"+names[0], others[0], "davit-there-to-here-000002.ready")
			continue
		}
		if !broken.Load() {
			t.Fatal("nothing was broken off")
		}
		r.heard(Watching, Stopped)
		left := slices.DeleteFunc(r.tree(), looksLikeMarker)
		if !slices.Equal(left, []string{names[0], others[0]}) {
			t.Fatal(left)
		}
	}
}

// slow is a site whose import is under way when the watcher is told to stop.
type slow struct {
	Site
	stop    func()
	patient bool
	broken  *atomic.Bool
}

func (s *slow) Import(ctx context.Context, req transfer.ImportRequest) (*transfer.ImportReport, error) {
	s.stop()
	if !s.patient {
		<-ctx.Done()
		s.broken.Store(true)
		return nil, context.Cause(ctx)
	}
	time.Sleep(5 * time.Millisecond)
	return s.Site.Import(ctx, req)
}
