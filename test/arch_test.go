// Package test holds what is tested of the repository as a whole: the plan of
// the house (arch_test.go), the README's commands (readme_test.go) and the
// examples (examples_test.go). Below it lie the vectors of the formats and the
// stories that cmd/davit runs.
package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// order is the house: a package sees at most what stands before it.
var order = []string{
	"internal/durable",
	"store/bucket",
	"store/bucket/buckettest", // the suite every bucket runs; only tests use it
	"store/chunk",
	"store/pack",
	"store",
	"manifest",
	"manifest/index",
	"transfer/bundle",
	"transfer/delta/deflate/go126",
	"transfer/delta/deflate/go127",
	"transfer/delta/deflate",
	"transfer/delta",
	"transfer/content",
	"transfer",
	"transfer/route",
	"internal/dashboard",
	"cmd/davit",
	"test/bench/usage",
	"test/bench/delta",
	"test/bench",
	"test",
}

// owners says which packages alone may use what comes from elsewhere, by the
// beginning of its import path. Tests may use anything.
var owners = map[string][]string{
	"filippo.io/age":                        {"store/pack", "manifest", "cmd/davit"},
	"database/sql":                          {"manifest/index"},
	"modernc.org/sqlite":                    {"manifest/index"},
	"github.com/pressly/goose":              {"manifest/index"},
	"github.com/minio/minio-go":             {"store/bucket/s3"},
	"github.com/klauspost/compress":         {"store/pack", "transfer/delta", "transfer/delta/deflate"},
	"github.com/klauspost/reedsolomon":      {"transfer/bundle"},
	"github.com/PlakarKorp/go-cdc-chunkers": {"store/chunk"},
	"github.com/secure-systems-lab/":        {"manifest"},
	"filippo.io/mldsa":                      {"manifest"},
	"github.com/gofrs/flock":                {"internal/durable"},
	"github.com/fsnotify/fsnotify":          {"transfer/route"},
	"github.com/urfave/cli":                 {"cmd/davit"},
	"github.com/vbauerster/mpb":             {"cmd/davit"},
	"github.com/goccy/go-yaml":              {"cmd/davit"},
	"golang.org/x/term":                     {"cmd/davit"},
	"davit/store/bucket/buckettest":         {},
	"C":                                     {},
	"log":                                   {}, // log/slog, handed in
	"github.com/rogpeppe/go-internal":       {},
	"pgregory.net/rapid":                    {},
	"testing":                               {"store/bucket/buckettest"},
	"net/http":                              {"internal/dashboard"},
}

// door is what may stand in the top folder.
var door = []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile", "go.mod", "go.sum",
	"cmd", "store", "manifest", "transfer", "internal", "examples", "test",
	".ci", ".git", ".gitignore", ".gitattributes",
	"bin"} // bin is what make build writes; git ignores it

// formats are the packages that write a format of their own.
var formats = []string{"store", "store/chunk", "store/pack", "manifest", "manifest/index", "transfer", "transfer/bundle", "transfer/content", "transfer/delta", "transfer/delta/deflate", "transfer/route"}

const (
	mostLines    = 700
	mostTest     = 900 // in a test file
	mostMethods  = 5
	fewestFiles  = 100 // fewer means that the test looks in the wrong place
	packagesMust = 11  // packages that exist today
)

// frozen is the beginning of the folders with copies of others' encoders, which
// stay as they were.
const frozen = "transfer/delta/deflate/go12"

// emptyWords say nothing about what is in a package or file.
var emptyWords = []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "base", "const", "consts", "constants", "interfaces"}

// house is what was read of the repository.
type house struct {
	packages map[string][]file // by folder
	files    int
}

type file struct {
	name   string // path in the repository
	test   bool
	syntax *ast.File
	lines  int
}

