package manifest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"davit/manifest"
)

func file(path, content string) manifest.TreeEntry {
	return manifest.TreeEntry{Path: path, Type: manifest.TreeFile, Mode: 0o644, Size: int64(len(content)), SHA256: digest(content)}
}

func dir(path string) manifest.TreeEntry {
	return manifest.TreeEntry{Path: path, Type: manifest.TreeDir, Mode: 0o755}
}

func link(path, target string) manifest.TreeEntry {
	return manifest.TreeEntry{Path: path, Type: manifest.TreeLink, Target: target}
}

var sampleTree = []manifest.TreeEntry{
	file(".hidden", ""),
	dir("a"),
	dir("a/b"),
	file(`a/b/"quoted" ünï`, "x"),
	link("a/b/up", "../../z"),
	link("a/self", "."),
	file("a.txt", "comes after what is in a, though '.' is less than '/'"),
	dir("empty"),
	link("z", "a/b"),
}

func listing(t testing.TB, entries ...manifest.TreeEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := manifest.NewTreeWriter(&buf)
	for _, e := range entries {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const (
	treeHead  = `{"davit":"tree","version":1}` + "\n"
	emptyFile = `,"type":"file","mode":420,"size":0,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}` + "\n"
	aDir      = `,"type":"dir","mode":493}` + "\n"
)

// badTrees are listings that must be refused as malformed.
var badTrees = map[string]string{
	"empty":               "",
	"no-header":           `{"path":"a"` + aDir,
	"header-cut":          treeHead[:10],
	"header-spaced":       `{"davit": "tree","version":1}` + "\n",
	"no-line-end":         strings.TrimSuffix(treeHead+`{"path":"a"`+aDir, "\n"),
	"carriage-return":     strings.ReplaceAll(treeHead+`{"path":"a"`+aDir, "}\n", "}\r\n"),
	"blank-line":          treeHead + "\n",
	"order":               treeHead + `{"path":"b"` + aDir + `{"path":"a"` + aDir,
	"twice":               treeHead + `{"path":"a"` + aDir + `{"path":"a"` + aDir,
	"order-by-bytes":      treeHead + `{"path":"a"` + aDir + `{"path":"a.txt"` + emptyFile + `{"path":"a/b"` + emptyFile,
	"no-parent":           treeHead + `{"path":"a/b"` + emptyFile,
	"parent-is-file":      treeHead + `{"path":"a"` + emptyFile + `{"path":"a/b"` + emptyFile,
	"parent-is-link":      treeHead + `{"path":"a","type":"link","target":"."}` + "\n" + `{"path":"a/b"` + emptyFile,
	"dotdot":              treeHead + `{"path":".."` + aDir,
	"dotdot-within":       treeHead + `{"path":"a"` + aDir + `{"path":"a/.."` + aDir,
	"dot":                 treeHead + `{"path":"."` + aDir,
	"absolute":            treeHead + `{"path":"/a"` + aDir,
	"slash-at-end":        treeHead + `{"path":"a/"` + aDir,
	"backslash":           treeHead + `{"path":"a\\b"` + aDir,
	"escape":              treeHead + `{"path":"\u0061"` + aDir,
	"control":             treeHead + "{\"path\":\"a\x1b\"" + emptyFile,
	"not-utf8":            treeHead + "{\"path\":\"a\xff\"" + emptyFile,
	"type":                treeHead + `{"path":"a","type":"fifo","mode":420}` + "\n",
	"setuid":              treeHead + strings.Replace(`{"path":"a"`+emptyFile, "420", "2541", 1),
	"mode-octal":          treeHead + strings.Replace(`{"path":"a"`+emptyFile, "420", "0420", 1),
	"size-negative":       treeHead + strings.Replace(`{"path":"a"`+emptyFile, `"size":0`, `"size":-1`, 1),
	"size-huge":           treeHead + strings.Replace(`{"path":"a"`+emptyFile, `"size":0`, `"size":9007199254740992`, 1),
	"size-float":          treeHead + strings.Replace(`{"path":"a"`+emptyFile, `"size":0`, `"size":0.0`, 1),
	"empty-with-digest":   treeHead + strings.Replace(`{"path":"a"`+emptyFile, "e3b0", "e3b1", 1),
	"digest-in-capitals":  treeHead + strings.Replace(`{"path":"a"`+emptyFile, "e3b0", "E3B0", 1),
	"unknown-member":      treeHead + strings.Replace(`{"path":"a"`+aDir, "}", `,"owner":0}`, 1),
	"target-absolute":     treeHead + `{"path":"a","type":"link","target":"/etc"}` + "\n",
	"target-outside":      treeHead + `{"path":"a","type":"link","target":".."}` + "\n",
	"target-outside-deep": treeHead + `{"path":"d"` + aDir + `{"path":"d/a","type":"link","target":"../../x"}` + "\n",
	// From d/e the target is lexically d/e/x, but b may lead to the root.
	"target-up-after-down": treeHead + `{"path":"d"` + aDir + `{"path":"d/a","type":"link","target":"b/../x"}` + "\n",
	"target-empty":         treeHead + `{"path":"a","type":"link","target":""}` + "\n",
	"target-backslash":     treeHead + `{"path":"a","type":"link","target":"..\\..\\x"}` + "\n",
	"line-too-long":        treeHead + `{"path":"` + strings.Repeat("a", 9000) + `"` + aDir,
	"path-too-long":        treeHead + `{"path":"` + strings.Repeat("a", 300) + `"` + aDir,
}

func TestTreeComesBack(t *testing.T) {
	data := listing(t, sampleTree...)
	got, err := readTree(iotest.OneByteReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sampleTree) {
		t.Errorf("came back as %+v", got)
	}
	if entries, err := readTree(bytes.NewReader(listing(t))); err != nil || len(entries) != 0 {
		t.Errorf("empty tree: %v, %v", entries, err)
	}
	r := manifest.NewTreeReader(bytes.NewReader(data))
	for {
		if _, err := r.Next(); err != nil {
			break
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	if want := (manifest.TreeSummary{Entries: 9, Files: 3, Size: sampleTree[3].Size + sampleTree[6].Size}); r.Summary() != want {
		t.Errorf("summary %+v, want %+v", r.Summary(), want)
	}
	w := manifest.NewTreeWriter(io.Discard)
	for _, e := range sampleTree {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if w.Summary() != r.Summary() {
		t.Errorf("writer counts %+v, reader %+v", w.Summary(), r.Summary())
	}
}

func TestTreeRefuses(t *testing.T) {
	// The lines that the bad listings are made of are good themselves.
	if _, err := readTree(strings.NewReader(treeHead + `{"path":"a"` + aDir + `{"path":"a/b"` + emptyFile + `{"path":"c","type":"link","target":"a"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	for name, lines := range badTrees {
		if _, err := readTree(strings.NewReader(lines)); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if _, err := readTree(strings.NewReader(strings.Replace(treeHead, "1", "2", 1))); !errors.Is(err, manifest.ErrVersion) {
		t.Errorf("version 2: error is %v", err)
	}
	broken := errors.New("cable out")
	if _, err := readTree(io.MultiReader(strings.NewReader(treeHead), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("an error of the reader below became %v", err)
	}
}

func TestTreeWriterRefusesAndStays(t *testing.T) {
	for _, bad := range [][]manifest.TreeEntry{
		{dir("b"), dir("a")},
		{link("a", "b"), file("a/c", "x")},
		{{Path: "a", Type: manifest.TreeFile, Size: 1}},
		{{Path: "a", Type: manifest.TreeDir, Size: 1}},
		{{Path: "a", Type: manifest.TreeLink, Target: "b", Mode: 0o777}},
		{{Path: "a", Type: "socket"}},
		{{Path: "a", Type: manifest.TreeFile, Mode: 0o1777, SHA256: digest("")}},
		{link("a", "../outside")},
	} {
		var buf bytes.Buffer
		w := manifest.NewTreeWriter(&buf)
		var err error
		for _, e := range bad {
			err = w.Add(e)
		}
		if err == nil {
			t.Errorf("%+v: was written", bad)
			continue
		}
		if again := w.Add(dir("zzz")); again == nil {
			t.Errorf("%+v: goes on after an error", bad)
		}
		if w.Close() == nil {
			t.Errorf("%+v: closes well after an error", bad)
		}
	}
	w := manifest.NewTreeWriter(io.Discard)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Add(dir("a")) == nil {
		t.Error("writes after Close")
	}
	full := errors.New("disk full")
	w = manifest.NewTreeWriter(failingWriter{full})
	w.Add(dir("a"))
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("full disk: %v", err)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestCaseCollision(t *testing.T) {
	for _, c := range []struct {
		entries []manifest.TreeEntry
		a, b    string
	}{
		{[]manifest.TreeEntry{file("README", ""), file("readme", "")}, "README", "readme"},
		{[]manifest.TreeEntry{dir("a"), file("a/X", ""), dir("a/x")}, "a/X", "a/x"},
		{[]manifest.TreeEntry{file("Straße", ""), file("strasse", "")}, "Straße", "strasse"},
		{[]manifest.TreeEntry{file("e\u0301", ""), file("\u00e9", "")}, "e\u0301", "\u00e9"}, // é in two ways
		{[]manifest.TreeEntry{dir("A"), file("A/x", ""), dir("b"), file("b/X", "")}, "", ""},
		{sampleTree, "", ""},
	} {
		var buf bytes.Buffer
		w := manifest.NewTreeWriter(&buf)
		slices.SortFunc(c.entries, func(x, y manifest.TreeEntry) int { return manifest.ComparePaths(x.Path, y.Path) })
		for _, e := range c.entries {
			if err := w.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := manifest.NewTreeReader(&buf)
		for {
			if _, err := r.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		for who, found := range map[string]func() (string, string, bool){"writer": w.CaseCollision, "reader": r.CaseCollision} {
			a, b, ok := found()
			same := a == c.a && b == c.b || a == c.b && b == c.a
			if ok != (c.a != "") || !same {
				t.Errorf("%s: %q and %q, %v; want %q and %q", who, a, b, ok, c.a, c.b)
			}
		}
	}
}

// TestCaseCollisionIsExact compares with a map.
func TestCaseCollisionIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[abABäÄ]{1,3}`), 0, 60, rapid.ID).Draw(t, "names")
		slices.Sort(names)
		folded := map[string]bool{}
		want := false
		w := manifest.NewTreeWriter(io.Discard)
		for _, n := range names {
			want = want || folded[manifest.FoldPath(n)]
			folded[manifest.FoldPath(n)] = true
			if err := w.Add(file(n, "")); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, got := w.CaseCollision(); got != want {
			t.Fatalf("collision %v, want %v", got, want)
		}
	})
}

// TestLinksStayInside resolves links as a kernel does, and checks that no
// chain of accepted links leaves the tree.
func TestLinksStayInside(t *testing.T) {
	dirs := []string{"", "d", "d/e", "f"}
	rapid.Check(t, func(t *rapid.T) {
		targets := map[string]string{}
		for i := range rapid.IntRange(1, 5).Draw(t, "links") {
			path := strings.TrimPrefix(rapid.SampledFrom(dirs).Draw(t, "dir")+fmt.Sprintf("/l%d", i), "/")
			target := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"..", ".", "d", "e", "f", "l0", "l1", "l2", "l3", "l4"}), 1, 5).Draw(t, "target"), "/")
			e := link(path, target)
			if e.Validate() == nil {
				targets[path] = target
			}
		}
		for path := range targets {
			budget := 200
			at := strings.Split(path, "/")
			if !resolve(at[:len(at)-1], targets[path], targets, &budget) {
				t.Fatalf("%s leads out of the tree: %v", path, targets)
			}
		}
	})
}

