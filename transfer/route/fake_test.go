package route

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/bundle"
)

// fakes is the log of a site that survives every crash: what it took in, and
// how often.
type fakes struct {
	importing sync.Mutex // as a site lets one import at a time

	mu      sync.Mutex
	taken   map[manifest.BundleID]int
	imports int
	opened  int // sites that are open
	pending int // receipts that wait

	verdict func(set *bundle.Set) (state, reason string) // may be nil
	during  func(set *bundle.Set)                        // while a set is read; may be nil
	fail    error                                        // of every import
}

func newFakes() *fakes { return &fakes{taken: map[manifest.BundleID]int{}} }

func (f *fakes) open(context.Context) (Site, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	return &fakeSite{f}, nil
}

type fakeSite struct{ *fakes }

func (f *fakeSite) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened--
	return nil
}

func (f *fakeSite) Known(_ context.Context, _ string, id manifest.BundleID) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken[id] > 0, nil
}

// Import does what a site does, as far as files are concerned: it reads
// everything, and says what it is.
func (f *fakeSite) Import(ctx context.Context, req transfer.ImportRequest) (*transfer.ImportReport, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	f.importing.Lock()
	defer f.importing.Unlock()
	found, err := bundle.Scan(ctx, req.Medium)
	if err != nil {
		return nil, err
	}
	report := &transfer.ImportReport{Damaged: found.Damaged, Foreign: found.Foreign}
	for _, set := range found.Sets {
		report.Bundles = append(report.Bundles, f.importSet(ctx, set))
	}
	return report, nil
}

