package transfer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"davit/manifest"
	"davit/transfer"
)

// createFiles makes a release with a package of one file for each name.
func (w *world) createFiles(p *place, project, version string, files map[string][]byte, change ...func(*transfer.ReleaseRequest)) {
	w.t.Helper()
	dir := w.t.(*testing.T).TempDir()
	w.create(p, project, version, small, append([]func(*transfer.ReleaseRequest){func(r *transfer.ReleaseRequest) {
		for name, data := range files {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, data, 0o644); err != nil {
				w.t.Fatal(err)
			}
			r.Packages = append(r.Packages, transfer.PackageSource{Source: file, Name: name, Version: version, Path: name})
		}
	}}, change...)...)
}

// image is a file of which version v has n bytes of its own.
func image(v byte, n int) []byte {
	b := random(1, 1<<20)
	return append(b[:600_000:600_000], append(random(v, n), b[600_000:]...)...)
}

func (w *world) ready(files func(v byte) map[string][]byte) {
	w.t.Helper()
	w.createFiles(w.dev, "shop", "1.0", files(10))
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	w.back()
	w.createFiles(w.dev, "shop", "1.1", files(11))
}

func kept(t *testing.T, p *place) []string {
	all, err := filepath.Glob(filepath.Join(p.dir, "work", "deltas", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A kept delta that is damaged, by a power cut or by time, is made anew.
func TestKeptDeltaDamaged(t *testing.T) {
	w := newWorld(t)
	w.ready(func(v byte) map[string][]byte { return map[string][]byte{"disk": image(v, 300_000)} })
	plan := w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.DryRun = true })
	if plan.Deltas != 1 {
		t.Fatalf("%+v", plan)
	}
	for _, f := range kept(t, w.dev) {
		data, _ := os.ReadFile(f)
		if err := os.WriteFile(f, data[:len(data)-100_000], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.1"}}, Medium: w.stick, MediumName: "the stick"})
		if err != nil {
			t.Errorf("try %d: %v", i, err)
		}
	}
}

// However many deltas an export has, none of them is removed before it is
// written.
func TestPruneSparesItsOwn(t *testing.T) {
	transfer.SetDeltasKept(500_000)
	defer transfer.SetDeltasKept(2 << 30)
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t)
			w.ready(func(v byte) map[string][]byte {
				if n == 1 {
					return map[string][]byte{"disk": image(v, 600_000)}
				}
				return map[string][]byte{"disk1": image(v, 200_000), "disk2": append([]byte("x"), image(v+20, 200_000)...), "disk3": append([]byte("y"), image(v+40, 200_000)...)}
			})
			for i := range 3 {
				_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.1"}}, Medium: w.stick, MediumName: "the stick"})
				if err != nil {
					t.Errorf("try %d: %v", i, err)
				}
			}
		})
	}
}

func quarantinedDeltas(t *testing.T, p *place) []string {
	var all []string
	filepath.WalkDir(filepath.Join(p.dir, "store", "quarantine"), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "delta-") {
			all = append(all, path)
		}
		return nil
	})
	if len(all) == 0 {
		t.Fatal("no delta in quarantine")
	}
	return all
}

// A delta that rots in quarantine is damage here and not the sender's fault,
// and the next import brings it again.
func TestDeltaRotsInQuarantine(t *testing.T) {
	w := newWorld(t)
	w.ready(func(v byte) map[string][]byte { return map[string][]byte{"disk": image(v, 300_000)} })
	w.promote(w.dev, "prod", "shop", "1.1")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	if _, err := w.prod.Collect(ctx(), false); err != nil { // what the import applied goes
		t.Fatal(err)
	}
	for _, f := range quarantinedDeltas(t, w.prod) {
		data, _ := os.ReadFile(f)
		data[len(data)/2] ^= 1
		os.Chmod(f, 0o600)
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.prod.Accept(ctx(), "shop", "1.1", "", false)
	t.Log("accept: ", err)
	if err != nil && strings.Contains(err.Error(), "does not give what was signed") {
		t.Errorf("own disk's damage is blamed on the sender: %v", err)
	}
	r := w.take(w.prod)
	t.Logf("import again: %+v", r.Bundles[0])
	if len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Errorf("importing the bundle again did not help: %+v", r.Accepted)
	}
	report, err := w.prod.Check(ctx(), transfer.CheckRequest{ReadData: true})
	t.Logf("check: %+v %v", report.Problems, err)
}

