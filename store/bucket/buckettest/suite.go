// Package buckettest tests buckets, and what stands on them.
//
// Suite is what every bucket must do, whatever it is made of: run it from the
// tests of a new bucket. Faulty breaks a bucket at a chosen operation, in two
// ways: the operation failed, or it failed yet persisted, as when the answer of
// a server is lost. Walk breaks every operation in turn. What survives a walk
// has its order of commits right:
//
//	buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
//		b := bucket.NewMem()
//		f := buckettest.NewFaulty(b, at, mode)
//		err := export(ctx, f)
//		...check what err says, and that nothing half is visible in b...
//		...do it again on b without faults, and check that all is well...
//		return f.Fired()
//	})
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"davit/store/bucket"
)

// Suite tests that a bucket keeps the promises of bucket.Bucket. open returns
// an empty one, and closes it with t.Cleanup.
func Suite(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, bucket.Bucket)
	}{
		{"RoundTrip", testRoundTrip},
		{"Absent", testAbsent},
		{"Taken", testTaken},
		{"Names", testNames},
		{"Hidden", testHidden},
		{"WriterEnds", testWriterEnds},
		{"ListOrder", testListOrder},
		{"ListPrefix", testListPrefix},
		{"ListStops", testListStops},
		{"ListWhileDeleting", testListWhileDeleting},
		{"Delete", testDelete},
		{"ReadAt", testReadAt},
		{"Get", testGet},
		{"Copy", testCopy},
		{"Move", testMove},
		{"Cancelled", testCancelled},
		{"OneWinner", testOneWinner},
		{"ManyWriters", testManyWriters},
		{"Free", testFree},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func testRoundTrip(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	for name, data := range map[string][]byte{
		"empty":                                {},
		"one":                                  {0},
		"packs/ab/abcdef":                      random(100),
		"a/b/c/d/e.txt":                        []byte("deep"),
		"UPPER_lower-0.9":                      random(70_000),
		"large/object":                         random(3 << 20),
		strings.Repeat("x", bucket.MaxElement): []byte("a long name"),
	} {
		put(t, b, name, data)
		if got := get(t, b, name); !bytes.Equal(got, data) {
			t.Errorf("%s: got %d bytes that differ from the %d put", name, len(got), len(data))
		}
		info, err := b.Stat(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != name || info.Size != int64(len(data)) || info.Modified.IsZero() {
			t.Errorf("Stat says %+v of %s with %d bytes", info, name, len(data))
		}
		var listed []bucket.Info
		for info, err := range b.List(ctx, name) {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, info)
		}
		if len(listed) != 1 || listed[0].Name != name || listed[0].Size != int64(len(data)) || listed[0].Modified.IsZero() {
			t.Errorf("List says %+v of %s with %d bytes", listed, name, len(data))
		}
	}
}

func testAbsent(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	put(t, b, "folder/object", []byte("x"))
	for _, name := range []string{"nothing", "no/thing", "folder", "folder/other", "folder/object/below"} {
		o, err := b.Open(ctx, name)
		if err == nil {
			o.Close()
		}
		wantErr(t, "Open "+name, err, bucket.ErrNotExist)
		wantErr(t, "Open "+name, err, fs.ErrNotExist)
		_, err = b.Stat(ctx, name)
		wantErr(t, "Stat "+name, err, bucket.ErrNotExist)
		_, err = bucket.Get(ctx, b, name, 10)
		wantErr(t, "Get "+name, err, bucket.ErrNotExist)
		wantErr(t, "Copy "+name, bucket.Copy(ctx, b, "copy", b, name), bucket.ErrNotExist)
		wantErr(t, "Move "+name, bucket.Move(ctx, b, name, "moved"), bucket.ErrNotExist)
		if err := b.Delete(ctx, name); err != nil {
			t.Errorf("Delete %s, which is absent: %v", name, err)
		}
	}
	wantNames(t, b, "", "folder/object")
}

func testTaken(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	put(t, b, "a/taken", []byte("first"))
	w := write(t, b, []byte("second, and longer"))
	err := w.Commit(ctx, "a/taken")
	wantErr(t, "Commit", err, bucket.ErrExist)
	wantErr(t, "Commit", err, fs.ErrExist)
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after ErrExist: %v", err)
	}
	if err := w.Commit(ctx, "a/other"); err == nil {
		t.Error("the bytes were not dropped after ErrExist")
	}
	wantErr(t, "Put", bucket.Put(ctx, b, "a/taken", []byte("first")), bucket.ErrExist)
	if got := get(t, b, "a/taken"); string(got) != "first" {
		t.Errorf("the object became %q", got)
	}
	wantNames(t, b, "", "a/taken")
}