func (f *fakeSite) importSet(ctx context.Context, set *bundle.Set) transfer.BundleOutcome {
	out := transfer.BundleOutcome{Label: set.Label, Bytes: set.Payload, State: transfer.OutcomeTaken}
	f.mu.Lock()
	f.imports++
	known := f.taken[set.Bundle] > 0
	f.mu.Unlock()
	if known {
		out.State, out.Reason = transfer.OutcomeRepeat, "it was taken in before"
		return out
	}
	if !set.Complete() {
		out.State = transfer.OutcomeIncomplete
		return out
	}
	out.Err = set.Verify(ctx, nil)
	if f.during != nil {
		f.during(set)
		out.Err = errors.Join(out.Err, set.Verify(ctx, nil))
	}
	switch {
	case errors.Is(out.Err, bundle.ErrDamaged):
		out.State, out.Cause, out.Reason = transfer.OutcomeDamaged, manifest.CauseDamage, out.Err.Error()
		return out
	case out.Err != nil:
		out.State, out.Reason = transfer.OutcomeUnreadable, out.Err.Error()
		return out
	}
	if f.verdict != nil {
		if state, reason := f.verdict(set); state != "" {
			out.State, out.Reason = state, reason
			out.Err = errors.New(reason)
			return out
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken[set.Bundle]++
	f.pending++
	return out
}

// Export writes one small file for all that waits.
func (f *fakeSite) Export(ctx context.Context, req transfer.ExportRequest) (*transfer.ExportReport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == 0 {
		return &transfer.ExportReport{Nothing: "nothing waits"}, nil
	}
	name := fmt.Sprintf("davit-here-to-%s-%06d.v01of01", req.Peer, len(f.taken))
	if err := bucket.Put(ctx, req.Medium, name, []byte("receipts")); err != nil {
		return nil, err
	}
	report := &transfer.ExportReport{Peer: req.Peer, Files: []string{name}, Receipts: f.pending}
	f.pending = 0
	return report, nil
}

// rig is an inbox, a site and a watcher of it, driven by hand.
type rig struct {
	t      testing.TB
	dir    string // the inbox
	work   string
	site   *fakes
	w      *Watcher
	now    time.Time
	mu     sync.Mutex
	events []Event
	serial int64
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(inMemory(t), "in"), work: t.TempDir(), site: newFakes(), now: time.Now()}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(change...)
	return r
}

// inMemory is a folder on a file system that has nothing to flush, where there
// is one: most of the time of ten thousand moves is waiting for the disk.
func inMemory(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "davit-route-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start begins with a new watcher, as after a crash.
func (r *rig) start(change ...func(*Config)) {
	r.t.Helper()
	cfg := Config{Name: "here", Actor: "tester", Work: r.work, Open: r.site.open, Links: []Link{{Peer: "there", Inbox: r.dir}},
		Now: func() time.Time { return r.now },
		Report: func(e Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
		Tick: func(time.Duration) (<-chan time.Time, func()) {
			ticks := make(chan time.Time)
			close(ticks)
			return ticks, func() {}
		}}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if r.w, err = New(cfg); err != nil {
		r.t.Fatal(err)
	}
}

// scan is so many full scans of the first station.
func (r *rig) scan(n int) {
	r.t.Helper()
	for range n {
		s := r.w.stations[0]
		s.ticks++
		s.look(r.t.Context(), true, noNews())
	}
	if r.site.opened != 0 {
		r.t.Fatalf("%d sites are open between two looks", r.site.opened)
	}
}

// peek is a look between two scans.
func (r *rig) peek() { r.w.stations[0].look(r.t.Context(), false, noNews()) }

// make writes a bundle to memory and returns its files.
func (r *rig) make(volumes int, change ...func(*bundle.Label)) map[string][]byte {
	r.t.Helper()
	r.serial++
	label := bundle.Label{Bundle: manifest.NewBundleID(), From: "there", To: "here", Serial: r.serial, Kind: manifest.KindResults,
		Created: manifest.NewTime(time.Unix(1_800_000_000, 0))}
	for _, f := range change {
		f(&label)
	}
	size := int64(3000)
	if volumes > 1 {
		size = int64(volumes-1)<<20 + 1000
	}
	mem := bucket.NewMem()
	ctx := context.Background()
	w, err := bundle.NewWriter(ctx, mem, label, size, 1000, bundle.MinVolumeSize)
	if err == nil {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i>>8) ^ byte(i*7) ^ byte(r.serial)
		}
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Seal()
	}
	if err == nil {
		err = w.Publish(ctx)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	files := map[string][]byte{}
	for info, err := range mem.List(ctx, "") {
		if err != nil {
			r.t.Fatal(err)
		}
		if files[info.Name], err = bucket.Get(ctx, mem, info.Name, 1<<30); err != nil {
			r.t.Fatal(err)
		}
	}
	if volumes > 1 && len(files) < volumes {
		r.t.Fatalf("%d volumes, want %d", len(files), volumes)
	}
	return files
}

func (r *rig) write(name string, data []byte) {
	r.t.Helper()
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// put writes a bundle with a marker, so that it is ready at once.
func (r *rig) put(files map[string][]byte) []string {
	r.t.Helper()
	var names []string
	for name, data := range files {
		r.write(name, data)
		names = append(names, name)
	}
	names = sorted(names)
	r.mark(files)
	return names
}

func (r *rig) mark(files map[string][]byte) {
	r.t.Helper()
	var names []string
	var sizes []int64
	for name, data := range files {
		names, sizes = append(names, name), append(sizes, int64(len(data)))
	}
	r.write(markerName(sorted(names)), marshalMarker(names, sizes))
}

// tree lists the folder, done and failed included; what is hidden is not.
func (r *rig) tree() []string {
	r.t.Helper()
	names := []string{}
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(r.dir, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func (r *rig) wantTree(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	if got := r.tree(); !slices.Equal(got, want) {
		r.t.Fatalf("the folder holds\n  %s\nwant\n  %s\n%s", strings.Join(got, "\n  "), strings.Join(want, "\n  "), r.story())
	}
}

// heard returns the events since the last call, and wants these kinds.
func (r *rig) heard(kinds ...Kind) []Event {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var got []Kind
	for _, e := range r.events {
		got = append(got, e.Kind)
	}
	if !slices.Equal(got, kinds) {
		r.t.Fatalf("told of %q, want %q\n%s", got, kinds, r.story())
	}
	events := r.events
	r.events = nil
	return events
}

func (r *rig) story() string {
	var b strings.Builder
	for _, e := range r.events {
		fmt.Fprintf(&b, "%s %v → %v: %s\n", e.Kind, e.Files, e.Moved, e.Reason)
	}
	return b.String()
}

func (r *rig) wantTaken(imports int, bundles int) {
	r.t.Helper()
	for id, n := range r.site.taken {
		if n != 1 {
			r.t.Fatalf("bundle %s was taken in %d times", id, n)
		}
	}
	if len(r.site.taken) != bundles || imports >= 0 && r.site.imports != imports {
		r.t.Fatalf("%d bundles were taken in by %d imports, want %d by %d", len(r.site.taken), r.site.imports, bundles, imports)
	}
}

// under puts a folder before names.
func under(dir string, names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, dir+"/"+n)
	}
	return out
}
