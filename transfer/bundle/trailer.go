package bundle

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

const (
	sumsMagic   = "DAVITSUM"
	footerMagic = "DAVITVOL"
	sumSize     = 8
	footerSize  = 48
)

// footer is the fixed end of a volume.
type footer struct {
	blocks  int64
	length  int64
	header  uint64 // sum of the header block
	trailer uint64 // sum of the trailer up to this field
}

func trailerSize(length int64) int64 {
	return int64(len(sumsMagic)) + blockCount(length)*sumSize + footerSize
}

// encodeTrailer writes the end of a volume with the given header block and
// block sums.
func encodeTrailer(header []byte, length int64, sums []uint64) []byte {
	out := make([]byte, 0, trailerSize(length))
	out = append(out, sumsMagic...)
	for _, s := range sums {
		out = binary.BigEndian.AppendUint64(out, s)
	}
	out = binary.BigEndian.AppendUint64(out, uint64(len(sums)))
	out = binary.BigEndian.AppendUint64(out, uint64(length))
	out = binary.BigEndian.AppendUint32(out, BlockSize)
	out = binary.BigEndian.AppendUint32(out, plainVersion)
	out = binary.BigEndian.AppendUint64(out, xxhash.Sum64(header))
	out = binary.BigEndian.AppendUint64(out, xxhash.Sum64(out))
	return append(out, footerMagic...)
}

// parseFooter reads the last bytes of a volume. The sum of the trailer is
// checked by parseTrailer, which has all of it.
func parseFooter(b []byte) (footer, error) {
	if len(b) != footerSize {
		return footer{}, fmt.Errorf("the footer has %d bytes, not %d", len(b), footerSize)
	}
	if string(b[40:]) != footerMagic {
		return footer{}, errors.New("the end of the file is missing or overwritten")
	}
	if binary.BigEndian.Uint32(b[16:]) != BlockSize || binary.BigEndian.Uint32(b[20:]) != plainVersion {
		return footer{}, errors.New("the footer contradicts the header's version")
	}
	f := footer{
		blocks:  int64(binary.BigEndian.Uint64(b)),
		length:  int64(binary.BigEndian.Uint64(b[8:])),
		header:  binary.BigEndian.Uint64(b[24:]),
		trailer: binary.BigEndian.Uint64(b[32:]),
	}
	if f.length < 0 || f.length > MaxVolumeSize || f.blocks != blockCount(f.length) {
		return footer{}, fmt.Errorf("the footer counts %d blocks for %d bytes", f.blocks, f.length)
	}
	return f, nil
}

// match reports whether the footer belongs to the header.
func (f footer) match(h Header, block []byte) error {
	if f.length != h.Length {
		return fmt.Errorf("the header announces %d bytes, the footer %d", h.Length, f.length)
	}
	if f.header != xxhash.Sum64(block) {
		return errors.New("the footer belongs to another header")
	}
	return nil
}

// parseTrailer reads everything after the data of a volume.
func parseTrailer(b []byte) (footer, []uint64, error) {
	if len(b) < len(sumsMagic)+footerSize {
		return footer{}, nil, fmt.Errorf("the trailer has only %d bytes", len(b))
	}
	f, err := parseFooter(b[len(b)-footerSize:])
	if err != nil {
		return footer{}, nil, err
	}
	if int64(len(b)) != trailerSize(f.length) {
		return footer{}, nil, fmt.Errorf("the trailer has %d bytes, its footer says %d", len(b), trailerSize(f.length))
	}
	if string(b[:len(sumsMagic)]) != sumsMagic {
		return footer{}, nil, errors.New("the block sums do not begin where they should")
	}
	if f.trailer != xxhash.Sum64(b[:len(b)-16]) {
		return footer{}, nil, errors.New("the block sums do not match their own sum")
	}
	sums := make([]uint64, f.blocks)
	for i := range sums {
		sums[i] = binary.BigEndian.Uint64(b[len(sumsMagic)+i*sumSize:])
	}
	return f, sums, nil
}
