package deflate

import (
	"context"
	"fmt"
	"io"
	"sync"
)

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
// writes them in order:
//
//	segment ▸ [goroutine, walker] ▸ turn ┐
//	segment ▸ [goroutine, walker] ▸ turn ┼▸ joiner ▸ w
//	…                                    ┘
func rebuildParallel(ctx context.Context, s *Stream, f family, plain io.ReaderAt, j *joiner, workers int) error {
	type result struct {
		w   *walker
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group := sync.WaitGroup{}
	defer group.Wait()
	defer cancel() // before waiting

	var turns []chan result
	next, at := 0, int64(0)
	for done := range s.segments {
		for ; next < len(s.segments) && next < done+workers; next++ {
			turn := make(chan result, 1)
			turns = append(turns, turn)
			g, from, last := &s.segments[next], at, next == len(s.segments)-1
			at += g.plain
			group.Go(func() {
				w := takeWalker(f)
				err := func() (err error) {
					defer caught(&err)
					w.begin(plain, s.Plain, from)
					return w.rebuild(ctx, g, last, s.Compressed, nil)
				}()
				turn <- result{w, err}
			})
		}
		r := <-turns[done]
		turns[done] = nil
		if r.err != nil {
			return r.err
		}
		if err := j.fits(&s.segments[done]); err != nil {
			return err
		}
		if err := j.put(&r.w.out, true); err != nil {
			return err
		}
		giveWalker(r.w)
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
