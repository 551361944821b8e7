package bucket_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
)

// mount puts a file system of its own on a new folder, if we may.
func mount(t *testing.T, source, kind, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(source, dir, kind, 0, options); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func openAt(t *testing.T, dir string) *bucket.Dir {
	t.Helper()
	d, err := bucket.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDirFull(t *testing.T) {
	ctx := t.Context()
	d := openAt(t, mount(t, "tmpfs", "tmpfs", "size=1m"))
	before, err := d.Free(ctx)
	if err != nil || before != 1<<20 {
		t.Fatalf("Free: %d, %v", before, err)
	}
	err = bucket.Put(ctx, d, "large", make([]byte, 2<<20))
	var full *bucket.NoSpaceError
	if !errors.As(err, &full) || !errors.Is(err, unix.ENOSPC) || full.Where != d.Path() || full.Have != 0 {
		t.Errorf("Put: %v (%+v)", err, full)
	}
	wantList(t, d, "")
	if after, err := d.Free(ctx); err != nil || after != before {
		t.Errorf("after Abort %d of %d bytes are free, %v", after, before, err)
	}
	put(t, d, "small", "fits")

	src := bucket.NewMem()
	put(t, src, "large", string(make([]byte, 2<<20)))
	if err := bucket.Copy(ctx, d, "large", src, "large"); !errors.As(err, &full) {
		t.Errorf("Copy: %v", err)
	}
	wantList(t, d, "", "small")
}

// No room for another file or folder, though there are bytes.
func TestDirFullOfNames(t *testing.T) {
	ctx := t.Context()
	d := openAt(t, mount(t, "tmpfs", "tmpfs", "size=1m,nr_inodes=3"))
	w, err := d.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	other, err := d.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var full *bucket.NoSpaceError
	if _, err := d.Create(ctx); !errors.As(err, &full) {
		t.Errorf("Create: %v", err)
	}
	full = nil
	if err := w.Commit(ctx, "in/a/folder"); !errors.As(err, &full) {
		t.Errorf("Commit: %v", err)
	}
	if err := other.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, "in/folder"); err != nil {
		t.Errorf("Commit when there is room again: %v", err)
	}
	wantList(t, d, "", "in/folder")
}

func TestDirReadOnly(t *testing.T) {
	ctx := t.Context()
	dir := mount(t, "tmpfs", "tmpfs", "size=1m")
	put(t, openAt(t, dir), "a/object", "x")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"); err != nil {
		t.Skip(err)
	}
	d := openAt(t, dir)
	wantList(t, d, "", "a/object")
	if data, err := bucket.Get(ctx, d, "a/object", 10); string(data) != "x" || err != nil {
		t.Errorf("Get: %q, %v", data, err)
	}
	if n, err := d.Sweep(ctx, 0); n != 0 || err != nil {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	if c, err := bucket.CreateDir(dir); err != nil {
		t.Errorf("CreateDir: %v", err)
	} else {
		c.Close()
	}
	if _, err := d.Create(ctx); !errors.Is(err, unix.EROFS) {
		t.Errorf("Create: %v", err)
	}
	if err := d.Delete(ctx, "a/object"); !errors.Is(err, unix.EROFS) {
		t.Errorf("Delete: %v", err)
	}
	if err := d.Move(ctx, "a/object", "b"); !errors.Is(err, unix.EROFS) {
		t.Errorf("Move: %v", err)
	}
}

func TestDirOnVFAT(t *testing.T) {
	testOnImage(t, "vfat", "mkfs.vfat")
}

func TestDirOnExFAT(t *testing.T) {
	testOnImage(t, "exfat", "mkfs.exfat")
}

// testOnImage runs the suite on the file system of a stick.
func testOnImage(t *testing.T, kind, mkfs string) {
	if _, err := exec.LookPath(mkfs); err != nil {
		t.Skip(err)
	}
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("mount %s: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	buckettest.Suite(t, func(t *testing.T) bucket.Bucket {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		return openAt(t, sub)
	})
}

func TestDirRefusesSpecialFiles(t *testing.T) {
	ctx := t.Context()
	d := openDir(t)
	if err := unix.Mkfifo(filepath.Join(d.Path(), "pipe"), 0o600); err != nil {
		t.Skip(err)
	}
	special := map[string]string{"pipe": "a pipe"}
	if err := unix.Mknod(filepath.Join(d.Path(), "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))); err == nil {
		special["device"] = "a device" // /dev/zero: endless if it were read
	}
	t.Chdir(d.Path()) // the path of a socket must be short
	if l, err := net.Listen("unix", "socket"); err == nil {
		defer l.Close()
		special["socket"] = "a socket"
	}
	for name, kind := range special {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := d.Stat(ctx, name)
			if !errors.Is(err, bucket.ErrNotRegular) {
				t.Errorf("Stat %s: %v", kind, err)
			}
			if o, err := d.Open(ctx, name); !errors.Is(err, bucket.ErrNotRegular) {
				t.Errorf("Open %s: %v, %v", kind, o, err)
			}
			if err := bucket.Put(ctx, d, name, nil); !errors.Is(err, bucket.ErrNotRegular) || errors.Is(err, bucket.ErrExist) {
				t.Errorf("Put over %s: %v", kind, err)
			}
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s stops us", kind)
		}
	}
	wantList(t, d, "")
}

// A list of one prefix must not cost what the whole bucket costs.
func TestDirListLeavesOtherFoldersAlone(t *testing.T) {
	d := openDir(t)
	for _, name := range []string{"documents/x", "packs/aa/x", "packs/ab/y", "packs/abc", "packs/b/z"} {
		put(t, d, name, "x")
	}
	opened := func(prefix string, folder string) bool {
		fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
		if err != nil {
			t.Skip(err)
		}
		defer unix.Close(fd)
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(d.Path(), folder), unix.IN_OPEN); err != nil {
			t.Skip(err)
		}
		list(t, d, prefix)
		n, err := unix.Read(fd, make([]byte, 4096))
		return err == nil && n > 0
	}
	for _, test := range []struct {
		prefix, folder string
		want           bool
	}{
		{"packs/ab", "packs", true}, // so that we know that it is noticed
		{"packs/ab", "packs/ab", true},
		{"packs/ab", "packs/aa", false},
		{"packs/ab", "packs/b", false},
		{"packs/ab", "documents", false},
		{"packs/ab/", "packs/ab", true},
		{"packs/ab/", "packs/aa", false},
		{"packs/abc", "packs/ab", false},
		{"d", "documents", true},
		{"d", "packs", false},
	} {
		if got := opened(test.prefix, test.folder); got != test.want {
			t.Errorf("List %q opens %s: %v", test.prefix, test.folder, got)
		}
	}
}
