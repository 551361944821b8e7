package deflate

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

const tableBits = 11

// table decodes a Huffman code: at once what has up to tableBits bits, bit by
// bit what has more.
type table struct {
	fast   [1 << tableBits]uint16 // symbol<<4 | length; 0 means longer, or no code
	count  [maxCodeBits + 1]uint16
	sorted [288]uint16 // symbols by length, then by number
	first  [maxCodeBits + 1]int32
	offset [maxCodeBits + 1]int32
}

var errCode = errors.New("impossible Huffman code")

// set makes the table for lens. As every decoder, it takes an incomplete code
// only when that has a single symbol, or none.
func (t *table) set(lens []uint8) error {
	t.count = [maxCodeBits + 1]uint16{}
	for _, l := range lens {
		t.count[l]++
	}
	t.count[0] = 0
	used, left := 0, 1
	code, at := int32(0), int32(0)
	for l := 1; l <= maxCodeBits; l++ {
		n := int(t.count[l])
		used += n
		if left = left<<1 - n; left < 0 {
			return errCode
		}
		code = (code + int32(t.count[l-1])) << 1
		t.first[l], t.offset[l] = code, at
		at += int32(n)
	}
	if left > 0 && (used > 1 || used == 1 && t.count[1] == 0) {
		return errCode
	}
	if left > 0 {
		clear(t.fast[:])
	}
	next := t.offset
	for s, l := range lens {
		if l == 0 {
			continue
		}
		i := next[l]
		next[l]++
		t.sorted[i] = uint16(s)
		c := t.first[l] + i - t.offset[l]
		if l <= tableBits {
			entry := uint16(s)<<4 | uint16(l)
			for k := int(bits.Reverse16(uint16(c) << (16 - l))); k < 1<<tableBits; k += 1 << l {
				t.fast[k] = entry
			}
		} else {
			// The prefix of a longer code leads to no short one.
			t.fast[bits.Reverse16(uint16(c)<<(16-l))&(1<<tableBits-1)] = 0
		}
	}
	return nil
}

// slow finds a code of more than tableBits bits at the low end of acc.
func (t *table) slow(acc uint64) (symbol uint16, length uint) {
	code := int32(0)
	for l := uint(1); l <= maxCodeBits; l++ {
		code = code<<1 | int32(acc>>(l-1)&1)
		if i := code - t.first[l]; i >= 0 && i < int32(t.count[l]) {
			return t.sorted[t.offset[l]+i], l
		}
	}
	return 0, 0
}

// decoder takes a deflate stream apart into blocks and tokens.
type decoder struct {
	bits *bitReader

	kind  int  // of the block under way
	final bool // it is the last
	pad   byte // stored: the bits before its length
	left  int  // stored: bytes still to come

	header bitWriter // dynamic: the header as it was
	lit    table
	dist   table
	lens   [320]uint8
	nlit   int
}

func newDecoder(src io.Reader) *decoder {
	return &decoder{bits: newBitReader(src, make([]byte, 32<<10))}
}

// block reads the head of the next block.
func (d *decoder) block() error {
	v, err := d.bits.take(3)
	if err != nil {
		return err
	}
	d.final, d.kind = v&1 == 1, int(v>>1)
	switch d.kind {
	case stored:
		pad, err := d.bits.take(uint(-d.bits.position() & 7))
		if err != nil {
			return err
		}
		size, err := d.bits.take(32)
		if err != nil {
			return err
		}
		if size&0xffff != ^size>>16 {
			return errors.New("length of a stored block is not confirmed")
		}
		d.pad, d.left = byte(pad), int(size&0xffff)
		return nil
	case fixed:
		if err := d.lit.set(fixedLit.lens[:]); err != nil {
			return err
		}
		return d.dist.set(fixedDist.lens[:32])
	case dynamic:
		d.header.start(0)
		d.bits.record = &d.header
		err := d.dynamic()
		d.bits.record = nil
		d.header.whole()
		if err != nil {
			return err
		}
		if err := d.lit.set(d.lens[:d.nlit]); err != nil {
			return err
		}
		return d.dist.set(d.distLens())
	}
	return errors.New("unknown kind of block")
}

func (d *decoder) distLens() []uint8 { return d.lens[288 : 288+32] }

