package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

const (
	formatVersion = 1
	magicPrefix   = "davit-volume/"
	magicLine     = magicPrefix + "1\n"
	sumLine       = 16 + 1 // hexadecimal digits and a newline
)

// ErrVersion says that a volume was written in a format this program does not
// know: by a newer davit, not by an accident.
var ErrVersion = errors.New("the volume's format version is not known to this davit")

// Header is what one volume says of itself.
type Header struct {
	Version int `json:"version"`
	Label
	Volume    int   `json:"volume"`    // counted from 1
	Volumes   int   `json:"volumes"`   // of the bundle
	Payload   int64 `json:"payload"`   // bytes of the whole payload
	Offset    int64 `json:"offset"`    // where this volume begins in it
	Length    int64 `json:"length"`    // bytes of it in this volume
	Documents int64 `json:"documents"` // bytes of the documents at its end
}

// Validate reports what is wrong with the header, its place in the layout
// included.
func (h Header) Validate() error {
	if h.Version != formatVersion {
		return fmt.Errorf("check header: version %d in a volume of version %d", h.Version, formatVersion)
	}
	if err := h.Label.Validate(); err != nil {
		return err
	}
	if h.Payload < 1 || h.Payload > maxExact {
		return fmt.Errorf("check header: a payload of %d bytes is not between 1 and %d", h.Payload, int64(maxExact))
	}
	if h.Documents < 1 || h.Documents > h.Payload {
		return fmt.Errorf("check header: documents of %d bytes in a payload of %d", h.Documents, h.Payload)
	}
	if h.Volumes < 1 || h.Volumes > MaxVolumes || h.Volume < 1 || h.Volume > h.Volumes {
		return fmt.Errorf("check header: volume %d of %d", h.Volume, h.Volumes)
	}
	if h.Length < 1 || h.Length > MaxVolumeSize || fileSize(h.Length) > MaxVolumeSize {
		return fmt.Errorf("check header: a volume of %d bytes of data", h.Length)
	}
	if !h.fits() {
		return fmt.Errorf("check header: %d bytes at %d of %d are not what volume %d of %d holds",
			h.Length, h.Offset, h.Payload, h.Volume, h.Volumes)
	}
	return nil
}

// fits reports whether offset and length are this volume's place in a layout.
func (h Header) fits() bool {
	capacity := h.capacity()
	if capacity < 1 || capacity > MaxVolumeSize || fileSize(capacity) > MaxVolumeSize {
		return false
	}
	if h.Volumes > 1 && capacity%BlockSize != 0 {
		return false
	}
	return h.Offset == int64(h.Volume-1)*capacity &&
		h.Length == min(capacity, h.Payload-h.Offset) &&
		ceilDiv(h.Payload, capacity) == int64(h.Volumes)
}

// capacity is how much data each volume but the last holds. One header tells:
// the last volume by where it begins, any other by its length.
func (h Header) capacity() int64 {
	if h.Volume == h.Volumes && h.Volumes > 1 {
		return h.Offset / int64(h.Volumes-1)
	}
	return h.Length
}

// common is the header without what may differ between the volumes of one
// bundle. Two headers belong together when these are equal.
type common struct {
	Label
	Volumes                      int
	Payload, Documents, Capacity int64
}

func (h Header) common() common {
	return common{h.Label, h.Volumes, h.Payload, h.Documents, h.capacity()}
}

// volume is the header of another volume of the same bundle.
func (c common) volume(n int) Header {
	offset := int64(n-1) * c.Capacity
	return Header{
		Version: formatVersion, Label: c.Label, Volume: n, Volumes: c.Volumes, Payload: c.Payload,
		Offset: offset, Length: min(c.Capacity, c.Payload-offset), Documents: c.Documents,
	}
}

// encode writes the header's 4096 bytes.
func (h Header) encode() ([]byte, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	block := make([]byte, 0, HeaderSize)
	block = append(block, magicLine...)
	block = append(block, line...)
	block = append(block, '\n')
	block = fmt.Appendf(block, "%016x\n", xxhash.Sum64(block))
	if len(block) >= HeaderSize {
		return nil, fmt.Errorf("encode header: %d bytes are too many", len(block))
	}
	block = append(block, bytes.Repeat([]byte{' '}, HeaderSize-len(block)-1)...)
	return append(block, '\n'), nil
}

// parseHeader reads the 4096 bytes at the head of a volume. The error is
// ErrVersion for a version it does not know; any other means damage, or a
// file that is no volume.
func parseHeader(block []byte) (Header, error) {
	if len(block) != HeaderSize {
		return Header{}, fmt.Errorf("the header has %d bytes, not %d", len(block), HeaderSize)
	}
	if err := checkMagic(block); err != nil {
		return Header{}, err
	}
	line, rest, ok := bytes.Cut(block[len(magicLine):], []byte{'\n'})
	if !ok || len(rest) < sumLine {
		return Header{}, errors.New("the header has no sum")
	}
	sum := fmt.Sprintf("%016x\n", xxhash.Sum64(block[:len(magicLine)+len(line)+1]))
	if string(rest[:sumLine]) != sum {
		return Header{}, errors.New("the header does not match its sum")
	}
	var h Header
	if err := json.Unmarshal(line, &h); err != nil {
		return Header{}, fmt.Errorf("decode header: %w", err)
	}
	// One way to write each header: what does not come out the same held
	// unknown, repeated or reordered members, other spacing or other padding.
	again, err := h.encode()
	if err != nil {
		return Header{}, err
	}
	if !bytes.Equal(again, block) {
		return Header{}, errors.New("the header is not in the one form it may have")
	}
	return h, nil
}

func checkMagic(block []byte) error {
	if bytes.HasPrefix(block, []byte(magicLine)) {
		return nil
	}
	if rest, ok := bytes.CutPrefix(block, []byte(magicPrefix)); ok {
		number, _, _ := bytes.Cut(rest[:min(len(rest), 12)], []byte{'\n'})
		if n, err := strconv.ParseUint(string(number), 10, 31); err == nil && n != formatVersion {
			return fmt.Errorf("%w: it is version %d, this davit reads version %d", ErrVersion, n, formatVersion)
		}
	}
	return errors.New("the file does not begin like a davit volume")
}
