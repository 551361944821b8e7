package transfer_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"davit/store/bucket"
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

// A delta that makes more than the disk holds stops no other bundle.
func TestDeltaLargerThanTheDisk(t *testing.T) {
	w := newWorld(t)
	period := random(3, 70_000)
	w.createFiles(w.dev, "shop", "1.0", map[string][]byte{"disk": period})
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	w.back()
	var big []byte
	for len(big) < 150<<20 {
		big = append(big, period...)
	}
	w.createFiles(w.dev, "shop", "1.1", map[string][]byte{"disk": big})
	s := w.promote(w.dev, "prod", "shop", "1.1")
	t.Logf("bundle of %d bytes, %+v", s.Bytes, s.Packages)
	w.create(w.dev, "good", "1.0", small)
	w.promote(w.dev, "prod", "good", "1.0", func(r *transfer.ExportRequest) { r.Full = true })
	w.prod.Close()
	disk := t.TempDir()
	if err := syscall.Mount("davit-test", disk, "tmpfs", 0, "size=120m"); err != nil {
		t.Skip(err)
	}
	defer syscall.Unmount(disk, syscall.MNT_DETACH)
	moved := filepath.Join(disk, "moved")
	if err := os.CopyFS(moved, os.DirFS(w.prod.dir)); err != nil {
		t.Fatal(err)
	}
	w.prod.dir = moved
	d, err := bucket.OpenDir(filepath.Join(moved, "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	w.prod.bucket = d
	if err := w.prod.open(d); err != nil {
		t.Fatal(err)
	}
	defer w.prod.Close()
	for range 2 {
		report, err := w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true})
		if err != nil {
			t.Errorf("import: %v", err)
		}
		for _, b := range report.Bundles {
			t.Logf("%s: %s %s", b.Label, b.State, b.Reason)
		}
	}
	if _, _, err := w.prod.Release(ctx(), "good", "1.0"); err != nil {
		t.Errorf("the good one did not come in: %v", err)
	}
}
