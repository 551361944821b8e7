package deflate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

const (
	fewTokens   = 3000    // how much of a stream says which models may fit
	trialTokens = 30000   // how much chooses among them
	cutAfter    = 1 << 20 // plain bytes after which a segment may end
	share       = 20      // a recipe is worth having below this part of the stream
	finalists   = 3       // models that are tried on the whole stream
)

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

	short bool // the trial goes through all of the stream
	end   byte // then its tail
}

// candidate is a model that may fit.
type candidate struct {
	encoder Encoder
	params  string
	cost    int     // bytes of corrections in the trial
	tried   segment // what the trial found
}

// candidates are all models of the zlib family, the likely ones first.
var candidates = func() (all []candidate) {
	for _, e := range []Encoder{Zlib, ZlibChromium, Gzip, ZlibCRC32C} {
		for _, level := range []byte{6, 9, 1, 5, 8, 7, 4, 3, 2} {
			all = append(all, candidate{encoder: e, params: string([]byte{level, 8})})
		}
	}
	for _, e := range []Encoder{Zlib, ZlibChromium} {
		for _, level := range []byte{9, 6, 1, 5, 8, 7, 4, 3, 2} {
			all = append(all, candidate{encoder: e, params: string([]byte{level, 9})})
		}
	}
	for _, level := range []byte{6, 5, 4} {
		for _, chunk := range []byte{1, 0, 3, 2} {
			all = append(all, candidate{encoder: ZlibMedium, params: string([]byte{level, chunk})})
		}
	}
	return all
}()

func (p *prover) find(ctx context.Context, hint *Stream) (*Stream, error) {
	if hint != nil {
		if s := p.exact(ctx, candidate{encoder: hint.Encoder, params: string(hint.Params)}); s != nil {
			return s, nil
		}
	}
	list, err := p.trials(ctx, hint)
	if err != nil {
		return nil, err
	}
	// The trial of a long stream can be without fault by chance, but not while
	// another model has the whole of it.
	var best *Stream
	if len(list) > 0 && list[0].cost == 0 {
		if best, err = p.best(ctx, list); err == nil && best.Corrections() == 0 {
			return best, nil
		}
	}
	if size := p.flushedEvery(); size > 0 {
		for _, level := range []byte{5, 6, 1, 4, 3, 2, 7, 8} {
			if s := p.exact(ctx, candidate{encoder: Pgzip, params: string(binary.AppendUvarint([]byte{level}, uint64(size)))}); s != nil {
				return s, nil
			}
		}
	}
	for _, c := range exacts {
		if s := p.exact(ctx, c); s != nil {
			return s, nil
		}
	}
	if best != nil || ctx.Err() != nil {
		return best, ctx.Err()
	}
	if best, err = p.best(ctx, list); err != nil && hint != nil && ctx.Err() == nil {
		// The hint fitted the beginning only.
		if list, err = p.trials(ctx, nil); err != nil {
			return nil, err
		}
		best, err = p.best(ctx, list)
	}
	return best, err
}

// exact returns the recipe if c is a model without corrections that fits.
func (p *prover) exact(ctx context.Context, c candidate) *Stream {
	_, wise := c.encoder.blockwise([]byte(c.params))
	if !wise && !c.encoder.isExact([]byte(c.params)) || !slices.Contains(p.may, c.encoder) || ctx.Err() != nil {
		return nil
	}
	s, err := p.proveExact(ctx, c)
	if err != nil {
		return nil
	}
	return s
}

// best tries candidates on the whole stream.
func (p *prover) best(ctx context.Context, list []candidate) (*Stream, error) {
	var best *Stream
	for _, c := range list {
		s, err := p.whole(ctx, c)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue
		}
		if best == nil || s.Corrections() < best.Corrections() {
			best = s
		}
		if int64(best.Corrections()) <= best.Compressed/5000+32 {
			break
		}
	}
	if best == nil {
		return nil, ErrUnproven
	}
	return best, nil
}

// most is how many bytes of corrections are worth it for n bytes of stream.
func most(n int64) int { return int(n/share) + 8 }

