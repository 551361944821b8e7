package delta

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"davit/transfer/delta/deflate"
)

const (
	magic       = "DAVITDLT"
	version     = 1
	formRaw     = 1
	formOpened  = 2
	maxEncoders = 64
	maxHeader   = 1 << 10
	maxClosings = 64 << 20
	zstdWindow  = 8 << 20
)

// header is what a delta begins with.
type header struct {
	form                 int64
	baseSize, targetSize int64
	baseSum, targetSum   [32]byte
	sourceSize           int64
	sourceSum            uint64
	openedSize           int64
	structure            int64
	depth                int64
	packed, plain        [sections]int64
	encoders             []deflate.Encoder
}

func (h *header) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = appendNumber(dst, version)
	dst = appendNumber(dst, h.form)
	dst = appendNumber(dst, h.baseSize)
	dst = append(dst, h.baseSum[:]...)
	dst = appendNumber(dst, h.targetSize)
	dst = append(dst, h.targetSum[:]...)
	dst = appendNumber(dst, h.sourceSize)
	dst = binary.BigEndian.AppendUint64(dst, h.sourceSum)
	dst = appendNumber(dst, h.openedSize)
	dst = appendNumber(dst, h.structure)
	dst = appendNumber(dst, h.depth)
	for _, n := range slices.Concat(h.packed[:], h.plain[:]) {
		dst = appendNumber(dst, n)
	}
	dst = appendNumber(dst, int64(len(h.encoders)))
	for _, e := range h.encoders {
		dst = appendNumber(dst, int64(e))
	}
	return binary.BigEndian.AppendUint64(dst, xxhash.Sum64(dst[start:]))
}

// readHeader reads the header of a delta of size bytes, and returns it with its
// length.
func readHeader(r io.ReaderAt, size int64) (*header, int64, error) {
	b := make([]byte, min(size, maxHeader))
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return nil, 0, fmt.Errorf("read header of delta: %w", unexpected(err))
	}
	h, n, err := parseHeader(b)
	if err == nil {
		err = h.validate(size - int64(n))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read header of delta: %w", err)
	}
	return h, int64(n), nil
}

func parseHeader(b []byte) (*header, int, error) {
	if !bytes.HasPrefix(b, []byte(magic)) {
		return nil, 0, fmt.Errorf("no delta: %w", ErrDamaged)
	}
	r := bytes.NewReader(b[len(magic):])
	h := &header{}
	var err error
	number := func(to *int64) {
		if err == nil {
			*to, err = readNumber(r)
		}
	}
	fixed := func(to []byte) {
		if err == nil {
			_, err = io.ReadFull(r, to)
		}
	}
	var v int64
	number(&v)
	if err == nil && v != version {
		return nil, 0, fmt.Errorf("format version %d: %w", v, ErrVersion)
	}
	number(&h.form)
	if err == nil && h.form != formRaw && h.form != formOpened {
		return nil, 0, fmt.Errorf("form %d: %w", h.form, ErrVersion)
	}
	number(&h.baseSize)
	fixed(h.baseSum[:])
	number(&h.targetSize)
	fixed(h.targetSum[:])
	number(&h.sourceSize)
	var sum [8]byte
	fixed(sum[:])
	h.sourceSum = binary.BigEndian.Uint64(sum[:])
	number(&h.openedSize)
	number(&h.structure)
	number(&h.depth)
	for i := range h.packed {
		number(&h.packed[i])
	}
	for i := range h.plain {
		number(&h.plain[i])
	}
	var n int64
	number(&n)
	if err == nil && n > maxEncoders {
		err = fmt.Errorf("%d encoders: %w", n, ErrDamaged)
	}
	for i := int64(0); i < n && err == nil; i++ {
		var e int64
		number(&e)
		if err == nil && (e > 0xffff || i > 0 && e <= int64(h.encoders[i-1])) {
			err = fmt.Errorf("encoder %d: %w", e, ErrDamaged)
		}
		h.encoders = append(h.encoders, deflate.Encoder(e))
	}
	end := len(b) - r.Len()
	fixed(sum[:])
	if err != nil {
		return nil, 0, damaged(err)
	}
	if binary.BigEndian.Uint64(sum[:]) != xxhash.Sum64(b[:end]) {
		return nil, 0, fmt.Errorf("sum of the header: %w", ErrDamaged)
	}
	return h, end + 8, nil
}

