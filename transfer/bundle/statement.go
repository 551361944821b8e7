package bundle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// The trailer of a volume with parity holds the sums twice with the header
// between, so that no one bad sector takes both, or the header at both ends:
//
//	DAVITSUM  sums  header  sums  statement  its sum  footer
const parityFooterSize = 56

// parityFooter is the fixed end of a volume with parity.
type parityFooter struct {
	blocks    int64
	length    int64
	shard     uint32
	statement int64
	header    uint64 // sum of the header block
	trailer   uint64 // sum of the trailer up to this field
}

// trailerLayout is where the parts of a trailer begin, from its start.
type trailerLayout struct {
	sums, header, again, statement, footer, size int64
}

func layTrailer(blocks int64, statement int) trailerLayout {
	var l trailerLayout
	l.sums = int64(len(sumsMagic))
	l.header = l.sums + blocks*sumSize
	l.again = l.header + HeaderSize
	l.statement = l.again + blocks*sumSize
	l.footer = l.statement + int64(statement) + sumSize
	l.size = l.footer + parityFooterSize
	return l
}

func parityTrailerSize(blocks int64, statement int) int64 { return layTrailer(blocks, statement).size }

// writeParityTrailer writes everything after the data of a volume and returns
// the footer. sums reads the shards' sums as they stand in the file.
func writeParityTrailer(w io.Writer, h Header, header []byte, sums func() io.Reader, statement []byte) ([]byte, error) {
	var sum xxhash.Digest
	sum.Reset()
	both := io.MultiWriter(w, &sum)
	for _, before := range [][]byte{[]byte(sumsMagic), header} {
		if _, err := both.Write(before); err != nil {
			return nil, err
		}
		switch n, err := io.Copy(both, sums()); {
		case err != nil:
			return nil, err
		case n != h.blocks()*sumSize:
			return nil, fmt.Errorf("internal error: %d bytes of sums for %d shards", n, h.blocks())
		}
	}
	f := make([]byte, 0, parityFooterSize)
	f = binary.BigEndian.AppendUint64(f, uint64(h.blocks()))
	f = binary.BigEndian.AppendUint64(f, uint64(h.Length))
	f = binary.BigEndian.AppendUint32(f, uint32(h.Geometry.Shard))
	f = binary.BigEndian.AppendUint32(f, parityVersion)
	f = binary.BigEndian.AppendUint64(f, uint64(h.Statement))
	f = binary.BigEndian.AppendUint64(f, xxhash.Sum64(header))
	statement = binary.BigEndian.AppendUint64(slices.Clone(statement), xxhash.Sum64(statement))
	if _, err := both.Write(slices.Concat(statement, f)); err != nil {
		return nil, err
	}
	end := append(binary.BigEndian.AppendUint64(nil, sum.Sum64()), footerMagic...)
	if _, err := w.Write(end); err != nil {
		return nil, err
	}
	return append(f, end...), nil
}

// parseParityFooter reads the last bytes of a volume.
func parseParityFooter(b []byte) (parityFooter, error) {
	if len(b) != parityFooterSize {
		return parityFooter{}, fmt.Errorf("the footer has %d bytes, not %d", len(b), parityFooterSize)
	}
	if string(b[48:]) != footerMagic {
		return parityFooter{}, errors.New("the end of the file is missing or overwritten")
	}
	if binary.BigEndian.Uint32(b[20:]) != parityVersion {
		return parityFooter{}, errors.New("the footer contradicts the header's version")
	}
	return parityFooter{
		blocks:    int64(binary.BigEndian.Uint64(b)),
		length:    int64(binary.BigEndian.Uint64(b[8:])),
		shard:     binary.BigEndian.Uint32(b[16:]),
		statement: int64(binary.BigEndian.Uint64(b[24:])),
		header:    binary.BigEndian.Uint64(b[32:]),
		trailer:   binary.BigEndian.Uint64(b[40:]),
	}, nil
}

