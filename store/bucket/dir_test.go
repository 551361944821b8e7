package bucket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
)

func list(t *testing.T, r bucket.Reader, prefix string) []string {
	t.Helper()
	var names []string
	for info, err := range r.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func wantList(t *testing.T, r bucket.Reader, prefix string, want ...string) {
	t.Helper()
	if got := list(t, r, prefix); !slices.Equal(got, want) {
		t.Errorf("List %q: got %q, want %q", prefix, got, want)
	}
}

func put(t *testing.T, b bucket.Bucket, name, data string) {
	t.Helper()
	if err := bucket.Put(t.Context(), b, name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func mkfile(t *testing.T, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a stranger's"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// entries returns what is really in the folder.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestOpenDir(t *testing.T) {
	dir := t.TempDir()
	if _, err := bucket.OpenDir(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: %v", err)
	}
	mkfile(t, dir, "file")
	if _, err := bucket.OpenDir(filepath.Join(dir, "file")); err == nil {
		t.Error("a file was opened as a folder")
	}
	if _, err := bucket.CreateDir(filepath.Join(dir, "file")); err == nil {
		t.Error("a file was made a folder")
	}
	t.Chdir(dir)
	for range 2 {
		d, err := bucket.CreateDir("a/b")
		if err != nil {
			t.Fatal(err)
		}
		if !filepath.IsAbs(d.Path()) || !strings.HasSuffix(filepath.ToSlash(d.Path()), "/a/b") {
			t.Errorf("Path is %s", d.Path())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Stat(t.Context(), "x"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// A bucket is the folder that was opened, whatever is done to its path.
func TestDirKeepsItsFolder(t *testing.T) {
	dir := t.TempDir()
	d, err := bucket.CreateDir(filepath.Join(dir, "real"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Rename(filepath.Join(dir, "real"), filepath.Join(dir, "moved")); err != nil {
		t.Skip(err)
	}
	mkfile(t, dir, "real", "trap")
	put(t, d, "name", "x")
	wantList(t, d, "", "name")
	if got := entries(t, filepath.Join(dir, "real")); !slices.Equal(got, []string{"trap"}) {
		t.Errorf("the folder in its place holds %q", got)
	}
}

// What else lies on a stick is neither listed nor in the way.
func TestDirPassesOverStrangers(t *testing.T) {
	d := openDir(t)
	for _, name := range []string{
		".Trashes/x", "System Volume Information/x", "a folder/x", "notes (old).txt", "ä.txt",
		".davit-tmp-abc", "a/.hidden", "a/.davit-tmp-abc", "a/b.txt",
		strings.Repeat("y", bucket.MaxElement+1),
		strings.Repeat(strings.Repeat("z", 100)+"/", 5) + strings.Repeat("z", 100),
	} {
		mkfile(t, d.Path(), name)
	}
	if err := os.MkdirAll(filepath.Join(d.Path(), "empty", "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantList(t, d, "", "a/b.txt")
	for _, prefix := range []string{"empty", "empty/", "empty/folder/", "zz"} {
		wantList(t, d, prefix)
	}
	for _, name := range []string{"empty", "empty/folder"} {
		if _, err := d.Stat(t.Context(), name); !errors.Is(err, bucket.ErrNotExist) {
			t.Errorf("Stat of a folder: %v", err)
		}
		if err := d.Delete(t.Context(), name); err != nil {
			t.Errorf("Delete of a folder, which is no object: %v", err)
		}
		// Callers take ErrExist for "the object is there".
		err := bucket.Put(t.Context(), d, name, nil)
		if !errors.Is(err, bucket.ErrNotRegular) || errors.Is(err, bucket.ErrExist) {
			t.Errorf("Put over a folder: %v", err)
		}
	}
	if err := bucket.Put(t.Context(), d, "a/b.txt/c", nil); err == nil || errors.Is(err, bucket.ErrExist) {
		t.Errorf("Put below an object: %v", err)
	}
	if got := entries(t, filepath.Join(d.Path(), "empty")); !slices.Equal(got, []string{"folder"}) {
		t.Errorf("the folder holds %q", got)
	}
}

func TestDirRefusesLinks(t *testing.T) {
	ctx := t.Context()
	d := openDir(t)
	outside := t.TempDir()
	mkfile(t, outside, "secret")
	put(t, d, "real/object", "x")
	for name, target := range map[string]string{
		"file-out": filepath.Join(outside, "secret"),
		"file-up":  "../" + filepath.Base(outside) + "/secret",
		"file-in":  "real/object",
		"dangling": "nowhere",
		"dir-out":  outside,
		"dir-up":   "..",
		"dir-in":   "real",
		"loop":     "loop",
	} {
		if err := os.Symlink(target, filepath.Join(d.Path(), name)); err != nil {
			t.Skip(err)
		}
		for _, name := range []string{name, name + "/secret", name + "/object"} {
			_, err := d.Stat(ctx, name)
			if !errors.Is(err, bucket.ErrNotRegular) || !strings.Contains(err.Error(), "symbolic link") {
				t.Errorf("Stat %s: %v", name, err)
			}
			o, err := d.Open(ctx, name)
			if err == nil {
				o.Close()
			}
			if !errors.Is(err, bucket.ErrNotRegular) || errors.Is(err, bucket.ErrNotExist) {
				t.Errorf("Open %s: %v", name, err)
			}
			if err := d.Delete(ctx, name); !errors.Is(err, bucket.ErrNotRegular) {
				t.Errorf("Delete %s: %v", name, err)
			}
			if err := d.Move(ctx, name, "moved"); !errors.Is(err, bucket.ErrNotRegular) {
				t.Errorf("Move from %s: %v", name, err)
			}
			if err := d.Move(ctx, "real/object", name); err == nil || errors.Is(err, bucket.ErrExist) {
				t.Errorf("Move to %s: %v", name, err)
			}
			if err := bucket.Put(ctx, d, name, nil); err == nil || errors.Is(err, bucket.ErrExist) {
				t.Errorf("Put %s: %v", name, err)
			}
		}
		for _, prefix := range []string{name, name + "/", name + "/s"} {
			wantList(t, d, prefix)
		}
	}
	wantList(t, d, "", "real/object")
	if got := entries(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside: %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(outside, "secret")); string(got) != "a stranger's" || err != nil {
		t.Errorf("outside: %q, %v", got, err)
	}
}

// An object is as long as it was when it was opened, or reading fails.
func TestDirChangingFile(t *testing.T) {
	d := openDir(t)
	put(t, d, "object", "0123456789")
	o, err := d.Open(t.Context(), "object")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	f, err := os.OpenFile(filepath.Join(d.Path(), "object"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20)
	if n, err := o.ReadAt(buf, 5); string(buf[:n]) != "56789" || err != io.EOF {
		t.Errorf("grown: %q, %v", buf[:n], err)
	}
	if err := f.Truncate(7); err != nil {
		t.Fatal(err)
	}
	if n, err := o.ReadAt(buf, 5); string(buf[:n]) != "56" || err != io.ErrUnexpectedEOF {
		t.Errorf("shrunk: %q, %v", buf[:n], err)
	}
}

func TestSweep(t *testing.T) {
	ctx := t.Context()
	d := openDir(t)
	put(t, d, "object", "x")
	mkfile(t, d.Path(), "folder", ".davit-tmp-not-ours") // temporary objects lie in the top folder
	var writers []bucket.Writer
	for i := range 3 {
		w, err := d.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
		if i < 2 {
			continue
		}
		for _, name := range entries(t, d.Path()) { // all three are old ...
			old := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(filepath.Join(d.Path(), name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	young, err := d.Create(ctx) // ... and this one is not
	if err != nil {
		t.Fatal(err)
	}
	defer young.Abort()
	if n, err := d.Sweep(ctx, 3*time.Hour); n != 0 || err != nil {
		t.Errorf("none is as old as that: %d, %v", n, err)
	}
	if n, err := d.Sweep(ctx, time.Hour); n != 3 || err != nil {
		t.Errorf("three are: %d, %v", n, err)
	}
	if err := young.Commit(ctx, "young"); err != nil {
		t.Error(err)
	}
	if err := writers[0].Commit(ctx, "old"); err == nil || errors.Is(err, bucket.ErrExist) {
		t.Errorf("Commit of what was swept: %v", err)
	}
	wantList(t, d, "", "object", "young")
	if got := entries(t, d.Path()); !slices.Equal(got, []string{"folder", "object", "young"}) {
		t.Errorf("left: %q", got)
	}
}

// A power cut at any operation leaves whole objects, hidden leftovers that a
// sweep removes, and nothing else; and doing it again succeeds.
func TestDirCrash(t *testing.T) {
	want := []string{"copy/of", "kept", "moved/here"}
	verb := func(t *testing.T, b bucket.Bucket) error {
		ctx := t.Context()
		for _, name := range []string{"kept", "gone"} {
			if err := bucket.Put(ctx, b, name, []byte("data of "+name)); err != nil && !errors.Is(err, bucket.ErrExist) {
				return err
			}
		}
		if err := bucket.Copy(ctx, b, "copy/of", b, "kept"); err != nil && !errors.Is(err, bucket.ErrExist) {
			return err
		}
		if err := bucket.Move(ctx, b, "gone", "moved/here"); errors.Is(err, bucket.ErrExist) {
			return b.Delete(ctx, "gone") // it was moved already, and put again
		} else if err != nil {
			return err
		}
		return nil
	}
	buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
		d := openDir(t)
		f := buckettest.NewFaulty(d, at, mode)
		f.Dead = true
		if err := verb(t, f); f.Fired() != errors.Is(err, buckettest.ErrInjected) {
			t.Fatalf("fired %v, but the error is %v", f.Fired(), err)
		}
		for _, name := range list(t, d, "") {
			data, err := bucket.Get(t.Context(), d, name, 100)
			if err != nil || !strings.HasPrefix(string(data), "data of ") {
				t.Errorf("after the crash %s holds %q, %v", name, data, err)
			}
		}
		if err := verb(t, d); err != nil {
			t.Fatalf("again: %v", err)
		}
		wantList(t, d, "", want...)
		if _, err := d.Sweep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if got := entries(t, d.Path()); !slices.Equal(got, []string{"copy", "kept", "moved"}) {
			t.Errorf("left: %q", got)
		}
		return f.Fired()
	})
}

// The child of the tests below: it writes, says so, waits for a word and
// commits.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DAVIT_TEST_CHILD"); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

func child(dir string) int {
	ctx := context.Background()
	d, err := bucket.OpenDir(dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	w, err := d.Create(ctx)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := fmt.Fprint(w, os.Getpid()); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("written")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return 1
	}
	switch err := w.Commit(ctx, "race/prize"); {
	case err == nil:
		fmt.Println("committed")
	case errors.Is(err, bucket.ErrExist):
		fmt.Println("taken")
	default:
		fmt.Println(err)
		return 1
	}
	return 0
}

type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// start runs a child until it has written its object.
func start(t *testing.T, d *bucket.Dir) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(exe)}
	p.Env = append(os.Environ(), "DAVIT_TEST_CHILD="+d.Path())
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	if !p.out.Scan() || p.out.Text() != "written" {
		t.Fatalf("the child says %q", p.out.Text())
	}
	return p
}

func TestProcessesOneWinner(t *testing.T) {
	d := openDir(t)
	var children []*process
	for range 4 {
		children = append(children, start(t, d))
	}
	wantList(t, d, "")
	for _, c := range children {
		if _, err := c.in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	var won []int
	for _, c := range children {
		switch c.out.Scan(); c.out.Text() {
		case "committed":
			won = append(won, c.Process.Pid)
		case "taken":
		default:
			t.Errorf("a child says %q", c.out.Text())
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d of %d processes won", len(won), len(children))
	}
	wantList(t, d, "", "race/prize")
	data, err := bucket.Get(t.Context(), d, "race/prize", 100)
	if err != nil || string(data) != fmt.Sprint(won[0]) {
		t.Errorf("process %d won, but there is %q, %v", won[0], data, err)
	}
	if got := entries(t, d.Path()); !slices.Equal(got, []string{"race"}) {
		t.Errorf("left: %q", got)
	}
}

func TestProcessKilled(t *testing.T) {
	d := openDir(t)
	c := start(t, d)
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	wantList(t, d, "")
	if got := entries(t, d.Path()); len(got) != 1 {
		t.Errorf("a process killed while writing left %q", got)
	}
	if n, err := d.Sweep(t.Context(), 0); n != 1 || err != nil {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	if got := entries(t, d.Path()); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}
