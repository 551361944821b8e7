package transfer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"davit/transfer"
)

// Where there is no room to keep a delta, the package goes as chunks.
func TestNoRoomToKeepADelta(t *testing.T) {
	w := newWorld(t)
	w.ready(func(v byte) map[string][]byte { return map[string][]byte{"disk": image(v, 300_000)} })
	dir := filepath.Join(w.dev.dir, "work", "deltas")
	os.MkdirAll(dir, 0o700)
	if err := syscall.Mount("davit-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.1"}}, Medium: w.stick, MediumName: "the stick"})
	if err != nil {
		t.Errorf("the release could have gone as chunks: %v", err)
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
