package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/bucket/buckettest"
	"davit/transfer"
)

// clone copies a world with everything on its disks, as if its machines had
// been switched off.
func (w *world) clone(t *testing.T) *world {
	t.Helper()
	c := &world{t: t, now: w.now}
	c.dev, c.prod = w.dev.clone(c), w.prod.clone(c)
	dir := filepath.Join(t.TempDir(), "stick")
	if err := os.CopyFS(dir, os.DirFS(w.stick.Path())); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.stick, err = bucket.OpenDir(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.stick.Close() })
	return c
}

func (p *place) clone(w *world) *place {
	w.t.Helper()
	c := &place{w: w, name: p.name, keys: p.keys, dir: w.t.(*testing.T).TempDir()}
	if err := os.CopyFS(c.dir, os.DirFS(p.dir)); err != nil {
		w.t.Fatal(err)
	}
	dir, err := bucket.OpenDir(filepath.Join(c.dir, "store"))
	if err != nil {
		w.t.Fatal(err)
	}
	c.bucket = dir
	w.t.Cleanup(func() { dir.Close() })
	return c
}

// open opens the site on a bucket that may be faulty.
func (p *place) open(b bucket.Bucket) error {
	o := p.options()
	o.Bucket = b
	var err error
	p.Site, err = transfer.Open(ctx(), o)
	return err
}

// failures adds what went wrong with single bundles to an import's error.
func failures(r *transfer.ImportReport, err error) error {
	if err == nil {
		for _, b := range r.Bundles {
			err = errors.Join(err, b.Err)
		}
		for _, d := range r.Accepted {
			err = errors.Join(err, d.Err)
		}
	}
	return err
}

// small is a release that makes few writes, so that a walk is quick.
var small = map[string]string{"a.txt": "alpha\n", "b/c.txt": "gamma\n"}

// verb is one verb of the whole way, in its place in the story.
type verb struct {
	name  string
	who   func(*world) *place
	stick bool // it writes to the stick
	act   func(*world) error
	check func(*testing.T, *world)
}

// story lists the verbs of the whole way of a release in order.
func story(source string) []verb {
	accept := func(w *world) error {
		return failures(w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true}))
	}
	settled := func(t *testing.T, w *world) {
		runs, err := w.dev.Status(ctx())
		if err != nil {
			t.Fatal(err)
		}
		if cell := runs.Projects[0].Deployed["prod/production"]; cell.Status != manifest.StatusSucceeded {
			t.Fatalf("%+v", runs.Projects)
		}
		if runs.Shipments[0].State != "acknowledged" {
			t.Fatalf("%+v", runs.Shipments)
		}
	}
	visible := func(t *testing.T, p *place) {
		t.Helper()
		if _, err := p.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := p.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.0", Dir: dir}); err != nil {
			t.Fatal(err)
		}
		wantFiles(t, filepath.Join(dir, "app"), small)
	}
	return []verb{
		{"release", func(w *world) *place { return w.dev }, false, func(w *world) error {
			req := transfer.ReleaseRequest{Project: "shop", Version: "1.0", Packages: []transfer.PackageSource{{Source: source, Name: "app", Version: "1.0", Path: "app"}}}
			process(shell("run", "cat app/a.txt"))(&req)
			_, err := w.dev.CreateRelease(ctx(), req)
			return err
		}, func(t *testing.T, w *world) { visible(t, w.dev) }},
		{"export", func(w *world) *place { return w.dev }, true, func(w *world) error {
			_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.0"}}, Medium: w.medium(), MediumName: "the stick"})
			return err
		}, func(t *testing.T, w *world) {
			if err := w.prod.open(w.prod.bucket); err != nil {
				t.Fatal(err)
			}
			defer w.prod.Close()
			report, err := w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range report.Bundles {
				if b.State != transfer.OutcomeTaken && b.State != transfer.OutcomeIncomplete {
					t.Fatalf("%+v", b)
				}
			}
			visible(t, w.prod)
		}},
		{"import", func(w *world) *place { return w.prod }, false, accept, func(t *testing.T, w *world) { visible(t, w.prod) }},
		{"deploy", func(w *world) *place { return w.prod }, false, func(w *world) error {
			_, err := w.prod.Deploy(ctx(), transfer.DeployRequest{Project: "shop", Version: "1.0", Environment: "production"})
			return err
		}, func(t *testing.T, w *world) {
			st, err := w.prod.Status(ctx())
			if err != nil || st.Projects[0].Deployed["production"].Status != manifest.StatusSucceeded {
				t.Fatalf("%+v, %v", st, err)
			}
		}},
		{"export results", func(w *world) *place { return w.prod }, true, func(w *world) error {
			_, err := w.prod.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.medium(), MediumName: "the stick"})
			return err
		}, func(t *testing.T, w *world) {
			if err := w.dev.open(w.dev.bucket); err != nil {
				t.Fatal(err)
			}
			defer w.dev.Close()
			if _, err := w.dev.Settle(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick"}); err != nil {
				t.Fatal(err)
			}
			settled(t, w)
		}},
		{"settle", func(w *world) *place { return w.dev }, false, func(w *world) error {
			return failures(w.dev.Settle(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick"}))
		}, settled},
		{"collect", func(w *world) *place {
			// Two packs that nothing refers to, in a base that has none.
			if st, err := os.Stat(filepath.Join(w.prod.dir, "garbage")); err != nil || !st.IsDir() {
				w.prod.litter()
			}
			return w.prod
		}, false, func(w *world) error {
			_, err := w.prod.Collect(ctx(), false)
			return err
		}, func(t *testing.T, w *world) { visible(t, w.prod) }},
	}
}

