package deflate

import (
	"errors"
	"io"
	"slices"
	"sync"
)

// blocks reads a stream block by block.
type blocks struct {
	*decoder
	ended   bool
	plain   int64 // bytes passed
	scratch []token
}

var readers = sync.Pool{New: func() any {
	return &blocks{decoder: newDecoder(nil), scratch: make([]token, 1<<12)}
}}

// newBlocks reads from the beginning. It is given back by close.
func newBlocks(compressed *io.SectionReader) *blocks {
	r := readers.Get().(*blocks)
	r.bits = newBitReader(io.NewSectionReader(compressed, 0, compressed.Size()), r.bits.buf)
	r.ended, r.plain = false, 0
	return r
}

// several reads blocks of about n tokens, and says where their plain bytes
// begin.
func (r *blocks) several(n int) (list []block, at int64, err error) {
	for at = r.plain; n > 0 && !r.ended; {
		b, err := r.next()
		if err != nil {
			return nil, 0, err
		}
		n -= len(b.tokens) + b.size/512 + 1 // stored blocks tell little
		list = append(list, b)
	}
	return list, at, nil
}

func (r *blocks) close() {
	r.bits.src = nil
	readers.Put(r)
}

var errBlock = errors.New("a block is too long")

func (r *blocks) next() (block, error) {
	if err := r.block(); err != nil {
		return block{}, err
	}
	r.ended = r.final
	b := block{kind: r.kind, final: r.final}
	if b.kind == stored {
		b.pad, b.size = r.pad, r.left
		r.plain += int64(b.size)
		var drop [4096]byte
		for r.left > 0 {
			if err := r.raw(drop[:min(r.left, len(drop))]); err != nil {
				return block{}, err
			}
		}
		return b, nil
	}
	if b.kind == dynamic {
		b.bits = len(r.header.buf)*8 + int(r.header.held)
		b.header = slices.Clone(r.header.buf)
		if r.header.held > 0 {
			b.header = append(b.header, byte(r.header.acc))
		}
	}
	for len(r.scratch) <= mostTokens {
		n, done, err := r.tokens(r.scratch[len(b.tokens):])
		b.tokens = r.scratch[:len(b.tokens)+n]
		if done || err != nil {
			b.tokens = slices.Clone(b.tokens)
			for _, t := range b.tokens {
				r.plain += int64(t.span())
			}
			return b, err
		}
		r.scratch = append(r.scratch, make([]token, len(r.scratch))...)
	}
	return block{}, errBlock
}
