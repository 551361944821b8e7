package pack

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"davit/store/chunk"
)

// Frame is one zstd frame and what is in it.
type Frame struct {
	Data   []byte        // compressed
	Size   int           // bytes of plaintext, the sum of the chunks' lengths
	Chunks []chunk.Entry // in the order in which they stand in the plaintext
}

const (
	// rawBelow: a frame that saves less than a 1/32 of its plaintext, some
	// 3 %, is not worth its decompression and is stored as it is.
	rawBelow = 32

	// rawBlock is the longest block that zstd allows.
	rawBlock = 128 << 10

	// frameSlack beyond the end of its output lets the decoder copy faster.
	frameSlack = 64
)

// Encoder compresses frames. It holds some hundred kilobytes and is for one
// goroutine: make one per worker.
type Encoder struct {
	z *zstd.Encoder
}

// NewEncoder returns an Encoder at zstd's fastest level, where compression
// takes most of an ingest's time already.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(MaxFrame),
		zstd.WithSingleSegment(true), // states the content size, and needs no larger window
		zstd.WithEncoderCRC(false),   // age and SHA-256 check more than that would
	)
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return &Encoder{z}, nil
}

// Encode compresses plain, 1 to MaxFrame bytes, into one zstd frame appended to
// dst. With room for MaxCompressed bytes in dst nothing is allocated.
func (e *Encoder) Encode(dst, plain []byte) []byte {
	at := len(dst)
	dst = e.z.EncodeAll(plain, dst)
	if len(dst)-at+len(plain)/rawBelow < len(plain) {
		return dst
	}
	return appendRaw(dst[:at], plain)
}

// appendRaw appends plain as a zstd frame of uncompressed blocks, which the
// zstd library has no way to ask for.
func appendRaw(dst, plain []byte) []byte {
	const singleSegment = 1 << 5
	le := binary.LittleEndian
	dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd)
	switch n := len(plain); {
	case n < 256:
		dst = append(dst, 0<<6|singleSegment, byte(n))
	case n < 256+1<<16:
		dst = le.AppendUint16(append(dst, 1<<6|singleSegment), uint16(n-256))
	default:
		dst = le.AppendUint32(append(dst, 2<<6|singleSegment), uint32(n))
	}
	for {
		n := min(len(plain), rawBlock)
		header := uint32(n) << 3 // type 0: raw
		if n == len(plain) {
			header |= 1 // last
		}
		dst = append(dst, byte(header), byte(header>>8), byte(header>>16))
		dst = append(dst, plain[:n]...)
		if plain = plain[n:]; len(plain) == 0 {
			return dst
		}
	}
}

// checkHeader checks what a frame says of itself.
func checkHeader(data []byte, size int) error {
	var h zstd.Header
	if err := h.Decode(data); err != nil {
		return fmt.Errorf("%w: zstd header: %v", ErrDamaged, err)
	}
	switch {
	case h.Skippable:
		return fmt.Errorf("%w: a skippable frame in place of one with chunks", ErrDamaged)
	case !h.HasFCS || h.FrameContentSize != uint64(size):
		return fmt.Errorf("%w: the zstd frame does not say that it holds %d bytes", ErrDamaged, size)
	case h.DictionaryID != 0:
		return fmt.Errorf("%w: the zstd frame needs a dictionary", ErrDamaged)
	case h.WindowSize > MaxFrame:
		return fmt.Errorf("%w: the zstd frame needs a window of %d bytes", ErrDamaged, h.WindowSize)
	}
	return nil
}

// decode decompresses a frame of exactly size bytes, into buf if it is large
// enough. However the frame was made up, it costs no more memory than that.
func decode(data []byte, size int, buf []byte) ([]byte, error) {
	if err := checkHeader(data, size); err != nil {
		return nil, err
	}
	if cap(buf) < size {
		buf = make([]byte, size+frameSlack)
	}
	d := decoders.Get().(*zstd.Decoder)
	out, err := d.DecodeAll(data, buf[:0:min(cap(buf), size+frameSlack)])
	decoders.Put(d)
	if err != nil {
		return nil, fmt.Errorf("%w: decompress: %v", ErrDamaged, err)
	}
	if len(out) != size {
		return nil, fmt.Errorf("%w: decompresses to %d bytes, not %d", ErrDamaged, len(out), size)
	}
	if &out[0] != &buf[:1][0] {
		return out, nil // the decoder moved elsewhere, as its contract lets it
	}
	return buf[:size], nil // with its whole capacity, for the next frame
}

// decoders holds one-goroutine decoders that write no further than the buffer
// they are given, and refuse windows larger than any frame.
var decoders = sync.Pool{New: func() any {
	d, _ := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(MaxFrame+frameSlack),
		zstd.WithDecoderMaxWindow(MaxFrame),
		zstd.WithDecodeAllCapLimit(true),
	)
	return d
}}
