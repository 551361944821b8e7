package deflate

import (
	"bufio"
	"compress/flate"
	"context"
	"fmt"
	"io"
)

// Encoders returns the numbers that this build knows, in order: what a site
// says of itself to those who send to it.
func Encoders() []Encoder { return nil }

// Marshal returns the recipe as bytes. FORMAT.md has the format.
func (s *Stream) Marshal() []byte { return nil }

// Unmarshal reads a recipe, all of b. An encoder that this build does not know
// is an *EncoderError.
func Unmarshal(b []byte) (*Stream, error) { return nil, fmt.Errorf("read recipe: %w", ErrDamaged) }

// Inflate decompresses the raw deflate stream that r begins with, and finds
// where it ends: compressed is its exact length, though r may have been read
// further. w may be nil.
func Inflate(r io.Reader, w io.Writer, l Limits) (compressed, plain int64, err error) {
	c := &counter{r: bufio.NewReader(r)}
	plain, err = io.Copy(w, flate.NewReader(c))
	return c.n, plain, err
}

type counter struct {
	r *bufio.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) { n, err := c.r.Read(p); c.n += int64(n); return n, err }
func (c *counter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// Prove looks for a model that gives compressed, one whole raw deflate stream,
// back from plain, and returns the recipe. It is ErrUnproven when there is none
// whose recipe is under a twentieth of the stream. hint may be nil, or the
// recipe of a stream that likely had the same maker: it is tried first. The
// caller bounds the time by ctx.
func Prove(ctx context.Context, compressed, plain *io.SectionReader, hint *Stream, o Options) (*Stream, error) {
	return nil, ErrUnproven
}

// Rebuild writes to w the raw deflate stream that s is the recipe of. plain
// holds the plain bytes, s.Plain of them from offset 0. A recipe that lies gives
// an error or other bytes, never more than s.Compressed of them. workers is how
// many goroutines may work at once, 0 is one.
func Rebuild(ctx context.Context, s *Stream, plain io.ReaderAt, w io.Writer, workers int) error {
	return fmt.Errorf("rebuild stream: %w", ErrDamaged)
}
