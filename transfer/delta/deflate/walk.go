package deflate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// mostTokens is how many tokens a block may have. Encoders end theirs much
// sooner; a block with more is not tried.
const mostTokens = 1 << 18

// rule is when an encoder ends a block.
type rule uint8

const (
	ruleCount rule = iota // zlib: after a number of tokens
	ruleGzip              // GNU gzip and Info-ZIP: or when it seems worth it
)

// walker goes through a segment of a stream with a model at its side: to find
// what has to be corrected, or to write the stream anew.
type walker struct {
	family
	*matcher
	limit int // tokens in a block
	trees trees
	out   bitWriter
	probe bitWriter

	tokens []token
	from   int64 // where the block under way began
	count  [numDist]int32
	pairs  int // matches in the block under way

	litCode, distCode code
}

var walkers = sync.Pool{New: func() any { return &walker{matcher: newMatcher()} }}

// takeWalker returns a walker that follows an encoder of the family f. It is
// given back by giveWalker.
func takeWalker(f family) *walker {
	w := walkers.Get().(*walker)
	w.family = f
	w.set(f)
	w.limit = 1<<(f.memory+6) - 1
	if f.rule == ruleGzip {
		w.limit = 1<<15 - 1
	}
	return w
}

func giveWalker(w *walker) {
	w.src, w.err = nil, nil
	if cap(w.out.buf) > 1<<20 {
		w.out.buf = nil
	}
	walkers.Put(w)
}

// open begins a block.
func (w *walker) open() {
	w.tokens = w.tokens[:0]
	w.matcher.medium.next.length = 0 // the encoder loses it where a block ends
	w.from = w.offset()
	w.count = [numDist]int32{}
	w.pairs = 0
}

// full reports whether the encoder ends the block after t, which was the last
// token that was accepted.
func (w *walker) full(t token, n int) bool {
	if w.slow && !w.family.medium && t.length() == 0 && w.left() == 0 {
		return false // the last literal is written on the way out
	}
	if w.rule == ruleCount {
		return n == w.limit
	}
	if t.length() > 0 {
		w.count[distSymbol(t.distance())]++
		w.pairs++
	}
	if w.level > 2 && n&0xfff == 0 {
		bits := int64(n) * 8
		for s, c := range w.count {
			bits += int64(c) * int64(5+distExtra[s])
		}
		// The encoder counts up to where it looks: past a literal, but at the
		// second byte of a match.
		seen := w.offset() - w.from
		if t.length() > 0 {
			seen -= int64(t.length())
			if w.slow {
				seen++
			}
		} else if !w.slow {
			seen--
		}
		if w.pairs < n/2 && bits>>3 < seen/2 {
			return true
		}
	}
	return n == w.limit
}

// rebuild writes a segment that begins where the walker stands. flush, if not
// nil, is given what is written from time to time.
func (w *walker) rebuild(ctx context.Context, s *segment, last bool, most int64, flush func(*bitWriter) error) error {
	w.out.start(s.phase)
	end := w.offset() + s.plain
	var f fixes
	if err := f.begin(s); err != nil {
		return damaged("%w", err)
	}
	for {
		final, err := w.rebuildBlock(ctx, &f, end)
		if err != nil {
			return err
		}
		if int64(len(w.out.buf)) > most {
			return damaged("stream becomes longer than the recipe says")
		}
		if flush != nil {
			if err := flush(&w.out); err != nil {
				return err
			}
		}
		if final || !last && w.offset() >= end {
			if final != last || w.offset() != end || !f.done() {
				return damaged("segment does not end where the recipe says")
			}
			return nil
		}
	}
}

var errToken = errors.New("token goes past the end of the segment")

