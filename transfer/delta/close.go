package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"davit/transfer/delta/deflate"
)

// closer writes a file from its content and its parts.
type closer struct {
	ctx     context.Context
	content io.ReaderAt
	base    *opened
	streams [][]byte // recipes
	temp    string
	workers int
	max     int64 // bytes that one temporary file may take
}

// level is the file, or one nested stream of it, that is being written.
type level struct {
	w       io.Writer
	pos     int64  // bytes written
	origin  int64  // where the zip begins
	prefix  []byte // of all names in it
	start   int64  // where its directory begins, -1 before
	members []value
	next    int   // member of the next central record
	last    value // of the last body
}

// value is what the directory of a zip says of a member.
type value struct {
	crc        uint32
	data, size int64
	offset     int64

	// The name is n bytes after the prefix of the zip, at off in the content, or
	// in a record of the base when that is not negative.
	off    int64
	record int32
	n      uint16
}

// limited refuses to write more than there is room for.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, fmt.Errorf("more bytes than there are: %w", ErrDamaged)
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	return n, err
}

// close writes the file of size bytes that the parts make.
func (c *closer) close(parts []part, w io.Writer, size int64) error {
	l := &level{w: &limited{w, size}, start: -1}
	if err := c.parts(l, parts); err != nil {
		return fmt.Errorf("close file: %w", err)
	}
	if l.pos != size {
		return fmt.Errorf("close file: %d bytes instead of %d: %w", l.pos, size, ErrDamaged)
	}
	return nil
}

func (l *level) write(b []byte) error {
	n, err := l.w.Write(b)
	l.pos += int64(n)
	return err
}

func (l *level) Write(b []byte) (int, error) { return len(b), l.write(b) }

// parts writes parts one after another; small streams are rebuilt ahead.
func (c *closer) parts(l *level, parts []part) error {
	ready := newAhead(c.ctx, c.workers, len(parts), func(i int) int64 {
		if p := &parts[i]; p.kind == partStream && p.n <= smallMember {
			return 2*p.n + 1024
		}
		return -1
	}, func(ctx context.Context, i int) (*rebuilt, error) { return c.ahead(ctx, &parts[i]) })
	defer ready.stop()
	for i := 0; i < len(parts); i++ {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		p := &parts[i]
		r, _, err := ready.take(i)
		if err != nil {
			return err
		}
		if p.kind != partHeader && p.kind != partFilledHeader {
			if err := c.part(l, p, r); err != nil {
				return err
			}
			continue
		}
		i++
		if i == len(parts) || !isBody(parts[i].kind) {
			return fmt.Errorf("header without a body: %w", ErrDamaged)
		}
		if r, _, err = ready.take(i); err != nil {
			return err
		}
		if err := c.member(l, p, &parts[i], r); err != nil {
			return err
		}
	}
	return nil
}

func isBody(kind byte) bool {
	return kind >= partStream && kind <= partOpaque || kind == partData
}

// rebuilt is a small stream that was closed ahead.
type rebuilt struct {
	data []byte
	crc  uint32
}

func (c *closer) ahead(ctx context.Context, p *part) (*rebuilt, error) {
	plain := make([]byte, p.n)
	if err := readFull(c.content, plain, p.content); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	most := p.n + p.n/8 + 4096 // longer than deflate makes anything
	if err := c.rebuild(ctx, p, bytes.NewReader(plain), p.n, &limited{&out, most}, 1); err != nil {
		return nil, err
	}
	return &rebuilt{out.Bytes(), crc32.ChecksumIEEE(plain)}, nil
}