// match reports whether the footer belongs to the header.
func (f parityFooter) match(h Header, block []byte) error {
	if f.length != h.Length || f.blocks != h.blocks() || int(f.shard) != h.Geometry.Shard || f.statement != int64(h.Statement) {
		return errors.New("the footer's sizes contradict the header")
	}
	if f.header != xxhash.Sum64(block) {
		return errors.New("the footer belongs to another header")
	}
	return nil
}

// readSecondHeader reads the header near the end of a file whose first is
// damaged; nil when there is none, as without parity.
func readSecondHeader(r io.ReaderAt, size int64) *Header {
	end, block := make([]byte, parityFooterSize), make([]byte, HeaderSize)
	if size < HeaderSize+parityFooterSize || readFull(r, end, size-parityFooterSize) != nil {
		return nil
	}
	f, err := parseParityFooter(end)
	if err != nil || f.statement < 0 || f.statement > MaxStatement || f.blocks < 1 || f.blocks > size/sumSize {
		return nil
	}
	l := layTrailer(f.blocks, int(f.statement))
	if l.size > size-HeaderSize || readFull(r, block, size-l.size+l.header) != nil {
		return nil
	}
	h, err := parseHeader(block)
	if err != nil || h.Version != parityVersion || h.fileSize() != size || f.match(h, block) != nil {
		return nil
	}
	return &h
}

// parseStatement checks a statement with its sum behind it.
func parseStatement(b []byte) ([]byte, error) {
	n := len(b) - sumSize
	if xxhash.Sum64(b[:n]) != sumAt(b[n:], 0) {
		return nil, errors.New("the statement does not match its sum")
	}
	return b[:n], nil
}

// parseParityTrailer checks a trailer, which has the size that the header says.
// It returns both lists of the shards' sums as they stand in the file with an
// error too: a sum is right if the shard matches it.
func parseParityTrailer(b []byte, h Header, block []byte) (first, second []byte, err error) {
	l := layTrailer(h.blocks(), h.Statement)
	if int64(len(b)) != l.size {
		return nil, nil, fmt.Errorf("the trailer has %d bytes instead of %d", len(b), l.size)
	}
	first, second = b[l.sums:l.header], b[l.again:l.statement]
	f, err := parseParityFooter(b[l.footer:])
	if err == nil {
		err = f.match(h, block)
	}
	if err == nil {
		_, err = parseStatement(b[l.statement:l.footer])
	}
	switch {
	case err != nil:
	case string(b[:l.sums]) != sumsMagic:
		err = errors.New("the shards' sums do not begin where they should")
	case !bytes.Equal(b[l.header:l.again], block):
		err = errors.New("the second header is not the same as the first")
	case !bytes.Equal(first, second):
		err = errors.New("the two lists of the shards' sums differ")
	case f.trailer != xxhash.Sum64(b[:len(b)-16]):
		err = errors.New("the shards' sums do not match their own sum")
	}
	return first, second, err
}

// Statements reads what the sender had put into every volume, from all volumes
// where it is whole. One set has one statement; should volumes disagree, which
// no accident does, the one that most of them carry comes first. They are not
// to be trusted before what signed them is verified.
func (s *Set) Statements(ctx context.Context) ([][]byte, error) {
	if s.common.Statement == 0 {
		return nil, nil
	}
	var all [][]byte
	votes := map[string]int{}
	for n := 1; n <= s.Volumes; n++ {
		for _, name := range s.filesOf(n) {
			b, err := s.readStatement(ctx, name, s.common.volume(n))
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				continue // another volume has it too
			}
			if votes[string(b)]++; votes[string(b)] == 1 {
				all = append(all, b)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b []byte) int { return votes[string(b)] - votes[string(a)] })
	if len(all) == 0 {
		return nil, &DamageError{Reason: "in none of the volumes that are there the statement is whole"}
	}
	return all, nil
}

func (s *Set) readStatement(ctx context.Context, name string, h Header) ([]byte, error) {
	file, err := s.medium.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := sameVolume(file, name, h); err != nil {
		return nil, err
	}
	l := layTrailer(h.blocks(), h.Statement)
	b := make([]byte, l.footer-l.statement)
	if err := readFull(file, b, HeaderSize+h.Length+l.statement); err != nil {
		return nil, err
	}
	return parseStatement(b)
}
