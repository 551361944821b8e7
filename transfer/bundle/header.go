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
	plainVersion  = 1 // the payload, cut up
	parityVersion = 2 // the payload in shards that repair each other
	magicPrefix   = "davit-volume/"
	sumLine       = 16 + 1 // hexadecimal digits and a newline
)

// magicLine is the first line of a volume.
func magicLine(version int) string { return fmt.Sprintf("%s%d\n", magicPrefix, version) }

// ErrVersion says that a volume was written in a format this program does not
// know: by a newer davit, not by an accident.
var ErrVersion = errors.New("the volume's format version is not known to this davit")

// Header is what one volume says of itself. In JSON it is the line that stands
// in the volume.
type Header struct {
	Version int `json:"version"`
	Label
	Volume    int   `json:"volume"`    // counted from 1
	Volumes   int   `json:"volumes"`   // of the bundle
	Payload   int64 `json:"payload"`   // bytes of the whole payload
	Offset    int64 `json:"offset"`    // where this volume begins in it; 0 in version 2
	Length    int64 `json:"length"`    // bytes of data in this volume
	Documents int64 `json:"documents"` // bytes of the documents at its end

	Geometry  Geometry `json:"-"` // of version 2
	Statement int      `json:"-"` // bytes of the statement, of version 2
}

// The members of the two versions in their order.
type (
	plainHeader  Header
	parityHeader struct {
		Version int `json:"version"`
		Label
		Volume    int   `json:"volume"`
		Volumes   int   `json:"volumes"`
		Payload   int64 `json:"payload"`
		Documents int64 `json:"documents"`
		Geometry
		Statement int `json:"statement"`
	}
)

// MarshalJSON writes the members that the header's version has.
func (h Header) MarshalJSON() ([]byte, error) {
	if h.Version != parityVersion {
		return json.Marshal(plainHeader(h))
	}
	return json.Marshal(parityHeader{
		h.Version, h.Label, h.Volume, h.Volumes, h.Payload, h.Documents, h.Geometry, h.Statement})
}

// parseLine reads the line of JSON of a version.
func parseLine(line []byte, version int) (Header, error) {
	if version == plainVersion {
		var h plainHeader
		err := json.Unmarshal(line, &h)
		return Header(h), err
	}
	var p parityHeader
	if err := json.Unmarshal(line, &p); err != nil {
		return Header{}, err
	}
	h := Header{Version: p.Version, Label: p.Label, Volume: p.Volume, Volumes: p.Volumes,
		Payload: p.Payload, Documents: p.Documents, Geometry: p.Geometry, Statement: p.Statement}
	if h.validCounts() == nil && h.Geometry.validate(h.Payload, h.Volumes) == nil {
		h.Length = h.spread().volumeData()
	}
	return h, nil
}