func (w *walker) rebuildBlock(ctx context.Context, f *fixes, end int64) (final bool, err error) {
	w.open()
	var fix *blockFix
	if f.more {
		if f.blockGap == 0 {
			b := f.block
			fix = &b
			if err := f.nextBlock(); err != nil {
				return false, damaged("%w", err)
			}
		} else {
			f.blockGap--
		}
	}
	if fix != nil && fix.kind == stored {
		return fix.final, w.rebuildStored(fix, end)
	}
	byCount := fix != nil && fix.end >= 0
	for n := 0; ; {
		if byCount {
			if n == fix.end {
				break
			}
			if w.left() == 0 {
				return false, damaged("block has more tokens than there are bytes")
			}
		} else if w.left() == 0 {
			final = true
			break
		}
		t := w.predict()
		if w.err != nil {
			return false, w.err
		}
		if f.moreTok {
			if f.tokenGap == 0 {
				if t = f.token; t == 0 {
					t = token(w.buf[w.pos])
				}
				if int64(t.distance()) > w.offset() && t.length() > 0 {
					return false, damaged("match before the beginning")
				}
				if err := f.nextToken(); err != nil {
					return false, damaged("%w", err)
				}
			} else {
				f.tokenGap--
			}
		}
		if int64(t.span()) > end-w.offset() {
			return false, damaged("%w", errToken)
		}
		w.accept(t)
		w.tokens = append(w.tokens, t)
		n++
		if !byCount && w.full(t, n) {
			break
		}
		if n&0xfff == 0 {
			if err := ctx.Err(); err != nil {
				return false, err
			}
		}
		if n > mostTokens {
			return false, damaged("block has too many tokens")
		}
	}
	return w.close(fix, final)
}

// close writes a block of the tokens gathered.
func (w *walker) close(fix *blockFix, final bool) (bool, error) {
	plain := w.offset() - w.from
	var kind int
	if fix != nil {
		kind, final = fix.kind, fix.final
	}
	if fix == nil || fix.header == nil {
		w.trees.plan(w.tokens)
	}
	if fix == nil {
		kind = w.trees.choose(plain)
	}
	if kind == stored {
		return final, w.putStored(final, 0, int(plain))
	}
	head := uint64(kind) << 1
	if final {
		head |= 1
	}
	w.out.put(head, 3)
	lit, dist := &fixedLit, &fixedDist
	if kind == dynamic {
		lit, dist = &w.litCode, &w.distCode
		if fix != nil && fix.header != nil {
			if err := w.useHeader(fix); err != nil {
				return false, damaged("%w", err)
			}
		} else {
			w.trees.writeHeader(&w.out)
			lit.set(w.trees.lit.lens[:])
			dist.set(w.trees.dist.lens[:numDist])
		}
	}
	if !w.out.write(w.tokens, lit, dist) {
		return false, damaged("header has no code for a token")
	}
	return final, nil
}

// useHeader writes the header that the recipe gives and takes its codes.
func (w *walker) useHeader(fix *blockFix) error {
	d := decoder{bits: newBitReader(bytes.NewReader(fix.header), make([]byte, len(fix.header)+8))}
	if err := d.dynamic(); err != nil {
		return err
	}
	if d.bits.position() != int64(fix.bits) {
		return errCode
	}
	if err := d.lit.set(d.lens[:d.nlit]); err != nil {
		return err
	}
	if err := d.dist.set(d.distLens()); err != nil {
		return err
	}
	w.litCode.set(d.lens[:d.nlit])
	w.distCode.set(d.distLens())
	for i, left := 0, fix.bits; left > 0; i, left = i+1, left-8 {
		n := min(left, 8)
		w.out.put(uint64(fix.header[i])&(1<<n-1), uint(n))
	}
	return nil
}

// rebuildStored writes a stored block whose length is given.
func (w *walker) rebuildStored(fix *blockFix, end int64) error {
	if int64(fix.end) > end-w.offset() {
		return damaged("%w", errToken)
	}
	w.pass(w.offset() + int64(fix.end))
	if w.err != nil {
		return w.err
	}
	return w.putStored(fix.final, fix.pad, fix.end)
}

// pass moves to offset end by the tokens that the model predicts, and by force
// when one of them leads past it.
func (w *walker) pass(end int64) {
	for w.offset() < end && w.err == nil {
		t := w.predict()
		if int64(t.span()) > end-w.offset() {
			w.over(end - w.offset())
			return
		}
		w.accept(t)
	}
}

