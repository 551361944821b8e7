package pack

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"davit/store/chunk"
)

// Table says which chunk of a pack is where.
type Table struct {
	Frames []FrameInfo
	Chunks []ChunkInfo
}

// FrameInfo is one frame of a pack.
type FrameInfo struct {
	Offset int64  // in the plaintext of the age file
	Length uint32 // compressed
	Size   uint32 // decompressed
	First  uint32 // number of its first chunk in Table.Chunks
}

// ChunkInfo is one chunk of a pack.
type ChunkInfo struct {
	Name   chunk.Name
	Frame  uint32 // number of its frame in Table.Frames
	Offset uint32 // in the decompressed frame
	Length uint32
}

const (
	tableMagic  = 0x184D2A5A // zstd skippable frames: any decoder passes over them
	footerMagic = 0x184D2A5B
	packMagic   = "DAVITPAK"
	packVersion = 1

	skipHeader = 8 // magic and length of a skippable frame
	countsSize = 8
	frameSize  = 12
	footerSize = 40
)

// FrameChunks returns the chunks of frame i.
func (t *Table) FrameChunks(i int) []ChunkInfo {
	end := len(t.Chunks)
	if i+1 < len(t.Frames) {
		end = int(t.Frames[i+1].First)
	}
	return t.Chunks[t.Frames[i].First:end]
}

// end is the offset at which the frames end.
func (t *Table) end() int64 {
	if len(t.Frames) == 0 {
		return 0
	}
	f := t.Frames[len(t.Frames)-1]
	return f.Offset + int64(f.Length)
}

// tableSize is the length of an encoded table.
func tableSize(frames, chunks int) int64 {
	return countsSize + int64(frames)*frameSize + int64(chunks)*chunk.EntrySize
}

// Validate checks every rule of FORMAT.md that a table alone can break.
func (t *Table) Validate() error {
	frames, chunks := len(t.Frames), len(t.Chunks)
	if frames == 0 || chunks < frames || chunks > MaxChunks {
		return fmt.Errorf("%w: %d frames with %d chunks", ErrDamaged, frames, chunks)
	}
	var at int64
	next := 0
	for i, f := range t.Frames {
		last := chunks
		if i+1 < frames {
			last = int(t.Frames[i+1].First)
		}
		switch {
		case f.Offset != at:
			return fmt.Errorf("%w: frame %d begins at %d, not at %d", ErrDamaged, i, f.Offset, at)
		case f.Length == 0 || f.Length > MaxCompressed:
			return fmt.Errorf("%w: frame %d is %d bytes long", ErrDamaged, i, f.Length)
		case f.Size == 0 || f.Size > MaxFrame:
			return fmt.Errorf("%w: frame %d decompresses to %d bytes", ErrDamaged, i, f.Size)
		case int(f.First) != next || last <= next || last > chunks:
			return fmt.Errorf("%w: the chunks of frame %d are %d to %d", ErrDamaged, i, f.First, last-1)
		}
		var size uint32
		for j, c := range t.Chunks[next:last] {
			// Frames are too short for the sum to overflow.
			if int(c.Frame) != i || c.Offset != size || c.Length == 0 || c.Length > f.Size-size {
				return fmt.Errorf("%w: chunk %d, %d bytes at %d in frame %d, is out of place", ErrDamaged, next+j, c.Length, c.Offset, c.Frame)
			}
			size += c.Length
		}
		if size != f.Size {
			return fmt.Errorf("%w: the chunks of frame %d are %d of its %d bytes", ErrDamaged, i, size, f.Size)
		}
		at += int64(f.Length)
		next = last
	}
	return nil
}

// AppendBinary appends the content of the table's skippable frame. The table
// must be valid.
func (t *Table) AppendBinary(b []byte) ([]byte, error) {
	if err := t.Validate(); err != nil {
		return b, fmt.Errorf("encode pack table: %w", err)
	}
	return t.append(b), nil
}

func (t *Table) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(t.Frames)))
	b = le.AppendUint32(b, uint32(len(t.Chunks)))
	for i, f := range t.Frames {
		b = le.AppendUint32(b, f.Length)
		b = le.AppendUint32(b, f.Size)
		b = le.AppendUint32(b, uint32(len(t.FrameChunks(i))))
	}
	for _, c := range t.Chunks {
		b = chunk.AppendEntry(b, chunk.Entry{Name: c.Name, Length: c.Length})
	}
	return b
}