// resolve walks target from the directory at, following links, and reports
// false when it steps above the root. at is where the walk ends up.
func resolve(at []string, target string, links map[string]string, budget *int) bool {
	_, ok := walk(slices.Clone(at), target, links, budget)
	return ok
}

func walk(at []string, target string, links map[string]string, budget *int) ([]string, bool) {
	for _, element := range strings.Split(target, "/") {
		if *budget--; *budget < 0 {
			return at, true // a loop: leads nowhere
		}
		switch element {
		case ".":
		case "..":
			if len(at) == 0 {
				return at, false
			}
			at = at[:len(at)-1]
		default:
			next := append(slices.Clone(at), element)
			if further, ok := links[strings.Join(next, "/")]; ok {
				if at, ok = walk(at, further, links, budget); !ok {
					return at, false
				}
				continue
			}
			at = next
		}
	}
	return at, true
}

func TestComparePathsIsByElements(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`[a.\-!é]{1,3}(/[a.\-!é]{1,3}){0,3}`)
		a, b := path.Draw(t, "a"), path.Draw(t, "b")
		want := slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
		if got := manifest.ComparePaths(a, b); sign3(got) != want || sign3(manifest.ComparePaths(b, a)) != -want {
			t.Fatalf("ComparePaths(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

func sign3(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// bigTree calls fn for n files, some in directories of a thousand.
func bigTree(n int, flat bool, fn func(manifest.TreeEntry) error) error {
	sum := digest("content")
	for i := range n {
		path := fmt.Sprintf("file-%07d.go", i)
		if !flat {
			d := fmt.Sprintf("dir-%04d", i/1000)
			if i%1000 == 0 {
				if err := fn(dir(d)); err != nil {
					return err
				}
			}
			path = d + "/" + path
		}
		if err := fn(manifest.TreeEntry{Path: path, Type: manifest.TreeFile, Mode: 0o644, Size: 7, SHA256: sum}); err != nil {
			return err
		}
	}
	return nil
}

// TestTreeMemory writes and reads 200,000 entries through a pipe and looks at
// the heap on the way.
func TestTreeMemory(t *testing.T) {
	for _, flat := range []bool{false, true} {
		before := heap()
		pr, pw := io.Pipe()
		go func() {
			w := manifest.NewTreeWriter(pw)
			err := bigTree(200_000, flat, w.Add)
			if err == nil {
				err = w.Close()
			}
			pw.CloseWithError(err)
		}()
		r := manifest.NewTreeReader(pr)
		var most int64
		n := 0
		for {
			_, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n++; n%50_000 == 0 {
				most = max(most, heap()-before)
			}
		}
		limit := int64(2 << 20)
		if flat {
			limit = 24 << 20 // one directory, known to writer and reader
		}
		if n < 200_000 || most > limit {
			t.Errorf("flat %v: %d entries, %d bytes of heap, at most %d expected", flat, n, most, limit)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkTreeWrite200k(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		w := manifest.NewTreeWriter(io.Discard)
		if err := bigTree(200_000, false, w.Add); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTreeRead200k(b *testing.B) {
	var buf bytes.Buffer
	w := manifest.NewTreeWriter(&buf)
	if err := bigTree(200_000, false, w.Add); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(buf.Len()))
	b.ReportAllocs()
	for b.Loop() {
		r := manifest.NewTreeReader(bytes.NewReader(buf.Bytes()))
		for {
			if _, err := r.Next(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}