// Validate reports what is wrong with the header, its place in the layout
// included.
func (h Header) Validate() error {
	if h.Version != plainVersion && h.Version != parityVersion {
		return fmt.Errorf("check header: version %d", h.Version)
	}
	if err := h.Label.Validate(); err != nil {
		return err
	}
	if err := h.validCounts(); err != nil {
		return err
	}
	if h.Version == parityVersion {
		return h.validateParity()
	}
	if h.Geometry != (Geometry{}) || h.Statement != 0 {
		return fmt.Errorf("check header: parity in a volume of version %d", h.Version)
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

// validCounts checks what both versions say.
func (h Header) validCounts() error {
	if h.Payload < 1 || h.Payload > maxExact {
		return fmt.Errorf("check header: a payload of %d bytes is not between 1 and %d", h.Payload, int64(maxExact))
	}
	if h.Documents < 1 || h.Documents > h.Payload {
		return fmt.Errorf("check header: documents of %d bytes in a payload of %d", h.Documents, h.Payload)
	}
	if h.Volumes < 1 || h.Volumes > MaxVolumes || h.Volume < 1 || h.Volume > h.Volumes {
		return fmt.Errorf("check header: volume %d of %d", h.Volume, h.Volumes)
	}
	return nil
}

func (h Header) validateParity() error {
	if err := h.Geometry.validate(h.Payload, h.Volumes); err != nil {
		return err
	}
	if h.Statement < 0 || h.Statement > MaxStatement {
		return fmt.Errorf("check header: a statement of %d bytes", h.Statement)
	}
	if h.Offset != 0 || h.Length != h.spread().volumeData() || h.fileSize() > MaxVolumeSize {
		return fmt.Errorf("check header: a volume of %d bytes of data", h.Length)
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
// the last volume by where it begins, any other by its length. With parity all
// hold the same.
func (h Header) capacity() int64 {
	if h.Version == plainVersion && h.Volume == h.Volumes && h.Volumes > 1 {
		return h.Offset / int64(h.Volumes-1)
	}
	return h.Length
}

// spread says where the shards lie, in version 2.
func (h Header) spread() spread { return spread{h.Geometry, h.Volumes, h.Payload} }

// fileSize is the size of the volume's file.
func (h Header) fileSize() int64 { return HeaderSize + h.Length + h.trailerSize() }

func (h Header) trailerSize() int64 {
	if h.Version == parityVersion {
		return parityTrailerSize(h.blocks(), h.Statement)
	}
	return trailerSize(h.Length)
}

// blockSize is how much data stands under one sum; the last block of version 1
// may be shorter.
func (h Header) blockSize() int64 {
	if h.Version == parityVersion {
		return int64(h.Geometry.Shard)
	}
	return BlockSize
}

// blocks is how many blocks or shards the volume has.
func (h Header) blocks() int64 { return ceilDiv(h.Length, h.blockSize()) }

// unit is what the blocks are called.
func (h Header) unit() string {
	if h.Version == parityVersion {
		return "shard"
	}
	return "block"
}

// common is the header without what may differ between the volumes of one
// bundle. Two headers belong together when these are equal.
type common struct {
	Version int
	Label
	Volumes                      int
	Payload, Documents, Capacity int64
	Geometry                     Geometry
	Statement                    int
}

func (h Header) common() common {
	return common{h.Version, h.Label, h.Volumes, h.Payload, h.Documents, h.capacity(), h.Geometry, h.Statement}
}

// volume is the header of another volume of the same bundle.
func (c common) volume(n int) Header {
	h := Header{
		Version: c.Version, Label: c.Label, Volume: n, Volumes: c.Volumes, Payload: c.Payload,
		Documents: c.Documents, Length: c.Capacity, Geometry: c.Geometry, Statement: c.Statement,
	}
	if c.Version == plainVersion {
		h.Offset = int64(n-1) * c.Capacity
		h.Length = min(c.Capacity, c.Payload-h.Offset)
	}
	return h
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
	block = append(block, magicLine(h.Version)...)
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
	version, err := checkMagic(block)
	if err != nil {
		return Header{}, err
	}
	begin := len(magicLine(version))
	line, rest, ok := bytes.Cut(block[begin:], []byte{'\n'})
	if !ok || len(rest) < sumLine {
		return Header{}, errors.New("the header has no sum")
	}
	sum := fmt.Sprintf("%016x\n", xxhash.Sum64(block[:begin+len(line)+1]))
	if string(rest[:sumLine]) != sum {
		return Header{}, errors.New("the header does not match its sum")
	}
	h, err := parseLine(line, version)
	if err != nil {
		return Header{}, fmt.Errorf("decode header: %w", err)
	}
	if h.Version != version {
		return Header{}, fmt.Errorf("check header: version %d in a volume of version %d", h.Version, version)
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

// checkMagic returns the format version.
func checkMagic(block []byte) (int, error) {
	rest, ok := bytes.CutPrefix(block, []byte(magicPrefix))
	if !ok {
		return 0, errors.New("the file does not begin like a davit volume")
	}
	number, _, _ := bytes.Cut(rest[:min(len(rest), 12)], []byte{'\n'})
	n, err := strconv.ParseUint(string(number), 10, 31)
	if err != nil {
		return 0, errors.New("the file does not begin like a davit volume")
	}
	if n != plainVersion && n != parityVersion {
		return 0, fmt.Errorf("%w: it is version %d, this davit reads versions %d and %d", ErrVersion, n, plainVersion, parityVersion)
	}
	if !bytes.HasPrefix(block, []byte(magicLine(int(n)))) {
		return 0, errors.New("the file does not begin like a davit volume") // 01
	}
	return int(n), nil
}