func testHidden(t *testing.T, b bucket.Bucket) {
	w := write(t, b, random(100_000))
	wantNames(t, b, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, b, "")
	if err := w.Commit(t.Context(), "seen"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, b, "", "seen")

	w = write(t, b, random(100_000))
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, b, "", "seen")
}

func testWriterEnds(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	w := write(t, b, []byte("a"))
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if _, err := w.Write([]byte("b")); err == nil {
		t.Error("Write after Close is accepted")
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, "aborted"); err == nil {
		t.Error("Commit after Abort is accepted")
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort again: %v", err)
	}

	w = write(t, b, []byte("a"))
	if err := w.Commit(ctx, "committed"); err != nil { // without Close
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close after Commit: %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	if err := w.Commit(ctx, "again"); err == nil {
		t.Error("a second Commit is accepted")
	}
	wantNames(t, b, "", "committed")
	if got := get(t, b, "committed"); string(got) != "a" {
		t.Errorf("got %q", got)
	}
}

func testDelete(t *testing.T, b bucket.Bucket) {
	put(t, b, "a/b", []byte("first"))
	put(t, b, "a/c", []byte("other"))
	for range 2 {
		if err := b.Delete(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
	}
	wantNames(t, b, "", "a/c")
	put(t, b, "a/b", []byte("second"))
	if got := get(t, b, "a/b"); string(got) != "second" {
		t.Errorf("got %q", got)
	}
}

func testReadAt(t *testing.T, b bucket.Bucket) {
	data := random(200_000)
	put(t, b, "object", data)
	o, err := b.Open(t.Context(), "object")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.Size() != int64(len(data)) {
		t.Fatalf("Size is %d", o.Size())
	}
	if err := iotest.TestReader(io.NewSectionReader(o, 0, o.Size()), data); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 10)
	if n, err := o.ReadAt(buf, o.Size()-4); n != 4 || err != io.EOF {
		t.Errorf("ReadAt over the end: %d, %v", n, err)
	}
	if n, err := o.ReadAt(buf, o.Size()); n != 0 || err != io.EOF {
		t.Errorf("ReadAt at the end: %d, %v", n, err)
	}
	if n, err := o.ReadAt(buf, o.Size()+1000); n != 0 || err != io.EOF {
		t.Errorf("ReadAt past the end: %d, %v", n, err)
	}
	if n, err := o.ReadAt(buf, -1); n != 0 || err == nil || err == io.EOF {
		t.Errorf("ReadAt before the start: %d, %v", n, err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			buf := make([]byte, 5000)
			for range 50 {
				off := r.IntN(len(data) - len(buf))
				if n, err := o.ReadAt(buf, int64(off)); n != len(buf) || err != nil && err != io.EOF {
					t.Errorf("ReadAt %d: %d, %v", off, n, err)
				} else if !bytes.Equal(buf, data[off:off+len(buf)]) {
					t.Errorf("ReadAt %d gives other bytes", off)
				}
			}
		})
	}
	wg.Wait()
}

func testGet(t *testing.T, b bucket.Bucket) {
	put(t, b, "ten", []byte("0123456789"))
	if got, err := bucket.Get(t.Context(), b, "ten", 10); err != nil || string(got) != "0123456789" {
		t.Errorf("got %q, %v", got, err)
	}
	_, err := bucket.Get(t.Context(), b, "ten", 9)
	var large *bucket.TooLargeError
	if !errors.As(err, &large) || *large != (bucket.TooLargeError{Name: "ten", Size: 10, Max: 9}) {
		t.Errorf("got %v", err)
	}
}

