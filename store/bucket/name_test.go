package bucket_test

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"a", "packs/ab/abcdef", "davit-dev-to-prod-000042.v01of03", "a..b", "A_b-c.d", "-", "_", "a/b/c/d/e/f/g",
		"nulls", "null.txt", "com", "com10", "console", "lpt", "auxiliary",
		strings.Repeat("x", bucket.MaxElement),
		strings.Repeat("abcdefg/", bucket.MaxName/8-1) + "abcdefgh",
	} {
		if err := bucket.CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range buckettest.BadNames() {
		if err := bucket.CheckName(name); !errors.Is(err, bucket.ErrName) {
			t.Errorf("%q: %v", name, err)
		} else if len(err.Error()) > 500 {
			t.Errorf("an error of %d bytes for a name of %d", len(err.Error()), len(name))
		}
	}
}

func ExampleCheckName() {
	fmt.Println(bucket.CheckName("packs/ab/abcdef"))
	fmt.Println(bucket.CheckName("../etc/passwd"))
	// Output:
	// <nil>
	// not a valid object name: "../etc/passwd": an element starts with a dot
}

func FuzzCheckName(f *testing.F) {
	for _, name := range append(buckettest.BadNames(), "a", "packs/ab/abcdef") {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if bucket.CheckName(name) != nil {
			return
		}
		if path.Clean(name) != name || !filepath.IsLocal(name) || strings.Contains(name, "..") && slices.Contains(strings.Split(name, "/"), "..") {
			t.Errorf("%q is accepted", name)
		}
		for i := range len(name) + 1 {
			if err := bucket.CheckPrefix(name[:i]); err != nil {
				t.Errorf("the start of a good name is refused: %v", err)
			}
		}
	})
}

// List on a folder is what sorting all names would give.
func TestListProperty(t *testing.T) {
	element := rapid.StringMatching(`[ab0Z_-]([ab.-]?[ab0-])?`)
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(element, 1, 4).Draw(t, "elements"), "/")
	})
	rapid.Check(t, func(rt *rapid.T) {
		d, err := bucket.CreateDir(t.TempDir())
		if err != nil {
			rt.Fatal(err)
		}
		defer d.Close()
		m := bucket.NewMem()
		var all []string
		for _, n := range rapid.SliceOfN(name, 0, 12).Draw(rt, "names") {
			derr := bucket.Put(t.Context(), d, n, nil)
			merr := bucket.Put(t.Context(), m, n, nil)
			if (derr == nil) != (merr == nil) || errors.Is(derr, bucket.ErrExist) != errors.Is(merr, bucket.ErrExist) {
				rt.Fatalf("put %s: the folder says %v, memory %v", n, derr, merr)
			}
			if derr == nil {
				all = append(all, n)
			}
		}
		slices.Sort(all)
		prefix := rapid.SampledFrom(append(all, "")).Draw(rt, "prefix of")
		prefix = prefix[:rapid.IntRange(0, len(prefix)).Draw(rt, "length")]
		want := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return !strings.HasPrefix(n, prefix) })
		for _, b := range []bucket.Bucket{d, m} {
			if got := list(t, b, prefix); !slices.Equal(got, want) {
				rt.Fatalf("%T lists %q:\n got %q\nwant %q", b, prefix, got, want)
			}
		}
	})
}
