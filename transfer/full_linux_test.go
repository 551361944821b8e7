package transfer_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"davit/store/bucket"
	"davit/transfer"
)

// unaware is a bucket that cannot tell how much room there is, so that the
// disk fills in the middle of the work instead of being found too small
// before it.
type unaware struct{ bucket.Bucket }

// The disk of a site fills at every point of every verb that writes much. The
// error says so, and when there is room again the work can be done.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	base := newWorld(t)
	base.dev.Close()
	base.prod.Close()
	source := tree(t, map[string]string{"a.txt": "alpha\n", "big": string(random(1, 300_000)), "log.sh": "seq 1 20000\n"})
	create := func(w *world) error {
		req := transfer.ReleaseRequest{Project: "shop", Version: "1.0", Packages: []transfer.PackageSource{{Source: source, Name: "app", Version: "1.0", Path: "app"}}}
		process(shell("run", "sh app/log.sh"))(&req)
		_, err := w.dev.CreateRelease(ctx(), req)
		return err
	}
	verbs := []struct {
		name string
		who  func(*world) *place
		act  func(*world) error
	}{
		{"release", func(w *world) *place { return w.dev }, create},
		{"export", func(w *world) *place { return w.dev }, func(w *world) error {
			_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.0"}}, Medium: w.medium(), MediumName: "the stick"})
			return err
		}},
		{"import", func(w *world) *place { return w.prod }, func(w *world) error {
			return failures(w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true}))
		}},
		{"deploy", func(w *world) *place { return w.prod }, func(w *world) error {
			_, err := w.prod.Deploy(ctx(), transfer.DeployRequest{Project: "shop", Version: "1.0", Environment: "production"})
			return err
		}},
	}
	for _, v := range verbs {
		t.Run(v.name, func(t *testing.T) {
			failed, worked := 0, 0
			for room := 16 << 10; worked < 2; room += 96 << 10 {
				if room > 16<<20 {
					t.Fatal("it never works")
				}
				w := base.clone(t)
				if fullDisk(t, w, v.who(w), room, v.name, v.act) {
					worked++
				} else {
					failed++
				}
			}
			if failed < 2 {
				t.Fatalf("the disk was full %d times only", failed)
			}
		})
		p := v.who(base)
		if err := p.open(p.bucket); err != nil {
			t.Fatal(err)
		}
		if err := v.act(base); err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

// fullDisk moves a site to a disk with little room, and for an export the
// stick, and reports whether the verb worked there.
func fullDisk(t *testing.T, w *world, p *place, room int, verb string, act func(*world) error) bool {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("davit-test", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip("cannot mount: ", err)
	}
	defer syscall.Unmount(disk, syscall.MNT_DETACH)
	resize := func(size uint64) {
		t.Helper()
		if err := syscall.Mount("davit-test", disk, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
			t.Fatal(err)
		}
	}
	moved := filepath.Join(disk, "moved")
	if verb == "export" {
		d, err := bucket.CreateDir(moved)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		w.over = unaware{d}
	} else {
		if err := os.CopyFS(moved, os.DirFS(p.dir)); err != nil {
			t.Fatal(err)
		}
		p.dir = moved
		d, err := bucket.OpenDir(filepath.Join(moved, "store"))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		p.bucket = d
	}
	if err := p.open(unaware{p.bucket}); err != nil {
		t.Fatal(err)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	resize((st.Blocks-st.Bfree)*uint64(st.Bsize) + uint64(room))
	err := act(w)
	p.Close()
	worked := err == nil
	var space *bucket.NoSpaceError
	var deploy *transfer.DeployFailedError
	switch {
	case worked, errors.As(err, &space), errors.As(err, &deploy):
	default:
		t.Fatalf("%s with %d bytes of room: the error does not say that the disk is full: %v", verb, room, err)
	}
	resize(64 << 20)
	if err := p.open(unaware{p.bucket}); err != nil {
		t.Fatalf("%s with %d bytes of room: %v", verb, room, err)
	}
	defer p.Close()
	if err := act(w); err != nil {
		t.Fatalf("%s with %d bytes of room, then enough: %v", verb, room, err)
	}
	wantSound(t, p)
	return worked
}