// read parses every Go file, whatever system it is for.
func read(root fs.FS) (house, error) {
	h := house{packages: map[string][]file{}}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		h.files++
		dir := path.Dir(name)
		h.packages[dir] = append(h.packages[dir], file{name, strings.HasSuffix(name, "_test.go"), f, strings.Count(string(data), "\n")})
		return nil
	})
	return h, err
}

// complaints lists everything in which the repository departs from the plan.
func complaints(root fs.FS) ([]string, error) {
	h, err := read(root)
	if err != nil {
		return nil, err
	}
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	entries, err := fs.ReadDir(root, ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !slices.Contains(door, e.Name()) {
			say("%s: does not belong in the top folder", e.Name())
		}
	}
	for dir, files := range h.packages {
		at := slices.Index(order, dir)
		if at < 0 {
			say("%s: is not in the plan of the house; give it a place in order", dir)
			continue
		}
		if slices.Contains(emptyWords, path.Base(dir)) {
			say("%s: the name says nothing", dir)
		}
		comments := 0
		for _, f := range files {
			if hasPackageComment(f, dir) {
				comments++
			}
			complainOfFile(f, dir, at, say)
		}
		if comments != 1 {
			say("%s: has %d package comments that begin as they should, not one", dir, comments)
		}
	}
	return all, nil
}

func hasPackageComment(f file, dir string) bool {
	if f.syntax.Doc == nil || (f.test && dir != "test") {
		return false
	}
	want := "Package " + f.syntax.Name.Name + " "
	if f.syntax.Name.Name == "main" {
		want = "Command " + path.Base(dir) + " "
	}
	return strings.HasPrefix(f.syntax.Doc.Text(), want)
}

func complainOfFile(f file, dir string, at int, say func(string, ...any)) {
	most := mostLines
	if f.test {
		most = mostTest
	}
	if f.lines > most {
		say("%s: has %d lines, more than %d", f.name, f.lines, most)
	}
	stem, _, _ := strings.Cut(strings.TrimSuffix(path.Base(f.name), ".go"), "_")
	if slices.Contains(emptyWords, stem) && !f.test {
		say("%s: the name says nothing", f.name)
	}
	for _, imp := range f.syntax.Imports {
		name := strings.Trim(imp.Path.Value, `"`)
		if own, ok := strings.CutPrefix(name, "davit/"); ok {
			self := f.test && own == dir
			if i := slices.Index(order, own); !self && (i < 0 || i >= at) && own != "store/bucket/buckettest" {
				say("%s: imports %s, which does not stand before %s", f.name, own, dir)
			}
		}
		if f.test || dir == "test" {
			continue
		}
		for prefix, allowed := range owners {
			if owned(name, prefix) && !slices.Contains(allowed, dir) {
				say("%s: imports %s, which is for %v alone", f.name, name, allowed)
			}
		}
	}
	if f.test {
		return
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil && !strings.HasPrefix(f.name, frozen) {
				say("%s: has an init function", f.name)
			}
		case *ast.TypeSpec:
			if t, ok := n.Type.(*ast.InterfaceType); ok && t.Methods.NumFields() > mostMethods {
				say("%s: interface %s has %d methods, more than %d", f.name, n.Name.Name, t.Methods.NumFields(), mostMethods)
			}
		}
		return true
	})
}

// owned reports whether an import is prefix, or stands below it.
func owned(name, prefix string) bool {
	return name == prefix || (strings.HasPrefix(name, prefix) && (strings.HasSuffix(prefix, "/") || name[len(prefix)] == '/') && prefix != "log")
}

// TestHouse holds the repository against the plan.
func TestHouse(t *testing.T) {
	root := os.DirFS("..")
	h, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	if h.files < fewestFiles || len(h.packages) < packagesMust {
		t.Fatalf("only %d files in %d packages were found: this test checks nothing", h.files, len(h.packages))
	}
	all, err := complaints(root)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	for _, c := range all {
		t.Error(c)
	}
}

