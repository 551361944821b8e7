package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// ways are those in which a name is given, best first. Every file system of a
// developer takes the first, so that the others would never be seen at work.
var ways = map[string]func(root *os.Root, from, to string) (bool, error){
	"kernel": func(root *os.Root, from, to string) (bool, error) {
		err := renameByKernel(root, from, to)
		return err == nil, err
	},
	"link": renameByLink,
	"look": func(root *os.Root, from, to string) (bool, error) {
		err := renameByLook(root, from, to)
		return err == nil, err
	},
}

func TestWays(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			put := func(name string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
				t.Fatal(err)
			}
			put("from")
			put("taken")
			moved, err := way(root, "from", "folder/to")
			if errors.Is(err, errors.ErrUnsupported) && name != "look" {
				t.Skip("not on this system")
			}
			if !moved || err != nil {
				t.Fatalf("%v, %v", moved, err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "folder", "to")); string(got) != "from" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			for _, to := range []string{"taken", "folder", "folder/to"} {
				if moved, err := way(root, "folder/to", to); moved || !errors.Is(err, fs.ErrExist) {
					t.Errorf("to %s, which is taken: %v, %v", to, moved, err)
				}
			}
			if got, err := os.ReadFile(filepath.Join(dir, "taken")); string(got) != "taken" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if moved, err := way(root, "absent", "new"); moved || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("from a name that is absent: %v, %v", moved, err)
			}
			if moved, err := way(root, "taken", "../out"); moved || err == nil {
				t.Errorf("outside the root: %v, %v", moved, err)
			}

			var wins atomic.Int32
			var wg sync.WaitGroup
			for i := range 16 {
				from := fmt.Sprint("racer", i)
				put(from)
				wg.Go(func() {
					switch moved, err := way(root, from, "prize"); {
					case moved && err == nil:
						wins.Add(1)
					case moved || !errors.Is(err, fs.ErrExist):
						t.Errorf("%v, %v", moved, err)
					}
				})
			}
			wg.Wait()
			if wins.Load() != 1 {
				t.Errorf("%d of 16 won the name", wins.Load())
			}
		})
	}
}

// A crash between link and remove leaves both names; the next attempt finishes.
func TestLinkFinishes(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.WriteFile("from", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := root.Link("from", "to"); err != nil {
		t.Skip(err)
	}
	if moved, err := renameByLink(root, "from", "to"); !moved || err != nil {
		t.Errorf("%v, %v", moved, err)
	}
	if _, err := root.Lstat("from"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
}

// The first failure must stay, so that a file with a hole never gets a name.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /dev/full")
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, err := Create(root, "", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	good := f.f
	if f.f, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Skip(err)
	}
	_, first := f.Write([]byte("data"))
	if !IsNoSpace(first) {
		t.Fatalf("Write to a full disk: %v", first)
	}
	f.f.Close()
	f.f = good // there is space again
	if _, err := f.Write([]byte("more")); err != first {
		t.Errorf("Write after a failure: %v", err)
	}
	if err := f.Close(); err != first {
		t.Errorf("Close after a failure: %v", err)
	}
	if err := f.Commit("name"); err != first {
		t.Errorf("Commit after a failure: %v", err)
	}
	if err := f.Abort(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestIsNoSpace(t *testing.T) {
	if len(noSpace) < 2 {
		t.Fatal("a full disk and a quota are two")
	}
	for _, err := range noSpace {
		if !IsNoSpace(fmt.Errorf("write x: %w", &fs.PathError{Op: "write", Path: "x", Err: err})) {
			t.Errorf("%v is not recognized", err)
		}
	}
	if IsNoSpace(nil) || IsNoSpace(fs.ErrPermission) {
		t.Error("something else is taken for a full disk")
	}
}
