package pack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"filippo.io/age"
	"github.com/cespare/xxhash/v2"

	"davit/store/chunk"
)

// Reader reads from one pack at random. It holds the table. All methods are
// safe for concurrent use if the object's ReadAt is.
type Reader struct {
	plain io.ReaderAt // the plaintext of the age file
	table *Table
}

// Open reads the header, the footer and the table of a pack of size bytes, and
// checks all that can be checked without the frames. The Reader reads from src
// and never closes it.
func Open(src io.ReaderAt, size int64, k Keys) (*Reader, error) {
	const doing = "open pack"
	if len(k.identities) == 0 {
		return nil, fmt.Errorf("%s: %w", doing, ErrWrongKey)
	}
	marked := source{src}
	plain, plainSize, err := age.DecryptReaderAt(marked, size, k.identities...)
	if err != nil {
		start := make([]byte, len(ageV1))
		n, _ := marked.ReadAt(start, 0)
		return nil, explain(doing, whyNotAge(start[:n], err))
	}
	r, err := openPlain(plain, plainSize)
	if err != nil {
		return nil, explain(doing, err)
	}
	return r, nil
}

// openPlain opens what is inside age.
func openPlain(plain io.ReaderAt, size int64) (*Reader, error) {
	r := &Reader{plain: plain}
	if size < footerSize {
		return nil, fmt.Errorf("%w: %d bytes inside age", ErrDamaged, size)
	}
	var last [footerSize]byte
	if err := r.readAt(last[:], size-footerSize); err != nil {
		return nil, err
	}
	f, err := parseFooter(last[:], size)
	if err != nil {
		return nil, err
	}
	b := make([]byte, skipHeader+int(f.size))
	if err := r.readAt(b, f.offset); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(b) != tableMagic || le.Uint32(b[4:]) != f.size {
		return nil, fmt.Errorf("%w: no table where the footer says", ErrDamaged)
	}
	if xxhash.Sum64(b[skipHeader:]) != f.sum {
		return nil, fmt.Errorf("%w: the table is not the one that was written", ErrDamaged)
	}
	if r.table, err = ParseTable(b[skipHeader:]); err != nil {
		return nil, err
	}
	if end := r.table.end(); end != f.offset {
		return nil, fmt.Errorf("%w: the frames end at %d, the table begins at %d", ErrDamaged, end, f.offset)
	}
	return r, nil
}

// readAt fills p or fails.
func (r *Reader) readAt(p []byte, off int64) error {
	n, err := r.plain.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Table returns the pack's table, which the Reader shares: do not change it.
func (r *Reader) Table() *Table { return r.table }

// Compressed reads frame i as it is, to be added to another pack, into buf if
// it is large enough.
func (r *Reader) Compressed(i int, buf []byte) ([]byte, error) {
	f, err := r.frame(i)
	if err != nil {
		return nil, err
	}
	if cap(buf) < int(f.Length) {
		buf = make([]byte, f.Length)
	}
	buf = buf[:f.Length]
	// One read for the whole frame: age decrypts blocks of 64 KiB, remembers
	// the last, and allocates one for every read.
	if err := r.readAt(buf, f.Offset); err != nil {
		return nil, explain(fmt.Sprintf("read frame %d of pack", i), err)
	}
	return buf, nil
}

// Frame reads and decompresses frame i, into buf if it is large enough; one of
// FrameBuffer bytes always is. The chunks in it are not compared with their
// names.
func (r *Reader) Frame(i int, buf []byte) ([]byte, error) {
	f, err := r.frame(i)
	if err != nil {
		return nil, err
	}
	scratch := compressed.Get().(*[]byte)
	defer compressed.Put(scratch)
	data, err := r.Compressed(i, *scratch)
	if err != nil {
		return nil, err
	}
	*scratch = data
	if buf, err = decode(data, int(f.Size), buf); err != nil {
		return nil, explain(fmt.Sprintf("read frame %d of pack", i), err)
	}
	return buf, nil
}

// compressed holds buffers, none above MaxCompressed, between two frames.
var compressed = sync.Pool{New: func() any { return new([]byte) }}

func (r *Reader) frame(i int) (FrameInfo, error) {
	if i < 0 || i >= len(r.table.Frames) {
		return FrameInfo{}, fmt.Errorf("read frame %d of pack: it has %d", i, len(r.table.Frames))
	}
	return r.table.Frames[i], nil
}

// DamagedError lists the chunks that Verify could not get back. It wraps
// ErrDamaged.
type DamagedError struct {
	Chunks []ChunkInfo
	Err    error // what was wrong with the first
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("verify pack: %d chunks lost: %v", len(e.Chunks), e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Verify reads every frame and compares every chunk with its name. It calls
// fn, which may be nil, for each chunk that is whole, in order, and goes on
// past damage, so that the *DamagedError in the end lists all that is lost. An
// error of the object, of ctx or of fn ends it at once.
func (r *Reader) Verify(ctx context.Context, fn func(ChunkInfo) error) error {
	var lost DamagedError
	buf := make([]byte, FrameBuffer)
	ahead := readAhead{buf: make([]byte, MaxCompressed)}
	for i, f := range r.table.Frames {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verify pack: %w", err)
		}
		var plain []byte
		data, err := ahead.frame(r, i)
		if err == nil {
			plain, err = decode(data, int(f.Size), buf)
		}
		if err != nil {
			err = explain(fmt.Sprintf("read frame %d of pack", i), err)
			if !errors.Is(err, ErrDamaged) {
				return err
			}
		}
		for _, c := range r.table.FrameChunks(i) {
			broken := err
			if broken == nil && chunk.NameOf(plain[c.Offset:c.Offset+c.Length]) != c.Name {
				broken = fmt.Errorf("%w: chunk %s in frame %d has other bytes", ErrDamaged, c.Name, i)
			}
			if broken != nil {
				if lost.Chunks = append(lost.Chunks, c); lost.Err == nil {
					lost.Err = broken
				}
				continue
			}
			if fn != nil {
				if err := fn(c); err != nil {
					return err
				}
			}
		}
	}
	if lost.Err != nil {
		return &lost
	}
	return nil
}

// readAhead reads frames that follow each other in one go, for small frames
// would have age decrypt the same block again and again.
type readAhead struct {
	buf   []byte // MaxCompressed bytes
	start int64  // offset of what is in buf
	end   int    // number of the first frame that is not in buf
}

// frame returns frame i, valid until the next call. i only grows.
func (a *readAhead) frame(r *Reader, i int) ([]byte, error) {
	frames := r.table.Frames
	f := frames[i]
	if i >= a.end {
		n, end := 0, i
		for ; end < len(frames) && n+int(frames[end].Length) <= len(a.buf); end++ {
			n += int(frames[end].Length)
		}
		if err := r.readAt(a.buf[:n], f.Offset); err != nil {
			// The damage may lie in another frame than this.
			data := a.buf[:f.Length]
			return data, r.readAt(data, f.Offset)
		}
		a.start, a.end = f.Offset, end
	}
	at := f.Offset - a.start
	return a.buf[at : at+int64(f.Length)], nil
}
