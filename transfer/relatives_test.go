package transfer_test

import (
	"fmt"
	"testing"

	"davit/manifest"
	"davit/transfer"
)

// Each project of a bundle has its bases, however high the others' versions are.
func TestCrowdedBases(t *testing.T) {
	w := newWorld(t)
	var last []transfer.ReleaseName
	for p := range 5 {
		project := fmt.Sprintf("p%d", p)
		var names []transfer.ReleaseName
		for v := range 9 {
			version := fmt.Sprintf("%d.%d", 9-p, v)
			w.createFiles(w.dev, project, version, map[string][]byte{"disk": append([]byte(project), image(byte(10*p+v+1), 20_000)...)})
			if n := (transfer.ReleaseName{Project: project, Version: version}); v < 8 {
				names = append(names, n)
			} else {
				last = append(last, n)
			}
		}
		if _, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: names, Medium: w.stick, MediumName: "s"}); err != nil {
			t.Fatal(err)
		}
		w.take(w.prod)
		w.back()
	}
	r, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: last, Medium: w.stick, MediumName: "s", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range r.Packages {
		t.Logf("%+v", p)
		if want := fmt.Sprintf("p%d %d.7", i, 9-i); p.Base != want {
			t.Errorf("the base of p%d %s is %q, and the peer holds %q", i, p.Version, p.Base, want)
		}
	}
}

// What waited for its base and is older than something held is accepted with the
// base, where that is allowed.
func TestOlderReleaseWaitsForItsBase(t *testing.T) {
	w := newWorld(t)
	files := func(v byte) map[string][]byte { return map[string][]byte{"disk": image(v, 300_000)} }
	var sticks []int
	_ = sticks
	w.createFiles(w.dev, "shop", "1.1", files(11))
	w.promote(w.dev, "prod", "shop", "1.1")
	one := w.stick
	w.stick = w.folder()
	w.createFiles(w.dev, "shop", "1.2", files(12))
	w.promote(w.dev, "prod", "shop", "1.2", func(r *transfer.ExportRequest) { r.AssumeDelivered = true })
	two := w.stick
	w.stick = w.folder()
	w.createFiles(w.dev, "shop", "1.3", files(13))
	w.promote(w.dev, "prod", "shop", "1.3", func(r *transfer.ExportRequest) { r.Full = true })
	back := func(r *transfer.ImportRequest) { r.AllowRollback = true }
	w.take(w.prod, back)
	w.stick = two
	w.take(w.prod, back)
	w.stick = one
	w.take(w.prod, back)
	if _, _, err := w.prod.Release(ctx(), "shop", "1.2"); err != nil {
		t.Errorf("1.2: %v", err)
	}
	items, _ := w.prod.Index.InboxOpen(ctx())
	for _, it := range items {
		t.Logf("%s %s %s: %s", it.Project, it.Version, it.State, it.Reason)
	}
	_ = manifest.StateOlder
}
