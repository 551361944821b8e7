package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
	"davit/transfer/bundle"
)

// Any payload in volumes of any size, written in pieces of any size, comes
// back equal, in a folder and in memory, and its volumes have the sizes planned.
func TestRoundTrip(t *testing.T) {
	for name, open := range map[string]func(*rapid.T) bucket.Bucket{
		"Mem": func(*rapid.T) bucket.Bucket { return bucket.NewMem() },
		"Dir": func(rt *rapid.T) bucket.Bucket {
			d, err := bucket.OpenDir(t.TempDir())
			if err != nil {
				rt.Fatal(err)
			}
			rt.Cleanup(func() { d.Close() })
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			noise := noise(5<<20, 1)
			rapid.Check(t, func(rt *rapid.T) {
				size := rapid.OneOf(
					rapid.IntRange(1, 5<<20),
					rapid.SampledFrom([]int{1, bundle.BlockSize, bundle.BlockSize + 1, capacity, capacity + 1, 2 * capacity, 4*capacity - 1}),
				).Draw(rt, "payload")
				volumeSize := rapid.Int64Range(smallest, 3<<20).Draw(rt, "volume size")
				documents := rapid.Int64Range(1, int64(size)).Draw(rt, "documents")
				roundTrip(rt, open(rt), noise[:size], documents, volumeSize)
			})
		})
	}
}

func roundTrip(rt *rapid.T, medium bucket.Bucket, payload []byte, documents, volumeSize int64) {
	ctx := rt.Context()
	l := testLabel(rapid.Int64Range(1, 1<<40).Draw(rt, "serial"))
	w, err := bundle.NewWriter(ctx, medium, l, int64(len(payload)), documents, volumeSize)
	if err != nil {
		rt.Fatal(err)
	}
	step := rapid.IntRange(1<<10, 1<<21).Draw(rt, "piece")
	for piece := range slices.Chunk(payload, step) {
		if n, err := w.Write(piece); n != len(piece) || err != nil {
			rt.Fatalf("Write took %d of %d: %v", n, len(piece), err)
		}
	}
	if err := w.Seal(); err != nil {
		rt.Fatal(err)
	}
	if found, err := bundle.Scan(ctx, medium); err != nil || len(found.Sets)+len(found.Damaged)+found.Foreign > 0 {
		rt.Fatalf("something is visible before Publish: %+v, %v", found, err)
	}
	if err := w.Publish(ctx); err != nil {
		rt.Fatal(err)
	}

	plan, err := bundle.Plan(int64(len(payload)), volumeSize)
	if err != nil {
		rt.Fatal(err)
	}
	var total int64
	for i, name := range w.Names() {
		info, err := medium.Stat(ctx, name)
		if err != nil || info.Size != plan.Volumes[i].FileSize || info.Size > volumeSize {
			rt.Fatalf("%s has %d bytes, planned %d of at most %d (%v)", name, info.Size, plan.Volumes[i].FileSize, volumeSize, err)
		}
		total += info.Size
	}
	if total != plan.Total {
		rt.Fatalf("%d bytes on the medium, planned %d", total, plan.Total)
	}

	found, err := bundle.Scan(ctx, medium)
	if err != nil || len(found.Sets) != 1 || len(found.Damaged)+found.Foreign != 0 {
		rt.Fatalf("Scan: %+v, %v", found, err)
	}
	s := found.Sets[0]
	if s.Label != l || s.Volumes != len(plan.Volumes) || s.Payload != int64(len(payload)) || !s.Complete() || s.Missing() != nil {
		rt.Fatalf("Scan found %+v", s)
	}
	var last int64
	err = s.Verify(ctx, func(done, total int64) {
		if done < last || total != s.Payload {
			rt.Fatalf("progress went to %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil || last != s.Payload {
		rt.Fatalf("Verify: %v after %d of %d", err, last, s.Payload)
	}
	p, err := s.Open(ctx)
	if err != nil {
		rt.Fatal(err)
	}
	defer p.Close()
	got := make([]byte, p.Size())
	if _, err := p.ReadAt(got, 0); err != nil || !bytes.Equal(got, payload) {
		rt.Fatalf("the payload came back changed (%v)", err)
	}
	docs, err := io.ReadAll(p.Documents())
	if err != nil || int64(len(docs)) != documents || !bytes.HasSuffix(payload, docs) {
		rt.Fatalf("the documents came back changed (%v)", err)
	}
}

// Many readers at random places of more volumes than may be open.
func TestConcurrentReads(t *testing.T) {
	medium := bucket.NewMem()
	payload := noise(12*capacity, 3)
	publish(t, medium, testLabel(1), payload)
	counted := &openCounter{Reader: medium}
	p, err := only(t, counted).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			buf := make([]byte, 200<<10)
			for range 200 {
				at := rng.IntN(len(payload))
				n, err := p.ReadAt(buf, int64(at))
				if err != nil && (err != io.EOF || at+n != len(payload)) {
					t.Errorf("ReadAt(%d): %v", at, err)
				}
				if !bytes.Equal(buf[:n], payload[at:at+n]) {
					t.Errorf("ReadAt(%d) gave other bytes", at)
				}
			}
		})
	}
	wg.Wait()
	if counted.most > 4+4+1 { // kept, in use by a reader, just opened
		t.Errorf("%d files were open at once", counted.most)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if counted.open != 0 {
		t.Errorf("%d files stay open", counted.open)
	}
	if _, err := p.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a closed payload can be read")
	}
}

