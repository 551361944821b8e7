package deflate

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	firstTokens = 400   // how much of a stream says at a glance which models may fit
	fewTokens   = 3000  // how much says it better
	trialTokens = 30000 // how much chooses among them
	finalists   = 3     // models that are tried on the whole stream
	sampleBytes = 2 * window
	alikeBytes  = 8 << 10
)

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

// find chooses a model by the first tokens, for most streams have a model that
// predicts them all:
//
//	hint ▸ a glance at all models ▸ exact encoders ▸ samples ▸ trials ▸ whole
//
// The exact encoders come first only when no other says all of the first tokens.
func (p *prover) find(ctx context.Context, hint *Stream) (*Stream, error) {
	if hint != nil {
		if s := p.exact(ctx, candidate{encoder: hint.Encoder, params: string(hint.Params)}); s != nil {
			return s, nil
		}
	}
	if err := p.look(); err != nil {
		return nil, err
	}
	if hint != nil {
		if s := p.faultless(ctx, &candidate{encoder: hint.Encoder, params: string(hint.Params)}, 0); s != nil {
			return s, nil
		}
	}
	prefix, tokens, err := p.sampleOf()
	if err != nil {
		return nil, err
	}
	first := tokens[:min(len(tokens), firstTokens)]
	fit := p.narrow(ctx, candidates, 64+len(first), 32, func(c *candidate, limit int) bool { return p.sample(c, prefix, first, limit) })
	if len(fit) > 0 && fit[0].cost == 0 {
		fit = p.narrow(ctx, fit, 64+len(tokens), 8, func(c *candidate, limit int) bool { return p.sample(c, prefix, tokens, limit) })
	}
	var found *Stream
	var unlike []candidate
	tried := len(fit) == 0 || fit[0].cost > 0
	if tried {
		if found, unlike = p.tryExact(ctx); found != nil {
			return found, nil
		}
		fit = p.narrow(ctx, fit, 64+len(tokens), 8, func(c *candidate, limit int) bool { return p.sample(c, prefix, tokens, limit) })
	}
	fit = p.narrow(ctx, fit, most(p.bytes), 8, func(c *candidate, limit int) bool {
		if found == nil {
			found = p.faultless(ctx, c, limit)
		}
		return found == nil && c.cost >= 0
	})
	if found != nil || ctx.Err() != nil {
		return found, ctx.Err()
	}
	if len(fit) > 1 && !p.short {
		if fit, err = p.middle(ctx, fit); err != nil {
			return nil, err
		}
	}
	if !tried {
		if found, unlike = p.tryExact(ctx); found != nil {
			return found, nil
		}
	}
	best, err := p.best(ctx, fit[:min(len(fit), finalists)])
	if best != nil && best.Corrections() <= few(best.Encoder, best.Compressed) {
		return best, nil
	}
	for _, c := range unlike {
		if s := p.exact(ctx, c); s != nil {
			return s, nil
		}
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

// tryExact tries pgzip and the exact encoders that begin as the stream does, and
// returns those that do not.
func (p *prover) tryExact(ctx context.Context) (s *Stream, unlike []candidate) {
	if size := p.flushedEvery(); size > 0 {
		for _, level := range []byte{5, 6, 1, 4, 3, 2, 7, 8} {
			if s := p.exact(ctx, candidate{encoder: Pgzip, params: string(binary.AppendUvarint([]byte{level}, uint64(size)))}); s != nil {
				return s, nil
			}
		}
	}
	prefix := make([]byte, min(p.plain.Size(), alikeBytes))
	if n, _ := p.plain.ReadAt(prefix, 0); n < len(prefix) {
		return nil, exacts
	}
	for _, c := range exacts {
		if !slices.Contains(p.may, c.encoder) || ctx.Err() != nil {
			continue
		}
		if int64(len(prefix)) < p.plain.Size() && !c.alike(prefix, p.begin[0].tokens) {
			unlike = append(unlike, c)
		} else if s := p.exact(ctx, c); s != nil {
			return s, nil
		}
	}
	return nil, unlike
}

// alike reports whether an exact encoder makes these tokens of prefix, as far as
// that does not depend on what follows.
func (c candidate) alike(prefix []byte, tokens []token) (same bool) {
	var err error
	defer caught(&err)
	enc, done, ok := c.encoder.exact([]byte(c.params))
	if !ok {
		return false
	}
	var out bytes.Buffer
	enc.reset(&out)
	if _, err := enc.Write(prefix); err != nil {
		return false
	}
	if err := enc.Close(); err != nil {
		return false
	}
	done()
	r := newBlocks(io.NewSectionReader(bytes.NewReader(out.Bytes()), 0, int64(out.Len())))
	defer r.close()
	b, err := r.next()
	if err != nil {
		return false
	}
	left := len(prefix) - 3*maxMatch
	for i := range min(len(tokens), len(b.tokens)) {
		if left -= tokens[i].span(); left < 0 {
			break
		}
		if tokens[i] != b.tokens[i] {
			return false
		}
	}
	return true
}

// best tries candidates on the whole stream.
func (p *prover) best(ctx context.Context, list []candidate) (*Stream, error) {
	var best *Stream
	for _, c := range list {
		s, err := p.whole(ctx, c, most(p.compressed.Size()))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue
		}
		if best == nil || s.Corrections() < best.Corrections() {
			best = s
		}
		if best.Corrections() <= few(best.Encoder, best.Compressed) {
			break
		}
	}
	if best == nil {
		return nil, ErrUnproven
	}
	return best, nil
}

// look reads the beginning of the stream.
func (p *prover) look() error {
	r := newBlocks(p.compressed)
	defer r.close()
	var err error
	if p.begin, _, err = r.several(trialTokens); err != nil {
		return err
	}
	p.bytes = r.bits.position() / 8
	if p.short = r.ended; p.short {
		p.end, err = p.tail(r)
	}
	return err
}

// faultless tries c on the beginning of the stream, and when nothing has to be
// corrected there on all of it: it is what was sought if next to nothing has to
// be corrected. When c does not fit the beginning its cost is negative.
func (p *prover) faultless(ctx context.Context, c *candidate, limit int) *Stream {
	if !slices.Contains(p.may, c.encoder) || !p.trial(ctx, c, p.begin, 0, limit) {
		c.cost = -1
		return nil
	}
	if c.cost > 0 {
		return nil
	}
	s, err := p.whole(ctx, *c, few(c.encoder, p.compressed.Size()))
	if err != nil {
		return nil
	}
	return s
}

// middle looks at the middle of the stream when the beginning leaves it open
// which model is meant.
func (p *prover) middle(ctx context.Context, fit []candidate) ([]candidate, error) {
	r := newBlocks(p.compressed)
	defer r.close()
	for r.plain < p.plain.Size()/2 && !r.ended {
		if _, err := r.next(); err != nil {
			return nil, err
		}
	}
	blocks, at, err := r.several(trialTokens)
	if err != nil || len(blocks) == 0 {
		return fit, err
	}
	best := p.narrow(ctx, fit, 1<<30, 8, func(c *candidate, limit int) bool {
		before := c.cost
		fits := p.trial(ctx, c, blocks, at, limit)
		c.cost += before
		return fits
	})
	if len(best) == 0 {
		return fit, nil
	}
	return best, nil
}

// narrow returns the candidates that are as good as the best by a trial, or
// nearly so, the best first.
func (p *prover) narrow(ctx context.Context, list []candidate, limit, slack int, trial func(*candidate, int) bool) (fit []candidate) {
	for _, c := range list {
		if ctx.Err() != nil {
			return nil
		}
		if slices.Contains(p.may, c.encoder) && trial(&c, limit) {
			fit = append(fit, c)
			limit = min(limit, c.cost+c.cost/4+slack)
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

// sampleOf returns some plain bytes from the beginning, and the tokens for which
// what follows them does not matter.
func (p *prover) sampleOf() (*bytes.Reader, []token, error) {
	prefix := make([]byte, min(p.plain.Size(), sampleBytes))
	if n, err := p.plain.ReadAt(prefix, 0); n < len(prefix) {
		return nil, nil, fmt.Errorf("read plain bytes: %w", err)
	}
	tokens := p.begin[0].tokens[:min(len(p.begin[0].tokens), fewTokens)]
	if left := int64(len(prefix)); left < p.plain.Size() {
		left -= 4 * ahead
		for i, t := range tokens {
			if left -= int64(t.span()); left < 0 {
				tokens = tokens[:i]
				break
			}
		}
	}
	return bytes.NewReader(prefix), tokens, nil
}

// sample is a trial on a few tokens only, and costs what they need.
func (p *prover) sample(c *candidate, prefix *bytes.Reader, tokens []token, limit int) bool {
	f, ok := c.encoder.family([]byte(c.params))
	if !ok {
		return false
	}
	w := takeWalker(f)
	defer giveWalker(w)
	w.linked = false // they cost more than they gain here
	w.begin(prefix, prefix.Size(), 0)
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
