package chunk

import (
	"errors"
	"fmt"
	"io"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc" // registers the algorithm
)

// Algorithm names how streams are cut: the one variant of that module that
// honours Normal. Its version is part of the name; a golden test notices if
// its cuts ever change.
const Algorithm = "fastcdc-v1.0.0"

// Cutter cuts streams, one after the other. It is made once per worker: its
// buffers, twice Max and once Min, serve all streams. It is for one goroutine.
type Cutter struct {
	params  Params
	source  source
	chunker *chunkers.Chunker // nil until a stream longer than Min comes by
	cutting bool              // the stream at hand goes through chunker
	err     error             // what Next returns from now on, once not nil
	head    []byte            // Min+1 bytes
}

// NewCutter returns a Cutter, which needs a Reset before its first Next.
func NewCutter(p Params) (*Cutter, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return &Cutter{params: p, head: make([]byte, p.Min+1), err: errors.New("cut stream: no stream given")}, nil
}

// Reset makes c cut r, from where it stands, and forget the stream before.
func (c *Cutter) Reset(r io.Reader) {
	c.source = source{r: r}
	c.cutting = false
	c.err = nil
}

// Next returns the next chunk, never an empty one, valid until the following
// call; and io.EOF, alone, after the last. Any other error that the reader
// returned is passed on, wrapped, in place of what would have been the last
// chunk: a stream that could not be read to its end never looks like a short
// one.
func (c *Cutter) Next() ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	b, err := c.next()
	switch {
	case err == io.EOF:
		c.err = io.EOF
	case err != nil:
		c.err = fmt.Errorf("cut stream: %w", err)
	}
	if c.err != nil {
		c.source.r = nil
	}
	if len(b) > 0 && (err == nil || err == io.EOF) {
		return b, nil
	}
	return nil, c.err
}

// next may return the last chunk together with io.EOF, as the chunker does.
func (c *Cutter) next() ([]byte, error) {
	if c.cutting {
		return c.chunker.Next()
	}
	// A stream of at most Min bytes is one chunk whatever is in it. Most files
	// are that short; they need neither the scan nor its large buffer.
	head, err := c.source.fill(c.head)
	if len(head) < len(c.head) {
		return head, err
	}
	c.source.head, c.source.err = head, err
	if c.chunker == nil {
		c.chunker, err = chunkers.NewChunker(Algorithm, &c.source, &chunkers.ChunkerOpts{
			MinSize: c.params.Min, NormalSize: c.params.Normal, MaxSize: c.params.Max,
		})
		if err != nil {
			return nil, err
		}
	} else {
		c.chunker.Reset(&c.source)
	}
	c.cutting = true
	return c.chunker.Next()
}

// source is a stream whose front was read already.
type source struct {
	r    io.Reader
	head []byte // not yet read again
	err  error  // came with the end of head
}

// fill reads from r until buf is full or r fails, and returns r's own error.
// (io.ReadFull would turn an io.EOF into the io.ErrUnexpectedEOF that a broken
// reader may also return.)
func (s *source) fill(buf []byte) ([]byte, error) {
	n := 0
	for empty := 0; n < len(buf); {
		m, err := s.r.Read(buf[n:])
		n += m
		if err != nil {
			return buf[:n], err
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return buf[:n], io.ErrNoProgress
		}
	}
	return buf[:n], nil
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.r.Read(p)
}
