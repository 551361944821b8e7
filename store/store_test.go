package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"testing"

	"filippo.io/age"

	"davit/store"
	"davit/store/bucket"
	"davit/store/bucket/buckettest"
	"davit/store/chunk"
	"davit/store/pack"
)

func testKeys(t testing.TB) pack.Keys {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return pack.NewKeys([]age.Recipient{id.Recipient()}, []age.Identity{id})
}

type fixture struct {
	*store.Store
	bucket bucket.Bucket
	index  *store.MemoryIndex
	keys   pack.Keys
}

func newStore(t testing.TB, o store.Options) *fixture {
	t.Helper()
	f := &fixture{bucket: bucket.NewMem(), index: store.NewMemoryIndex(1), keys: testKeys(t)}
	o.Keys, o.TempDir = f.keys, t.TempDir()
	s, err := store.Create(t.Context(), f.bucket, f.index, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f.Store = s
	return f
}

// random returns bytes that depend on the seed alone.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b
}

// text returns compressible bytes that depend on the seed alone.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of %d words\n", r.IntN(1000), r.IntN(100))
	}
	return b.Bytes()[:n]
}

func put(t testing.TB, s *store.Store, files ...[]byte) (chunk.Ref, []store.FileSum, store.WriteStats) {
	t.Helper()
	var (
		ref  chunk.Ref
		sums []store.FileSum
	)
	stats, err := s.Write(t.Context(), func(w *store.Writer) error {
		st := w.NewStream()
		for _, f := range files {
			if err := st.Add(bytes.NewReader(f), func(sum store.FileSum) error { sums = append(sums, sum); return nil }); err != nil {
				return err
			}
		}
		var err error
		ref, err = st.Close()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ref, sums, stats
}

func get(ctx context.Context, s *store.Store, ref chunk.Ref) ([]byte, error) {
	var b bytes.Buffer
	err := s.Read(ctx, s.Entries(ctx, ref), func(_ chunk.Entry, data []byte) error { b.Write(data); return nil })
	return b.Bytes(), err
}

func want(t testing.TB, s *store.Store, ref chunk.Ref, content []byte) {
	t.Helper()
	got, err := get(t.Context(), s, ref)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Fatalf("read %d bytes that differ from the %d written", len(got), len(content))
	}
	r := s.Open(t.Context(), ref)
	defer r.Close()
	if got, err = io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("Open gives %d bytes, %v", len(got), err)
	}
}

