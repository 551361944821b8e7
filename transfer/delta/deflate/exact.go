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

// kept is an encoder in a pool, and where it writes for now.
type kept struct {
	exact
	to io.Writer
}

func (k *kept) reset(to io.Writer) {
	k.to = to
	k.Reset(outlet{k})
}

// outlet is what the encoder of a kept writes to: it keeps the pool from keeping
// what callers write to, without another reset, which has large tables to clear.
type outlet struct{ k *kept }

func (o outlet) Write(b []byte) (int, error) { return o.k.to.Write(b) }

// pools keep encoders, whose tables are large beside most streams, by level.
// An encoder that was reset writes what a new one does; a test holds it to that.
var pools [3][10]sync.Pool

// isExact reports whether e and params stand for such an encoder.
func (e Encoder) isExact(params []byte) bool {
	return len(params) == 1 && params[0] >= 1 && params[0] <= 9 &&
		(e == Go126 || e == Klauspost || e == Klauspost116 && params[0] < 9)
}

// exact returns the encoder that e and params stand for, and what to do with it
// afterwards.
func (e Encoder) exact(params []byte) (enc *kept, done func(), ok bool) {
	if !e.isExact(params) {
		return nil, nil, false
	}
	level := int(params[0])
	pool := &pools[map[Encoder]int{Go126: 0, Klauspost: 1, Klauspost116: 2}[e]][level]
	enc, _ = pool.Get().(*kept)
	switch {
	case enc != nil:
	case e == Go126:
		w, _ := go126.NewWriter(io.Discard, level) // fails for an impossible level only
		enc = &kept{exact: w}
	default:
		w, _ := go127.NewWriter(io.Discard, level)
		if e == Klauspost116 {
			w.Full()
		}
		enc = &kept{exact: w}
	}
	return enc, func() { enc.to = nil; pool.Put(enc) }, true
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
func rebuildExact(ctx context.Context, s *Stream, enc *kept, plain io.ReaderAt, w io.Writer) error {
	if len(s.segments) != 1 || s.Corrections() > 0 {
		return damaged("%s takes no corrections", s.Encoder)
	}
	enc.reset(w)
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
