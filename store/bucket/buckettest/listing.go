package buckettest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"davit/store/bucket"
)

// tree is in the order of its bytes, which is not that of folder after folder.
// No two names differ in case alone: some file systems would take them for one.
var tree = []string{
	"0", "Q/z", "R", "a-b/x", "a-c", "a.b", "a/b", "a/b-c", "a/c/d", "a/c/e", "a0", "ab/ab/ab", "ab/abc", "abc", "b-/x", "b/x", "z",
}

func testListOrder(t *testing.T, b bucket.Bucket) {
	if !slices.IsSorted(tree) {
		t.Fatal("the tree is out of order")
	}
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(tree)) {
		put(t, b, tree[i], []byte(tree[i]))
	}
	wantNames(t, b, "", tree...)
}

func testListPrefix(t *testing.T, b bucket.Bucket) {
	for _, name := range tree {
		put(t, b, name, nil)
	}
	for _, prefix := range []string{"", "a", "a/", "a-", "a/b", "a/c/", "a/c/d", "a/c/d/", "ab", "ab/", "ab/ab", "ab/ab/", "ab/ab/ab", "Q", "Q/", "b-", "z", "z/", "nothing", "no/thing", "a/nothing/here"} {
		var want []string
		for _, name := range tree {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		wantNames(t, b, prefix, want...)
	}
}

func testListStops(t *testing.T, b bucket.Bucket) {
	for _, name := range tree {
		put(t, b, name, nil)
	}
	seq := b.List(t.Context(), "")
	for range 2 { // a sequence can be run again
		var got []string
		for info, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, info.Name); len(got) == 9 { // in the middle of a/c/
				break
			}
		}
		if !slices.Equal(got, tree[:9]) {
			t.Errorf("got %q", got)
		}
	}
}

func testListWhileDeleting(t *testing.T, b bucket.Bucket) {
	for _, name := range tree {
		put(t, b, name, nil)
	}
	var got []string
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Name)
		if err := b.Delete(t.Context(), info.Name); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, tree) {
		t.Errorf("listed while deleting: %q", got)
	}
	wantNames(t, b, "")
}
