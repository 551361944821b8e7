package delta

import (
	"bytes"
	"encoding/binary"
	"io"
)

// maxGzipHeader is the longest header that is read: extra field, name, comment.
const maxGzipHeader = 1 << 17

// gzip opens the gzip members that g begins with. The rest is raw.
func (o *opener) gzip(g region, depth, tower int) error {
	for g.n > 0 {
		n, err := o.gzipMember(g, depth, tower)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		g = g.part(n, g.n-n)
	}
	return o.raw(g)
}

// gzipMember opens one member and returns its length, 0 if there is none.
func (o *opener) gzipMember(g region, depth, tower int) (int64, error) {
	s := o.section(g)
	head, err := gzipHeader(s)
	if err != nil || head == 0 {
		return 0, err
	}
	header := g.part(0, head)
	// The header is content before the plain bytes are; when there turns out to
	// be no member, it is taken back.
	before := o.content.Size()
	if err := o.room(head); err != nil {
		return 0, err
	}
	if _, err := copyAll(o.content, o.section(header)); err != nil {
		return 0, err
	}
	p, data, damage, err := o.inflate(io.NewSectionReader(s, head, s.Size()-head), depth, tower)
	if err != nil {
		return 0, err
	}
	var trailer [8]byte
	if !damage {
		if _, err := s.ReadAt(trailer[:], head+data); err != nil && err != io.EOF {
			return 0, err
		}
		damage = g.n-head-data < 8 ||
			binary.LittleEndian.Uint32(trailer[:]) != p.crc || binary.LittleEndian.Uint32(trailer[4:]) != uint32(p.n)
		if damage {
			o.drop(p)
		}
	}
	if damage {
		o.content.Truncate(before)
		return 0, nil
	}

	n := head + data + 8
	compressed := io.NewSectionReader(s, head, data)
	buf := make([]byte, 64<<10)
	dataSum, err := sumOf(buf, compressed)
	if err != nil {
		return 0, err
	}
	restSum, err := sumOf(buf, io.NewSectionReader(s, 0, head), bytes.NewReader(trailer[:]))
	if err != nil {
		return 0, err
	}
	if o.base == nil {
		o.out.addRaw(head)
		if err := o.stream(p, nil, depth, tower); err != nil {
			return 0, err
		}
		o.out.add(partTrailer)
		return n, o.addRecord(record{place: g.part(0, n), head: int32(head), tail: 8,
			crc: p.crc, size: p.n, dataSum: dataSum, restSum: restSum})
	}

	o.count.streams++
	if i, whole := o.known(dataSum, restSum, p.crc, p.n, o.out.kept); i >= 0 {
		o.count.kept++
		o.drop(p)
		if whole {
			o.content.Truncate(before)
			o.out.addKeep(i)
			return n, nil
		}
		o.out.addRaw(head)
		o.out.addData(i)
		o.out.add(partTrailer)
		return n, nil
	}
	compressed.Seek(0, io.SeekStart)
	stream, err := o.prove(o.ctx, compressed, o.plainSection(p))
	if err != nil {
		return 0, err
	}
	if stream == nil {
		o.count.unproven += data
		o.drop(p)
		o.content.Truncate(before)
		return n, o.raw(g.part(0, n))
	}
	o.out.addRaw(head)
	if err := o.stream(p, stream, depth, tower); err != nil {
		return 0, err
	}
	o.out.add(partTrailer)
	return n, nil
}

// gzipHeader returns the length of the header that s begins with, 0 if it is none.
func gzipHeader(s *io.SectionReader) (int64, error) {
	b := make([]byte, min(s.Size(), 512))
	for {
		if _, err := s.ReadAt(b, 0); err != nil && err != io.EOF {
			return 0, err
		}
		n, short := scanGzipHeader(b)
		if !short {
			return int64(n), nil
		}
		if int64(len(b)) == s.Size() || len(b) >= maxGzipHeader {
			return 0, nil
		}
		b = make([]byte, min(s.Size(), maxGzipHeader))
	}
}

// scanGzipHeader finds the end of the header that b begins with: 0 if it is
// none; short when b ends before it does.
func scanGzipHeader(b []byte) (n int, short bool) {
	if len(b) < 10 {
		return 0, true
	}
	flags := b[3]
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 || flags&0xe0 != 0 {
		return 0, false
	}
	n = 10
	if flags&4 != 0 {
		if len(b) < n+2 {
			return 0, true
		}
		n += 2 + int(binary.LittleEndian.Uint16(b[n:]))
	}
	for _, flag := range []byte{8, 16} {
		if flags&flag != 0 {
			if n > len(b) {
				return 0, true
			}
			i := bytes.IndexByte(b[n:], 0)
			if i < 0 {
				return 0, true
			}
			n += i + 1
		}
	}
	if flags&2 != 0 {
		n += 2
	}
	return n, n > len(b)
}
