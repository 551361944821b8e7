package bundle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
	"davit/transfer/bundle"
)

// sign is the statement of most tests.
func sign(payload [32]byte) ([]byte, error) {
	return append([]byte("the payload is "), payload[:]...), nil
}

const signSize = 15 + 32

// twelve is a bundle over twelve volumes of four shards a stripe, of which any
// two may be lost: four windows of three stripes, the last with one.
func twelve(payload []byte) bundle.Options {
	return signed(bundle.Options{}.WithGeometry(int64(len(payload)), 40, 8, 12, 3))
}

// twelvePayload makes ten stripes of small shards.
var twelvePayload = 9*40*65_536 + 12_345

func signed(o bundle.Options) bundle.Options {
	o.Statement, o.StatementSize = sign, signSize
	return o
}

func writeParity(ctx context.Context, medium bucket.Bucket, l bundle.Label, payload []byte, o bundle.Options) (*bundle.Writer, error) {
	w, err := bundle.NewWriterWith(ctx, medium, l, int64(len(payload)), 1, o)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(payload); err != nil {
		return w, err
	}
	return w, w.Seal()
}

func publishParity(t testing.TB, medium bucket.Bucket, payload []byte, o bundle.Options) *bundle.Writer {
	t.Helper()
	w, err := writeParity(t.Context(), medium, testLabel(1), payload, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// clone copies a medium into memory.
func clone(t testing.TB, objects map[string][]byte) *bucket.Mem {
	t.Helper()
	m := bucket.NewMem()
	for name, b := range objects {
		if err := bucket.Put(t.Context(), m, name, b); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// Any payload with any share of parity in volumes of any size, written in
// pieces of any size, comes back equal; sizes are exact; nothing is repaired.
func TestParityRoundTrip(t *testing.T) {
	noise := noise(5<<20, 1)
	rapid.Check(t, func(rt *rapid.T) {
		payload := noise[:rapid.OneOf(rapid.IntRange(1, 5<<20), rapid.IntRange(1, 5000)).Draw(rt, "payload")]
		o := bundle.Options{
			VolumeSize: rapid.Int64Range(smallest, 3<<20).Draw(rt, "volume size"),
			Parity:     float64(rapid.IntRange(1, 50).Draw(rt, "per cent")) / 100,
		}
		if rapid.Bool().Draw(rt, "statement") {
			o = signed(o)
		}
		medium := bucket.NewMem()
		documents := rapid.Int64Range(1, int64(len(payload))).Draw(rt, "documents")
		w, err := bundle.NewWriterWith(rt.Context(), medium, testLabel(1), int64(len(payload)), documents, o)
		if err != nil {
			rt.Fatal(err)
		}
		for piece := range slices.Chunk(payload, rapid.IntRange(1<<10, 1<<21).Draw(rt, "piece")) {
			if n, err := w.Write(piece); n != len(piece) || err != nil {
				rt.Fatalf("Write took %d of %d: %v", n, len(piece), err)
			}
		}
		if err := w.Seal(); err != nil {
			rt.Fatal(err)
		}
		if found, err := bundle.Scan(rt.Context(), medium); err != nil || len(found.Sets)+len(found.Damaged)+found.Foreign > 0 {
			rt.Fatalf("something is visible before Publish: %+v, %v", found, err)
		}
		if err := w.Publish(rt.Context()); err != nil {
			rt.Fatal(err)
		}
		plan, err := bundle.PlanWith(int64(len(payload)), o)
		if err != nil {
			rt.Fatal(err)
		}
		for i, name := range w.Names() {
			info, err := medium.Stat(rt.Context(), name)
			if err != nil || info.Size != plan.Volumes[i].FileSize || info.Size > o.VolumeSize {
				rt.Fatalf("%s has %d bytes, planned %d of at most %d (%v)", name, info.Size, plan.Volumes[i].FileSize, o.VolumeSize, err)
			}
		}
		found, err := bundle.Scan(rt.Context(), medium)
		if err != nil || len(found.Sets) != 1 || len(found.Damaged) > 0 {
			rt.Fatalf("%+v, %v", found, err)
		}
		s := found.Sets[0]
		if !s.Complete() || !s.Enough() || s.Payload != int64(len(payload)) || s.Documents != documents {
			rt.Fatalf("%+v", s)
		}
		if err := s.Verify(rt.Context(), nil); err != nil {
			rt.Fatal(err)
		}
		p, err := s.Open(rt.Context())
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
		if p.Repaired() != 0 {
			rt.Fatal("something was repaired")
		}
		statements, err := s.Statements(rt.Context())
		if want, _ := sign(sha256.Sum256(payload)); o.Statement != nil && (len(statements) != 1 || !bytes.Equal(statements[0], want)) || err != nil {
			rt.Fatalf("statements %q, %v", statements, err)
		}
	})
}

// Several windows, through a folder, with reads of all sizes at all places from
// many goroutines.
func TestParityConcurrentReads(t *testing.T) {
	d, err := bucket.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	payload := noise(twelvePayload, 3)
	names := publishParity(t, d, payload, twelve(payload)).Names()
	for _, lose := range [][]string{nil, names[3:4], names[2:4]} {
		for _, name := range lose {
			replace(t, d, name, nil)
		}
		counted := &openCounter{Reader: d}
		s := only(t, counted)
		p, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(g)))
				buf := make([]byte, 200<<10)
				for range 60 {
					at, b := rng.IntN(len(payload)), buf[:rng.IntN(len(buf))]
					n, err := p.ReadAt(b, int64(at))
					if err != nil && (err != io.EOF || at+n != len(payload)) {
						t.Errorf("ReadAt(%d): %v", at, err)
					}
					if !bytes.Equal(b[:n], payload[at:at+n]) {
						t.Errorf("ReadAt(%d) gave other bytes", at)
					}
				}
			})
		}
		wg.Wait()
		if (p.Repaired() > 0) != (len(lose) > 0) {
			t.Errorf("%d shards repaired with %d volumes lost", p.Repaired(), len(lose))
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
}

func TestParityReadAtEnds(t *testing.T) {
	medium := bucket.NewMem()
	payload := noise(1000, 3)
	publishParity(t, medium, payload, bundle.Options{Parity: 0.1})
	p, err := only(t, medium).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	buf := make([]byte, 10)
	if n, err := p.ReadAt(buf, 995); n != 5 || err != io.EOF || !bytes.Equal(buf[:5], payload[995:]) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, err := p.ReadAt(buf, 1<<62); n != 0 || err != io.EOF {
		t.Errorf("far behind the end: %d, %v", n, err)
	}
	if _, err := p.ReadAt(buf, -1); err == nil || err == io.EOF {
		t.Errorf("before the start: %v", err)
	}
}

func TestStatementRefused(t *testing.T) {
	payload := noise(1000, 3)
	for what, o := range map[string]bundle.Options{
		"no size":         {Parity: 0.1, Statement: sign},
		"nothing made":    {Parity: 0.1, StatementSize: 7},
		"without parity":  {Statement: sign, StatementSize: signSize},
		"without parity ": {Statement: sign},
	} {
		if _, err := bundle.NewWriterWith(t.Context(), bucket.NewMem(), testLabel(1), 1000, 1, o); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	errKey := errors.New("no key")
	for what, o := range map[string]bundle.Options{
		"internal":  {Parity: 0.1, StatementSize: 7, Statement: func([32]byte) ([]byte, error) { return nil, errKey }},
		"too short": {Parity: 0.1, StatementSize: signSize + 1, Statement: sign},
		"too long":  {Parity: 0.1, StatementSize: signSize - 1, Statement: sign},
	} {
		medium := bucket.NewMem()
		w, err := writeParity(t.Context(), medium, testLabel(1), payload, o)
		if err == nil || strings.Contains(what, "internal") != errors.Is(err, errKey) {
			t.Errorf("%s: %v", what, err)
		}
		if err := w.Publish(t.Context()); err == nil {
			t.Errorf("%s: published", what)
		}
		if err := w.Abort(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Every step broken, in both ways, as without parity.
func TestParityBrokenSteps(t *testing.T) {
	payload := noise(3*4*65_536+5000, 5)
	options := func() bundle.Options {
		return signed(bundle.Options{}.WithGeometry(int64(len(payload)), 4, 2, 3, 2))
	}
	names := publishParity(t, bucket.NewMem(), payload, options()).Names()
	steps := 0
	export := func(t *testing.T, at int64, mode buckettest.Mode, dead bool, after func(*bundle.Writer, *buckettest.Faulty, error)) bool {
		f := buckettest.NewFaulty(bucket.NewMem(), at, mode)
		f.Dead = dead
		w, err := writeParity(t.Context(), f, testLabel(1), payload, options())
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
		if s.Enough() && !bytes.Equal(readAll(t, s), payload) {
			t.Fatal("the payload came back changed")
		}
		return len(s.Present)
	}
	t.Run("killed", func(t *testing.T) {
		buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
			return export(t, at, mode, true, func(w *bundle.Writer, f *buckettest.Faulty, err error) {
				if n := visible(t, f); err == nil && n != len(names) {
					t.Fatalf("Publish returned nil with %d of %d volumes", n, len(names))
				}
				w.Abort() // ends its goroutines; the dead medium forgets nothing
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
					w.Abort()
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
	if steps < 120 {
		t.Errorf("only %d steps were broken", steps)
	}
}

// Abort leaves not even hidden files, and no goroutine, wherever the writer is.
func TestParityAbortLeavesNothing(t *testing.T) {
	payload := noise(twelvePayload, 5)
	for what, stop := range map[string]func(*bundle.Writer, context.CancelFunc) error{
		"not begun":   func(*bundle.Writer, context.CancelFunc) error { return nil },
		"in a window": func(w *bundle.Writer, _ context.CancelFunc) error { _, err := w.Write(payload[:100]); return err },
		"windows full": func(w *bundle.Writer, _ context.CancelFunc) error {
			_, err := w.Write(payload[:len(payload)-1])
			return err
		},
		"cancelled": func(w *bundle.Writer, cancel context.CancelFunc) error {
			_, err := w.Write(payload[:100])
			cancel()
			if _, err := w.Write(payload[100:]); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("Write after a cancel: %v", err)
			}
			return err
		},
		"sealed": func(w *bundle.Writer, _ context.CancelFunc) error { w.Write(payload); return w.Seal() },
	} {
		t.Run(what, func(t *testing.T) {
			folder := t.TempDir()
			d, err := bucket.OpenDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithCancel(t.Context())
			w, err := bundle.NewWriterWith(ctx, d, testLabel(1), int64(len(payload)), 1, twelve(payload))
			if err != nil {
				t.Fatal(err)
			}
			if err := stop(w, cancel); err != nil {
				t.Fatal(err)
			}
			if files, err := os.ReadDir(folder); err != nil || (len(files) == 12) != (what != "not begun") {
				t.Fatalf("%d files (%v)", len(files), err)
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
			if err := w.Seal(); err == nil {
				t.Error("an aborted writer is sealed")
			}
			for range 100 { // goroutines end after what waits for them returned
				if runtime.NumGoroutine() <= before {
					return
				}
				time.Sleep(time.Millisecond)
			}
			t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		})
	}
}

func TestParityWrongLength(t *testing.T) {
	payload := noise(1000, 1)
	o := bundle.Options{Parity: 0.1}
	w, err := bundle.NewWriterWith(t.Context(), bucket.NewMem(), testLabel(1), 999, 1, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(payload); err == nil {
		t.Error("took more bytes than announced")
	}
	w, err = bundle.NewWriterWith(t.Context(), bucket.NewMem(), testLabel(1), 1001, 1, o)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(payload)
	if err := w.Seal(); err == nil {
		t.Error("sealed with a byte missing")
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
}

// The sums of a very large bundle go to a file, and the volumes are the same.
func TestSumsOnDisk(t *testing.T) {
	payload := noise(twelvePayload, 3)
	memory, disk := bucket.NewMem(), bucket.NewMem()
	publishParity(t, memory, payload, twelve(payload))
	temp := t.TempDir()
	defer bundle.SetSumsInMemory(bundle.SetSumsInMemory(100))
	o := twelve(payload)
	o.TempDir = temp
	publishParity(t, disk, payload, o)
	if !same(objects(t, memory), objects(t, disk)) {
		t.Error("the volumes differ")
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// same reports whether two media hold the same.
func same(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}