func (w *walker) putStored(final bool, pad byte, n int) error {
	head := uint64(0)
	if final {
		head = 1
	}
	w.out.put(head, 3)
	room := -w.out.phase() & 7
	if uint64(pad)>>room != 0 {
		return damaged("too many bits before a stored block")
	}
	w.out.put(uint64(pad), room)
	w.out.put(uint64(n)|uint64(^uint16(n))<<16, 32)
	w.out.whole()
	at := len(w.out.buf)
	w.out.buf = append(w.out.buf, make([]byte, n)...)
	if k, err := w.src.ReadAt(w.out.buf[at:], w.from); k < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read plain bytes: %w", err)
	}
	return nil
}

// block is a block as it was found in a stream.
type block struct {
	kind   int
	final  bool
	tokens []token
	size   int // of a stored block
	pad    byte
	header []byte
	bits   int
}

// errCostly ends a trial that has lost.
var errCostly = errors.New("too many corrections")

// prove goes through blocks, from where the walker stands, and appends to s what
// has to be corrected. It gives up when that is more than most bytes.
func (w *walker) prove(ctx context.Context, s *segment, blocks []block, g *gaps, most int) error {
	for i := range blocks {
		if err := w.proveBlock(ctx, s, &blocks[i], g, most); err != nil {
			return err
		}
		if len(s.blocks)+len(s.tokens) > most {
			return errCostly
		}
	}
	return nil
}

// gaps counts what was predicted right since the last correction.
type gaps struct{ blocks, tokens int }

func (w *walker) proveBlock(ctx context.Context, s *segment, b *block, g *gaps, most int) error {
	w.open()
	if b.kind == stored {
		return w.proveStored(s, b, g)
	}
	early, atEnd := false, false // where the model would have ended the block
	final := false
	for i, t := range b.tokens {
		if early = early || atEnd; w.left() < int64(t.span()) {
			return errors.New("stream and plain bytes do not belong together")
		}
		p := w.predict()
		if w.err != nil {
			return w.err
		}
		if p == t {
			g.tokens++
		} else {
			s.tokens = appendToken(s.tokens, g.tokens, t)
			g.tokens = 0
			if len(s.tokens) > most {
				return errCostly
			}
		}
		w.accept(t)
		atEnd = w.full(t, i+1)
		if i&0xfff == 0xfff {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	if !atEnd && w.left() == 0 {
		atEnd, final = true, true
	}
	fix := blockFix{kind: b.kind, final: b.final, end: -1}
	if early || !atEnd {
		fix.end = len(b.tokens)
	}
	w.trees.plan(b.tokens)
	if b.kind == dynamic {
		w.probe.start(0)
		w.trees.writeHeader(&w.probe)
		n := len(w.probe.buf)*8 + int(w.probe.held)
		w.probe.whole()
		if w.probe.held > 0 {
			w.probe.buf = append(w.probe.buf, byte(w.probe.acc))
		}
		if n != b.bits || !bytes.Equal(w.probe.buf, b.header) {
			fix.header, fix.bits = b.header, b.bits
		}
	}
	if fix.end < 0 && fix.header == nil && b.final == final && b.kind == w.trees.choose(w.offset()-w.from) {
		g.blocks++
		return nil
	}
	s.blocks = fix.append(s.blocks, g.blocks)
	g.blocks = 0
	return nil
}

// proveStored finds out whether the model would have written this stored block,
// without knowing the tokens that the encoder had in it.
func (w *walker) proveStored(s *segment, b *block, g *gaps) error {
	end := w.from + int64(b.size)
	if end > w.size {
		return errors.New("stream and plain bytes do not belong together")
	}
	early, atEnd := false, false
	for w.offset() < end {
		early = early || atEnd
		t := w.predict()
		if w.err != nil {
			return w.err
		}
		if int64(t.span()) > end-w.offset() {
			w.over(end - w.offset())
			early = true
			break
		}
		w.accept(t)
		w.tokens = append(w.tokens, t)
		atEnd = w.full(t, len(w.tokens))
	}
	final := false
	if !atEnd && w.left() == 0 {
		atEnd, final = true, true
	}
	if !early && atEnd && b.pad == 0 && b.final == final {
		w.trees.plan(w.tokens)
		if w.trees.choose(int64(b.size)) == stored {
			g.blocks++
			g.tokens += len(w.tokens)
			return nil
		}
	}
	fix := blockFix{kind: stored, final: b.final, end: b.size, pad: b.pad}
	s.blocks = fix.append(s.blocks, g.blocks)
	g.blocks = 0
	return nil
}