func TestRoundTrip(t *testing.T) {
	s := newStore(t, store.Options{PackSize: 1 << 20})
	for _, n := range []int{0, 1, 100, 16<<10 - 1, 16 << 10, 16<<10 + 1, 256 << 10, 300_000, 5_000_000, 20_000_000} {
		content := random(uint64(n), n)
		ref, sums, _ := put(t, s.Store, content)
		if ref.Size != int64(n) || len(sums) != 1 || sums[0].Size != int64(n) || sums[0].SHA256 != sha256.Sum256(content) {
			t.Fatalf("%d bytes: ref %+v, sums %+v", n, ref, sums)
		}
		if err := ref.Validate(); err != nil {
			t.Fatal(err)
		}
		if n == 20_000_000 && ref.Depth < 1 {
			t.Fatalf("depth %d for %d bytes", ref.Depth, n)
		}
		want(t, s.Store, ref, content)
		if err := s.Complete(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeepList(t *testing.T) {
	// 5,000 files of a few bytes give a list of 180 kB, which needs a list of
	// its own.
	s := newStore(t, store.Options{})
	var files [][]byte
	var all []byte
	for i := range 5000 {
		files = append(files, fmt.Appendf(nil, "file %d", i))
		all = append(all, files[i]...)
	}
	files = append(files, nil, nil) // empty files have no chunks
	ref, sums, stats := put(t, s.Store, files...)
	if ref.Depth != 2 {
		t.Fatalf("depth %d", ref.Depth)
	}
	if len(sums) != len(files) {
		t.Fatalf("%d sums for %d files", len(sums), len(files))
	}
	for i, f := range files {
		if sums[i].Size != int64(len(f)) || sums[i].SHA256 != sha256.Sum256(f) {
			t.Fatalf("file %d: %+v", i, sums[i])
		}
	}
	if stats.NewChunks < 5000 {
		t.Fatalf("%+v", stats)
	}
	want(t, s.Store, ref, all)
}

func TestDeduplicates(t *testing.T) {
	s := newStore(t, store.Options{})
	content := random(1, 3_000_000)
	ref, _, first := put(t, s.Store, content)
	again, _, second := put(t, s.Store, content)
	if again != ref {
		t.Fatalf("the same bytes have refs %+v and %+v", ref, again)
	}
	if first.NewBytes < 3_000_000 || second.NewBytes != 0 || second.Packs != 0 {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	// One change costs the chunks around it and the list.
	changed := append([]byte(nil), content...)
	changed[1_500_000] ^= 1
	_, _, third := put(t, s.Store, changed)
	if third.NewBytes == 0 || third.NewBytes > 600_000 {
		t.Fatalf("a byte changed costs %d bytes", third.NewBytes)
	}
	// The same chunk twice in one stream is stored once.
	_, _, twice := put(t, s.Store, random(2, 10_000), random(2, 10_000))
	if twice.NewBytes > 12_000 {
		t.Fatalf("a file twice costs %d bytes", twice.NewBytes)
	}
}

func TestWriteFails(t *testing.T) {
	broken := errors.New("broken")
	t.Run("caller", func(t *testing.T) {
		s := newStore(t, store.Options{PackSize: 1 << 20})
		_, err := s.Write(t.Context(), func(w *store.Writer) error {
			st := w.NewStream()
			if err := st.Add(io.MultiReader(bytes.NewReader(random(1, 3<<20)), &failing{broken}), nil); err != nil {
				return err
			}
			t.Error("Add took a file that could not be read")
			return nil
		})
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
	})
	t.Run("callback", func(t *testing.T) {
		s := newStore(t, store.Options{})
		_, err := s.Write(t.Context(), func(w *store.Writer) error {
			st := w.NewStream()
			for range 10000 {
				if err := st.Add(bytes.NewReader([]byte("x")), func(store.FileSum) error { return broken }); err != nil {
					return err
				}
			}
			_, err := st.Close()
			return err
		})
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		s := newStore(t, store.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := s.Write(ctx, func(w *store.Writer) error {
			cancel()
			st := w.NewStream()
			if err := st.Add(bytes.NewReader(random(1, 50<<20)), nil); err != nil {
				return err
			}
			_, err := st.Close()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// Every step that writes is broken twice: it failed, and it failed but took
// effect. After each the same Write must succeed and everything must be there.
func TestEveryStepFails(t *testing.T) {
	content := random(1, 350_000)
	keys := testKeys(t)
	for _, mode := range []buckettest.Mode{buckettest.Fail, buckettest.FailPersisted} {
		for at := int64(1); ; at++ {
			mem, index := bucket.NewMem(), store.NewMemoryIndex(1)
			o := store.Options{Keys: keys, PackSize: 100_000}
			if _, err := store.Create(t.Context(), mem, index, o); err != nil {
				t.Fatal(err)
			}
			faulty := buckettest.NewFaulty(mem, at, mode)
			s, err := store.Open(t.Context(), faulty, index, o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Write(t.Context(), func(w *store.Writer) error {
				st := w.NewStream()
				if err := st.Add(bytes.NewReader(content), nil); err != nil {
					return err
				}
				_, err := st.Close()
				return err
			})
			if faulty.Fired() && err == nil {
				t.Fatalf("step %d failed unnoticed", at)
			}
			if !faulty.Fired() {
				if at < 5 {
					t.Fatalf("only %d steps were broken", at-1)
				}
				break
			}
			s, err = store.Open(t.Context(), mem, index, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Check(t.Context(), store.CheckOptions{}); err != nil {
				t.Fatal(err)
			}
			ref, _, _ := put(t, s, content)
			want(t, s, ref, content)
			report, err := s.Check(t.Context(), store.CheckOptions{ReadData: true})
			if err != nil || len(report.Problems) > 0 {
				t.Fatalf("step %d: %+v, %v", at, report, err)
			}
		}
	}
}

func TestMissing(t *testing.T) {
	s := newStore(t, store.Options{})
	ref, _, _ := put(t, s.Store, random(1, 1_000_000))
	name := chunk.NameOf([]byte("never stored"))
	err := s.Complete(t.Context(), chunk.Ref{Size: 12, Root: name})
	var missing *store.MissingChunkError
	if !errors.As(err, &missing) || missing.Name != name || !errors.Is(err, store.ErrMissing) {
		t.Fatal(err)
	}
	if _, err := get(t.Context(), s.Store, chunk.Ref{Size: 12, Root: name}); !errors.As(err, &missing) {
		t.Fatal(err)
	}
	// A list that does not add up to the size is damage, both ways.
	for _, d := range []int64{-1, 1} {
		lying := ref
		lying.Size += d
		if err := s.Complete(t.Context(), lying); !errors.Is(err, store.ErrList) {
			t.Fatalf("size off by %d: %v", d, err)
		}
	}
}

func TestOverlay(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, store.Options{})
	content := random(7, 400_000)
	ref, _, _ := put(t, s.Store, content)
	// Move the pack out of the store, as if it had just come in.
	var guests []store.Guest
	for info, err := range s.index.Packs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		g := store.Guest{Name: info.Name, Object: "quarantine/x/" + info.Name.String()}
		if err := bucket.Move(ctx, s.bucket, store.PackObject(info.Name), g.Object); err != nil {
			t.Fatal(err)
		}
		if err := s.index.ReplacePack(ctx, info.Name, pack.Name{}, 0, nil); err != nil {
			t.Fatal(err)
		}
		guests = append(guests, g)
	}
	if err := s.Complete(ctx, ref); !errors.Is(err, store.ErrMissing) {
		t.Fatal(err)
	}
	view, err := s.Overlay(ctx, guests)
	if err != nil {
		t.Fatal(err)
	}
	want(t, view, ref, content)
	view.Close()
	for _, g := range guests {
		if err := s.VerifyGuest(ctx, g); err != nil {
			t.Fatal(err)
		}
		for range 2 { // repeating is no error
			if err := s.Adopt(ctx, g); err != nil {
				t.Fatal(err)
			}
		}
	}
	want(t, s.Store, ref, content)
}

func seq(entries []chunk.Entry) iter.Seq2[chunk.Entry, error] {
	return func(yield func(chunk.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestSelect(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, store.Options{PackSize: 1 << 20})
	ref, _, _ := put(t, s.Store, text(1, 6_000_000))
	var all []chunk.Entry
	for e, err := range s.Entries(ctx, ref) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	for _, every := range []int{1, 2, 5, len(all)} {
		var chosen []chunk.Entry
		for i, e := range all {
			// Whole frames at the beginning, then some of each.
			if i < len(all)/2 || i%every == 0 {
				chosen = append(chosen, e)
			}
		}
		chosen = append(chosen, chosen[0]) // twice is once
		sel, err := s.Select(ctx, seq(chosen), nil)
		if err != nil {
			t.Fatal(err)
		}
		var sizes []store.FrameSize
		if err := sel.Sizes(ctx, func(f store.FrameSize) error { sizes = append(sizes, f); return nil }); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w, err := pack.NewWriter(&b, s.keys)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := sel.Frames(ctx, func(f pack.Frame) error {
			if sizes[n] != (store.FrameSize{Compressed: len(f.Data), Chunks: len(f.Chunks)}) {
				t.Fatalf("frame %d: %+v, not %d, %d", n, sizes[n], len(f.Data), len(f.Chunks))
			}
			n++
			return w.Add(f)
		}); err != nil {
			t.Fatal(err)
		}
		if n != len(sizes) {
			t.Fatalf("%d frames of %d", n, len(sizes))
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := pack.Open(bytes.NewReader(b.Bytes()), int64(b.Len()), s.keys)
		if err != nil {
			t.Fatal(err)
		}
		got := map[chunk.Name]bool{}
		if err := r.Verify(ctx, func(c pack.ChunkInfo) error { got[c.Name] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		for _, e := range chosen {
			if !got[e.Name] {
				t.Fatalf("chunk %s was not packed", e.Name)
			}
		}
		if len(got) != len(chosen)-1 {
			t.Fatalf("%d chunks packed, %d chosen", len(got), len(chosen)-1)
		}
	}
	sel, err := s.Select(ctx, seq(all), func(chunk.Name) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if n, bytes := sel.Chunks(); n != 0 || bytes != 0 {
		t.Fatalf("%d chunks of %d bytes selected though all are skipped", n, bytes)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, store.Options{PackSize: 1 << 20})
	put(t, s.Store, random(1, 5_000_000))
	report, err := s.Check(ctx, store.CheckOptions{ReadData: true})
	if err != nil || len(report.Problems) != 0 || report.Packs < 4 {
		t.Fatalf("%+v, %v", report, err)
	}
	var names []pack.Name
	for info := range s.index.Packs(ctx) {
		names = append(names, info.Name)
	}
	change := func(name pack.Name, f func([]byte) []byte) {
		t.Helper()
		object := store.PackObject(name)
		data, err := bucket.Get(ctx, s.bucket, object, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.bucket.Delete(ctx, object); err != nil {
			t.Fatal(err)
		}
		if data = f(data); data == nil {
			return
		}
		if err := bucket.Put(ctx, s.bucket, object, data); err != nil {
			t.Fatal(err)
		}
	}
	change(names[0], func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b })
	change(names[1], func(b []byte) []byte { return b[:len(b)-1] })
	change(names[2], func([]byte) []byte { return nil })
	if err := bucket.Put(ctx, s.bucket, "packs/zz/stranger", []byte("?")); err != nil {
		t.Fatal(err)
	}
	s.Close() // forget open packs
	report, err = s.Check(ctx, store.CheckOptions{})
	if err != nil || len(report.Problems) != 3 {
		t.Fatalf("without reading: %+v, %v", report, err)
	}
	report, err = s.Check(ctx, store.CheckOptions{ReadData: true})
	if err != nil || len(report.Problems) != 4 {
		t.Fatalf("reading: %+v, %v", report, err)
	}
}

func TestCheckAdopts(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, store.Options{})
	content := random(1, 1_000_000)
	ref, _, _ := put(t, s.Store, content)
	lost, err := store.Open(ctx, s.bucket, store.NewMemoryIndex(1), store.Options{Keys: s.keys})
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.Complete(ctx, ref); !errors.Is(err, store.ErrMissing) {
		t.Fatal(err)
	}
	report, err := lost.Reindex(ctx, nil)
	if err != nil || len(report.Adopted) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	want(t, lost, ref, content)
}

func TestCollect(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, store.Options{PackSize: 1 << 20})
	keep := random(1, 2_000_000)
	half := random(2, 1_500_000)
	kept, _, _ := put(t, s.Store, keep)
	put(t, s.Store, random(3, 3_000_000)) // all garbage
	// Garbage and living chunks in one pack.
	var living chunk.Ref
	if _, err := s.Write(ctx, func(w *store.Writer) error {
		st := w.NewStream()
		if err := st.Add(bytes.NewReader(half[:700_000]), nil); err != nil {
			return err
		}
		if _, err := st.Close(); err != nil {
			return err
		}
		st = w.NewStream()
		if err := st.Add(bytes.NewReader(half[700_000:]), nil); err != nil {
			return err
		}
		var err error
		living, err = st.Close()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	live := func(yield func(chunk.Entry, error) bool) {
		for _, ref := range []chunk.Ref{kept, living} {
			for e, err := range s.Chunks(ctx, ref) {
				if !yield(e, err) {
					return
				}
			}
		}
	}
	plan, err := s.Collect(ctx, live, store.CollectOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Dropped < 2 || plan.Repacked < 1 {
		t.Fatalf("%+v", plan)
	}
	want(t, s.Store, kept, keep)
	done, err := s.Collect(ctx, live, store.CollectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if done.Dropped != plan.Dropped || done.Repacked != plan.Repacked || done.Freed != plan.Freed || done.Written == 0 || done.Unindexed != 0 {
		t.Fatalf("planned %+v, did %+v", plan, done)
	}
	want(t, s.Store, kept, keep)
	want(t, s.Store, living, half[700_000:])
	report, err := s.Check(ctx, store.CheckOptions{ReadData: true})
	if err != nil || len(report.Problems) > 0 || len(report.Adopted) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	again, err := s.Collect(ctx, live, store.CollectOptions{})
	if err != nil || again.Dropped+again.Repacked != 0 {
		t.Fatalf("%+v, %v", again, err)
	}
}

func TestDocuments(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, store.Options{})
	if err := s.PutDocument(ctx, "releases/a", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutDocument(ctx, "releases/a", []byte("two")); !errors.Is(err, bucket.ErrExist) {
		t.Fatal(err)
	}
	if data, err := s.Document(ctx, "releases/a"); err != nil || string(data) != "one" {
		t.Fatalf("%q, %v", data, err)
	}
	if _, err := s.Document(ctx, "releases/b"); !errors.Is(err, store.ErrMissing) {
		t.Fatal(err)
	}
	var names []string
	for name, err := range s.Documents(ctx, "releases/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if len(names) != 1 || names[0] != "releases/a" {
		t.Fatal(names)
	}
	// Nothing of a document is readable in the bucket.
	raw, err := bucket.Get(ctx, s.bucket, "documents/releases/a", 1<<20)
	if err != nil || bytes.Contains(raw, []byte("one")) {
		t.Fatalf("%q, %v", raw, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		config string
		want   error
	}{
		"nothing":      {"", store.ErrNoStore},
		"no json":      {"hello", store.ErrDamaged},
		"other":        {`{"davit":"tree","version":1}`, store.ErrDamaged},
		"newer":        {`{"davit":"davit-store","version":2,"surprise":true}`, store.ErrVersion},
		"unknown key":  {`{"davit":"davit-store","version":1,"id":"x","cutter":"fastcdc-v1.0.0","chunk":{"min":16384,"normal":65536,"max":262144},"more":1}`, store.ErrDamaged},
		"other cutter": {`{"davit":"davit-store","version":1,"id":"x","cutter":"rabin","chunk":{"min":16384,"normal":65536,"max":262144}}`, store.ErrVersion},
		"bad chunks":   {`{"davit":"davit-store","version":1,"id":"x","cutter":"fastcdc-v1.0.0","chunk":{"min":0,"normal":65536,"max":262144}}`, store.ErrDamaged},
		"tail":         {`{"davit":"davit-store","version":1,"id":"x","cutter":"fastcdc-v1.0.0","chunk":{"min":16384,"normal":65536,"max":262144}}{}`, store.ErrDamaged},
	} {
		b := bucket.NewMem()
		if c.config != "" {
			if err := bucket.Put(ctx, b, "config", []byte(c.config)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.Open(ctx, b, store.NewMemoryIndex(1), store.Options{Keys: testKeys(t)}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.config != "" {
			if _, err := store.Create(ctx, b, store.NewMemoryIndex(1), store.Options{Keys: testKeys(t)}); !errors.Is(err, store.ErrOccupied) {
				t.Errorf("%s: Create: %v", name, err)
			}
		}
	}
}
