package durable_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"davit/internal/durable"
)

func openRoot(t *testing.T) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func create(t *testing.T, root *os.Root, data string) *durable.File {
	t.Helper()
	f, err := durable.Create(root, "", 0o640)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Abort() })
	if n, err := f.Write([]byte(data)); n != len(data) || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	return f
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
	}
}

func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

func TestWriteFile(t *testing.T) {
	_, dir := openRoot(t)
	path := filepath.Join(dir, "config")
	for _, data := range []string{"first", "", "third and longer"} {
		if err := durable.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, data)
	}
	wantEntries(t, dir, "config")
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "no", "config"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is missing: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "folder"), nil, 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	wantEntries(t, dir, "config", "folder") // and no temporary file
}

func TestWriteFileReplacesALink(t *testing.T) {
	_, dir := openRoot(t)
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("victim", link); err != nil {
		t.Skip(err)
	}
	if err := durable.WriteFile(link, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFile(t, victim, "precious")
	wantFile(t, link, "new")
}

func TestCommit(t *testing.T) {
	root, dir := openRoot(t)
	f := create(t, root, "data")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || !durable.IsTemp(entries[0].Name()) {
		t.Fatalf("while it is written the folder holds %v, %v", entries, err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if err := f.Commit("a/b/c"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "a", "b", "c"), "data")
	wantEntries(t, dir, "a")
	if err := f.Commit("again"); err == nil {
		t.Error("a second Commit is accepted")
	}
	if err := f.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	wantFile(t, filepath.Join(dir, "a", "b", "c"), "data")
	if runtime.GOOS != "windows" {
		for name, want := range map[string]os.FileMode{"a": 0o750 | os.ModeDir, "a/b/c": 0o640} {
			if info, err := root.Stat(name); err != nil || info.Mode()&^0o022 != want&^0o022 {
				t.Errorf("%s has mode %v, want %v but for the umask (%v)", name, info.Mode(), want, err)
			}
		}
	}
}

func TestCommitTaken(t *testing.T) {
	root, dir := openRoot(t)
	if err := create(t, root, "first").Commit("a/taken"); err != nil {
		t.Fatal(err)
	}
	f := create(t, root, "second")
	for range 2 {
		if err := f.Commit("a/taken"); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("Commit to a name that is taken: %v", err)
		}
	}
	if err := f.Commit("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Commit to the name of a folder: %v", err)
	}
	wantFile(t, filepath.Join(dir, "a", "taken"), "first")
	if err := f.Commit("a/taken/below"); err == nil {
		t.Error("Commit below a file is accepted")
	}
	if err := f.Commit("a/free"); err != nil {
		t.Fatalf("Commit to another name: %v", err)
	}
	wantFile(t, filepath.Join(dir, "a", "free"), "second")
}

func TestAbort(t *testing.T) {
	root, dir := openRoot(t)
	f := create(t, root, "data")
	for range 2 {
		if err := f.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit("name"); err == nil {
		t.Error("Commit after Abort is accepted")
	}
	f = create(t, root, "data")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Abort(); err != nil {
		t.Fatal(err)
	}
	wantEntries(t, dir)
}

func TestCommitAfterSweep(t *testing.T) {
	root, dir := openRoot(t)
	f := create(t, root, "data")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if err := os.Remove(filepath.Join(dir, entries[0].Name())); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit("name"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Commit of a file that was swept: %v", err)
	}
	if err := f.Abort(); err != nil {
		t.Error(err)
	}
}

func TestNoLinkTakenForAFolder(t *testing.T) {
	root, dir := openRoot(t)
	outside := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"out": outside, "up": "..", "in": "real", "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
		f := create(t, root, "data")
		if err := f.Commit(link + "/name"); err == nil {
			t.Errorf("Commit through the link to %s is accepted", target)
		}
		if err := f.Commit(link); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Commit over the link to %s: %v", target, err)
		}
		if err := f.Commit("../escape"); err == nil {
			t.Error("Commit outside the root is accepted")
		}
	}
	wantEntries(t, outside)
	wantEntries(t, filepath.Join(dir, "real"))
}

func TestRename(t *testing.T) {
	root, dir := openRoot(t)
	for name, data := range map[string]string{"a/from": "from", "taken": "taken"} {
		if err := create(t, root, data).Commit(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.Rename(root, "a/from", "taken", 0o700); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Rename to a name that is taken: %v", err)
	}
	wantFile(t, filepath.Join(dir, "taken"), "taken")
	if err := durable.Rename(root, "a/from", "b/c/to", 0o700); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "b", "c", "to"), "from")
	wantEntries(t, filepath.Join(dir, "a"))
	if err := durable.Rename(root, "a/from", "b/d", 0o700); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Rename of a name that is absent: %v", err)
	}
}

func TestCreatePrefix(t *testing.T) {
	root, dir := openRoot(t)
	f, err := durable.Create(root, "pack-", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), ".davit-tmp-pack-") {
		t.Errorf("the folder holds %v", entries)
	}
	for _, prefix := range []string{"../x", "a/b", `a\b`} {
		if f, err := durable.Create(root, prefix, 0o600); err == nil {
			f.Abort()
			t.Errorf("the prefix %q is accepted", prefix)
		}
	}
}

func TestIsTemp(t *testing.T) {
	for name, want := range map[string]bool{
		".davit-tmp-x": true, "a/b/.davit-tmp-x": true, `a\.davit-tmp-x`: true,
		"": false, "a": false, "davit-tmp-x": false, "a.davit-tmp-x": false, ".davit-tmp-x/a": false,
	} {
		if got := durable.IsTemp(name); got != want {
			t.Errorf("IsTemp(%q) = %v", name, got)
		}
	}
}

func TestMkdirAll(t *testing.T) {
	_, dir := openRoot(t)
	for range 2 {
		if err := durable.MkdirAll(filepath.Join(dir, "a", "b", "c"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	wantEntries(t, filepath.Join(dir, "a", "b"), "c")
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(filepath.Join(dir, "file", "a"), 0o700); err == nil {
		t.Error("a folder was made below a file")
	}
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	if err := durable.SyncDir(dir); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: %v", err)
	}
}

func TestFree(t *testing.T) {
	dir := t.TempDir()
	free, err := durable.Free(dir)
	if err != nil || free <= 0 {
		t.Errorf("%d, %v", free, err)
	}
	if _, err := durable.Free(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: %v", err)
	}
}

func TestLock(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "lock")
	short := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 10*time.Millisecond)
	}

	a, err := durable.LockShared(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := durable.LockShared(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := durable.TryLockExclusive(path); ok || err != nil {
		t.Errorf("exclusive beside shared: %v, %v", ok, err)
	}
	wait, cancel := short()
	defer cancel()
	if _, err := durable.LockExclusive(wait, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	for _, l := range []*durable.Lock{a, b, b} {
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	c, ok, err := durable.TryLockExclusive(path)
	if !ok || err != nil {
		t.Fatalf("nobody holds it: %v, %v", ok, err)
	}
	wait, cancel = short()
	defer cancel()
	if _, err := durable.LockShared(wait, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shared beside exclusive: %v", err)
	}
	if err := c.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			l, err := durable.LockExclusive(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d hold it", n)
			}
			time.Sleep(time.Millisecond)
			inside.Add(-1)
			if err := l.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