func TestReadAtEnds(t *testing.T) {
	medium := bucket.NewMem()
	publish(t, medium, testLabel(1), noise(1000, 3))
	p, err := only(t, medium).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	buf := make([]byte, 10)
	if n, err := p.ReadAt(buf, 995); n != 5 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, err := p.ReadAt(buf, 1<<62); n != 0 || err != io.EOF {
		t.Errorf("far behind the end: %d, %v", n, err)
	}
	if _, err := p.ReadAt(buf, -1); err == nil || err == io.EOF {
		t.Errorf("before the start: %v", err)
	}
}

// writerCounter counts writers that are neither closed nor aborted.
type writerCounter struct {
	bucket.Bucket
	open, most int
}

func (c *writerCounter) Create(ctx context.Context) (bucket.Writer, error) {
	w, err := c.Bucket.Create(ctx)
	if err == nil {
		c.open++
		c.most = max(c.most, c.open)
	}
	return &countedWriter{Writer: w, c: c}, err
}

type countedWriter struct {
	bucket.Writer
	c      *writerCounter
	closed bool
}

func (w *countedWriter) Close() error {
	if !w.closed {
		w.closed = true
		w.c.open--
	}
	return w.Writer.Close()
}

// A volume is closed, and so durable, as soon as it is full.
func TestOneVolumeOpen(t *testing.T) {
	c := &writerCounter{Bucket: bucket.NewMem()}
	if _, err := write(t.Context(), c, testLabel(1), noise(5*capacity, 1), 1, smallest); err != nil {
		t.Fatal(err)
	}
	if c.open != 0 || c.most != 1 {
		t.Errorf("%d volumes were open at once, %d are after Seal", c.most, c.open)
	}
}

// Abort leaves not even hidden files, wherever the writer is, also after its
// context has ended.
func TestAbortLeavesNothing(t *testing.T) {
	payload := noise(2*capacity+10, 5)
	halfPublished := func(w *bundle.Writer, f *buckettest.Faulty) error {
		w.Write(payload)
		if err := w.Seal(); err != nil {
			return err
		}
		if err := w.Publish(t.Context()); !f.Fired() || f.Failed() != "commit" {
			return fmt.Errorf("the fault did not come at a commit: %v", err)
		}
		return nil
	}
	for what, stop := range map[string]func(*bundle.Writer, *buckettest.Faulty) error{
		"in a volume": func(w *bundle.Writer, _ *buckettest.Faulty) error {
			_, err := w.Write(payload[:capacity+5])
			return err
		},
		"sealed": func(w *bundle.Writer, _ *buckettest.Faulty) error {
			w.Write(payload)
			return w.Seal()
		},
		"half published":                   halfPublished,
		"half published, the last unknown": halfPublished,
	} {
		t.Run(what, func(t *testing.T) {
			folder := t.TempDir()
			d, err := bucket.OpenDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			at, mode := int64(0), buckettest.Fail
			if strings.HasSuffix(what, "unknown") {
				mode = buckettest.FailPersisted
			}
			if strings.HasPrefix(what, "half") {
				count := buckettest.NewFaulty(bucket.NewMem(), 0, buckettest.Fail)
				if _, err := write(t.Context(), count, testLabel(1), payload, 1, smallest); err != nil {
					t.Fatal(err)
				}
				at = count.Ops() + 2
			}
			f := buckettest.NewFaulty(d, at, mode)
			ctx, cancel := context.WithCancel(t.Context())
			w, err := bundle.NewWriter(ctx, f, testLabel(1), int64(len(payload)), 1, smallest)
			if err != nil {
				t.Fatal(err)
			}
			if err := stop(w, f); err != nil {
				t.Fatal(err)
			}
			if files, err := os.ReadDir(folder); err != nil || len(files) == 0 {
				t.Fatalf("nothing is there to take back (%v)", err)
			}
			cancel()
			if err := w.Abort(); err != nil {
				t.Fatal(err)
			}
			if files, err := os.ReadDir(folder); err != nil || len(files) != 0 {
				t.Errorf("left behind: %v (%v)", files, err)
			}
			if _, err := w.Write(payload[:1]); err == nil {
				t.Error("an aborted writer takes bytes")
			}
		})
	}
}