// Every write of every verb is broken, in turn and in four ways: it failed, or
// it failed and took effect; and after it the machine goes on, or is dead.
// Whatever happened, doing it again afterwards must bring everything to where
// it belongs, and nothing may be lost or be there twice.
func TestEveryStepOfEveryVerb(t *testing.T) {
	steps := story(tree(t, small))
	base := newWorld(t)
	base.dev.Close()
	base.prod.Close()
	for _, s := range steps {
		walk(t, base, s)
		// Go on from where the verb ends.
		p := s.who(base)
		if err := p.open(p.bucket); err != nil {
			t.Fatal(err)
		}
		if s.name == "export results" {
			base.stick = base.folder()
		}
		if err := s.act(base); err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

// long is set by make test-long.
var long = os.Getenv("DAVIT_TEST_LONG") != ""

// walk breaks every write of one verb. The short run knows only machines that
// are dead after the fault.
func walk(t *testing.T, base *world, s verb) {
	for _, dead := range []bool{false, true} {
		if !dead && !long {
			continue
		}
		name := s.name
		if dead {
			name += ", then dead"
		}
		t.Run(name, func(t *testing.T) {
			buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
				w := base.clone(t)
				p := s.who(w)
				faulty := buckettest.NewFaulty(p.bucket, at, mode)
				faulty.Dead = dead
				stick := faulty.Wrap(w.stick)
				stick.Dead = dead
				if err := p.open(faulty); err != nil {
					t.Fatal(err)
				}
				if s.stick {
					w.over = stick
				}
				err := s.act(w)
				w.over = nil
				p.Close()
				if faulty.Fired() && err == nil {
					t.Fatalf("%s failed unnoticed", faulty.Failed())
				}
				if err != nil && !errors.Is(err, buckettest.ErrInjected) {
					t.Fatalf("%s failed, and the error says %v", faulty.Failed(), err)
				}
				// The next morning.
				if err := p.open(p.bucket); err != nil {
					t.Fatal(err)
				}
				defer func() { p.Close() }()
				if err := s.act(w); err != nil {
					t.Fatalf("after %s failed: %v", faulty.Failed(), err)
				}
				s.check(t, w)
				report, err := p.Check(ctx(), transfer.CheckRequest{ReadData: true})
				if err != nil || len(report.Problems) > 0 {
					t.Fatalf("after %s failed: %+v, %v", faulty.Failed(), report, err)
				}
				if dead {
					wantRepairable(t, p)
				}
				return faulty.Fired()
			})
		})
	}
}

// The same for what travels as a delta.
func TestEveryStepOfADelta(t *testing.T) {
	base := newWorld(t)
	tool := filepath.Join(t.TempDir(), "tool")
	version := func(v byte) {
		data := random(1, 150_000)
		for i := 0; i < len(data); i += 10_000 {
			data[i] = v
		}
		if err := os.WriteFile(tool, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	create := func(v string) {
		version(v[len(v)-1])
		base.create(base.dev, "shop", v, small, func(r *transfer.ReleaseRequest) {
			lib := tree(t, map[string]string{"a.txt": "version " + v, "b.bin": v + string(random(4, 60_000)), "c": "same"})
			r.Packages = append(r.Packages, transfer.PackageSource{Source: tool, Name: "tool", Version: v, Path: "tool"},
				transfer.PackageSource{Source: lib, Name: "lib", Version: v, Path: "lib"})
		})
	}
	create("1.0")
	base.promote(base.dev, "prod", "shop", "1.0")
	base.take(base.prod)
	base.back()
	create("1.1")
	base.dev.Close()
	base.prod.Close()
	want := func(t *testing.T, w *world) {
		t.Helper()
		if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.1"); err != nil {
			t.Fatal(err)
		}
	}
	export := verb{"export", func(w *world) *place { return w.dev }, true, func(w *world) error {
		r, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.1"}}, Medium: w.medium(), MediumName: "the stick"})
		if err == nil && r.Deltas != 2 {
			return fmt.Errorf("%d deltas", r.Deltas)
		}
		return err
	}, func(t *testing.T, w *world) {
		if err := w.prod.open(w.prod.bucket); err != nil {
			t.Fatal(err)
		}
		defer w.prod.Close()
		w.take(w.prod)
		want(t, w)
	}}
	walk(t, base, export)
	if err := base.dev.open(base.dev.bucket); err != nil {
		t.Fatal(err)
	}
	if err := export.act(base); err != nil {
		t.Fatal(err)
	}
	base.dev.Close()
	walk(t, base, verb{"import", func(w *world) *place { return w.prod }, false, func(w *world) error {
		return failures(w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true}))
	}, want})
}

// litter stores what no release refers to.
func (p *place) litter() {
	p.w.t.Helper()
	if err := os.Mkdir(filepath.Join(p.dir, "garbage"), 0o755); err != nil {
		p.w.t.Fatal(err)
	}
	if err := p.open(p.bucket); err != nil {
		p.w.t.Fatal(err)
	}
	defer p.Close()
	for seed := range 2 {
		if _, err := p.Store.Write(ctx(), func(w *store.Writer) error {
			st := w.NewStream()
			if err := st.Add(bytes.NewReader(random(byte(seed), 1000)), nil); err != nil {
				return err
			}
			_, err := st.Close()
			return err
		}); err != nil {
			p.w.t.Fatal(err)
		}
	}
}

// wantRepairable loses the index and makes it again: what the site knows must
// be the same.
func wantRepairable(t *testing.T, p *place) {
	t.Helper()
	before, err := p.Status(ctx())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := transfer.RepairIndex(ctx(), p.options(), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.open(p.bucket); err != nil {
		t.Fatal(err)
	}
	after, err := p.Status(ctx())
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, before, after)
}
