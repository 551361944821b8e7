package pack

import (
	"bufio"
	"fmt"
	"io"

	"davit/store/chunk"
)

// Description is a pack's table for people and for JSON.
type Description struct {
	Format     string             `json:"format"` // "pack"
	Version    int                `json:"version"`
	Chunks     int                `json:"chunks"`
	Plain      int64              `json:"plain_bytes"`
	Compressed int64              `json:"compressed_bytes"`
	Frames     []FrameDescription `json:"frames"`
}

// FrameDescription is one frame of a Description.
type FrameDescription struct {
	Offset     int64         `json:"offset"` // in the plaintext of the age file
	Compressed uint32        `json:"compressed_bytes"`
	Plain      uint32        `json:"plain_bytes"`
	Chunks     []chunk.Entry `json:"chunks"`
}

// Describe returns what Dump writes as a struct.
func (t *Table) Describe() Description {
	d := Description{Format: "pack", Version: packVersion, Chunks: len(t.Chunks), Compressed: t.end()}
	for i, f := range t.Frames {
		fd := FrameDescription{Offset: f.Offset, Compressed: f.Length, Plain: f.Size}
		for _, c := range t.FrameChunks(i) {
			fd.Chunks = append(fd.Chunks, chunk.Entry{Name: c.Name, Length: c.Length})
		}
		d.Plain += int64(f.Size)
		d.Frames = append(d.Frames, fd)
	}
	return d
}

// Dump writes the table as text: each frame with its place in the plaintext of
// the age file, under it each chunk with its place in the frame.
func (t *Table) Dump(w io.Writer) error {
	d := t.Describe()
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s, version %d: %d chunks in %d frames, %d bytes compressed to %d\n",
		d.Format, d.Version, d.Chunks, len(d.Frames), d.Plain, d.Compressed)
	for i, f := range t.Frames {
		fmt.Fprintf(b, "frame %d at %d: %d bytes compressed to %d\n", i, f.Offset, f.Size, f.Length)
		for _, c := range t.FrameChunks(i) {
			fmt.Fprintf(b, "%12d %8d  %s\n", c.Offset, c.Length, c.Name)
		}
	}
	return b.Flush()
}
