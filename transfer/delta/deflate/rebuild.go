package deflate

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// mostWorkers bounds what a recipe that lies can make of memory: each worker has
// a segment of the stream in it.
const mostWorkers = 8

// Rebuild writes to w the raw deflate stream that s is the recipe of. plain
// holds the plain bytes, s.Plain of them from offset 0, and is read by several
// goroutines if workers, how many may work at once, is more than one; 0 is one.
// A recipe that lies gives an error or other bytes, never more than s.Compressed
// of them.
func Rebuild(ctx context.Context, s *Stream, plain io.ReaderAt, w io.Writer, workers int) (err error) {
	defer caught(&err)
	if err := s.check(); err != nil {
		return fmt.Errorf("rebuild stream: %w", err)
	}
	j := &joiner{w: w, left: s.Compressed}
	if f, ok := s.Encoder.family(s.Params); ok {
		err = rebuildFamily(ctx, s, f, plain, j, workers)
	} else if p, ok := s.Encoder.blockwise(s.Params); ok {
		err = rebuildBlockwise(ctx, s, p, plain, j, workers)
	} else if enc, done, ok := s.Encoder.exact(s.Params); ok {
		// Not deferred: an encoder that panicked is not used again.
		err = rebuildExact(ctx, s, enc, plain, j)
		done()
	}
	if err == nil {
		err = j.end(s.tail)
	}
	if err != nil {
		return fmt.Errorf("rebuild stream: %w", err)
	}
	return nil
}

// caught turns the panic of a model into an error: what it was given may be
// hostile, and a model may be wrong in ways that nobody foresaw.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: model panicked: %v", ErrDamaged, p)
	}
}

// joiner writes segments one after the other, though a byte may belong to two.
type joiner struct {
	w     io.Writer
	left  int64
	carry byte
	phase uint
}

// put writes the whole bytes of out and keeps the bits that are left over. first
// says that out begins a segment.
func (j *joiner) put(out *bitWriter, first bool) error {
	out.whole()
	if int64(len(out.buf)) > j.left {
		return damaged("stream becomes longer than the recipe says")
	}
	if first && len(out.buf) == 0 {
		j.carry |= byte(out.acc)
	} else {
		if first {
			out.buf[0] |= j.carry
		}
		j.carry = byte(out.acc)
	}
	j.phase = out.held
	j.left -= int64(len(out.buf))
	_, err := j.w.Write(out.buf)
	return err
}

// Write takes bytes from an encoder that writes all of the stream by itself.
func (j *joiner) Write(b []byte) (int, error) {
	if int64(len(b)) > j.left {
		return 0, damaged("stream becomes longer than the recipe says")
	}
	j.left -= int64(len(b))
	return j.w.Write(b)
}

func (j *joiner) end(tail byte) error {
	if j.phase > 0 {
		if j.left == 0 {
			return damaged("stream becomes longer than the recipe says")
		}
		j.left--
		if _, err := j.w.Write([]byte{j.carry | tail<<j.phase}); err != nil {
			return err
		}
	}
	if j.left != 0 {
		return damaged("stream becomes shorter than the recipe says")
	}
	return nil
}

func rebuildFamily(ctx context.Context, s *Stream, f family, plain io.ReaderAt, j *joiner, workers int) error {
	if workers > 1 && len(s.segments) > 1 {
		return rebuildParallel(ctx, s, f, plain, j, workers)
	}
	w := takeWalker(f)
	defer giveWalker(w)
	at := int64(0)
	for i := range s.segments {
		g := &s.segments[i]
		if err := j.fits(g); err != nil {
			return err
		}
		w.begin(plain, s.Plain, at)
		at += g.plain
		first := true
		put := func(out *bitWriter) error {
			if out.whole(); len(out.buf) == 0 {
				return nil
			}
			err := j.put(out, first)
			first = false
			out.buf = out.buf[:0]
			return err
		}
		if err := w.rebuild(ctx, g, i == len(s.segments)-1, s.Compressed, put); err != nil {
			return err
		}
		if err := j.put(&w.out, first); err != nil {
			return err
		}
	}
	return nil
}

// rebuildParallel has several segments rebuilt at once, each in memory, and
// writes them in order.
func rebuildParallel(ctx context.Context, s *Stream, f family, plain io.ReaderAt, j *joiner, workers int) error {
	at := make([]int64, len(s.segments))
	for i := range at[1:] {
		at[i+1] = at[i] + s.segments[i].plain
	}
	last := len(at) - 1
	return inOrder(ctx, len(at), min(workers, mostWorkers), func(ctx context.Context, i int) (*walker, error) {
		w := takeWalker(f)
		w.begin(plain, s.Plain, at[i])
		return w, w.rebuild(ctx, &s.segments[i], i == last, s.Compressed, nil)
	}, func(i int, w *walker) error {
		if err := j.fits(&s.segments[i]); err != nil {
			return err
		}
		err := j.put(&w.out, true)
		giveWalker(w)
		return err
	})
}

// inOrder has n things made by several goroutines, and used in order by the
// caller's:
//
//	produce(0) ▸ turn ┐
//	produce(1) ▸ turn ┼▸ use(0), use(1) …
//	…              ┘
//
// At most workers are on the way at once. All have ended when it returns.
func inOrder[T any](ctx context.Context, n, workers int, produce func(context.Context, int) (T, error), use func(int, T) error) error {
	type result struct {
		made T
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel() // before waiting

	turns := make([]chan result, 0, min(n, workers))
	next := 0
	for i := range n {
		for ; next < n && next < i+max(workers, 1); next++ {
			turn, k := make(chan result, 1), next
			turns = append(turns, turn)
			group.Go(func() {
				var r result
				defer func() { turn <- r }()
				defer caught(&r.err)
				r.made, r.err = produce(ctx, k)
			})
		}
		r := <-turns[0]
		turns = turns[1:]
		if r.err != nil {
			return r.err
		}
		if err := use(i, r.made); err != nil {
			return err
		}
	}
	return nil
}

// fits makes sure that g begins at the bit where what is written ends.
func (j *joiner) fits(g *segment) error {
	if g.phase != j.phase {
		return damaged("segment does not begin where the one before ends")
	}
	return nil
}
