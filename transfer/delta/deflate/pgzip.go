package deflate

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"davit/transfer/delta/deflate/go127"
)

const (
	pgzipTail = 16 << 10 // of the block before is a block's dictionary
	mostPgzip = 16 << 20 // bytes in a block
)

// blockwise is how pgzip cuts plain bytes into blocks, which it encodes one by
// one, each with the end of the one before as its dictionary.
type blockwise struct {
	level int
	size  int64
}

func (e Encoder) blockwise(params []byte) (blockwise, bool) {
	if e != Pgzip || len(params) < 2 || params[0] < 1 || params[0] > 8 {
		return blockwise{}, false
	}
	size, n := binary.Uvarint(params[1:])
	if n != len(params)-1 || size <= pgzipTail || size > mostPgzip {
		return blockwise{}, false
	}
	return blockwise{int(params[0]), int64(size)}, true
}

// rebuildBlockwise encodes plain once more, several blocks at once.
func rebuildBlockwise(ctx context.Context, s *Stream, p blockwise, plain io.ReaderAt, j *joiner, workers int) error {
	if len(s.segments) != 1 || s.Corrections() > 0 {
		return damaged("%s takes no corrections", s.Encoder)
	}
	n := s.Plain/p.size + 1 // the last may be empty
	workers = min(workers, mostWorkers)
	encoders := make(chan *go127.Writer, max(workers, 1))
	return inOrder(ctx, int(n), workers, func(ctx context.Context, i int) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		from := int64(i) * p.size
		tail := min(from, pgzipTail)
		in := make([]byte, tail+min(p.size, s.Plain-from))
		if k, err := plain.ReadAt(in, from-tail); k < len(in) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read plain bytes: %w", err)
		}
		var w *go127.Writer
		select {
		case w = <-encoders:
		default:
			w, _ = go127.NewWriter(io.Discard, p.level) // fails for an impossible level only
			w.Full()
		}
		var out bytes.Buffer
		w.ResetDict(&out, in[:tail])
		if _, err := w.Write(in[tail:]); err != nil {
			return nil, err
		}
		if err := w.Flush(); err != nil {
			return nil, err
		}
		if int64(i) == n-1 {
			if err := w.Close(); err != nil {
				return nil, err
			}
		}
		select {
		case encoders <- w:
		default:
		}
		return out.Bytes(), nil
	}, func(_ int, b []byte) error {
		_, err := j.Write(b)
		return err
	})
}

// flushedEvery returns after how many plain bytes the stream was flushed first,
// if that can be the work of pgzip, and 0 if not.
func (p *prover) flushedEvery() int64 {
	r := newBlocks(p.compressed)
	defer r.close()
	for !r.ended && r.plain <= mostPgzip {
		b, err := r.next()
		if err != nil {
			return 0
		}
		if b.kind == stored && b.size == 0 && !b.final && r.plain > 0 {
			if r.plain == p.plain.Size() && r.plain < 1<<20 {
				return 1 << 20 // flushed before it was closed: no block was full
			}
			if r.plain > pgzipTail && r.plain <= mostPgzip {
				return r.plain
			}
			return 0
		}
	}
	return 0
}