func testCopy(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	data := random(3<<20 + 17)
	src := bucket.NewMem()
	put(t, src, "from", data)
	put(t, src, "empty", nil)
	for _, name := range []string{"from", "empty"} {
		if err := bucket.Copy(ctx, b, "to/"+name, src, name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(get(t, b, "to/from"), data) || len(get(t, b, "to/empty")) != 0 {
		t.Error("the copy has other bytes")
	}
	wantErr(t, "Copy again", bucket.Copy(ctx, b, "to/empty", src, "from"), bucket.ErrExist)
	if len(get(t, b, "to/empty")) != 0 {
		t.Error("Copy replaced an object")
	}
	wantNames(t, b, "", "to/empty", "to/from")
}

func testMove(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	put(t, b, "a/from", []byte("from"))
	put(t, b, "taken", []byte("taken"))
	wantErr(t, "Move", bucket.Move(ctx, b, "a/from", "taken"), bucket.ErrExist)
	wantErr(t, "Move to itself", bucket.Move(ctx, b, "a/from", "a/from"), bucket.ErrExist)
	wantNames(t, b, "", "a/from", "taken")
	if string(get(t, b, "taken")) != "taken" || string(get(t, b, "a/from")) != "from" {
		t.Error("a refused Move changed something")
	}
	if err := bucket.Move(ctx, b, "a/from", "b/c/to"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, b, "", "b/c/to", "taken")
	if string(get(t, b, "b/c/to")) != "from" {
		t.Error("the moved object has other bytes")
	}
	wantErr(t, "Move again", bucket.Move(ctx, b, "a/from", "b/c/to"), bucket.ErrNotExist)
}

func testCancelled(t *testing.T, b bucket.Bucket) {
	put(t, b, "object", []byte("x"))
	w := write(t, b, []byte("y"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Create(ctx)
	wantErr(t, "Create", err, context.Canceled)
	wantErr(t, "Commit", w.Commit(ctx, "other"), context.Canceled)
	_, err = b.Open(ctx, "object")
	wantErr(t, "Open", err, context.Canceled)
	_, err = b.Stat(ctx, "object")
	wantErr(t, "Stat", err, context.Canceled)
	_, err = names(ctx, b, "")
	wantErr(t, "List", err, context.Canceled)
	wantErr(t, "Delete", b.Delete(ctx, "object"), context.Canceled)
	wantErr(t, "Put", bucket.Put(ctx, b, "other", nil), context.Canceled)
	wantErr(t, "Copy", bucket.Copy(ctx, b, "other", b, "object"), context.Canceled)
	wantErr(t, "Move", bucket.Move(ctx, b, "object", "other"), context.Canceled)
	wantNames(t, b, "", "object")
	if err := w.Commit(t.Context(), "later"); err != nil {
		t.Errorf("Commit after one that was cancelled: %v", err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	for _, err := range b.List(ctx, "") {
		if seen++; seen == 1 {
			cancel()
		} else {
			wantErr(t, "List", err, context.Canceled)
		}
	}
	if seen != 2 {
		t.Errorf("List yielded %d times, not an object and then the error", seen)
	}
}

func testOneWinner(t *testing.T, b bucket.Bucket) {
	const writers = 16
	for round := range 4 {
		name := fmt.Sprintf("race/%d/object", round)
		var wg sync.WaitGroup
		won := make(chan int, writers)
		start := make(chan struct{})
		for g := range writers {
			w := write(t, b, bytes.Repeat([]byte{byte(g)}, 1000+g))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				<-start
				switch err := w.Commit(t.Context(), name); {
				case err == nil:
					won <- g
				case !errors.Is(err, bucket.ErrExist):
					t.Errorf("Commit: %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d of %d writers won", len(won), writers)
		}
		g := <-won
		if got := get(t, b, name); !bytes.Equal(got, bytes.Repeat([]byte{byte(g)}, 1000+g)) {
			t.Errorf("writer %d won, but its bytes are not there", g)
		}
	}
}

func testManyWriters(t *testing.T, b bucket.Bucket) {
	var wg sync.WaitGroup
	var want []string
	for g := range 8 {
		for i := range 5 {
			want = append(want, fmt.Sprintf("many/%d/%d", i, g))
		}
		wg.Go(func() {
			for i := range 5 {
				name := fmt.Sprintf("many/%d/%d", i, g)
				if err := bucket.Put(t.Context(), b, name, []byte(name)); err != nil {
					t.Error(err)
				}
				if _, err := names(t.Context(), b, "many/"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	wantNames(t, b, "", want...)
	for _, name := range want {
		if got := get(t, b, name); string(got) != name {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

func testFree(t *testing.T, b bucket.Bucket) {
	s, ok := b.(bucket.Spacer)
	if !ok {
		t.Skip("the bucket does not tell its free space")
	}
	free, err := s.Free(t.Context())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the bucket does not know its free space")
	}
	if err != nil || free < 0 {
		t.Errorf("Free: %d, %v", free, err)
	}
}

func write(t *testing.T, b bucket.Bucket, data []byte) bucket.Writer {
	t.Helper()
	w, err := b.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Abort() })
	// In two pieces: most callers do not write all at once.
	for _, p := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	return w
}

func put(t *testing.T, b bucket.Bucket, name string, data []byte) {
	t.Helper()
	if err := write(t, b, data).Commit(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, b bucket.Bucket, name string) []byte {
	t.Helper()
	data, err := bucket.Get(t.Context(), b, name, 100<<20)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func names(ctx context.Context, b bucket.Bucket, prefix string) ([]string, error) {
	var list []string
	for info, err := range b.List(ctx, prefix) {
		if err != nil {
			return list, err
		}
		list = append(list, info.Name)
	}
	return list, nil
}

func wantNames(t *testing.T, b bucket.Bucket, prefix string, want ...string) {
	t.Helper()
	got, err := names(t.Context(), b, prefix)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("List %q:\n got %q\nwant %q", prefix, got, want)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func random(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	return data
}