// rebuild closes the stream p, whose plain bytes are n bytes of r.
func (c *closer) rebuild(ctx context.Context, p *part, r io.ReaderAt, n int64, w io.Writer, workers int) error {
	s, err := deflate.Unmarshal(c.streams[p.closing])
	if err != nil {
		return fmt.Errorf("close stream: %w", damaged(err))
	}
	if s.Plain != n {
		return fmt.Errorf("close stream: %d plain bytes instead of %d: %w", n, s.Plain, ErrDamaged)
	}
	err = deflate.Rebuild(ctx, s, r, w, workers)
	if errors.Is(err, deflate.ErrDamaged) || errors.Is(err, deflate.ErrLimit) {
		err = damaged(err)
	}
	if err != nil {
		return fmt.Errorf("close stream: %w", err)
	}
	return nil
}

// member writes a local header and the body after it.
func (c *closer) member(l *level, h, b *part, r *rebuilt) error {
	if h.n < localSize || h.n > localSize+2*65535 {
		return fmt.Errorf("local header of %d bytes: %w", h.n, ErrDamaged)
	}
	header := make([]byte, h.n)
	if err := readFull(c.content, header, h.content); err != nil {
		return err
	}
	header, name, err := lengthen(header, l.prefix)
	if err != nil {
		return err
	}
	name.off, name.record = h.content+localSize, -1
	offset := l.pos - l.origin
	if h.kind == partHeader {
		if err := l.write(header); err != nil {
			return err
		}
		if err := c.part(l, b, r); err != nil {
			return err
		}
		return l.addMember(offset, name)
	}
	// The sizes come first, so the body is made first.
	held := &level{start: -1}
	var body *scratch
	switch {
	case r == nil && (b.kind == partStream || b.kind == partNestedStream || b.kind == partNestedStored):
		body = c.scratch()
		defer body.Close()
		held.w = body
		if err := c.part(held, b, nil); err != nil {
			return err
		}
	default:
		var err error
		if held.last, err = c.valueOf(b, r); err != nil {
			return err
		}
	}
	le := binary.LittleEndian
	le.PutUint32(header[14:], held.last.crc)
	le.PutUint32(header[18:], uint32(held.last.data))
	le.PutUint32(header[22:], uint32(held.last.size))
	if err := l.write(header); err != nil {
		return err
	}
	if body != nil {
		l.last = held.last
		if _, err := copyAll(l, io.NewSectionReader(body, 0, body.Size())); err != nil {
			return err
		}
	} else if err := c.part(l, b, r); err != nil {
		return err
	}
	return l.addMember(offset, name)
}

// lengthen puts the prefix before the name in a local header.
func lengthen(h, prefix []byte) ([]byte, value, error) {
	le := binary.LittleEndian
	n := int(le.Uint16(h[26:]))
	if n+len(prefix) > 65535 || localSize+n+int(le.Uint16(h[28:])) != len(h) {
		return nil, value{}, fmt.Errorf("local header of %d bytes: %w", len(h), ErrDamaged)
	}
	h = slices.Insert(h, localSize, prefix...)
	le.PutUint16(h[26:], uint16(n+len(prefix)))
	return h, value{n: uint16(n)}, nil
}

func (l *level) addMember(offset int64, name value) error {
	if len(l.members) >= maxParts {
		return fmt.Errorf("more than %d members: %w", maxParts, ErrDamaged)
	}
	v := l.last
	v.offset, v.off, v.record, v.n = offset, name.off, name.record, name.n
	l.members = append(l.members, v)
	return nil
}

func (c *closer) scratch() *scratch { return newScratch(c.temp, c.max) }

// valueOf is the value of a body that can be known before it is written.
func (c *closer) valueOf(p *part, r *rebuilt) (value, error) {
	switch p.kind {
	case partStream:
		return value{crc: r.crc, data: int64(len(r.data)), size: p.n}, nil
	case partStored:
		crc, err := crcOf(io.NewSectionReader(c.content, p.content, p.n))
		return value{crc: crc, data: p.n, size: p.n}, err
	case partOpaque:
		return value{crc: p.crc, data: p.n, size: p.a}, nil
	}
	if err := c.records(p); err != nil {
		return value{}, err
	}
	return c.recordValue(p.a), nil
}

