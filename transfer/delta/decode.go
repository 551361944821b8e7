package delta

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// section is one uncompressed section that is being read.
type section interface {
	io.Reader
	io.ByteReader
}

// decode writes size bytes, which in say how to get from the source. It never
// writes more, whatever in says.
func decode(ctx context.Context, src *pages, in [secClosings]section, w io.Writer, size int64) error {
	buf := make([]byte, 64<<10)
	at := int64(0)
	for done := int64(0); done < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		op, err := readNumber(in[secOps])
		if err != nil {
			return fmt.Errorf("read op: %w", damaged(err))
		}
		n, kind := op>>2, int(op&3)
		if n < 1 || n > size-done {
			return fmt.Errorf("read op: %d bytes of %d: %w", n, size-done, ErrDamaged)
		}
		if kind == opCopy {
			jump, err := readSigned(in[secAddresses])
			if err != nil {
				return fmt.Errorf("read address: %w", damaged(err))
			}
			at += jump
		}
		if kind != opAdd && (at < 0 || at > src.size || n > src.size-at) {
			return fmt.Errorf("copy %d bytes from %d: %w", n, at, ErrDamaged)
		}
		done += n
		for n > 0 {
			part := buf[:min(n, int64(len(buf)))]
			switch kind {
			case opAdd:
				if _, err := io.ReadFull(in[secLiterals], part); err != nil {
					return fmt.Errorf("read literals: %w", damaged(err))
				}
			case opCopy, opGoOn:
				page, err := src.at(at)
				if err != nil {
					return err
				}
				part = page[:min(n, int64(len(page)))]
			case opDiffer:
				if _, err := io.ReadFull(in[secDifferences], part); err != nil {
					return fmt.Errorf("read differences: %w", damaged(err))
				}
				for i := 0; i < len(part); {
					page, err := src.at(at + int64(i))
					if err != nil {
						return err
					}
					for _, c := range page[:min(len(page), len(part)-i)] {
						part[i] += c
						i++
					}
				}
			}
			if _, err := w.Write(part); err != nil {
				return err
			}
			n -= int64(len(part))
			if kind != opAdd {
				at += int64(len(part))
			}
		}
	}
	for i, r := range in {
		if _, err := r.ReadByte(); err != io.EOF {
			return fmt.Errorf("read section %d: more than is needed: %w", i, ErrDamaged)
		}
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