// A delta that is gone from quarantine stops no other release.
func TestDeltaGoneFromQuarantine(t *testing.T) {
	w := newWorld(t)
	w.createFiles(w.dev, "shop", "1.0", map[string][]byte{"disk": image(10, 300_000)})
	w.promote(w.dev, "prod", "shop", "1.0")
	first := w.stick
	w.stick = w.folder()
	w.createFiles(w.dev, "shop", "1.1", map[string][]byte{"disk": image(11, 300_000)})
	if s := w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.AssumeDelivered = true }); s.Deltas != 1 {
		t.Fatalf("%+v", s)
	}
	w.take(w.prod) // waits for 1.0
	for _, f := range quarantinedDeltas(t, w.prod) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	w.stick = first
	w.create(w.dev, "other", "9.0", appFiles("9.0"))
	w.promote(w.dev, "prod", "other", "9.0", func(r *transfer.ExportRequest) { r.Full = true })
	report, err := w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true, AllowRollback: true})
	if err != nil {
		t.Errorf("import: %v", err)
	}
	for _, d := range report.Accepted {
		t.Logf("%s %s: %s", d.Project, d.Version, d.State)
	}
	if _, _, err := w.prod.Release(ctx(), "other", "9.0"); err != nil {
		t.Errorf("other 9.0, which is good, was not accepted: %v", err)
	}
}

// "Not worth it" for a peer that lacks little is remembered for one that
// lacks all.
func TestDeltaOfUseToAnotherPeer(t *testing.T) {
	w := newWorld(t)
	other := w.place("other")
	w.meet(w.dev, other)
	both := func(p *place) {
		w.promote(w.dev, p.name, "shop", "1.0")
		w.take(p)
		w.stick = w.folder()
		if _, err := p.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.stick}); err != nil {
			t.Fatal(err)
		}
		w.take(w.dev)
		w.stick = w.folder()
	}
	w.createFiles(w.dev, "shop", "1.0", map[string][]byte{"disk": image(10, 300_000)})
	both(w.prod)
	both(other)
	// prod also has another project, with most of what is new in 1.1.
	now := image(11, 300_000)
	w.createFiles(w.dev, "more", "1.0", map[string][]byte{"piece": now[:800_000]})
	w.promote(w.dev, "prod", "more", "1.0")
	w.take(w.prod)
	w.back()
	w.createFiles(w.dev, "shop", "1.1", map[string][]byte{"disk": now})
	dry := func(r *transfer.ExportRequest) { r.DryRun = true }
	wantBefore := w.promote(w.dev, "other", "shop", "1.1", dry)
	for _, f := range kept(t, w.dev) {
		os.Remove(f)
	}
	p := w.promote(w.dev, "prod", "shop", "1.1", dry)
	after := w.promote(w.dev, "other", "shop", "1.1", dry)
	t.Logf("other alone: %d bytes, %+v", wantBefore.Bytes, wantBefore.Packages)
	t.Logf("prod: %+v", p.Packages)
	t.Logf("other after prod: %d bytes, %+v", after.Bytes, after.Packages)
	if after.Bytes != wantBefore.Bytes {
		t.Errorf("%d bytes instead of %d, since another peer was served before", after.Bytes, wantBefore.Bytes)
	}
}

// A file and a tree of one SHA-256.
func TestFileThatIsAListing(t *testing.T) {
	w := newWorld(t)
	files := func(v string) map[string]string {
		f := map[string]string{}
		for i := range 3000 {
			f[fmt.Sprintf("d/f%04d", i)] = fmt.Sprint(v, i)
		}
		return f
	}
	listing := func(v string) []byte {
		r, _, err := w.dev.Release(ctx(), "probe", v)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(readAll(t, w.dev.Store.Open(ctx(), *r.Packages[0].Tree)))
	}
	for i, v := range []string{"1.0", "1.1"} {
		w.create(w.dev, "probe", v, files(v))
		w.create(w.dev, "shop", v, files(v), func(r *transfer.ReleaseRequest) {
			name := filepath.Join(t.TempDir(), "listing")
			if err := os.WriteFile(name, listing(v), 0o644); err != nil {
				t.Fatal(err)
			}
			r.Packages = append(r.Packages, transfer.PackageSource{Source: name, Name: "listing", Version: v, Path: "listing"})
		})
		_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: v}}, Medium: w.stick, MediumName: "the stick"})
		if err != nil {
			t.Fatal(err)
		}
		w.take(w.prod)
		if i == 0 {
			w.back()
		}
	}
}

