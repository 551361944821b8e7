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

// The trailer of a volume with parity: sums, statement, the header again, and
// a footer. Each part can be read when another is damaged.
const (
	parityFooterSize = 64
	// tailSize is what of the trailer has the same size in every volume.
	tailSize = HeaderSize + parityFooterSize
)

// parityFooter is the fixed end of a volume with parity.
type parityFooter struct {
	blocks       int64
	length       int64
	shard        uint32
	statement    int64
	statementSum uint64
	header       uint64 // sum of the header block
	trailer      uint64 // sum of the trailer up to this field
}

func parityTrailerSize(blocks int64, statement int) int64 {
	return int64(len(sumsMagic)) + blocks*sumSize + int64(statement) + tailSize
}

// writeParityTrailer writes everything after the data of a volume and returns
// the footer. sums are the shards' sums as they stand in the file.
func writeParityTrailer(w io.Writer, h Header, header []byte, sums io.Reader, statement []byte) ([]byte, error) {
	var sum xxhash.Digest
	sum.Reset()
	both := io.MultiWriter(w, &sum)
	if _, err := both.Write([]byte(sumsMagic)); err != nil {
		return nil, err
	}
	switch n, err := io.Copy(both, sums); {
	case err != nil:
		return nil, err
	case n != h.blocks()*sumSize:
		return nil, fmt.Errorf("internal error: %d bytes of sums for %d shards", n, h.blocks())
	}
	f := make([]byte, 0, parityFooterSize)
	f = binary.BigEndian.AppendUint64(f, uint64(h.blocks()))
	f = binary.BigEndian.AppendUint64(f, uint64(h.Length))
	f = binary.BigEndian.AppendUint32(f, uint32(h.Geometry.Shard))
	f = binary.BigEndian.AppendUint32(f, parityVersion)
	f = binary.BigEndian.AppendUint64(f, uint64(len(statement)))
	f = binary.BigEndian.AppendUint64(f, xxhash.Sum64(statement))
	f = binary.BigEndian.AppendUint64(f, xxhash.Sum64(header))
	if _, err := both.Write(slices.Concat(statement, header, f)); err != nil {
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
	if string(b[56:]) != footerMagic {
		return parityFooter{}, errors.New("the end of the file is missing or overwritten")
	}
	if binary.BigEndian.Uint32(b[20:]) != parityVersion {
		return parityFooter{}, errors.New("the footer contradicts the header's version")
	}
	return parityFooter{
		blocks:       int64(binary.BigEndian.Uint64(b)),
		length:       int64(binary.BigEndian.Uint64(b[8:])),
		shard:        binary.BigEndian.Uint32(b[16:]),
		statement:    int64(binary.BigEndian.Uint64(b[24:])),
		statementSum: binary.BigEndian.Uint64(b[32:]),
		header:       binary.BigEndian.Uint64(b[40:]),
		trailer:      binary.BigEndian.Uint64(b[48:]),
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

// parseTail reads the second header and the footer.
func parseTail(tail []byte, h Header, block []byte) (parityFooter, error) {
	f, err := parseParityFooter(tail[HeaderSize:])
	if err == nil {
		err = f.match(h, block)
	}
	if err == nil && !bytes.Equal(tail[:HeaderSize], block) {
		err = errors.New("the second header is not the same as the first")
	}
	return f, err
}

// parityTrailer is what could be made out of a trailer.
type parityTrailer struct {
	sums      []byte // as they stand in the file; each is right if its shard matches
	statement []byte // nil when it does not match its sum
}

// parseParityTrailer takes a trailer apart, which has the size that the header
// says. What it returns beside an error is of use.
func parseParityTrailer(b []byte, h Header, block []byte) (parityTrailer, error) {
	if int64(len(b)) != h.trailerSize() {
		return parityTrailer{}, fmt.Errorf("the trailer has %d bytes instead of %d", len(b), h.trailerSize())
	}
	begin, end := len(sumsMagic), len(b)-tailSize-h.Statement
	t := parityTrailer{sums: b[begin:end]}
	statement := b[end : end+h.Statement]
	f, err := parseTail(b[len(b)-tailSize:], h, block)
	if err == nil || f.statement == int64(h.Statement) {
		if xxhash.Sum64(statement) == f.statementSum {
			t.statement = statement
		} else if err == nil {
			err = errors.New("the statement does not match its sum")
		}
	}
	if err == nil && string(b[:begin]) != sumsMagic {
		err = errors.New("the shards' sums do not begin where they should")
	}
	if err == nil && f.trailer != xxhash.Sum64(b[:len(b)-16]) {
		err = errors.New("the shards' sums do not match their own sum")
	}
	return t, err
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
	end := make([]byte, h.Statement+tailSize)
	if err := readFull(file, end, file.Size()-int64(len(end))); err != nil {
		return nil, err
	}
	f, err := parseParityFooter(end[len(end)-parityFooterSize:])
	if err != nil {
		return nil, err
	}
	if statement := end[:h.Statement]; f.statement == int64(h.Statement) && f.statementSum == xxhash.Sum64(statement) {
		return slices.Clone(statement), nil
	}
	return nil, errors.New("the statement does not match its sum")
}
