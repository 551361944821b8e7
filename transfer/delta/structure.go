package delta

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The kinds of a part. FORMAT.md says what each writes.
const (
	partEnd = iota
	partRaw
	partStream
	partNestedStream
	partStored
	partNestedStored
	partOpaque
	partKeep
	partData
	partZip
	partHeader
	partFilledHeader
	partDescriptor
	partBareDescriptor
	partCentral
	partEndRecord
	partTrailer
	partKinds
)

const (
	maxParts     = 1_000_000
	maxStructure = 64 << 20
	maxTower     = 8
	maxDepth     = 3
)

// builder writes a structure.
type builder struct {
	b    []byte
	raw  int64 // bytes of the raw run that is not written yet
	run  int64 // records of the keep that is not written yet; never both
	kept int64 // record after the last one kept
	from int64 // what the start of the next keep is counted from
}

// flush writes what could have become longer.
func (s *builder) flush() {
	if s.raw > 0 {
		s.b = appendNumber(append(s.b, partRaw), s.raw)
		s.raw = 0
	}
	if s.run > 0 {
		s.b = append(s.b, partKeep)
		s.b = appendNumber(appendSigned(s.b, s.kept-s.run-s.from), s.run)
		s.run, s.from = 0, s.kept
	}
}

func (s *builder) add(kind byte, numbers ...int64) {
	s.flush()
	s.b = append(s.b, kind)
	for _, n := range numbers {
		s.b = appendNumber(s.b, n)
	}
}

func (s *builder) addRaw(n int64) {
	if s.run > 0 && n > 0 {
		s.flush()
	}
	s.raw += n
}

func (s *builder) addOpaque(n, size int64, crc uint32) {
	s.add(partOpaque, n, size)
	s.b = binary.BigEndian.AppendUint32(s.b, crc)
}

func (s *builder) addKeep(record int64) {
	if s.run == 0 || record != s.kept {
		s.flush()
	}
	s.run++
	s.kept = record + 1
}

func (s *builder) addData(record int64) {
	s.add(partData)
	s.b = appendSigned(s.b, record-s.from)
	s.kept = record + 1
	s.from = s.kept
}

func (s *builder) addCentral(start, count, n int64) {
	s.add(partCentral)
	s.b = appendNumber(appendNumber(appendSigned(s.b, start), count), n)
}

// part is one part of a structure that was read.
type part struct {
	kind    byte
	crc     uint32
	closing int32 // of a stream
	n       int64 // bytes of content
	a, b    int64 // further numbers
	content int64 // where its content begins
	kids    []part
}

// parser reads a structure.
type parser struct {
	r       *bytes.Reader
	parts   int
	content int64 // where the next part's content begins
	streams int32
	kept    int64
}

// parse reads a structure, all of b, whose parts take exactly content bytes,
// and returns them with the number of their streams.
func parse(b []byte, content int64) ([]part, int, error) {
	p := &parser{r: bytes.NewReader(b)}
	parts, err := p.level(0)
	if err == nil && (p.r.Len() > 0 || p.content != content) {
		err = fmt.Errorf("%d bytes too many, content of %d bytes instead of %d: %w", p.r.Len(), p.content, content, ErrDamaged)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read structure: %w", damaged(err))
	}
	return parts, int(p.streams), nil
}

func (p *parser) level(tower int) ([]part, error) {
	if tower > maxTower {
		return nil, fmt.Errorf("nested more than %d deep: %w", maxTower, ErrDamaged)
	}
	var parts []part
	for {
		kind, err := p.r.ReadByte()
		if err != nil {
			return nil, err
		}
		if kind == partEnd {
			return parts, nil
		}
		if p.parts++; p.parts > maxParts {
			return nil, fmt.Errorf("more than %d parts: %w", maxParts, ErrDamaged)
		}
		t := part{kind: kind, content: p.content}
		if err := p.numbers(&t); err != nil {
			return nil, err
		}
		if t.n > maxTotal-p.content {
			return nil, fmt.Errorf("part of %d bytes: %w", t.n, ErrDamaged)
		}
		p.content += t.n
		if kind == partNestedStream || kind == partNestedStored {
			if t.kids, err = p.level(tower + 1); err != nil {
				return nil, err
			}
			t.n = p.content - t.content
		}
		if kind == partStream || kind == partNestedStream {
			t.closing = p.streams
			p.streams++
		}
		parts = append(parts, t)
	}
}

// maxTotal is more than anything here is long, and small enough to be added up.
const maxTotal = 1 << 53

func (p *parser) numbers(t *part) (err error) {
	number := func(to *int64) {
		if err == nil {
			*to, err = readNumber(p.r)
		}
	}
	signed := func(to *int64) {
		if err == nil {
			*to, err = readSigned(p.r)
		}
	}
	switch t.kind {
	case partRaw, partStream, partStored, partZip, partHeader, partFilledHeader, partEndRecord:
		number(&t.n)
	case partOpaque:
		number(&t.n)
		number(&t.a)
		var crc [4]byte
		if err == nil {
			_, err = p.r.Read(crc[:])
			if err == nil && p.r.Len() == 0 { // the end is missing anyway
				err = ErrDamaged
			}
		}
		t.crc = binary.BigEndian.Uint32(crc[:])
	case partKeep, partData:
		signed(&t.a)
		t.b = 1
		if t.kind == partKeep {
			number(&t.b)
		}
		if err == nil && (t.a < -maxParts || t.a > maxParts || t.b < 1 || t.b > maxParts) {
			err = fmt.Errorf("records that cannot be: %w", ErrDamaged)
		}
		t.a += p.kept
		p.kept = t.a + t.b
	case partCentral:
		signed(&t.a)
		number(&t.b)
		number(&t.n)
	case partDescriptor, partBareDescriptor, partTrailer, partNestedStream, partNestedStored:
	default:
		err = fmt.Errorf("part of kind %d: %w", t.kind, ErrDamaged)
	}
	return err
}
