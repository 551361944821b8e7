package deflate

import (
	"encoding/binary"
	"io"
)

// bitWriter packs bits as deflate has them, low bits first.
type bitWriter struct {
	buf  []byte
	acc  uint64
	held uint
}

// start forgets all that was written and begins with phase bits of nothing.
func (w *bitWriter) start(phase uint) { w.buf, w.acc, w.held = w.buf[:0], 0, phase }

// put writes the low n bits of v, of which the others are zero; n is at most 48.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << w.held
	w.held += n
	if w.held >= 16 {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, w.acc)
		k := w.held >> 3
		w.buf = w.buf[:len(w.buf)-8+int(k)]
		w.acc >>= k << 3
		w.held &= 7
	}
}

// whole moves the whole bytes that are held into buf.
func (w *bitWriter) whole() {
	for w.held >= 8 {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
		w.held -= 8
	}
}

// phase is how many bits of the byte under way are written.
func (w *bitWriter) phase() uint { return w.held & 7 }

// bitReader reads bits, low bits first, and knows how many it read.
type bitReader struct {
	src  io.Reader
	buf  []byte
	r, n int
	acc  uint64
	held uint
	read int64 // bytes moved into acc
	err  error // of src, once all of buf is read

	record *bitWriter // when set, what take returns is written there too
}

func newBitReader(src io.Reader, buf []byte) *bitReader { return &bitReader{src: src, buf: buf} }

// fill makes acc hold at least 56 bits, or all there are.
func (b *bitReader) fill() {
	if b.n-b.r >= 8 {
		b.acc |= binary.LittleEndian.Uint64(b.buf[b.r:]) << b.held
		k := (63 - b.held) >> 3
		b.r += int(k)
		b.read += int64(k)
		b.held += k << 3
		if b.held < 64 {
			b.acc &= 1<<b.held - 1
		}
		return
	}
	for b.held <= 56 {
		if b.r == b.n {
			if b.err != nil {
				return
			}
			b.r, b.n = 0, 0
			for tries := 0; b.n == 0 && b.err == nil; tries++ {
				b.n, b.err = b.src.Read(b.buf)
				if tries == 100 && b.n == 0 && b.err == nil {
					b.err = io.ErrNoProgress
				}
			}
			continue
		}
		b.acc |= uint64(b.buf[b.r]) << b.held
		b.r++
		b.read++
		b.held += 8
	}
}

// need makes sure that n bits, at most 56, are held.
func (b *bitReader) need(n uint) error {
	if b.held < n {
		if b.fill(); b.held < n {
			return b.short()
		}
	}
	return nil
}

// short says why there are no more bits.
func (b *bitReader) short() error {
	if b.err == nil || b.err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return b.err
}

// take reads n bits, at most 32.
func (b *bitReader) take(n uint) (uint32, error) {
	if err := b.need(n); err != nil {
		return 0, err
	}
	v := uint32(b.acc & (1<<n - 1))
	b.acc >>= n
	b.held -= n
	if b.record != nil {
		b.record.put(uint64(v), n)
	}
	return v, nil
}

// position is how many bits were read.
func (b *bitReader) position() int64 { return b.read*8 - int64(b.held) }