// Every step broken, in both ways. What is visible is never half a volume;
// volume 1 is there only when all are; Abort leaves nothing; a publish that is
// tried again comes through.
func TestBrokenSteps(t *testing.T) {
	payload := noise(2*capacity+10, 5)
	names := publish(t, bucket.NewMem(), testLabel(1), payload)
	steps := 0
	export := func(t *testing.T, at int64, mode buckettest.Mode, dead bool, after func(*bundle.Writer, *buckettest.Faulty, error)) bool {
		medium := bucket.NewMem()
		f := buckettest.NewFaulty(medium, at, mode)
		f.Dead = dead
		w, err := write(t.Context(), f, testLabel(1), payload, 1, smallest)
		if err == nil {
			err = w.Publish(t.Context())
		}
		if f.Fired() != (err != nil) {
			t.Fatalf("fault came: %v, error: %v", f.Fired(), err)
		}
		if err != nil && !errors.Is(err, buckettest.ErrInjected) {
			t.Fatalf("the cause is lost: %v", err)
		}
		after(w, f, err)
		steps++
		return f.Fired()
	}
	visible := func(t *testing.T, f *buckettest.Faulty) int {
		found := scan(t, f)
		if len(found.Damaged) > 0 {
			t.Fatalf("something half is visible: %+v", found.Damaged)
		}
		if len(found.Sets) == 0 {
			return 0
		}
		s := found.Sets[0]
		if _, ok := objects(t, f)[names[0]]; ok != s.Complete() {
			t.Fatalf("volume 1 is there: %v, all are: %v", ok, s.Complete())
		}
		if s.Complete() && !bytes.Equal(readAll(t, s), payload) {
			t.Fatal("the payload came back changed")
		}
		return len(s.Present)
	}
	t.Run("killed", func(t *testing.T) {
		buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
			return export(t, at, mode, true, func(_ *bundle.Writer, f *buckettest.Faulty, err error) {
				n := visible(t, f)
				if err == nil && n != len(names) {
					t.Fatalf("Publish returned nil with %d of %d volumes", n, len(names))
				}
			})
		})
	})
	t.Run("aborted", func(t *testing.T) {
		buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
			return export(t, at, mode, false, func(w *bundle.Writer, f *buckettest.Faulty, err error) {
				if abortErr := w.Abort(); abortErr != nil {
					t.Fatal(abortErr)
				}
				want := 0
				if err == nil {
					want = len(names)
				}
				if n := visible(t, f); n != want {
					t.Fatalf("%d volumes after Abort, want %d", n, want)
				}
			})
		})
	})
	t.Run("tried again", func(t *testing.T) {
		buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
			return export(t, at, mode, false, func(w *bundle.Writer, f *buckettest.Faulty, err error) {
				if f.Fired() && f.Failed() != "commit" {
					return
				}
				if err := w.Publish(t.Context()); err != nil {
					t.Fatalf("Publish again: %v", err)
				}
				if n := visible(t, f); n != len(names) {
					t.Fatalf("%d of %d volumes", n, len(names))
				}
			})
		})
	})
	if steps < 60 {
		t.Errorf("only %d steps were broken", steps)
	}
}
