package deflate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	cutAfter = 1 << 20 // plain bytes after which a segment may end
	share    = 20      // a recipe is worth having below this part of the stream
)

// most is how many bytes of corrections are worth it for n bytes of stream.
func most(n int64) int { return int(n/share) + 8 }

// few is how many say that no other model can be meant. What "medium" does
// depends on what was long before, so it needs some where a segment begins.
func few(e Encoder, n int64) int {
	if e == ZlibMedium {
		return int(n/500) + 32
	}
	return int(n/5000) + 32
}

// Prove looks for a model that gives compressed, one whole raw deflate stream,
// back from plain, and returns the recipe. It is ErrUnproven when there is none
// whose recipe is under a twentieth of the stream. hint may be nil, or the
// recipe of a stream that likely had the same maker: it is tried first. The
// caller bounds the time by ctx.
func Prove(ctx context.Context, compressed, plain *io.SectionReader, hint *Stream, o Options) (s *Stream, err error) {
	defer caught(&err)
	p := &prover{compressed: compressed, plain: plain, workers: max(1, o.Workers), may: o.Encoders, trust: o.Trust}
	if p.may == nil {
		p.may = Encoders()
	}
	if s, err = p.find(ctx, hint); err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrUnproven) {
			err = fmt.Errorf("%w: %w", ErrUnproven, err)
		}
		return nil, fmt.Errorf("prove stream: %w", err)
	}
	return s, nil
}

type prover struct {
	compressed, plain *io.SectionReader
	workers           int
	may               []Encoder
	trust             bool

	begin []block // the first tokens
	bytes int64   // of stream they take
	short bool    // they are all there are
	end   byte    // then the tail of the stream
}

// part is a segment on its way through the prover.
type part struct {
	segment
	at     int64 // offset of its plain bytes
	blocks []block
	most   int
	err    error
	ready  chan struct{}
}

// whole goes through all of the stream with one model and returns the recipe. A
// lazy encoder's stream is cut into segments, which are worked on at once:
//
//	compressed ▸ [blocks] ▸ part ▸ [goroutine, walker] ▸ segment
func (p *prover) whole(ctx context.Context, c candidate, most int) (*Stream, error) {
	f, ok := c.encoder.family([]byte(c.params))
	if !ok {
		return nil, ErrUnproven
	}
	if p.short {
		return p.compare(ctx, &Stream{Encoder: c.encoder, Params: []byte(c.params), Plain: p.plain.Size(),
			Compressed: p.compressed.Size(), tail: p.end, segments: []segment{c.tried}})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel() // before waiting

	s := &Stream{Encoder: c.encoder, Params: []byte(c.params), Plain: p.plain.Size(), Compressed: p.compressed.Size()}
	r := newBlocks(p.compressed)
	defer r.close()
	var open []*part // being worked on, in order
	total := 0
	settle := func(keep int) error {
		for len(open) > keep {
			<-open[0].ready
			if err := open[0].err; err != nil {
				return err
			}
			s.segments = append(s.segments, open[0].segment)
			total += len(open[0].segment.blocks) + len(open[0].segment.tokens)
			open = open[1:]
		}
		if total > most {
			return errCostly
		}
		return nil
	}
	slow := efforts[f.level].slow
	var w *walker // of a fast encoder: its table depends on all that was before
	g := &gaps{}
	single := segment{plain: s.Plain}
	if !slow {
		w = takeWalker(f)
		defer giveWalker(w)
		w.begin(p.plain, s.Plain, 0)
	}
	at := int64(0)
	var err error
	for !r.ended {
		q := &part{at: at, ready: make(chan struct{})}
		q.phase = uint(r.bits.position() & 7)
		tokens := 0
		for !r.ended && (q.plain < cutAfter || at == s.Plain) {
			b, err := r.next()
			if err != nil {
				return nil, err
			}
			q.plain += r.plain - at
			at = r.plain
			tokens += len(b.tokens)
			q.blocks = append(q.blocks, b)
			if at > s.Plain || tokens > 8*mostTokens {
				return nil, errBlock
			}
		}
		if !slow {
			if err := w.prove(ctx, &single, q.blocks, g, most); err != nil {
				return nil, err
			}
			continue
		}
		if q.plain > mostSegment && q.plain < s.Plain {
			return nil, errBlock
		}
		q.most = most
		open = append(open, q)
		group.Go(func() {
			defer close(q.ready)
			q.err = q.work(ctx, f, p.plain, s.Plain)
		})
		if err := settle(p.workers - 1); err != nil {
			return nil, err
		}
	}
	if err := settle(0); err != nil {
		return nil, err
	}
	if !slow {
		s.segments = []segment{single}
	}
	if s.tail, err = p.tail(r); err != nil {
		return nil, err
	}
	return p.compare(ctx, s)
}

// tail returns the bits after the end of the last block, which was read.
func (p *prover) tail(r *blocks) (byte, error) {
	end := r.bits.position()
	if r.plain != p.plain.Size() || (end+7)/8 != p.compressed.Size() {
		return 0, errors.New("stream and plain bytes do not belong together")
	}
	tail, err := r.bits.take(uint(-end & 7))
	return byte(tail), err
}

// compare rebuilds the stream: that is the proof.
func (p *prover) compare(ctx context.Context, s *Stream) (*Stream, error) {
	if p.trust {
		return s, nil
	}
	same := &comparer{r: io.NewSectionReader(p.compressed, 0, s.Compressed)}
	if err := Rebuild(ctx, s, p.plain, same, p.workers); err != nil {
		return nil, err
	}
	return s, nil
}

func (q *part) work(ctx context.Context, f family, plain io.ReaderAt, size int64) (err error) {
	defer caught(&err)
	w := takeWalker(f)
	defer giveWalker(w)
	w.begin(plain, size, q.at)
	err = w.prove(ctx, &q.segment, q.blocks, &gaps{}, q.most)
	q.blocks = nil
	return err
}

// comparer is a writer that fails at the first byte that is not as in r.
type comparer struct {
	r   io.Reader
	buf []byte
}

var errDiffers = errors.New("rebuilt stream differs")

func (c *comparer) Write(b []byte) (int, error) {
	if len(c.buf) < len(b) {
		c.buf = make([]byte, len(b))
	}
	if _, err := io.ReadFull(c.r, c.buf[:len(b)]); err != nil {
		return 0, errDiffers
	}
	if string(c.buf[:len(b)]) != string(b) {
		return 0, errDiffers
	}
	return len(b), nil
}
