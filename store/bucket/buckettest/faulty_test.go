package buckettest_test

import (
	"errors"
	"slices"
	"testing"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
)

func TestFaultyNever(t *testing.T) {
	buckettest.Suite(t, func(t *testing.T) bucket.Bucket {
		return buckettest.NewFaulty(bucket.NewMem(), 0, buckettest.Fail)
	})
}

// story does each operation that changes state once, in this order.
var verbs = []string{"create", "write", "close", "commit", "move", "delete"}

func story(t *testing.T, b bucket.Bucket) (err error) {
	ctx := t.Context()
	w, err := b.Create(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Abort()) }()
	if _, err := w.Write([]byte("data")); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := w.Commit(ctx, "a"); err != nil {
		return err
	}
	if err := bucket.Move(ctx, b, "a", "b"); err != nil {
		return err
	}
	return b.Delete(ctx, "b")
}

func TestFaulty(t *testing.T) {
	// What is there after each operation was done.
	after := []string{"", "", "", "a", "b", ""}
	var failed []string
	buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
		m := bucket.NewMem()
		f := buckettest.NewFaulty(m, at, mode)
		var hooked string
		f.Hook = func(verb string) { hooked = verb }
		err := story(t, f)
		if f.Fired() != errors.Is(err, buckettest.ErrInjected) || hooked != f.Failed() {
			t.Fatalf("fired %v with the hook called for %q, but the error is %v", f.Fired(), hooked, err)
		}
		done := int(at) // how many operations were done
		if mode == buckettest.Fail {
			done--
		}
		want := ""
		if f.Fired() && done > 0 {
			want = after[done-1]
		}
		got := ""
		for info := range m.List(t.Context(), "") {
			got += info.Name
		}
		if got != want {
			t.Errorf("%s %s: %q is there, want %q", f.Failed(), mode, got, want)
		}
		if f.Fired() {
			failed = append(failed, f.Failed())
			if f.Ops() != at {
				t.Errorf("%d operations were counted, %d came", f.Ops(), at)
			}
		}
		return f.Fired()
	})
	if want := slices.Concat(verbs, verbs); !slices.Equal(failed, want) {
		t.Errorf("the walk broke %q, want %q", failed, want)
	}
}

func TestFaultyDead(t *testing.T) {
	m, n := bucket.NewMem(), bucket.NewMem()
	f := buckettest.NewFaulty(m, 5, buckettest.FailPersisted)
	f.Dead = true
	g := f.Wrap(n)
	ctx := t.Context()
	if err := bucket.Put(ctx, f, "one", []byte("x")); err != nil { // 1 create, 2 write, 3 commit
		t.Fatal(err)
	}
	w, err := g.Create(ctx) // 4
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("y")); !errors.Is(err, buckettest.ErrInjected) { // 5
		t.Fatalf("operation 5: %v", err)
	}
	for what, err := range map[string]error{
		"Commit":           w.Commit(ctx, "two"),
		"Abort":            w.Abort(),
		"Delete":           f.Delete(ctx, "one"),
		"Move":             bucket.Move(ctx, f, "one", "other"),
		"Put elsewhere":    bucket.Put(ctx, g, "three", nil),
		"Delete of no one": g.Delete(ctx, "absent"),
	} {
		if !errors.Is(err, buckettest.ErrInjected) {
			t.Errorf("%s after death: %v", what, err)
		}
	}
	reads := f.Reads()
	if data, err := bucket.Get(ctx, f, "one", 10); string(data) != "x" || err != nil {
		t.Errorf("reading after death: %q, %v", data, err)
	}
	if f.Reads() != reads+2 { // Open and ReadAt
		t.Errorf("%d reads were counted, then %d", reads, f.Reads())
	}
	for info := range n.List(ctx, "") {
		t.Errorf("%s is there", info.Name)
	}
}
