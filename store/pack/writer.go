package pack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
)

// Writer writes one pack as it goes: it holds the table and one 64 KiB block,
// never the frames. It is for one goroutine.
type Writer struct {
	dst    sink
	plain  io.WriteCloser // age
	header int64          // ciphertext before the first block
	table  Table
	err    error
}

// Summary is what became of a pack.
type Summary struct {
	Name  Name  // SHA-256 of the ciphertext
	Size  int64 // bytes of ciphertext
	Table *Table
}

// NewWriter begins a pack on dst. The header is written at once.
func NewWriter(dst io.Writer, k Keys) (*Writer, error) {
	w := &Writer{dst: sink{w: dst, hash: sha256.New()}}
	var err error
	if w.plain, err = age.Encrypt(&w.dst, k.recipients...); err != nil {
		return nil, fmt.Errorf("begin pack: %w", err)
	}
	w.header = w.dst.n
	return w, nil
}

// Add appends a frame, of which nothing is kept. A frame that breaks the
// format, or does not fit (ErrFull), is refused before anything of it is
// written. After an error of dst the pack is lost.
func (w *Writer) Add(f Frame) error {
	if w.err != nil {
		return w.err
	}
	if err := w.check(f); err != nil {
		return fmt.Errorf("add frame to pack: %w", err)
	}
	if _, err := w.plain.Write(f.Data); err != nil {
		w.err = fmt.Errorf("write pack: %w", err)
		return w.err
	}
	t := &w.table
	number := uint32(len(t.Frames))
	t.Frames = append(t.Frames, FrameInfo{
		Offset: t.end(), Length: uint32(len(f.Data)), Size: uint32(f.Size), First: uint32(len(t.Chunks)),
	})
	var offset uint32
	for _, e := range f.Chunks {
		t.Chunks = append(t.Chunks, ChunkInfo{Name: e.Name, Frame: number, Offset: offset, Length: e.Length})
		offset += e.Length
	}
	return nil
}

func (w *Writer) check(f Frame) error {
	switch {
	case len(f.Data) == 0 || len(f.Data) > MaxCompressed:
		return fmt.Errorf("%d bytes long, not 1 to %d", len(f.Data), MaxCompressed)
	case f.Size < 1 || f.Size > MaxFrame:
		return fmt.Errorf("%d bytes of plaintext, not 1 to %d", f.Size, MaxFrame)
	case len(f.Chunks) == 0:
		return errors.New("no chunks")
	case len(f.Chunks) > MaxChunks-len(w.table.Chunks):
		return ErrFull
	}
	left := uint64(f.Size)
	for _, e := range f.Chunks {
		if e.Length == 0 || uint64(e.Length) > left {
			return fmt.Errorf("chunk %s of %d bytes does not fit in the %d bytes of plaintext", e.Name, e.Length, f.Size)
		}
		left -= uint64(e.Length)
	}
	if left != 0 {
		return fmt.Errorf("%d of %d bytes of plaintext belong to no chunk", left, f.Size)
	}
	return checkHeader(f.Data, f.Size)
}

// Size is the exact size that the pack would have were it closed now.
func (w *Writer) Size() int64 {
	return w.header + encryptedSize(w.table.end()+tailSize(len(w.table.Frames), len(w.table.Chunks)))
}

// Chunks is how many chunks are in the pack.
func (w *Writer) Chunks() int { return len(w.table.Chunks) }

// Close writes the table and the footer and ends the age file. It does not
// close dst. A pack without a frame is an error: drop what was written.
func (w *Writer) Close() (Summary, error) {
	if w.err != nil {
		return Summary{}, w.err
	}
	w.err = errors.New("pack is closed")
	// This also guards readers against a mistake in Add.
	if err := w.table.Validate(); err != nil {
		return Summary{}, fmt.Errorf("end pack: %w", err)
	}
	tail := make([]byte, 0, tailSize(len(w.table.Frames), len(w.table.Chunks)))
	if _, err := w.plain.Write(appendTail(tail, &w.table)); err != nil {
		return Summary{}, fmt.Errorf("end pack: %w", err)
	}
	if err := w.plain.Close(); err != nil {
		return Summary{}, fmt.Errorf("end pack: %w", err)
	}
	return Summary{Name: Name(w.dst.hash.Sum(nil)), Size: w.dst.n, Table: &w.table}, nil
}

// SealedSize is the exact size of the pack that a Writer would make of frames
// with these compressed lengths and so many chunks in all.
func SealedSize(frames []int, chunks int, k Keys) (int64, error) {
	header := sink{w: io.Discard}
	if _, err := age.Encrypt(&header, k.recipients...); err != nil {
		return 0, fmt.Errorf("size pack: %w", err)
	}
	var plain int64
	for _, n := range frames {
		plain += int64(n)
	}
	return header.n + encryptedSize(plain+tailSize(len(frames), chunks)), nil
}

// tailSize is the length of what appendTail appends.
func tailSize(frames, chunks int) int64 {
	return skipHeader + tableSize(frames, chunks) + footerSize
}

// encryptedSize is what age makes of so much plaintext: blocks of 64 KiB, each
// with a tag, and one even where there is nothing.
func encryptedSize(plain int64) int64 {
	const block, tag = 64 << 10, 16
	return plain + max(1, (plain+block-1)/block)*tag
}

// sink counts and, if it has a hash, hashes what passes.
type sink struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite // age would not notice
	}
	s.n += int64(n)
	if s.hash != nil {
		s.hash.Write(p[:n])
	}
	return n, err
}