// ParseTable reads what AppendBinary writes. It allocates no more than some
// one and a half times len(b), whatever b claims.
func ParseTable(b []byte) (*Table, error) {
	t, err := parseTable(b)
	if err != nil {
		return nil, fmt.Errorf("read pack table: %w", err)
	}
	return t, nil
}

func parseTable(b []byte) (*Table, error) {
	le := binary.LittleEndian
	if len(b) < countsSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	frames, chunks := le.Uint32(b), le.Uint32(b[4:])
	if frames == 0 || chunks < frames || chunks > MaxChunks {
		return nil, fmt.Errorf("%w: %d frames with %d chunks", ErrDamaged, frames, chunks)
	}
	if want := tableSize(int(frames), int(chunks)); int64(len(b)) != want {
		return nil, fmt.Errorf("%w: %d bytes for %d frames and %d chunks, not %d", ErrDamaged, len(b), frames, chunks, want)
	}
	b = b[countsSize:]
	entries := b[frames*frameSize:]
	t := &Table{Frames: make([]FrameInfo, frames), Chunks: make([]ChunkInfo, chunks)}
	var at int64
	var next uint32
	for i := range t.Frames {
		f := FrameInfo{Offset: at, Length: le.Uint32(b), Size: le.Uint32(b[4:]), First: next}
		count := le.Uint32(b[8:])
		b = b[frameSize:]
		if count > chunks-next {
			return nil, fmt.Errorf("%w: frame %d has %d chunks where %d are left", ErrDamaged, i, count, chunks-next)
		}
		var offset uint32
		for j := next; j < next+count; j++ {
			e := entries[j*chunk.EntrySize:][:chunk.EntrySize]
			length := le.Uint32(e[len(chunk.Name{}):])
			t.Chunks[j] = ChunkInfo{Name: chunk.Name(e), Frame: uint32(i), Offset: offset, Length: length}
			offset += length // may wrap around; Validate compares each with the rest of the frame
		}
		t.Frames[i] = f
		at += int64(f.Length)
		next += count
	}
	if next != chunks {
		return nil, fmt.Errorf("%w: %d chunks stand in no frame", ErrDamaged, chunks-next)
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// appendTail appends a valid table and the footer, each as a skippable frame:
// all that follows the frames.
func appendTail(b []byte, t *Table) []byte {
	le := binary.LittleEndian
	size := uint32(tableSize(len(t.Frames), len(t.Chunks)))
	b = le.AppendUint32(b, tableMagic)
	b = le.AppendUint32(b, size)
	start := len(b)
	b = t.append(b)
	sum := xxhash.Sum64(b[start:])

	b = le.AppendUint32(b, footerMagic)
	b = le.AppendUint32(b, footerSize-skipHeader)
	b = append(b, packMagic...)
	b = le.AppendUint32(b, packVersion)
	b = le.AppendUint32(b, size)
	b = le.AppendUint64(b, uint64(t.end()))
	return le.AppendUint64(b, sum)
}

// footer is what a reader needs to find the table.
type footer struct {
	size   uint32 // of the table's content
	offset int64  // of the table's skippable frame
	sum    uint64
}

// parseFooter reads the last footerSize bytes of a plaintext of size bytes.
func parseFooter(b []byte, size int64) (footer, error) {
	le := binary.LittleEndian
	if string(b[8:16]) != packMagic || le.Uint32(b) != footerMagic || le.Uint32(b[4:]) != footerSize-skipHeader {
		return footer{}, fmt.Errorf("%w: no footer", ErrDamaged)
	}
	if v := le.Uint32(b[16:]); v != packVersion {
		return footer{}, fmt.Errorf("version %d: %w", v, ErrVersion)
	}
	f := footer{size: le.Uint32(b[20:]), offset: int64(le.Uint64(b[24:])), sum: le.Uint64(b[32:])}
	if f.size < countsSize || int64(f.size) > tableSize(MaxChunks, MaxChunks) {
		return footer{}, fmt.Errorf("%w: a table of %d bytes", ErrDamaged, f.size)
	}
	// Offsets may be anything up to 2⁶⁴−1: compare without adding to them.
	if want := size - footerSize - skipHeader - int64(f.size); want < 0 || f.offset != want {
		return footer{}, fmt.Errorf("%w: a table of %d bytes at %d in %d bytes", ErrDamaged, f.size, f.offset, size)
	}
	return f, nil
}
