package bucket_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"davit/internal/durable"
	"davit/store/bucket"
)

// disk is a real file system on an image that can be looked at as a power cut
// would leave it: what was not flushed to the image is not in a copy of it.
type disk struct {
	image string
	dir   string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip(err)
	}
	d := &disk{image: filepath.Join(t.TempDir(), "image")}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", d.image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.dir = mountImage(t, d.image)
	return d
}

func mountImage(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	// By itself it would write to the disk only after five minutes.
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,commit=300", image, dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// cut returns a folder with what would be there after a power cut now.
func (d *disk) cut(t *testing.T) string {
	t.Helper()
	src, err := os.Open(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	return mountImage(t, dst.Name())
}

// What returned nil is there after a power cut, and nothing half is.
func TestPowerCut(t *testing.T) {
	ctx := t.Context()
	disk := newDisk(t)
	store := filepath.Join(disk.dir, "new", "store")
	data := strings.Repeat("0123456789abcdef", 10_000)
	want := map[string]string{} // what must be in the store
	var d *bucket.Dir
	var loose bucket.Writer

	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"CreateDir", func() (err error) {
			d, err = bucket.CreateDir(store)
			return err
		}},
		{"Put", func() error {
			want["a/b/c"] = data
			return bucket.Put(ctx, d, "a/b/c", []byte(data))
		}},
		{"Put in a folder that is there", func() error {
			want["a/b/d"] = "d"
			return bucket.Put(ctx, d, "a/b/d", []byte("d"))
		}},
		{"Close", func() (err error) {
			if loose, err = d.Create(ctx); err != nil {
				return err
			}
			if _, err := io.WriteString(loose, data); err != nil {
				return err
			}
			return loose.Close()
		}},
		{"Commit", func() error {
			want["new/folder/e"] = data
			return loose.Commit(ctx, "new/folder/e")
		}},
		{"Move", func() error {
			want["moved/c"] = want["a/b/c"]
			delete(want, "a/b/c")
			return d.Move(ctx, "a/b/c", "moved/c")
		}},
		{"Delete", func() error {
			delete(want, "a/b/d")
			return d.Delete(ctx, "a/b/d")
		}},
		{"ErrExist", func() error {
			// Another process dies between rename and flush, and ours, with its
			// bytes written already, is told that the name is taken.
			want["raced/f"] = "f"
			w, err := d.Create(ctx)
			if err != nil {
				return err
			}
			defer w.Abort()
			path := filepath.Join(store, "f.tmp")
			if err := durable.WriteFile(path, []byte("f"), 0o600); err != nil {
				return err
			}
			if err := w.Close(); err != nil {
				return err
			}
			if err := os.Mkdir(filepath.Join(store, "raced"), 0o700); err != nil {
				return err
			}
			if err := os.Rename(path, filepath.Join(store, "raced", "f")); err != nil {
				return err
			}
			if err := w.Commit(ctx, "raced/f"); !errors.Is(err, bucket.ErrExist) {
				return fmt.Errorf("Commit: %v", err)
			}
			return nil
		}},
		{"WriteFile", func() error {
			want["file"] = "new"
			if err := durable.WriteFile(filepath.Join(store, "file"), []byte("old"), 0o600); err != nil {
				return err
			}
			return durable.WriteFile(filepath.Join(store, "file"), []byte("new"), 0o600)
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		// If this survived, so would everything, and we would learn nothing.
		canary := "canary-" + strings.ReplaceAll(step.name, " ", "-")
		if err := os.WriteFile(filepath.Join(store, canary), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(strings.ReplaceAll(step.name, " ", "-"), func(t *testing.T) {
			after := filepath.Join(disk.cut(t), "new", "store")
			if _, err := os.Stat(filepath.Join(after, canary)); err == nil {
				t.Fatal("the power cut lost nothing: this test checks nothing")
			}
			cut, err := bucket.OpenDir(after)
			if err != nil {
				t.Fatal(err)
			}
			defer cut.Close()
			var names []string
			for _, name := range list(t, cut, "") {
				if strings.HasPrefix(name, "canary-") {
					continue // an earlier one, flushed along with something
				}
				names = append(names, name)
				if got, err := bucket.Get(t.Context(), cut, name, 1<<20); err != nil || string(got) != want[name] {
					t.Errorf("%s holds %d bytes, want %d (%v)", name, len(got), len(want[name]), err)
				}
			}
			var wanted []string
			for name := range want {
				wanted = append(wanted, name)
			}
			slices.Sort(wanted)
			if !slices.Equal(names, wanted) {
				t.Errorf("after the power cut: %q, want %q", names, wanted)
			}
		})
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
