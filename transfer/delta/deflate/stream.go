package deflate

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Stream is the recipe for one raw deflate stream: with the plain bytes beside
// it, all that Rebuild needs.
type Stream struct {
	Encoder    Encoder
	Params     []byte // of the model; what they mean depends on Encoder
	Plain      int64  // length of the plain bytes
	Compressed int64  // length of the raw deflate stream

	tail     byte      // the bits after the end of the last block, most often 0
	segments []segment // in order, at least one
}

// segment is a part of a stream that begins and ends with a block, so that
// several can be rebuilt at once.
type segment struct {
	plain  int64  // how many plain bytes it covers
	phase  uint   // at which bit of a byte it begins
	blocks []byte // corrections to what the model says of blocks
	tokens []byte // corrections to what the model says of literals and matches
}

const (
	mostParams  = 16
	mostSegment = 16 << 20 // plain bytes of a segment, unless it is the only one
)

// Corrections says how many bytes of corrections the recipe holds: none when the
// model fits.
func (s *Stream) Corrections() int {
	n := 0
	for _, g := range s.segments {
		n += len(g.blocks) + len(g.tokens)
	}
	return n
}

// Marshal returns the recipe as bytes. FORMAT.md has the format.
func (s *Stream) Marshal() []byte {
	b := binary.AppendUvarint(nil, uint64(s.Encoder))
	b = append(b, byte(len(s.Params)))
	b = append(b, s.Params...)
	b = binary.AppendUvarint(b, uint64(s.Plain))
	b = binary.AppendUvarint(b, uint64(s.Compressed))
	b = append(b, s.tail)
	b = binary.AppendUvarint(b, uint64(len(s.segments)))
	for i, g := range s.segments {
		if i > 0 {
			b = append(b, byte(g.phase))
		}
		if i < len(s.segments)-1 {
			b = binary.AppendUvarint(b, uint64(g.plain))
		}
		b = binary.AppendUvarint(b, uint64(len(g.blocks)))
		b = binary.AppendUvarint(b, uint64(len(g.tokens)))
	}
	for _, g := range s.segments {
		b = append(append(b, g.blocks...), g.tokens...)
	}
	return b
}

// Unmarshal reads a recipe, all of b, which it keeps parts of. An encoder that
// this build does not know is an *EncoderError.
func Unmarshal(b []byte) (*Stream, error) {
	s, err := unmarshal(b)
	if err != nil {
		return nil, fmt.Errorf("read recipe: %w", err)
	}
	return s, nil
}

func unmarshal(b []byte) (*Stream, error) {
	bad := false
	number := func(most uint64) int64 {
		v, err := uvarint(&b, most)
		bad = bad || err != nil
		return int64(v)
	}
	next := func() byte {
		if len(b) == 0 {
			bad = true
			return 0
		}
		v := b[0]
		b = b[1:]
		return v
	}
	bytes := func(n int64) []byte {
		if bad || n > int64(len(b)) {
			bad = true
			return nil
		}
		v := b[:n:n]
		b = b[n:]
		return v
	}
	s := &Stream{Encoder: Encoder(number(math.MaxUint16))}
	if bad {
		return nil, damaged("its encoder is missing")
	}
	if n := int64(next()); n <= mostParams {
		s.Params = bytes(n)
	} else {
		bad = true
	}
	s.Plain, s.Compressed = number(1<<50), number(1<<50)
	s.tail = next()
	n := number(1 << 40)
	if bad || n < 1 || n > 1+int64(len(b))/2 {
		return nil, damaged("it is too short or holds impossible numbers")
	}
	if !slices.Contains(Encoders(), s.Encoder) {
		return nil, &EncoderError{s.Encoder}
	}
	s.segments = make([]segment, n)
	left := s.Plain
	type lengths struct{ blocks, tokens int64 }
	all := make([]lengths, n)
	for i := range s.segments {
		g := &s.segments[i]
		if i > 0 {
			if g.phase = uint(next()); g.phase > 7 {
				bad = true
			}
		}
		if g.plain = left; i < len(s.segments)-1 {
			if g.plain = number(mostSegment); g.plain == 0 || g.plain > left {
				bad = true
			}
		}
		left -= g.plain
		all[i] = lengths{number(math.MaxInt32), number(math.MaxInt32)}
	}
	if n > 1 && s.segments[n-1].plain > mostSegment {
		bad = true
	}
	for i := range s.segments {
		s.segments[i].blocks = bytes(all[i].blocks)
		s.segments[i].tokens = bytes(all[i].tokens)
	}
	if bad || len(b) > 0 {
		return nil, damaged("its parts are not as long as it says")
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// check looks at the parameters.
func (s *Stream) check() error {
	if len(s.segments) == 0 {
		return damaged("recipe has no segment")
	}
	if _, ok := s.Encoder.family(s.Params); ok {
		return nil
	}
	if s.Encoder.isExact(s.Params) {
		return nil
	}
	if _, ok := s.Encoder.blockwise(s.Params); ok {
		return nil
	}
	return damaged("impossible parameters for %s", s.Encoder)
}

// String describes the recipe in a line, for people.
func (s *Stream) String() string {
	return fmt.Sprintf("%s %x, %d bytes of corrections, %d segments", s.Encoder, s.Params, s.Corrections(), len(s.segments))
}
