package delta

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"slices"
)

const (
	localSize   = 30
	centralSize = 46
	endSize     = 22

	maxDirectory = 64 << 20
)

// directory is the central directory of a zip, where it stands in its region.
type directory struct {
	start, end int64 // of the records
	origin     int64 // where offset 0 is
	endSize    int64 // of the end record, with its comment
	entries    int   // that the end record counts
	prefix     int   // bytes that all names begin with, up to a slash
	members    []member
}

// member is one record of the directory and what it names.
type member struct {
	central, centralEnd int64 // its record, in the region
	name                []byte
	offset              int64 // of the local header, in the region
	flags, method       uint16
	crc                 uint32
	data, size          int64

	ok     bool  // the local header is there and nothing overlaps
	head   int64 // bytes of the local header
	filled bool  // it has CRC and sizes
	tail   int64 // bytes of the descriptor
	bare   bool  // it has no signature
	place  int   // number among those that are ok, in the order they stand in
	prefix int   // bytes of the name that all names begin with
}

// readDirectory finds and reads the directory of the zip in s: nil when there
// is none that this package opens.
func readDirectory(s *io.SectionReader) (*directory, error) {
	tail := make([]byte, min(s.Size(), endSize+65535))
	from := s.Size() - int64(len(tail))
	if _, err := s.ReadAt(tail, from); err != nil && err != io.EOF {
		return nil, err
	}
	for i := len(tail) - endSize; i >= 0; i-- {
		if tail[i] != 'P' || !bytes.HasPrefix(tail[i:], []byte("PK\x05\x06")) {
			continue
		}
		d := endRecord(tail[i:], from+int64(i))
		if d == nil {
			continue
		}
		return d.read(s)
	}
	return nil, nil
}

// endRecord reads the end record that b begins with, which stands at off: nil
// when it is none, or one of several disks, or of a zip64.
func endRecord(b []byte, off int64) *directory {
	le := binary.LittleEndian
	n, size, start := le.Uint16(b[10:]), le.Uint32(b[12:]), le.Uint32(b[16:])
	comment := int(le.Uint16(b[20:]))
	if le.Uint32(b[4:]) != 0 || le.Uint16(b[8:]) != n || n == 0xffff || size == 0xffffffff || start == 0xffffffff || endSize+comment > len(b) {
		return nil
	}
	d := &directory{start: off - int64(size), end: off, endSize: int64(endSize + comment), entries: int(n)}
	if d.origin = d.start - int64(start); d.start < 0 || d.origin < 0 {
		return nil
	}
	return d
}

// read reads the records of the directory: nil when they are no directory.
func (d *directory) read(s *io.SectionReader) (*directory, error) {
	if d.end-d.start > maxDirectory {
		return nil, nil
	}
	b := make([]byte, d.end-d.start)
	if _, err := s.ReadAt(b, d.start); err != nil && err != io.EOF {
		return nil, err
	}
	le := binary.LittleEndian
	for at := 0; at < len(b); {
		r := b[at:]
		if len(r) < centralSize || !bytes.HasPrefix(r, []byte("PK\x01\x02")) {
			return nil, nil
		}
		n := centralSize + int(le.Uint16(r[28:])) + int(le.Uint16(r[30:])) + int(le.Uint16(r[32:]))
		if n > len(r) {
			return nil, nil
		}
		m := member{
			central: d.start + int64(at), centralEnd: d.start + int64(at+n),
			flags: le.Uint16(r[8:]), method: le.Uint16(r[10:]), crc: le.Uint32(r[16:]),
			data: int64(le.Uint32(r[20:])), size: int64(le.Uint32(r[24:])),
			offset: d.origin + int64(le.Uint32(r[42:])), name: r[centralSize:][:le.Uint16(r[28:])],
		}
		m.ok = m.data != 0xffffffff && m.size != 0xffffffff && le.Uint32(r[42:]) != 0xffffffff
		d.members = append(d.members, m)
		at += n
	}
	if len(d.members) != d.entries {
		return nil, nil
	}
	return d, nil
}

// locate finds the local headers, and returns the members that have one and
// overlap no other, in the order they stand in.
func (d *directory) locate(s *io.SectionReader) ([]*member, error) {
	sorted := make([]*member, 0, len(d.members))
	for i := range d.members {
		sorted = append(sorted, &d.members[i])
	}
	slices.SortStableFunc(sorted, func(a, b *member) int { return cmp.Compare(a.offset, b.offset) })
	var order []*member
	end := d.origin
	le := binary.LittleEndian
	for i, m := range sorted {
		next := d.start
		if i+1 < len(sorted) {
			next = min(next, sorted[i+1].offset)
		}
		m.ok = m.ok && m.offset >= end && m.offset+localSize <= next
		if !m.ok {
			continue
		}
		b := make([]byte, localSize+len(m.name))
		if n, err := s.ReadAt(b, m.offset); err != nil && err != io.EOF {
			return nil, err
		} else if n < len(b) {
			m.ok = false
			continue
		}
		m.head = localSize + int64(le.Uint16(b[26:])) + int64(le.Uint16(b[28:]))
		if string(b[:4]) != "PK\x03\x04" || int(le.Uint16(b[26:])) != len(m.name) || !bytes.Equal(b[localSize:], m.name) || m.offset+m.head+m.data > next {
			m.ok = false
			continue
		}
		m.filled = le.Uint32(b[14:]) == m.crc && int64(le.Uint32(b[18:])) == m.data && int64(le.Uint32(b[22:])) == m.size
		end = m.offset + m.head + m.data
		if m.flags&8 != 0 {
			if err := m.descriptor(s, end, next); err != nil {
				return nil, err
			}
			end += m.tail
		}
		m.place = len(order)
		order = append(order, m)
	}
	if len(order) > 0 {
		prefix := order[0].name
		for _, m := range order {
			prefix = prefix[:common(prefix, m.name)]
			prefix = prefix[:bytes.LastIndexByte(prefix, '/')+1]
		}
		d.prefix = len(prefix)
		for _, m := range order {
			m.prefix = d.prefix
		}
	}
	return order, nil
}

// descriptor looks for the data descriptor at off, before next.
func (m *member) descriptor(s *io.SectionReader, off, next int64) error {
	want := []byte("PK\x07\x08")
	want = binary.LittleEndian.AppendUint32(want, m.crc)
	want = binary.LittleEndian.AppendUint32(want, uint32(m.data))
	want = binary.LittleEndian.AppendUint32(want, uint32(m.size))
	var b [16]byte
	n := min(16, next-off)
	if _, err := s.ReadAt(b[:n], off); err != nil && err != io.EOF {
		return err
	}
	switch {
	case n == 16 && bytes.Equal(b[:], want):
		m.tail = 16
	case n >= 12 && bytes.Equal(b[:12], want[4:]):
		m.tail, m.bare = 12, true
	}
	return nil
}
