package route

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/bundle"
)

func one(files map[string][]byte) (string, []byte) {
	for name, data := range files {
		return name, data
	}
	return "", nil
}

func TestTakenIn(t *testing.T) {
	r := newRig(t)
	names := r.put(r.make(3))
	r.write("notes.txt", []byte("mine"))
	r.write("sub/folder.v01of01", []byte("mine"))
	r.peek()
	e := r.heard(TakenIn)[0]
	if e.State != Done || !slices.Equal(e.Files, names) || !slices.Equal(e.Moved, under("done", names)) || e.Peer != "there" || e.Folder != r.dir {
		t.Fatalf("%+v", e)
	}
	r.wantTree(append(under("done", names), "notes.txt", "sub/folder.v01of01")...)
	r.scan(5)
	r.heard()
	r.wantTaken(1, 1)
}

// Files that are only copied, without marker or temporary name.
func TestQuiet(t *testing.T) {
	r := newRig(t)
	name, data := one(r.make(1))
	r.write(name, data[:1000])
	r.scan(2)
	r.write(name, data)
	for range 20 { // looks between scans make nothing ready
		r.peek()
	}
	r.scan(2)
	r.wantTree(name)
	r.scan(1)
	r.heard(TakenIn)
	r.wantTree("done/" + name)
}