// trials tries the models on the beginning of the stream and returns the best.
func (p *prover) trials(ctx context.Context, hint *Stream) ([]candidate, error) {
	r := newBlocks(p.compressed)
	defer r.close()
	begin, _, err := r.several(trialTokens)
	if err != nil {
		return nil, err
	}
	limit := most(r.bits.position() / 8)
	if p.short = r.ended; p.short {
		if p.end, err = p.tail(r); err != nil {
			return nil, err
		}
	}
	if hint != nil && slices.Contains(p.may, hint.Encoder) {
		c := candidate{encoder: hint.Encoder, params: string(hint.Params)}
		if p.trial(ctx, &c, begin, 0, limit) && c.cost == 0 {
			return []candidate{c}, nil
		}
	}
	// First on a few tokens, to see who is out of the question.
	few := begin[0].tokens[:min(len(begin[0].tokens), fewTokens)]
	fit := p.narrow(ctx, candidates, func(c *candidate, limit int) bool { return p.sample(c, few, limit) }, 64+len(few))
	fit = p.narrow(ctx, fit, func(c *candidate, limit int) bool { return p.trial(ctx, c, begin, 0, limit) }, limit)
	if len(fit) > 1 && !r.ended {
		// The beginning leaves it open: look at the middle.
		for r.plain < p.plain.Size()/2 && !r.ended {
			if _, err := r.next(); err != nil {
				return nil, err
			}
		}
		middle, at, err := r.several(trialTokens)
		if err != nil {
			return nil, err
		}
		if len(middle) > 0 {
			best := p.narrow(ctx, fit, func(c *candidate, limit int) bool {
				before := c.cost
				fits := p.trial(ctx, c, middle, at, limit)
				c.cost += before
				return fits
			}, 1<<30)
			if len(best) > 0 {
				fit = best
			}
		}
	}
	return fit[:min(len(fit), finalists)], ctx.Err()
}

// narrow returns the candidates that are as good as the best by a trial, or
// nearly so, the best first.
func (p *prover) narrow(ctx context.Context, list []candidate, trial func(*candidate, int) bool, limit int) (fit []candidate) {
	for _, c := range list {
		if ctx.Err() != nil {
			return nil
		}
		if slices.Contains(p.may, c.encoder) && trial(&c, limit) {
			fit = append(fit, c)
			limit = min(limit, c.cost+c.cost/4+8)
		}
	}
	fit = slices.DeleteFunc(fit, func(c candidate) bool { return c.cost > limit })
	slices.SortStableFunc(fit, func(a, b candidate) int { return a.cost - b.cost })
	return fit
}

// trial sees how many bytes of corrections c needs for a part of the stream,
// whose plain bytes begin at offset at, and reports false if that is more than limit.
func (p *prover) trial(ctx context.Context, c *candidate, part []block, at int64, limit int) bool {
	f, ok := c.encoder.family([]byte(c.params))
	if !ok {
		return false
	}
	w := takeWalker(f)
	defer giveWalker(w)
	w.begin(p.plain, p.plain.Size(), at)
	var s segment
	if w.prove(ctx, &s, part, &gaps{}, limit) != nil {
		return false
	}
	c.cost = len(s.blocks) + len(s.tokens)
	s.plain = p.plain.Size()
	c.tried = s
	return true
}

// sample is a trial on tokens only, and costs what they need.
func (p *prover) sample(c *candidate, tokens []token, limit int) bool {
	f, ok := c.encoder.family([]byte(c.params))
	if !ok {
		return false
	}
	w := takeWalker(f)
	defer giveWalker(w)
	w.begin(p.plain, p.plain.Size(), 0)
	c.cost = 0
	for _, t := range tokens {
		if w.left() < int64(t.span()) {
			return false
		}
		if w.predict() != t {
			if c.cost += 4; c.cost > limit {
				return false
			}
		}
		w.accept(t)
	}
	return w.err == nil
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
func (p *prover) whole(ctx context.Context, c candidate) (*Stream, error) {
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
		if total > most(s.Compressed) {
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
			if err := w.prove(ctx, &single, q.blocks, g, most(s.Compressed)); err != nil {
				return nil, err
			}
			continue
		}
		if q.plain > mostSegment && q.plain < s.Plain {
			return nil, errBlock
		}
		q.most = most(s.Compressed)
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