// dynamic reads the code lengths at the head of a dynamic block into lens: first
// those of literals and lengths, from 288 those of distances.
func (d *decoder) dynamic() error {
	v, err := d.bits.take(14)
	if err != nil {
		return err
	}
	nlit, ndist, n := int(v&31)+257, int(v>>5&31)+1, int(v>>10)+4
	if nlit > numLitLen || ndist > numDist {
		return errCode
	}
	var own [19]uint8
	for _, i := range headerOrder[:n] {
		l, err := d.bits.take(3)
		if err != nil {
			return err
		}
		own[i] = uint8(l)
	}
	if err := d.lit.set(own[:]); err != nil {
		return err
	}
	d.lens = [320]uint8{}
	d.nlit = nlit
	var all [320]uint8
	for i := 0; i < nlit+ndist; {
		d.bits.fill()
		entry := d.lit.fast[d.bits.acc&(1<<tableBits-1)]
		if entry == 0 {
			return errCode
		}
		if _, err := d.bits.take(uint(entry & 15)); err != nil {
			return err
		}
		s := entry >> 4
		if s < 16 {
			all[i] = uint8(s)
			i++
			continue
		}
		repeat, extra, l := 3, uint(2), uint8(0)
		switch s {
		case 16:
			if i == 0 {
				return errCode
			}
			l = all[i-1]
		case 17:
			extra = 3
		case 18:
			repeat, extra = 11, 7
		}
		v, err := d.bits.take(extra)
		if err != nil {
			return err
		}
		repeat += int(v)
		if i+repeat > nlit+ndist {
			return errCode
		}
		for range repeat {
			all[i] = l
			i++
		}
	}
	copy(d.lens[:nlit], all[:nlit])
	copy(d.lens[288:], all[nlit:nlit+ndist])
	if d.lens[endOfBlock] == 0 {
		return errCode
	}
	return nil
}

// tokens reads tokens of the block under way, which is not stored, until it ends
// or dst is full.
func (d *decoder) tokens(dst []token) (n int, done bool, err error) {
	b := d.bits
	for n < len(dst) {
		if b.held < 48 { // 15 + 5 + 15 + 13
			b.fill()
		}
		entry := d.lit.fast[b.acc&(1<<tableBits-1)]
		s, l := entry>>4, uint(entry&15)
		if l == 0 {
			if s, l = d.lit.slow(b.acc); l == 0 {
				return n, false, d.missing(errCode)
			}
		}
		if l > b.held {
			return n, false, b.short()
		}
		b.acc >>= l
		b.held -= l
		if s < endOfBlock {
			dst[n] = token(s)
			n++
			continue
		}
		if s == endOfBlock {
			return n, true, nil
		}
		s -= 257
		if int(s) >= len(lengthBase) {
			return n, false, errors.New("impossible length")
		}
		extra := uint(lengthExtra[s])
		length := int(lengthBase[s]) + minMatch + int(b.acc&(1<<extra-1))
		acc, held := b.acc>>extra, int(b.held)-int(extra)
		entry = d.dist.fast[acc&(1<<tableBits-1)]
		s, l = entry>>4, uint(entry&15)
		if l == 0 {
			if s, l = d.dist.slow(acc); l == 0 {
				return n, false, d.missing(errCode)
			}
		}
		if int(s) >= numDist {
			return n, false, errors.New("impossible distance")
		}
		acc >>= l
		extra = uint(distExtra[s])
		distance := int(distBase[s]) + 1 + int(acc&(1<<extra-1))
		held -= int(l + extra)
		if held < 0 {
			return n, false, b.short()
		}
		b.acc, b.held = acc>>extra, uint(held)
		dst[n] = match(length, distance)
		n++
	}
	return n, false, nil
}

// missing returns err, or that the stream ends too early when that is why.
func (d *decoder) missing(err error) error {
	if d.bits.held < maxCodeBits {
		return d.bits.short()
	}
	return err
}

// raw reads bytes of a stored block.
func (d *decoder) raw(p []byte) error {
	b := d.bits
	for len(p) > 0 && b.held >= 8 {
		p[0] = byte(b.acc)
		b.acc >>= 8
		b.held -= 8
		p = p[1:]
		d.left--
	}
	for len(p) > 0 {
		if b.r == b.n {
			b.fill()
			if b.held < 8 {
				return b.short()
			}
			for len(p) > 0 && b.held >= 8 {
				p[0] = byte(b.acc)
				b.acc >>= 8
				b.held -= 8
				p = p[1:]
				d.left--
			}
			continue
		}
		n := copy(p, b.buf[b.r:b.n])
		b.r += n
		b.read += int64(n)
		p = p[n:]
		d.left -= n
	}
	return nil
}

