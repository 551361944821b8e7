package content

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"davit/store/chunk"
)

const (
	magic   = "DAVITDIF"
	version = 1

	maxPartners = 1_000_000
	maxLoose    = 1_000_000

	// maxHead is longer than any head can be.
	maxHead int64 = int64(len(magic)) + (4+maxPartners)*binary.MaxVarintLen64 + maxLoose*chunk.EntrySize + 8
)

var (
	// ErrDamaged is wrapped when a difference is not what the format allows, or
	// does not give what was signed.
	ErrDamaged = errors.New("difference is damaged")

	// ErrVersion is wrapped when a difference is of an unknown version.
	ErrVersion = errors.New("difference is of an unknown version")
)

// head is what stands before the delta of two trees.
type head struct {
	listing  int64         // bytes of the short listing
	partners []int64       // lines of the base's listing, rising
	loose    []chunk.Entry // chunks of files that neither the base nor the archive has
}

func (h *head) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.AppendUvarint(b, version)
	b = binary.AppendUvarint(b, uint64(h.listing))
	b = binary.AppendUvarint(b, uint64(len(h.partners)))
	next := int64(0)
	for _, p := range h.partners {
		b = binary.AppendUvarint(b, uint64(p-next))
		next = p + 1
	}
	b = binary.AppendUvarint(b, uint64(len(h.loose)))
	for _, e := range h.loose {
		b = chunk.AppendEntry(b, e)
	}
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// Sniff reports whether b begins like the difference of two trees.
func Sniff(b []byte) bool { return bytes.HasPrefix(b, []byte(magic)) }

// headReader reads numbers and sums what it read.
type headReader struct {
	r    io.ByteReader
	more io.Reader
	sum  *xxhash.Digest
	n    int64 // bytes read
	last byte
	buf  [chunk.EntrySize]byte
}

// ReadByte makes a headReader an io.ByteReader.
func (h *headReader) ReadByte() (byte, error) {
	c, err := h.r.ReadByte()
	if err == nil {
		h.buf[0], h.last = c, c
		h.sum.Write(h.buf[:1])
		h.n++
	}
	return c, err
}

// number reads one of at most max.
func (h *headReader) number(what string, max uint64) (int64, error) {
	from := h.n
	n, err := binary.ReadUvarint(h)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return 0, fmt.Errorf("%w: it ends within its head", ErrDamaged)
	case err != nil && h.n-from < binary.MaxVarintLen64:
		return 0, err // the reader's own
	case err != nil || n > max:
		return 0, fmt.Errorf("%w: %s is more than %d", ErrDamaged, what, max)
	case h.n-from > 1 && h.last == 0:
		return 0, fmt.Errorf("%w: %s is not in its shortest form", ErrDamaged, what)
	}
	return int64(n), nil
}

// bytes reads n bytes, at most those of an entry, which stay valid until the
// next call.
func (h *headReader) bytes(n int) ([]byte, error) {
	b := h.buf[:n]
	if _, err := io.ReadFull(h.more, b); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%w: it ends within its head", ErrDamaged)
	} else if err != nil {
		return nil, err
	}
	h.sum.Write(b)
	h.n += int64(n)
	return b, nil
}

// readHead reads a head and returns how many bytes it has. r must not be
// buffered elsewhere.
func readHead(r interface {
	io.Reader
	io.ByteReader
}) (*head, int64, error) {
	in := &headReader{r: r, more: r, sum: xxhash.New()}
	if b, err := in.bytes(len(magic)); err != nil {
		return nil, 0, err
	} else if !Sniff(b) {
		return nil, 0, fmt.Errorf("%w: it does not begin like one", ErrDamaged)
	}
	if v, err := in.number("version", 1<<62); err != nil {
		return nil, 0, err
	} else if v != version {
		return nil, 0, fmt.Errorf("%w: version %d", ErrVersion, v)
	}
	h := &head{}
	var err error
	if h.listing, err = in.number("size of the listing", 1<<40); err != nil {
		return nil, 0, err
	}
	n, err := in.number("number of partners", maxPartners)
	if err != nil {
		return nil, 0, err
	}
	next := int64(0)
	for range n {
		gap, err := in.number("line of a partner", 1<<32)
		if err != nil {
			return nil, 0, err
		}
		h.partners = append(h.partners, next+gap)
		next += gap + 1
	}
	if n, err = in.number("number of chunks", maxLoose); err != nil {
		return nil, 0, err
	}
	for range n {
		b, err := in.bytes(chunk.EntrySize)
		if err != nil {
			return nil, 0, err
		}
		e := parseEntry(b)
		if e.Length == 0 || e.Length > chunk.MaxSize {
			return nil, 0, fmt.Errorf("%w: a chunk of %d bytes", ErrDamaged, e.Length)
		}
		h.loose = append(h.loose, e)
	}
	want, size := in.sum.Sum64(), in.n+8
	if b, err := in.bytes(8); err != nil {
		return nil, 0, err
	} else if binary.BigEndian.Uint64(b) != want {
		return nil, 0, fmt.Errorf("%w: the sum of its head is wrong", ErrDamaged)
	}
	return h, size, nil
}
