package chunk

import (
	"bufio"
	"fmt"
	"io"
)

// Listing is a whole list, for people and for JSON.
type Listing struct {
	Format  string  `json:"format"` // "chunk list"
	Version int     `json:"version"`
	Bytes   int64   `json:"bytes"` // length of the stream that the list names
	Chunks  []Entry `json:"chunks"`
}

// Inspect reads a whole list, validating it. It holds the list in memory.
func Inspect(r io.Reader) (*Listing, error) {
	l := &Listing{Format: "chunk list", Version: listVersion}
	for entries := NewListReader(r, MaxSize); ; {
		e, err := entries.Next()
		if err == io.EOF {
			return l, nil
		}
		if err != nil {
			return nil, err
		}
		l.Bytes += int64(e.Length)
		l.Chunks = append(l.Chunks, e)
	}
}

// Dump writes the listing as text, one line a chunk: its place in the stream,
// its length, its name.
func (l *Listing) Dump(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s, version %d: %d chunks, %d bytes\n", l.Format, l.Version, len(l.Chunks), l.Bytes)
	var at int64
	for _, e := range l.Chunks {
		fmt.Fprintf(b, "%12d %8d  %s\n", at, e.Length, e.Name)
		at += int64(e.Length)
	}
	return b.Flush()
}