// Inflate decompresses the raw deflate stream that r begins with, and finds
// where it ends: compressed is its exact length, though r may have been read
// further. w may be nil. What is wrong with the stream is ErrDamaged, and being
// longer than l allows ErrLimit; then some of it may have been written.
func Inflate(r io.Reader, w io.Writer, l Limits) (compressed, plain int64, err error) {
	if w == nil {
		w = io.Discard
	}
	x := inflaters.Get().(*inflater)
	x.bits = newBitReader(r, x.bits.buf)
	x.w, x.limits, x.n, x.kept, x.flushed = w, l, 0, 0, 0
	defer func() {
		x.bits.src, x.w = nil, nil
		inflaters.Put(x)
	}()
	err = x.run()
	compressed, plain = (x.bits.position()+7)/8, x.flushed+int64(x.n)
	if err == nil {
		return compressed, plain, nil
	}
	return compressed, plain, fmt.Errorf("inflate: %w", err)
}

// inflaters are used again: an archive of thousands of small members would
// else make more garbage than it holds.
var inflaters = sync.Pool{New: func() any {
	return &inflater{decoder: newDecoder(nil), buf: make([]byte, 4*window)}
}}

type inflater struct {
	*decoder
	w       io.Writer
	limits  Limits
	buf     []byte
	n       int   // bytes of buf in use
	kept    int   // of them were written already
	flushed int64 // bytes dropped from buf
	batch   [2048]token
}

func (x *inflater) run() error {
	for {
		if err := x.block(); err != nil {
			return x.damage(err)
		}
		if err := x.content(); err != nil {
			return err
		}
		if x.final {
			return x.flush()
		}
	}
}

// damage wraps what the decoder says, unless reading itself failed.
func (x *inflater) damage(err error) error {
	if x.bits.err != nil && x.bits.err != io.EOF && err == x.bits.err {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func (x *inflater) content() error {
	if x.kind == stored {
		for x.left > 0 {
			if err := x.room(1); err != nil {
				return err
			}
			n := min(x.left, len(x.buf)-x.n)
			if err := x.raw(x.buf[x.n : x.n+n]); err != nil {
				return x.damage(err)
			}
			x.n += n
		}
		return nil
	}
	for done := false; !done; {
		var n int
		var err error
		if n, done, err = x.tokens(x.batch[:]); err != nil {
			return x.damage(err)
		}
		for _, t := range x.batch[:n] {
			if len(x.buf)-x.n < maxMatch {
				if err := x.room(maxMatch); err != nil {
					return err
				}
			}
			length := t.length()
			if length == 0 {
				x.buf[x.n] = byte(t)
				x.n++
				continue
			}
			d := t.distance()
			if d > x.n {
				return fmt.Errorf("%w: match before the beginning", ErrDamaged)
			}
			to := x.buf[x.n : x.n+length]
			from := x.buf[x.n-d:]
			if d >= length {
				copy(to, from[:length])
			} else {
				for i := range to {
					to[i] = from[i]
				}
			}
			x.n += length
		}
	}
	return x.check()
}

func (x *inflater) check() error {
	switch {
	case x.limits.Plain > 0 && x.flushed+int64(x.n) > x.limits.Plain:
		return fmt.Errorf("%w: more than %d bytes", ErrLimit, x.limits.Plain)
	case x.limits.Compressed > 0 && (x.bits.position()+7)/8 > x.limits.Compressed:
		return fmt.Errorf("%w: more than %d compressed bytes", ErrLimit, x.limits.Compressed)
	}
	return nil
}

// room makes place for n bytes, keeping the window.
func (x *inflater) room(n int) error {
	if len(x.buf)-x.n >= n {
		return nil
	}
	if err := x.flush(); err != nil {
		return err
	}
	drop := x.n - window
	copy(x.buf, x.buf[drop:x.n])
	x.flushed += int64(drop)
	x.n, x.kept = window, window
	return nil
}

func (x *inflater) flush() error {
	if err := x.check(); err != nil {
		return err
	}
	if _, err := x.w.Write(x.buf[x.kept:x.n]); err != nil {
		return err
	}
	x.kept = x.n
	return nil
}
