package buckettest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"davit/store/bucket"
)

// ErrInjected is the error of the operation that was chosen to fail.
var ErrInjected = errors.New("injected fault")

// Mode is how the chosen operation fails.
type Mode int

const (
	Fail          Mode = iota // it is not done
	FailPersisted             // it is done, and the answer is lost
)

func (m Mode) String() string {
	switch m {
	case Fail:
		return "failed"
	case FailPersisted:
		return "failed yet persisted"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Faulty is a Bucket whose operation number At fails. It counts the operations
// that change state: Create, Write, Close, Commit, Delete and Move, from 1, in
// all buckets wrapped together. It is safe for many goroutines at once; the
// fields are set before use.
type Faulty struct {
	bucket.Bucket

	// Dead makes every operation that changes state after the chosen one fail
	// too, without being done, as after a power cut: what is hidden stays
	// behind. Only reading goes on.
	Dead bool
	// Hook, if set, is called at the chosen operation with its verb ("commit")
	// before it fails: before it would be done, or after it was. It may kill
	// the process.
	Hook func(verb string)

	count *count
}

type count struct {
	at    int64
	mode  Mode
	ops   atomic.Int64
	reads atomic.Int64
	fired atomic.Bool

	mu   sync.Mutex
	last string // guarded by mu
}

// NewFaulty wraps b so that operation number at fails in that mode. At 0 none
// does, and the wrapper only counts.
func NewFaulty(b bucket.Bucket, at int64, mode Mode) *Faulty {
	return &Faulty{Bucket: b, count: &count{at: at, mode: mode}}
}

// Wrap returns a wrapper of another bucket that counts together with f, and
// fails likewise: for verbs that write to two places.
func (f *Faulty) Wrap(b bucket.Bucket) *Faulty {
	return &Faulty{Bucket: b, Dead: f.Dead, Hook: f.Hook, count: f.count}
}

// Ops returns how many operations that change state were tried.
func (f *Faulty) Ops() int64 { return f.count.ops.Load() }

// Reads returns how often Open, Stat, List and ReadAt were called.
func (f *Faulty) Reads() int64 { return f.count.reads.Load() }

// Fired tells whether the chosen operation came and failed.
func (f *Faulty) Fired() bool { return f.count.fired.Load() }

// Failed returns the verb of the operation that failed, for messages.
func (f *Faulty) Failed() string {
	f.count.mu.Lock()
	defer f.count.mu.Unlock()
	return f.count.last
}

// do does op unless it is its turn to fail.
func (f *Faulty) do(verb string, op func() error) error {
	n := f.count.ops.Add(1)
	switch {
	case f.Dead && f.count.at > 0 && n > f.count.at:
		return fmt.Errorf("%s: %w (after the fault)", verb, ErrInjected)
	case n != f.count.at:
		return op()
	}
	if f.count.mode == FailPersisted {
		op() // done or not: the caller does not learn it
	}
	f.count.mu.Lock()
	f.count.last = verb
	f.count.mu.Unlock()
	f.count.fired.Store(true)
	if f.Hook != nil {
		f.Hook(verb)
	}
	return fmt.Errorf("%s: %w (operation %d %s)", verb, ErrInjected, n, f.count.mode)
}

// Open implements bucket.Reader.
func (f *Faulty) Open(ctx context.Context, name string) (bucket.Object, error) {
	f.count.reads.Add(1)
	o, err := f.Bucket.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &countedObject{o, f.count}, nil
}

// Stat implements bucket.Reader.
func (f *Faulty) Stat(ctx context.Context, name string) (bucket.Info, error) {
	f.count.reads.Add(1)
	return f.Bucket.Stat(ctx, name)
}

// List implements bucket.Reader.
func (f *Faulty) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	f.count.reads.Add(1)
	return f.Bucket.List(ctx, prefix)
}

// Create implements bucket.Bucket. Failed yet persisted, it leaves a hidden
// object behind.
func (f *Faulty) Create(ctx context.Context) (bucket.Writer, error) {
	var w bucket.Writer
	err := f.do("create", func() (err error) {
		w, err = f.Bucket.Create(ctx)
		return err
	})
	if err != nil {
		if w != nil {
			w.Close() // nobody can any more
		}
		return nil, err
	}
	return &faultyWriter{f, w}, nil
}

// Delete implements bucket.Bucket.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	return f.do("delete", func() error { return f.Bucket.Delete(ctx, name) })
}

// Move implements bucket.Mover: one operation if the bucket is one, else those
// of a copy and a delete.
func (f *Faulty) Move(ctx context.Context, from, to string) error {
	m, ok := f.Bucket.(bucket.Mover)
	if !ok {
		return bucket.Move(ctx, struct{ bucket.Bucket }{f}, from, to)
	}
	return f.do("move", func() error { return m.Move(ctx, from, to) })
}

// Free implements bucket.Spacer if the bucket does.
func (f *Faulty) Free(ctx context.Context) (int64, error) {
	s, ok := f.Bucket.(bucket.Spacer)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return s.Free(ctx)
}

type countedObject struct {
	bucket.Object
	count *count
}

func (o *countedObject) ReadAt(p []byte, off int64) (int, error) {
	o.count.reads.Add(1)
	return o.Object.ReadAt(p, off)
}

type faultyWriter struct {
	f *Faulty
	w bucket.Writer
}

func (w *faultyWriter) Write(p []byte) (n int, err error) {
	err = w.f.do("write", func() (err error) {
		n, err = w.w.Write(p)
		return err
	})
	return n, err
}

func (w *faultyWriter) Close() error { return w.f.do("close", w.w.Close) }

func (w *faultyWriter) Commit(ctx context.Context, name string) error {
	return w.f.do("commit", func() error { return w.w.Commit(ctx, name) })
}

// Abort is not counted. The dead do not clean up.
func (w *faultyWriter) Abort() error {
	if w.f.Dead && w.f.Fired() {
		w.w.Close() // only lets go of the file
		return fmt.Errorf("abort: %w (after the fault)", ErrInjected)
	}
	return w.w.Abort()
}

// Walk runs the test once for every operation that run does, in both modes, so
// that each is broken in turn: at is 1, then 2, and so on until run returns
// false, which it must when nothing failed any more (see Faulty.Fired). Walk
// fails the test if not even the first operation failed.
func Walk(t *testing.T, run func(t *testing.T, at int64, mode Mode) (fired bool)) {
	t.Helper()
	const endless = 100_000
	for _, mode := range []Mode{Fail, FailPersisted} {
		t.Run(mode.String(), func(t *testing.T) {
			for at := int64(1); ; at++ {
				fired := false
				ok := t.Run(fmt.Sprint(at), func(t *testing.T) { fired = run(t, at, mode) })
				switch {
				case !ok:
					return
				case !fired && at == 1:
					t.Fatal("no operation was counted: this walk checks nothing")
				case !fired:
					return
				case at == endless:
					t.Fatalf("still failing at operation %d: is the count reset?", at)
				}
			}
		})
	}
}