// An hour of growth: 360 scans, in some of which nothing moves.
func TestGrowsForAnHour(t *testing.T) {
	r := newRig(t)
	files := r.make(2)
	name := sorted(slices.Collect(maps.Keys(files)))[0]
	other := sorted(slices.Collect(maps.Keys(files)))[1]
	data := files[name]
	r.write(other, files[other])
	f, err := os.Create(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 360 {
		from, to := len(data)*i/360, len(data)*(i+1)/360
		if i%50 == 49 {
			r.scan(10) // the line is down; the file is quiet, and not whole
		}
		if _, err := f.Write(data[from:to]); err != nil {
			t.Fatal(err)
		}
		r.scan(1)
	}
	if r.site.imports != 0 {
		t.Fatalf("%d imports of a file that grows", r.site.imports)
	}
	for _, e := range r.events {
		if e.Kind != Waiting || e.State != Incoming {
			t.Fatalf("%+v", e)
		}
	}
	// Once for each pause, and for the bundle at most once between: not 360 times.
	if n := len(r.events); n < 7 || n > 20 {
		t.Fatalf("told %d times:\n%s", n, r.story())
	}
	r.events = nil
	r.scan(3)
	r.heard(TakenIn)
	r.wantTree("done/"+name, "done/"+other)
}

func TestRenamed(t *testing.T) {
	r := newRig(t)
	for i, temp := range []string{".davit-tmp-abc", "NAME.part", ".NAME.Xy12ab"} {
		name, data := one(r.make(1))
		temp = strings.ReplaceAll(temp, "NAME", name)
		r.write(temp, data)
		r.peek()
		if err := os.Rename(filepath.Join(r.dir, temp), filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
		r.peek()
		r.heard(TakenIn)
		r.wantTaken(i+1, i+1)
	}
}

func TestMarkersVouch(t *testing.T) {
	r := newRig(t)
	// NAME.ready, written by another program.
	name, data := one(r.make(1))
	r.write(name, data)
	r.write(name+".ready", nil)
	r.peek()
	r.heard(TakenIn)
	r.wantTree("done/" + name)

	// It came first, so it was not the last.
	early, data := one(r.make(1))
	r.write(early+".ready", nil)
	r.peek()
	r.write(early, data)
	r.peek()
	r.heard()
	r.scan(3)
	r.heard(TakenIn)

	// davit's own may come first, since it tells sizes.
	files := r.make(2)
	r.mark(files)
	r.peek()
	for name, data := range files {
		r.write(name, data[:500])
	}
	r.peek()
	r.heard()
	for name, data := range files {
		r.write(name, data)
	}
	r.peek()
	r.heard(TakenIn)
	for _, name := range r.tree() {
		if looksLikeMarker(name) {
			t.Errorf("%s is left", name)
		}
	}

	// A marker that comes after the files have gone is cleared away; one for
	// files that have not come yet is not.
	r.mark(files)
	r.mark(r.make(1))
	r.write("other.ready", []byte("somebody's"))
	r.scan(1)
	left := slices.DeleteFunc(r.tree(), func(n string) bool { return !looksLikeMarker(n) })
	if !slices.Equal(left, []string{"davit-there-to-here-000004.ready", "other.ready"}) {
		t.Error(left)
	}
}

func TestMissingVolumes(t *testing.T) {
	r := newRig(t)
	files := r.make(3)
	names := sorted(slices.Collect(maps.Keys(files)))
	r.write(names[0], files[names[0]])
	r.scan(4)
	e := r.heard(Waiting)[0]
	if !strings.Contains(e.Reason, "2 of 3 volumes are missing: "+names[1]+", "+names[2]) || !errors.Is(e.Err, bundle.ErrIncomplete) {
		t.Fatalf("%+v", e)
	}
	r.scan(10)
	r.heard() // once per change
	r.write(names[2], files[names[2]])
	r.scan(4)
	if e := r.heard(Waiting)[0]; !strings.Contains(e.Reason, "1 of 3 volumes are missing: "+names[1]) {
		t.Fatal(e.Reason)
	}
	// What grows beside them is no news.
	r.write(names[1], files[names[1]][:70000])
	r.scan(2)
	r.heard()
	r.write(names[1], files[names[1]])
	r.scan(3)
	r.heard(TakenIn)
	r.wantTree(under("done", names)...)
	r.wantTaken(1, 1)

	// Of another bundle, one volume is ready and the other is growing.
	next := r.make(2)
	both := sorted(slices.Collect(maps.Keys(next)))
	r.write(both[0], next[both[0]])
	r.write(both[0]+".ready", nil)
	r.write(both[1], next[both[1]][:2000])
	r.scan(1)
	r.heard()
	for _, name := range append(both, both[0]+".ready") {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}

	// One volume of it again, from another stick.
	r.write(names[1], files[names[1]])
	r.scan(3)
	if e := r.heard(Repeat)[0]; e.Moved[0] != "done/"+numbered(names[1], 2) {
		t.Fatalf("%+v", e)
	}
	r.wantTaken(1, 1)
}

func TestRefused(t *testing.T) {
	r := newRig(t)
	r.site.verdict = func(*bundle.Set) (string, string) {
		return transfer.OutcomeRefused, "it says it comes from there, which is not known here"
	}
	files := r.make(2)
	names := r.put(files)
	r.peek()
	e := r.heard(Refused)[0]
	if e.State != Failed || !slices.Equal(e.Moved, under("failed", names)) {
		t.Fatalf("%+v", e)
	}
	r.wantTree("failed/"+names[0], "failed/"+names[0]+reasonEnd, "failed/"+names[1], "failed/"+names[1]+reasonEnd)
	text, err := os.ReadFile(filepath.Join(r.dir, "failed", names[0]+reasonEnd))
	if err != nil || !strings.Contains(string(text), "Refused: it says it comes from there") || !strings.Contains(string(text), "move "+names[0]+" back into the folder above") {
		t.Fatal(string(text), err)
	}
	// The same again: numbered, and nothing is overwritten.
	r.put(files)
	r.peek()
	r.heard(Refused)
	if n := len(r.tree()); n != 8 {
		t.Fatal(r.tree())
	}
	// The cause is gone, and a person moves them back.
	r.site.verdict = nil
	for _, n := range names {
		if err := os.Rename(filepath.Join(r.dir, "failed", n), filepath.Join(r.dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	r.scan(3)
	r.heard(TakenIn)
	r.wantTaken(-1, 1)
}

// Of a bundle with one damaged volume only that one has to come again.
func TestDamaged(t *testing.T) {
	r := newRig(t)
	files := r.make(3)
	names := r.put(files)
	bad := bytes.Clone(files[names[1]])
	bad[len(bad)/2] ^= 1
	r.write(names[1], bad)
	r.peek()
	e := r.heard(Damaged)[0]
	if !slices.Equal(e.Files, names[1:2]) || !errors.Is(e.Err, bundle.ErrDamaged) {
		t.Fatalf("%+v", e)
	}
	r.scan(3)
	r.heard(Waiting)
	r.wantTree(names[0], names[2], "davit-there-to-here-000001.ready", "failed/"+names[1], "failed/"+names[1]+reasonEnd)
	r.write(names[1], files[names[1]])
	r.peek()
	r.heard(TakenIn)
	r.wantTree(append(under("done", names), "failed/"+names[1], "failed/"+names[1]+reasonEnd)...)
}

// A file that is replaced while it is read is neither taken for the old one nor
// moved in its place.
func TestReplacedWhileRead(t *testing.T) {
	for _, same := range []bool{true, false} {
		r := newRig(t)
		old, next := r.make(1), r.make(1)
		name, _ := one(old)
		_, data := one(next)
		r.site.during = func(*bundle.Set) {
			r.site.during = nil
			if same { // as a rename does
				r.write("new", data)
				if err := os.Rename(filepath.Join(r.dir, "new"), filepath.Join(r.dir, name)); err != nil {
					t.Error(err)
				}
			} else {
				r.write(name, data)
			}
		}
		r.put(old)
		r.peek()
		for _, n := range r.tree() {
			if strings.HasPrefix(n, "failed/") || strings.HasPrefix(n, "done/") {
				t.Fatalf("moved to %s\n%s", n, r.story())
			}
		}
		r.scan(5)
		r.wantTree("done/" + name)
		got, err := os.ReadFile(filepath.Join(r.dir, "done", name))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatal("done/ does not hold the file that came last", err)
		}
		for id, n := range r.site.taken {
			if n != 1 {
				t.Errorf("%s taken in %d times", id, n)
			}
		}
		// The second was taken in whatever became of the first.
		if _, ok := r.site.taken[labelOf(t, data).Bundle]; !ok {
			t.Fatalf("lost\n%s", r.story())
		}
	}
}

func labelOf(t *testing.T, data []byte) bundle.Label {
	t.Helper()
	mem := bucket.NewMem()
	if err := bucket.Put(context.Background(), mem, "x.v1of1", data); err != nil {
		t.Fatal(err)
	}
	found, err := bundle.Scan(context.Background(), mem)
	if err != nil || len(found.Sets) != 1 {
		t.Fatal(found, err)
	}
	return found.Sets[0].Label
}

// A file that is replaced after the look and before it is opened is not read:
// it may be half written.
func TestReplacedBeforeRead(t *testing.T) {
	r := newRig(t)
	old, next := r.make(1), r.make(1)
	name, _ := one(old)
	_, data := one(next)
	r.w.hook = func(step string) {
		if step == "import" {
			r.w.hook = nil
			r.write("new", data)
			if err := os.Rename(filepath.Join(r.dir, "new"), filepath.Join(r.dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
	r.put(old)
	r.peek()
	r.heard(Changed)
	r.wantTaken(-1, 0)
	r.scan(4)
	r.heard(TakenIn)
	r.wantTree("done/" + name)
}

// A file that is replaced in the moment between the last look and the move is
// put back.
func TestReplacedWhileMoved(t *testing.T) {
	r := newRig(t)
	old, next := r.make(1), r.make(1)
	name, _ := one(old)
	_, data := one(next)
	r.w.hook = func(step string) {
		if step == "move" {
			r.w.hook = nil
			r.write("new", data)
			if err := os.Rename(filepath.Join(r.dir, "new"), filepath.Join(r.dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
	r.put(old)
	r.peek()
	r.wantTree(name)
	r.scan(4)
	r.wantTree("done/" + name)
	r.wantTaken(2, 2)
}