// Plain content that a kill left in the work folder goes when the site is opened.
func TestSweepsTemporaryFiles(t *testing.T) {
	w := newWorld(t)
	f, err := os.CreateTemp(filepath.Join(w.dev.dir, "work"), ".davit-tmp-delta-*") // as transfer/delta/scratch.go does
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("secret content in the clear")
	f.Close()
	w.dev.Close()
	if err := w.dev.open(w.dev.bucket); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dev.Collect(ctx(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.Name()); err == nil {
		t.Errorf("%s is still there", filepath.Base(f.Name()))
	}
}

// What was lost of a release that is held comes back with a delta too.
func TestHealByDelta(t *testing.T) {
	w := newWorld(t)
	w.ready(func(v byte) map[string][]byte { return map[string][]byte{"disk": image(v, 300_000)} })
	before := map[string]bool{}
	packs := func() []string {
		all, _ := filepath.Glob(filepath.Join(w.prod.dir, "store", "packs", "*", "*"))
		return all
	}
	for _, p := range packs() {
		before[p] = true
	}
	w.promote(w.dev, "prod", "shop", "1.1")
	w.take(w.prod) // accepted; the receipt stays here
	for _, p := range packs() {
		if !before[p] {
			os.Chmod(p, 0o600)
			if err := os.Truncate(p, 100); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.prod.RepairPacks(ctx(), nil); err != nil {
		t.Fatal(err)
	}
	_, err := w.prod.VerifyRelease(ctx(), "shop", "1.1")
	t.Log("lost: ", err)
	w.stick = w.folder()
	s := w.promote(w.dev, "prod", "shop", "1.1")
	t.Logf("%d deltas", s.Deltas)
	r := w.take(w.prod)
	t.Logf("%s %+v", r.Bundles[0].State, r.Bundles[0].Releases)
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.1"); err != nil {
		t.Errorf("not healed: %v", err)
	}
}

// Two exports to two peers at once, with room for few deltas, do not take each
// other's.
func TestTwoExportsAtOnce(t *testing.T) {
	transfer.SetDeltasKept(300_000)
	defer transfer.SetDeltasKept(2 << 30)
	w := newWorld(t)
	other := w.place("other")
	w.meet(w.dev, other)
	for _, p := range []*place{w.prod, other} {
		for _, project := range []string{"shop", "game"} {
			w.stick = w.folder()
			if p == w.prod {
				w.createFiles(w.dev, project, "1.0", map[string][]byte{project: append([]byte(project), image(10, 300_000)...)})
			}
			w.promote(w.dev, p.name, project, "1.0")
			w.take(p)
		}
		w.stick = w.folder()
		if _, err := p.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.stick}); err != nil {
			t.Fatal(err)
		}
		w.take(w.dev)
	}
	for i := range 4 {
		v := fmt.Sprintf("1.%d", i+1)
		w.createFiles(w.dev, "shop", v, map[string][]byte{"shop": append([]byte("shop"), image(byte(20+i), 250_000)...)})
		w.createFiles(w.dev, "game", v, map[string][]byte{"game": append([]byte("game"), image(byte(140+i), 250_000)...)})
		var g sync.WaitGroup
		for k, p := range []string{"prod", "other"} {
			g.Add(1)
			go func() {
				defer g.Done()
				_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: p, Releases: []transfer.ReleaseName{{Project: []string{"shop", "game"}[k], Version: v}}, Medium: w.folder(), MediumName: "the stick"})
				if err != nil {
					t.Errorf("%s: %v", p, err)
				}
			}()
		}
		g.Wait()
	}
}