// validate compares what the header says with itself and with the bytes that
// follow it.
func (h *header) validate(rest int64) error {
	total := int64(0)
	for i, n := range h.packed {
		if n > rest-total {
			return fmt.Errorf("sections are longer than the delta: %w", ErrDamaged)
		}
		total += n
		if h.plain[i] > maxTotal || n > h.plain[i] {
			return fmt.Errorf("length of section %d: %w", i, ErrDamaged)
		}
	}
	bad := ""
	switch {
	case total != rest:
		bad = "bytes after the last section"
	case h.baseSize > maxTotal || h.targetSize > maxTotal:
		bad = "size of a file"
	case h.plain[secLiterals] > h.openedSize || h.plain[secDifferences] > h.openedSize-h.plain[secLiterals]:
		bad = "more literals than bytes"
	case h.form == formRaw && (h.sourceSize != h.baseSize || h.openedSize != h.targetSize || h.structure != 0 || h.depth != 0 ||
		h.plain[secClosings] != 0 || len(h.encoders) != 0):
		bad = "raw form"
	case h.form == formOpened && (h.sourceSize > limit(h.baseSize, 0)+maxStructure || h.openedSize > limit(h.targetSize, 0)+maxStructure ||
		h.structure > maxStructure || h.structure > h.openedSize || h.depth < 1 || h.depth > maxDepth || h.plain[secClosings] > maxClosings):
		bad = "opened form"
	}
	if bad != "" {
		return fmt.Errorf("%s: %w", bad, ErrDamaged)
	}
	return nil
}

// lacking returns the encoders of the header that are not in have.
func (h *header) lacking(have []deflate.Encoder) []deflate.Encoder {
	var lacking []deflate.Encoder
	for _, e := range h.encoders {
		if !slices.Contains(have, e) {
			lacking = append(lacking, e)
		}
	}
	return lacking
}

// packer compresses sections one after another.
type packer struct {
	levels [zstd.SpeedBestCompression + 1]*zstd.Encoder // without a dictionary
}

// pack adds a section to w and returns its length there.
func (p *packer) pack(w io.Writer, s *scratch, dict []byte) (int64, error) {
	n := s.Size()
	if n < 16 { // no shorter as a frame
		return copyAll(w, io.NewSectionReader(s, 0, n))
	}
	out := newScratch(s.dir, 0)
	defer out.Close()
	z, err := p.encoder(n, dict)
	if err != nil {
		return 0, err
	}
	z.ResetContentSize(out, n)
	if _, err := copyAll(z, io.NewSectionReader(s, 0, n)); err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	if out.Size() < n {
		s = out
	}
	return copyAll(w, io.NewSectionReader(s, 0, s.Size()))
}

// encoder is for n bytes. The best level is slow, so it is for what is small.
func (p *packer) encoder(n int64, dict []byte) (*zstd.Encoder, error) {
	level := zstd.SpeedBestCompression
	if n > 32<<20 {
		level = zstd.SpeedBetterCompression
	}
	o := []zstd.EOption{zstd.WithEncoderLevel(level), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow)}
	if len(dict) > 0 {
		return zstd.NewWriter(nil, append(o, zstd.WithEncoderDictRaw(0, dict))...)
	}
	if p.levels[level] == nil {
		z, err := zstd.NewWriter(nil, o...)
		if err != nil {
			return nil, err
		}
		p.levels[level] = z
	}
	return p.levels[level], nil
}

// unpacked reads a section: exactly its length, whatever is compressed there.
type unpacked struct {
	*bufio.Reader
	zstd *zstd.Decoder
}

// unpack reads a section that was compressed with dict, which may be nil.
func unpack(r *io.SectionReader, plain int64, dict []byte) (*unpacked, error) {
	if plain == r.Size() {
		return &unpacked{Reader: bufio.NewReaderSize(r, 32<<10)}, nil
	}
	o := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow)}
	if len(dict) > 0 {
		o = append(o, zstd.WithDecoderDictRaw(0, dict))
	}
	z, err := zstd.NewReader(r, o...)
	if err != nil {
		return nil, damaged(err)
	}
	return &unpacked{bufio.NewReaderSize(&exact{z, plain}, 32<<10), z}, nil
}

func (u *unpacked) Close() {
	if u.zstd != nil {
		u.zstd.Close()
	}
}

// exact gives n bytes, or an error when there are more or less.
type exact struct {
	r    io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	switch {
	case e.left < 0:
		return 0, fmt.Errorf("section is longer than the header says: %w", ErrDamaged)
	case err == io.EOF && e.left > 0:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}
