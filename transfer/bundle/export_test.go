package bundle

import (
	"bytes"
	"context"
	"errors"
	"io"

	"davit/store/bucket"
)

// What the tests of the format need to see.

const (
	FooterSize  = footerSize
	MagicPrefix = magicPrefix
)

func (h Header) Encode() ([]byte, error)       { return h.encode() }
func ParseHeader(block []byte) (Header, error) { return parseHeader(block) }

func EncodeTrailer(header []byte, length int64, sums []uint64) []byte {
	return encodeTrailer(header, length, sums)
}

// ReencodeTrailer parses a trailer that belongs to a header block and writes
// it again.
func ReencodeTrailer(header, trailer []byte) ([]byte, error) {
	f, sums, err := parseTrailer(trailer)
	if err != nil {
		return nil, err
	}
	if err := f.match(Header{Length: f.length}, header); err != nil {
		return nil, err
	}
	return encodeTrailer(header, f.length, sums), nil
}

// WithGeometry is the options with a geometry of that many shards, for parity
// of payloads that are small.
func (o Options) WithGeometry(payload int64, data, parity, volumes, depth int) Options {
	g := Geometry{Data: data, Parity: parity, Depth: depth}
	g.Stripes, g.Shard = cut(payload, data)
	g.Depth = int(min(int64(depth), g.Stripes))
	o.Parity, o.forced = 0.5, &spread{Geometry: g, volumes: volumes, payload: payload}
	return o
}

// Validate is what a reader asks of a geometry.
func (g Geometry) Validate(payload int64, volumes int) error { return g.validate(payload, volumes) }

// Shards says where everything lies: the volume, counted from 1, the block of
// it and the stripe of each shard of a payload, in the order of windows.
func (g Geometry) Shards(payload int64, volumes int) (all []ShardPlace) {
	s := spread{Geometry: g, volumes: volumes, payload: payload}
	for w := range s.windows() {
		for i := range s.shards() {
			for d := range s.stripesIn(w) {
				v, b := s.block(place{w, d, i})
				all = append(all, ShardPlace{v + 1, b, w*int64(s.Depth) + int64(d), i})
			}
		}
	}
	return all
}

// ShardPlace is where a shard lies.
type ShardPlace struct {
	Volume int
	Block  int64
	Stripe int64
	Number int // in its stripe
}

// Stripe is the stripe of a block of a volume.
func (g Geometry) Stripe(payload int64, volumes int, block int64) int64 {
	return spread{Geometry: g, volumes: volumes, payload: payload}.stripe(block)
}

// At is the shard and the byte in it of a byte of the payload.
func (g Geometry) At(payload int64, volumes int, offset int64) (stripe int64, number, within int) {
	p, within := spread{Geometry: g, volumes: volumes, payload: payload}.at(offset)
	return p.window*int64(g.Depth) + int64(p.d), p.i, within
}

// SetSumsInMemory sets the limit above which sums go to a file and returns what
// it was.
func SetSumsInMemory(limit int64) int64 {
	old := sumsInMemory
	sumsInMemory = limit
	return old
}

// WithVolumes is the options with the geometry that is best for so many volumes.
func (o Options) WithVolumes(payload int64, volumes int) Options {
	share, err := o.millionths()
	if err != nil {
		panic(err)
	}
	g, ok := fit(payload, share, volumes, o.StatementSize, MaxVolumeSize)
	if !ok {
		panic("no geometry")
	}
	o.forced = &spread{Geometry: g, volumes: volumes, payload: payload}
	return o
}

// OpenOn opens the set on another medium that holds the same.
func (s *Set) OpenOn(ctx context.Context, medium bucket.Reader) (*Payload, error) {
	other := *s
	other.medium = medium
	return other.Open(ctx)
}

// Code makes the parity of a stripe, and returns what restores it: shards that
// are marked lost, all or of the payload alone.
func Code(ctx context.Context, data, parity int, stripe [][]byte) (restore func(stripe [][]byte, lost []bool, all bool) error, err error) {
	s := spread{Geometry{data, parity, len(stripe[0]), 1, 1}, 1, 1}
	c, err := newCodec(s)
	if err != nil {
		return nil, err
	}
	w := newWindow(s)
	w.reset(0)
	move := func(work func() error) error {
		for i := range stripe {
			copy(w.shard(0, i), stripe[i])
		}
		defer func() {
			for i := range stripe {
				copy(stripe[i], w.shard(0, i))
			}
		}()
		return work()
	}
	err = move(func() error { return c.encode(ctx, w) })
	return func(broken [][]byte, lost []bool, all bool) error {
		stripe = broken
		l := newLosses(s, 1)
		for i, is := range lost {
			if is {
				l.add(0, i)
			}
		}
		return move(func() error { return c.mend(ctx, w, l, all) })
	}, err
}

// ReencodeParityTrailer parses a trailer that belongs to a header block and
// writes it again.
func ReencodeParityTrailer(header, trailer []byte) ([]byte, error) {
	h, err := parseHeader(header)
	if err != nil || h.Version != parityVersion {
		return nil, errors.New("no header with parity")
	}
	first, second, err := parseParityTrailer(trailer, h, header)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the lists differ and nobody says so")
	}
	l := layTrailer(h.blocks(), h.Statement)
	var out bytes.Buffer
	_, err = writeParityTrailer(&out, h, header, func() io.Reader { return bytes.NewReader(first) },
		trailer[l.statement:l.footer-sumSize])
	return out.Bytes(), err
}