func (c *closer) recordValue(i int64) value {
	r := &c.base.records[i]
	return value{crc: r.crc, data: r.place.n - int64(r.head) - int64(r.tail), size: r.size}
}

// records makes sure that the records of a keep or data are there.
func (c *closer) records(p *part) error {
	if n := int64(len(c.base.records)); p.a < 0 || p.a > n || p.b > n-p.a {
		return fmt.Errorf("records %d to %d of %d: %w", p.a, p.a+p.b, n, ErrDamaged)
	}
	return nil
}

// part writes one part that is no header.
func (c *closer) part(l *level, p *part, r *rebuilt) error {
	le := binary.LittleEndian
	content := io.NewSectionReader(c.content, p.content, p.n)
	switch p.kind {
	case partRaw:
		_, err := copyAll(l, content)
		return err
	case partStream:
		if r != nil {
			l.last = value{crc: r.crc, data: int64(len(r.data)), size: p.n}
			return l.write(r.data)
		}
		return c.stream(l, p, content)
	case partNestedStream:
		plain := c.scratch()
		defer plain.Close()
		if err := c.nested(p, plain); err != nil {
			return err
		}
		return c.stream(l, p, io.NewSectionReader(plain, 0, plain.Size()))
	case partStored, partOpaque:
		var err error
		if l.last, err = c.valueOf(p, nil); err != nil {
			return err
		}
		_, err = copyAll(l, content)
		return err
	case partNestedStored:
		sum := crc32.NewIEEE()
		before := l.pos
		if err := c.nested(p, io.MultiWriter(l, sum)); err != nil {
			return err
		}
		n := l.pos - before
		l.last = value{crc: sum.Sum32(), data: n, size: n}
		return nil
	case partKeep:
		if err := c.records(p); err != nil {
			return err
		}
		for i := p.a; i < p.a+p.b; i++ {
			if err := c.keep(l, i); err != nil {
				return err
			}
		}
		return nil
	case partData:
		var err error
		if l.last, err = c.valueOf(p, nil); err != nil {
			return err
		}
		_, err = copyAll(l, c.base.data(int32(p.a)))
		return err
	case partZip:
		if p.n > 65535 {
			return fmt.Errorf("names that begin with %d bytes: %w", p.n, ErrDamaged)
		}
		l.prefix = make([]byte, p.n)
		l.origin, l.start, l.members, l.next = l.pos, -1, nil, 0
		return readFull(c.content, l.prefix, p.content)
	case partDescriptor, partBareDescriptor:
		b := []byte("PK\x07\x08")
		b = le.AppendUint32(b, l.last.crc)
		b = le.AppendUint32(b, uint32(l.last.data))
		b = le.AppendUint32(b, uint32(l.last.size))
		if p.kind == partBareDescriptor {
			b = b[4:]
		}
		return l.write(b)
	case partTrailer:
		return l.write(le.AppendUint32(le.AppendUint32(nil, l.last.crc), uint32(l.last.size)))
	case partCentral:
		return c.central(l, p)
	case partEndRecord:
		return c.endRecord(l, p)
	}
	return fmt.Errorf("part of kind %d out of place: %w", p.kind, ErrDamaged)
}

// keep writes a record of the base, with the prefix of the names here.
func (c *closer) keep(l *level, i int64) error {
	r := &c.base.records[i]
	offset := l.pos - l.origin
	l.last = c.recordValue(i)
	if !r.zip {
		_, err := copyAll(l, c.base.section(r.place))
		return err
	}
	header := make([]byte, r.head)
	if err := readFull(c.base.section(r.place), header, 0); err != nil {
		return err
	}
	header, name, err := lengthen(shorten(header, int(r.prefix)), l.prefix)
	if err != nil {
		return err
	}
	if err := l.write(header); err != nil {
		return err
	}
	if _, err := copyAll(l, c.base.section(r.place.part(int64(r.head), r.place.n-int64(r.head)))); err != nil {
		return err
	}
	name.record = int32(i)
	return l.addMember(offset, name)
}

