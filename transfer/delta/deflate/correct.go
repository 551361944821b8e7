package deflate

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What a correction to a block says, besides the kind in its low two bits.
const (
	fixFinal  = 1 << 2 // the block is the last
	fixEnd    = 1 << 3 // it ends after a given number of tokens
	fixHeader = 1 << 4 // dynamic: its header follows
	fixPad    = 1 << 5 // stored: the bits before the length follow
	fixAll    = 1<<6 - 1
)

// blockFix is a correction to what the model says of a block. A stored block's
// length in bytes is always given.
type blockFix struct {
	kind   int
	final  bool
	end    int // tokens, or bytes of a stored block; -1: as the model says
	header []byte
	bits   int // of header
	pad    byte
}

func (f *blockFix) append(b []byte, gap int) []byte {
	flags := byte(f.kind)
	if f.final {
		flags |= fixFinal
	}
	if f.end >= 0 {
		flags |= fixEnd
	}
	if f.header != nil {
		flags |= fixHeader
	}
	if f.pad != 0 {
		flags |= fixPad
	}
	b = append(binary.AppendUvarint(b, uint64(gap)), flags)
	if f.end >= 0 {
		b = binary.AppendUvarint(b, uint64(f.end))
	}
	if f.header != nil {
		b = binary.AppendUvarint(b, uint64(f.bits))
		b = append(b, f.header...)
	}
	if f.pad != 0 {
		b = append(b, f.pad)
	}
	return b
}

// fixes reads the corrections of a segment, one ahead.
type fixes struct {
	blocks   []byte
	blockGap uint64 // blocks before the next correction
	block    blockFix
	more     bool // block holds one

	tokens   []byte
	tokenGap uint64
	token    token // the literal's byte is not known here: 0
	moreTok  bool
}

var errFix = errors.New("corrections cannot be read")

func (f *fixes) begin(s *segment) error {
	*f = fixes{blocks: s.blocks, tokens: s.tokens}
	if err := f.nextBlock(); err != nil {
		return err
	}
	return f.nextToken()
}

func (f *fixes) done() bool { return !f.more && !f.moreTok }

func uvarint(b *[]byte, most uint64) (uint64, error) {
	v, n := binary.Uvarint(*b)
	if n <= 0 || v > most {
		return 0, errFix
	}
	*b = (*b)[n:]
	return v, nil
}

// most is the most tokens or blocks that a gap may pass over.
const mostGap = 1 << 50

func (f *fixes) nextToken() (err error) {
	if f.moreTok = len(f.tokens) > 0; !f.moreTok {
		return nil
	}
	if f.tokenGap, err = uvarint(&f.tokens, mostGap); err != nil {
		return err
	}
	n, err := uvarint(&f.tokens, maxMatch-2)
	if err != nil {
		return err
	}
	if f.token = 0; n == 0 {
		return nil
	}
	d, err := uvarint(&f.tokens, window-1)
	if err != nil {
		return err
	}
	f.token = match(int(n)+2, int(d)+1)
	return nil
}

func appendToken(b []byte, gap int, t token) []byte {
	b = binary.AppendUvarint(b, uint64(gap))
	n := t.length()
	if n == 0 {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(n-2))
	return binary.AppendUvarint(b, uint64(t.distance()-1))
}

func (f *fixes) nextBlock() (err error) {
	if f.more = len(f.blocks) > 0; !f.more {
		return nil
	}
	if f.blockGap, err = uvarint(&f.blocks, mostGap); err != nil {
		return err
	}
	if len(f.blocks) == 0 || f.blocks[0]&^fixAll != 0 || f.blocks[0]&3 == 3 {
		return errFix
	}
	flags := f.blocks[0]
	f.blocks = f.blocks[1:]
	f.block = blockFix{kind: int(flags & 3), final: flags&fixFinal != 0, end: -1}
	if flags&fixEnd != 0 {
		most := uint64(mostTokens)
		if f.block.kind == stored {
			most = 0xffff
		}
		n, err := uvarint(&f.blocks, most)
		if err != nil {
			return err
		}
		f.block.end = int(n)
	}
	if flags&fixHeader != 0 {
		n, err := uvarint(&f.blocks, 8*1024)
		if err != nil || f.block.kind != dynamic || len(f.blocks) < int(n+7)/8 {
			return errFix
		}
		f.block.bits = int(n)
		f.block.header = f.blocks[:(n+7)/8]
		f.blocks = f.blocks[(n+7)/8:]
	}
	if flags&fixPad != 0 {
		if f.block.kind != stored || len(f.blocks) == 0 || f.blocks[0] == 0 || f.blocks[0] > 127 {
			return errFix
		}
		f.block.pad = f.blocks[0]
		f.blocks = f.blocks[1:]
	}
	if f.block.kind == stored && f.block.end < 0 {
		return errFix
	}
	return nil
}

// damaged says that a recipe cannot be what Prove wrote.
func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, a...))
}
