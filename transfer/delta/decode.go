package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// round is one step of the decoder: a gap, then a copy.
type round struct {
	gap    int64 // bytes that are added, or differ
	differ bool
	at     int64 // place in the source where the gap stands
	copy   int64 // bytes that are copied after it
	from   int64 // and their place
}

// rounds reads what says how the target is put together.
type rounds struct {
	gaps, copies, addresses *bufio.Reader

	at     int64 // place in the source
	left   int64 // bytes of the target
	source int64 // size
}

// next reads a round. It is within the source and what is left of the target,
// and not empty.
func (r *rounds) next() (o round, err error) {
	gap, err := readNumber(r.gaps)
	if err != nil {
		return o, fmt.Errorf("read gap: %w", damaged(err))
	}
	o.gap, o.differ, o.at = gap>>1, gap&1 != 0, r.at
	if o.gap > r.left || o.gap == 0 && o.differ || o.differ && o.gap > r.source-r.at {
		return o, fmt.Errorf("gap of %d bytes: %w", o.gap, ErrDamaged)
	}
	r.left -= o.gap
	r.at += o.gap
	n, err := readNumber(r.copies)
	if err != nil {
		return o, fmt.Errorf("read copy: %w", damaged(err))
	}
	o.copy = n >> 1
	if o.copy > r.left || o.copy == 0 && (n != 0 || o.gap == 0) {
		return o, fmt.Errorf("copy of %d bytes: %w", o.copy, ErrDamaged)
	}
	if n&1 != 0 {
		jump, err := readSigned(r.addresses)
		if err != nil {
			return o, fmt.Errorf("read address: %w", damaged(err))
		}
		r.at += jump
	}
	o.from = r.at
	if o.copy > 0 && (o.from < 0 || o.copy > r.source-o.from) {
		return o, fmt.Errorf("copy %d bytes from %d: %w", o.copy, o.from, ErrDamaged)
	}
	r.left -= o.copy
	r.at += o.copy
	return o, nil
}

// A long delta is broken off soon, and asking whether it is to be costs little.
const roundsBetween = 1 << 10

// decode writes what the rounds say. It never writes more, whatever they say.
func decode(ctx context.Context, src *pages, r *rounds, literals, differences *bufio.Reader, w io.Writer) error {
	out := bufio.NewWriterSize(w, 256<<10)
	buf := make([]byte, 64<<10)
	for i := 0; r.left > 0; i++ {
		if i%roundsBetween == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		o, err := r.next()
		if err != nil {
			return err
		}
		for done := int64(0); done < o.gap; {
			part := buf[:min(o.gap-done, int64(len(buf)))]
			if !o.differ {
				if _, err := io.ReadFull(literals, part); err != nil {
					return fmt.Errorf("read literals: %w", damaged(err))
				}
			} else if err := addDifferences(part, differences, src, o.at+done); err != nil {
				return err
			}
			if _, err := out.Write(part); err != nil {
				return err
			}
			done += int64(len(part))
		}
		for done := int64(0); done < o.copy; {
			page, err := src.at(o.from + done)
			if err != nil {
				return err
			}
			page = page[:min(o.copy-done, int64(len(page)))]
			if _, err := out.Write(page); err != nil {
				return err
			}
			done += int64(len(page))
		}
	}
	for i, in := range []*bufio.Reader{r.gaps, r.copies, r.addresses, literals, differences} {
		if _, err := in.ReadByte(); err != io.EOF {
			return fmt.Errorf("read section %d: more than is needed: %w", i, ErrDamaged)
		}
	}
	return out.Flush()
}

// addDifferences fills b with differences and adds what the source has at off.
func addDifferences(b []byte, differences *bufio.Reader, src *pages, off int64) error {
	if _, err := io.ReadFull(differences, b); err != nil {
		return fmt.Errorf("read differences: %w", damaged(err))
	}
	for len(b) > 0 {
		page, err := src.at(off)
		if err != nil {
			return err
		}
		n := min(len(page), len(b))
		for i, c := range page[:n] {
			b[i] += c
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// readNumber reads a number in its shortest form.
func readNumber(r io.ByteReader) (int64, error) {
	var x uint64
	for i := 0; ; i++ {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if i == 9 || b == 0 && i > 0 { // 9 bytes are 63 bits
			return 0, fmt.Errorf("number is not in its shortest form: %w", ErrDamaged)
		}
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return int64(x), nil
		}
	}
}

func readSigned(r io.ByteReader) (int64, error) {
	n, err := readNumber(r)
	return n>>1 ^ -(n & 1), err
}

// appendNumber is the opposite of readNumber.
func appendNumber(dst []byte, n int64) []byte { return binary.AppendUvarint(dst, uint64(n)) }

// appendSigned is the opposite of readSigned.
func appendSigned(dst []byte, n int64) []byte { return appendNumber(dst, n<<1^n>>63) }

// damaged says of an error in reading a delta that it is damage: what cannot be
// read of it is not there.
func damaged(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("too short: %w", ErrDamaged)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