// stream writes a stream, the plain bytes of which are content.
func (c *closer) stream(l *level, p *part, content *io.SectionReader) error {
	crc, err := crcOf(content)
	if err != nil {
		return err
	}
	before := l.pos
	if err := c.rebuild(c.ctx, p, content, content.Size(), l, c.workers); err != nil {
		return err
	}
	l.last = value{crc: crc, data: l.pos - before, size: content.Size()}
	return nil
}

// nested writes the parts within p.
func (c *closer) nested(p *part, w io.Writer) error {
	return c.parts(&level{w: w, start: -1}, p.kids)
}

// central writes records of a directory.
func (c *closer) central(l *level, p *part) error {
	if l.start < 0 {
		l.start = l.pos - l.origin
	}
	first := int64(l.next) + p.a
	if n := int64(len(l.members)); first < 0 || first > n || p.b > n-first || p.n > maxDirectory {
		return fmt.Errorf("directory of members that are not there: %w", ErrDamaged)
	}
	le := binary.LittleEndian
	r := io.NewSectionReader(c.content, p.content, p.n)
	b := make([]byte, 0, centralSize+3*65535)
	for _, m := range l.members[first : first+p.b] {
		b = append(b[:centralSize], l.prefix...)
		if _, err := io.ReadFull(r, b[:centralSize]); err != nil {
			return fmt.Errorf("directory: %w", damaged(err))
		}
		if le.Uint16(b[28:]) != 0 {
			return fmt.Errorf("name in the directory: %w", ErrDamaged)
		}
		n := len(b)
		b = b[:n+int(m.n)]
		if err := c.name(m, b[n:]); err != nil {
			return err
		}
		n = len(b)
		b = b[:n+int(le.Uint16(b[30:]))+int(le.Uint16(b[32:]))]
		if _, err := io.ReadFull(r, b[n:]); err != nil {
			return fmt.Errorf("directory: %w", damaged(err))
		}
		le.PutUint32(b[16:], m.crc)
		le.PutUint32(b[20:], uint32(m.data))
		le.PutUint32(b[24:], uint32(m.size))
		le.PutUint16(b[28:], uint16(n-centralSize))
		le.PutUint32(b[42:], uint32(m.offset))
		if err := l.write(b); err != nil {
			return err
		}
	}
	if at, _ := r.Seek(0, io.SeekCurrent); at != p.n {
		return fmt.Errorf("directory of %d bytes instead of %d: %w", at, p.n, ErrDamaged)
	}
	l.next = int(first + p.b)
	return nil
}

// name reads the name of a member, without the prefix, into b.
func (c *closer) name(m value, b []byte) error {
	if m.record < 0 {
		return readFull(c.content, b, m.off)
	}
	r := &c.base.records[m.record]
	return readFull(c.base.section(r.place), b, localSize+int64(r.prefix))
}

// endRecord writes the end of a zip.
func (c *closer) endRecord(l *level, p *part) error {
	if p.n < endSize || p.n > endSize+65535 || l.start < 0 {
		return fmt.Errorf("end record of %d bytes: %w", p.n, ErrDamaged)
	}
	b := make([]byte, p.n)
	if err := readFull(c.content, b, p.content); err != nil {
		return err
	}
	le := binary.LittleEndian
	le.PutUint16(b[8:], uint16(len(l.members)))
	le.PutUint16(b[10:], uint16(len(l.members)))
	le.PutUint32(b[12:], uint32(l.pos-l.origin-l.start))
	le.PutUint32(b[16:], uint32(l.start))
	return l.write(b)
}

func crcOf(s *io.SectionReader) (uint32, error) {
	sum := crc32.NewIEEE()
	_, err := copyAll(sum, io.NewSectionReader(s, 0, s.Size()))
	return sum.Sum32(), err
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	if n, err := r.ReadAt(b, off); n < len(b) {
		return unexpected(err)
	}
	return nil
}
