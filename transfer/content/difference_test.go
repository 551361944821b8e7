package content_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/transfer/content"
	"davit/transfer/delta"
)

// files are a tree: contents by path. A path that ends in a slash is a folder,
// content that begins with "→ " a link.
type files map[string]string

func (f files) with(change files) files {
	out := files{}
	for p, c := range f {
		out[p] = c
	}
	for p, c := range change {
		if out[p] = c; c == gone {
			delete(out, p)
		}
	}
	return out
}

const gone = "gone"

func (f files) write(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for p, c := range f {
		name := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(c, "→ "); ok {
			err = os.Symlink(target, name)
		} else if strings.HasSuffix(p, "/") {
			err = os.MkdirAll(name, 0o755)
		} else {
			err = os.WriteFile(name, []byte(c), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func prose(seed uint64, lines int) string {
	r := rand.New(rand.NewPCG(seed, 2))
	var b strings.Builder
	for range lines {
		fmt.Fprintf(&b, "key %d has %x\n", r.IntN(1000), r.Uint32())
	}
	return b.String()
}

func gzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// site makes an empty store.
func site(t testing.TB) *store.Store {
	t.Helper()
	keys, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	seal, err := keys.PackKeys()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Create(t.Context(), bucket.NewMem(), store.NewMemoryIndex(1), store.Options{Keys: seal, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// take takes a folder or a file in as the only package of a release.
func take(t testing.TB, s *store.Store, version, source string) *manifest.Release {
	t.Helper()
	p := manifest.Package{Name: "app", Version: version, Path: "app"}
	_, err := s.Write(t.Context(), func(w *store.Writer) error {
		info, err := os.Stat(source)
		if err != nil {
			return err
		}
		if info.IsDir() {
			return takeTree(w, source, &p)
		}
		f, err := os.Open(source)
		if err != nil {
			return err
		}
		defer f.Close()
		p.Kind, p.Files, p.Size = manifest.PackageFile, 1, info.Size()
		var sum store.FileSum
		p.Content, sum, err = w.AddFile(f)
		p.SHA256 = sum.SHA256
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return &manifest.Release{Project: "app", Version: version, Packages: []manifest.Package{p}}
}

func takeTree(w *store.Writer, dir string, p *manifest.Package) error {
	var listing bytes.Buffer
	list, st := manifest.NewTreeWriter(&listing), w.NewStream()
	add := func(e manifest.TreeEntry) error { return st.Then(func() error { return list.Add(e) }) }
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		e := manifest.TreeEntry{Path: filepath.ToSlash(rel), Type: manifest.TreeFile, Mode: 0o644}
		switch {
		case d.IsDir():
			e.Type, e.Mode = manifest.TreeDir, 0o755
			return add(e)
		case d.Type() == fs.ModeSymlink:
			e.Type, e.Mode = manifest.TreeLink, 0
			if e.Target, err = os.Readlink(name); err != nil {
				return err
			}
			return add(e)
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return st.Add(f, func(sum store.FileSum) error {
			e.Size, e.SHA256 = sum.Size, sum.SHA256
			p.Files++
			p.Size += e.Size
			return list.Add(e)
		})
	})
	if err != nil {
		return err
	}
	if p.Content, err = st.Close(); err != nil {
		return err
	}
	if err := list.Close(); err != nil {
		return err
	}
	ref, sum, err := w.AddFile(&listing)
	p.Kind, p.Tree, p.SHA256 = manifest.PackageTree, &ref, sum.SHA256
	return err
}

// heldBy says which chunks a release needs.
func heldBy(t testing.TB, s *store.Store, r *manifest.Release) func(chunk.Name) bool {
	t.Helper()
	all := map[chunk.Name]bool{}
	for _, ref := range content.Refs(r) {
		for e, err := range s.Chunks(t.Context(), ref) {
			if err != nil {
				t.Fatal(err)
			}
			all[e.Name] = true
		}
	}
	return func(n chunk.Name) bool { return all[n] }
}

const docs = 130

func plainTree() files {
	f := files{"bin/tool": noise(7, 300_000), "etc/empty": "", "etc/conf": prose(1, 20), "lib/current": "→ ../bin/tool", "var/": ""}
	for i := range docs {
		f[fmt.Sprintf("share/doc%03d/readme-1.0.txt", i)] = prose(uint64(i+10), 30)
	}
	f["share/big.txt"] = prose(2, 9000)
	return f
}

func TestTreeDifference(t *testing.T) {
	base := plainTree()
	log := prose(5, 8000)
	base["log.gz"] = gzipped(t, log)
	moved := files{"share/big.txt": gone, "other/big.txt": base["share/big.txt"], "share/doc007/readme-1.0.txt": gone, "doc007.txt": base["share/doc007/readme-1.0.txt"]}
	renamed := files{}
	for i := range docs {
		renamed[fmt.Sprintf("share/doc%03d/readme-1.0.txt", i)] = gone
		renamed[fmt.Sprintf("share/doc%03d/readme-1.1.txt", i)] = strings.Replace(prose(uint64(i+10), 30), "key 1", "key 2", 1)
	}
	dev := site(t)
	old := take(t, dev, "1", base.write(t))
	held := heldBy(t, dev, old)
	for name, c := range map[string]struct {
		change files
		most   int64 // bytes of the difference
		loose  bool
	}{
		"one line":        {files{"share/doc123/readme-1.0.txt": prose(133, 30) + "one more line\n"}, 400, false},
		"a large file":    {files{"share/big.txt": strings.Replace(base["share/big.txt"], "key 5", "KEY 5", 3)}, 600, false},
		"a compressed":    {files{"log.gz": gzipped(t, log+"one more line\n")}, 900, false},
		"moved":           {moved, 700, false},
		"renamed":         {renamed, 3_000, false},
		"a new file":      {files{"new/file": prose(900, 20)}, 1_000, false},
		"twice the same":  {files{"new/a": prose(901, 2000), "new/b": prose(901, 2000)}, 50_000, false},
		"large and new":   {files{"new/large": noise(8, 1<<20+100_000)}, 3_000, true},
		"removed":         {files{"bin/tool": gone, "lib/current": gone, "etc/conf": gone}, 500, false},
		"links, folders":  {files{"lib/current": "→ tool", "var/": gone, "tmp/x/": ""}, 500, false},
		"a file is empty": {files{"etc/conf": "", "etc/empty": "x"}, 500, false},
		"file to folder":  {files{"etc/conf": gone, "etc/conf/a": prose(1, 20)}, 600, false},
	} {
		t.Run(name, func(t *testing.T) {
			prod := site(t)
			target := base.with(c.change).write(t)
			now := take(t, dev, "2", target)
			take(t, prod, "1", base.write(t))
			var d bytes.Buffer
			r, err := content.Make(t.Context(), dev, &old.Packages[0], &now.Packages[0], &d, content.Options{TempDir: t.TempDir(), Held: held})
			if err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
			t.Logf("%d bytes, %+v", d.Len(), r)
			if int64(d.Len()) != r.Bytes || r.Bytes > c.most || len(r.Loose) > 0 != c.loose {
				t.Errorf("%d bytes, %d expected at most; %+v", d.Len(), c.most, r)
			}
			loose, err := content.Loose(manifest.PackageTree, bytes.NewReader(d.Bytes()))
			if err != nil || len(loose) != len(r.Loose) {
				t.Fatalf("%d loose chunks, %v", len(loose), err)
			}
			if c.loose {
				take(t, prod, "0", filepath.Join(target, "new", "large"))
			}
			if err := content.Apply(t.Context(), prod, &old.Packages[0], &now.Packages[0], bytes.NewReader(d.Bytes()), int64(d.Len()), content.Options{TempDir: t.TempDir()}); err != nil {
				t.Fatal(err)
			}
			if err := content.Verify(t.Context(), prod, now, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A change of one line in a tree of very many files.
func TestTreeDifferenceLarge(t *testing.T) {
	n := 5_000
	if os.Getenv("DAVIT_TEST_LONG") != "" {
		n = 100_000
	}
	base := files{}
	for i := range n {
		base[fmt.Sprintf("d%03d/f%05d.txt", i/100, i)] = prose(uint64(i), 2)
	}
	dev, prod := site(t), site(t)
	dir := base.write(t)
	old := take(t, dev, "1", dir)
	take(t, prod, "1", dir)
	if err := os.WriteFile(filepath.Join(dir, "d007/f00707.txt"), []byte(prose(707, 2)+"and a line\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	now := take(t, dev, "2", dir)
	var d bytes.Buffer
	if _, err := content.Make(t.Context(), dev, &old.Packages[0], &now.Packages[0], &d, content.Options{TempDir: t.TempDir(), Held: heldBy(t, dev, old)}); err != nil {
		t.Fatal(err)
	}
	if d.Len() > 400 {
		t.Errorf("%d bytes for one line in %d files", d.Len(), n)
	}
	if err := content.Apply(t.Context(), prod, &old.Packages[0], &now.Packages[0], bytes.NewReader(d.Bytes()), int64(d.Len()), content.Options{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if err := content.Verify(t.Context(), prod, now, nil); err != nil {
		t.Fatal(err)
	}
}

func TestFileDifference(t *testing.T) {
	dev, prod := site(t), site(t)
	log := prose(5, 8000)
	write := func(s string) string {
		name := filepath.Join(t.TempDir(), "log.gz")
		if err := os.WriteFile(name, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	old := take(t, dev, "1", write(gzipped(t, log)))
	now := take(t, dev, "2", write(gzipped(t, log+"one more line\n")))
	take(t, prod, "1", write(gzipped(t, log)))
	var d bytes.Buffer
	r, err := content.Make(t.Context(), dev, &old.Packages[0], &now.Packages[0], &d, content.Options{TempDir: t.TempDir()})
	if err != nil || r.Form != delta.Opened {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := content.Apply(t.Context(), prod, &old.Packages[0], &now.Packages[0], bytes.NewReader(d.Bytes()), int64(d.Len()), content.Options{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if err := content.Verify(t.Context(), prod, now, nil); err != nil {
		t.Fatal(err)
	}
	// A promise of another size is not even tried.
	lie := now.Packages[0]
	lie.Size++
	err = content.Apply(t.Context(), prod, &old.Packages[0], &lie, bytes.NewReader(d.Bytes()), int64(d.Len()), content.Options{TempDir: t.TempDir()})
	if !errors.Is(err, content.ErrDamaged) {
		t.Fatal(err)
	}
}

// sample is a difference of two small trees, and a store that has the base.
func sample(t testing.TB) (prod *store.Store, base, target *manifest.Package, d []byte) {
	dev, other := site(t), site(t)
	tree := files{"a": prose(1, 900), "b": noise(2, 40_000), "c": "small", "d/e": prose(3, 10)}
	old := take(t, dev, "1", tree.write(t))
	take(t, other, "1", tree.write(t))
	now := take(t, dev, "2", tree.with(files{"a": prose(1, 900) + "more\n", "b": gone, "d/b": noise(2, 40_000), "c": "Small", "new": prose(9, 5)}).write(t))
	var out bytes.Buffer
	if _, err := content.Make(context.Background(), dev, &old.Packages[0], &now.Packages[0], &out, content.Options{TempDir: t.TempDir(), Held: heldBy(t, dev, old)}); err != nil {
		t.Fatal(err)
	}
	return other, &old.Packages[0], &now.Packages[0], out.Bytes()
}

// Whatever is done to a difference, it is an error or the very same tree.
func TestDamagedDifference(t *testing.T) {
	prod, base, target, d := sample(t)
	temp := t.TempDir()
	try := func(what string, d []byte) {
		t.Helper()
		err := content.Apply(t.Context(), prod, base, target, bytes.NewReader(d), int64(len(d)), content.Options{TempDir: temp})
		if err == nil {
			return // a bit that means nothing: Apply has compared what came out
		}
		if !errors.Is(err, content.ErrDamaged) && !errors.Is(err, content.ErrVersion) && !errors.Is(err, delta.ErrDamaged) &&
			!errors.Is(err, delta.ErrVersion) && !errors.Is(err, delta.ErrWrongBase) && !errors.Is(err, delta.ErrTooLarge) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range d {
		bad := bytes.Clone(d)
		bad[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("bit of byte %d", i), bad)
		if i%7 == 0 {
			try(fmt.Sprintf("cut at %d", i), d[:i])
		}
	}
	try("more", append(bytes.Clone(d), 0))
	other := *target
	other.SHA256[0]++
	err := content.Apply(t.Context(), prod, base, &other, bytes.NewReader(d), int64(len(d)), content.Options{TempDir: temp})
	if !errors.Is(err, content.ErrDamaged) {
		t.Errorf("another listing: %v", err)
	}
	if entries, err := os.ReadDir(temp); err != nil || len(entries) > 0 {
		t.Errorf("left in the folder for temporary files: %v, %v", entries, err)
	}
}

func FuzzApply(f *testing.F) {
	prod, base, target, d := sample(f)
	f.Add(d)
	f.Add([]byte("DAVITDIF\x01"))
	temp := f.TempDir()
	f.Fuzz(func(t *testing.T, d []byte) {
		err := content.Apply(t.Context(), prod, base, target, bytes.NewReader(d), int64(len(d)), content.Options{TempDir: temp})
		if err == nil {
			if err := prod.Complete(t.Context(), target.Content); err != nil {
				t.Fatal(err)
			}
			if err := prod.Complete(t.Context(), *target.Tree); err != nil {
				t.Fatal(err)
			}
		}
	})
}