// TestFormats: whatever writes a format has a page on it that names a version
// or says how one is told.
func TestFormats(t *testing.T) {
	for _, dir := range formats {
		data, err := os.ReadFile(path.Join("..", dir, "FORMAT.md"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(data), "ersion") || !strings.Contains(string(data), "MUST") {
			t.Errorf("%s/FORMAT.md says nothing about versions, or demands nothing", dir)
		}
	}
}

// TestModule: a plain "go build" works with the Go that people have.
func TestModule(t *testing.T) {
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"module davit\n", "\ngo 1.26", "tool filippo.io/age/cmd/age\n"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("go.mod lacks %q", strings.TrimSpace(want))
		}
	}
	if strings.Contains(string(data), "\nreplace") {
		t.Error("go.mod replaces a module")
	}
}

// TestComplaints: each rule is broken once and must be missed by none.
func TestComplaints(t *testing.T) {
	good := func() fstest.MapFS {
		return fstest.MapFS{
			"go.mod":                {},
			"store/store.go":        {Data: []byte("// Package store keeps.\npackage store\n\nimport _ \"davit/store/pack\"\n")},
			"store/pack/pack.go":    {Data: []byte("// Package pack packs.\npackage pack\n\nimport _ \"filippo.io/age\"\n")},
			"store/store_test.go":   {Data: []byte("package store_test\n\nimport (\n\t_ \"davit/store\"\n\t_ \"filippo.io/age\"\n)\n")},
			"transfer/transfer.go":  {Data: []byte("// Package transfer moves.\npackage transfer\n\nimport _ \"davit/store\"\n")},
			"cmd/davit/main.go":     {Data: []byte("// Command davit moves.\npackage main\n\nimport _ \"log/slog\"\n")},
			"store/testdata/bad.go": {Data: []byte("not Go")},
		}
	}
	if all, err := complaints(good()); err != nil || len(all) > 0 {
		t.Fatalf("the good house is complained of: %v %v", all, err)
	}
	for want, change := range map[string]fstest.MapFS{
		"does not stand before":  {"store/pack/up.go": {Data: []byte("package pack\n\nimport _ \"davit/store\"\n")}},
		"not in the plan":        {"store/extra/extra.go": {Data: []byte("// Package extra is.\npackage extra\n")}},
		"filippo.io/age/armor":   {"store/age.go": {Data: []byte("package store\n\nimport _ \"filippo.io/age/armor\"\n")}},
		"imports database/sql":   {"store/sql.go": {Data: []byte("package store\n\nimport _ \"database/sql\"\n")}},
		"modernc.org/sqlite":     {"transfer/x_windows.go": {Data: []byte("package transfer\n\nimport _ \"modernc.org/sqlite\"\n")}},
		"imports log,":           {"transfer/log.go": {Data: []byte("package transfer\n\nimport _ \"log\"\n")}},
		"0 package comments":     {"store/store.go": {Data: []byte("package store\n")}},
		"2 package comments":     {"store/more.go": {Data: []byte("// Package store keeps more.\npackage store\n")}},
		"more than 700":          {"store/long.go": {Data: []byte("package store\n" + strings.Repeat("\n", mostLines))}},
		"the name says nothing":  {"store/utils.go": {Data: []byte("package store\n")}},
		"not belong in the top":  {"notes.txt": {}},
		"has an init function":   {"store/init.go": {Data: []byte("package store\n\nfunc init() {}\n")}},
		"interface I has 6":      {"store/wide.go": {Data: []byte("package store\n\ntype I interface{ A(); B(); C(); D(); E(); F() }\n")}},
		"imports C,":             {"store/c.go": {Data: []byte("package store\n\nimport \"C\"\n")}},
		"does not stand before ": {"store/pack/up_test.go": {Data: []byte("package pack_test\n\nimport _ \"davit/transfer\"\n")}},
	} {
		tree := good()
		for name, f := range change {
			tree[name] = f
		}
		all, err := complaints(tree)
		if err != nil {
			t.Errorf("%s: %v", want, err)
		} else if !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("nothing complains of %q: %v", want, all)
		}
	}
}
