package deflate

import (
	"context"
	"fmt"
	"io"
	"sync"

	"davit/transfer/delta/deflate/go126"
	"davit/transfer/delta/deflate/go127"
)

// exact writes what an encoder makes of plain bytes. Such a model has no
// corrections: a stream is all of it or none of it.
type exact interface {
	io.WriteCloser
	Reset(io.Writer)
}

// pools keep encoders, whose tables are large beside most streams, by level.
// An encoder that was reset writes what a new one does; a test holds it to that.
var pools [3][10]sync.Pool

// exact returns the encoder that e and params stand for, and what to do with it
// afterwards.
func (e Encoder) exact(params []byte) (enc exact, done func(), ok bool) {
	if len(params) != 1 || params[0] < 1 || params[0] > 9 {
		return nil, nil, false
	}
	level := int(params[0])
	var pool *sync.Pool
	switch {
	case e == Go126:
		pool = &pools[0][level]
	case e == Klauspost:
		pool = &pools[1][level]
	case e == Klauspost116 && level < 9:
		pool = &pools[2][level]
	default:
		return nil, nil, false
	}
	enc, _ = pool.Get().(exact)
	switch {
	case enc != nil:
	case e == Go126:
		enc, _ = go126.NewWriter(io.Discard, level) // fails for an impossible level only
	default:
		w, _ := go127.NewWriter(io.Discard, level)
		if e == Klauspost116 {
			w.Full()
		}
		enc = w
	}
	return enc, func() { enc.Reset(io.Discard); pool.Put(enc) }, true
}

// isExact reports whether there is such an encoder.
func (e Encoder) isExact(params []byte) bool {
	_, done, ok := e.exact(params)
	if ok {
		done()
	}
	return ok
}

// exacts are the models of this kind, the likely ones first.
var exacts = func() (all []candidate) {
	for _, level := range []byte{5, 6, 1, 9, 4, 3, 2, 7, 8} {
		for _, e := range []Encoder{Go126, Klauspost, Klauspost116} {
			all = append(all, candidate{encoder: e, params: string([]byte{level})})
		}
	}
	return all
}()

// rebuildExact encodes plain once more.
func rebuildExact(ctx context.Context, s *Stream, enc exact, plain io.ReaderAt, w io.Writer) error {
	if len(s.segments) != 1 || s.Corrections() > 0 {
		return damaged("%s takes no corrections", s.Encoder)
	}
	enc.Reset(w)
	r := io.NewSectionReader(plain, 0, s.Plain)
	buf := make([]byte, 64<<10)
	for left := s.Plain; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("read plain bytes: %w", err)
		}
		if _, err := enc.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return enc.Close()
}

// proveExact has plain encoded, and stops at the first byte that differs.
func (p *prover) proveExact(ctx context.Context, c candidate) (*Stream, error) {
	size := p.plain.Size()
	s := &Stream{Encoder: c.encoder, Params: []byte(c.params), Plain: size, Compressed: p.compressed.Size(), segments: []segment{{plain: size}}}
	w := &comparer{r: io.NewSectionReader(p.compressed, 0, s.Compressed)}
	if err := Rebuild(ctx, s, p.plain, w, p.workers); err != nil {
		return nil, err
	}
	return s, nil
}
