package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"

	"davit/transfer/delta/deflate"
)

const smallMember = 1 << 20 // plain bytes; a larger one is not opened ahead

// zip opens g, a zip; when it is none, g is raw.
func (o *opener) zip(g region, depth, tower int) error {
	s := o.section(g)
	d, err := readDirectory(s)
	if err != nil {
		return err
	}
	if d == nil || len(d.members) > maxParts {
		return o.raw(g)
	}
	order, err := d.locate(s)
	if err != nil {
		return err
	}
	ready := newAhead(o.ctx, o.workers, len(order), func(i int) int64 {
		if m := order[i]; m.size <= smallMember && m.data <= 2*smallMember {
			return m.size + m.data
		}
		return -1
	}, func(ctx context.Context, i int) (*body, error) { return o.member(ctx, g, order[i], depth, tower) })
	defer ready.stop()

	done := int64(0)
	began := false
	for i, m := range order {
		if !began {
			if err := o.raw(g.part(done, d.origin-done)); err != nil {
				return err
			}
			o.out.add(partZip, int64(d.prefix))
			if err := o.bytes(m.name[:d.prefix]); err != nil {
				return err
			}
			done, began = d.origin, true
		}
		if err := o.raw(g.part(done, m.offset-done)); err != nil {
			return err
		}
		b, ok, err := ready.take(i)
		if err == nil && !ok {
			b, err = o.member(o.ctx, g, m, depth, tower)
		}
		if err != nil {
			return err
		}
		if err := o.addMember(g, m, b, depth, tower); err != nil {
			return err
		}
		done = m.offset + m.head + m.data + m.tail
	}
	if !began {
		return o.raw(g)
	}
	if err := o.raw(g.part(done, d.start-done)); err != nil {
		return err
	}
	all, err := o.directory(g, d)
	if err != nil {
		return err
	}
	end := make([]byte, d.endSize)
	if _, err := s.ReadAt(end, d.end); err != nil && err != io.EOF {
		return err
	}
	if all {
		clear(end[8:20])
		o.out.add(partEndRecord, d.endSize)
	} else {
		o.out.addRaw(d.endSize)
	}
	if err := o.bytes(end); err != nil {
		return err
	}
	done = d.end + d.endSize
	return o.raw(g.part(done, g.n-done))
}

// directory adds the central directory. all is whether each record of it names
// a member.
func (o *opener) directory(g region, d *directory) (all bool, err error) {
	all = true
	next := 0 // number of the member that a part would begin with by itself
	for i := 0; i < len(d.members); {
		m := &d.members[i]
		if !m.ok {
			all = false
			if err := o.raw(g.part(m.central, m.centralEnd-m.central)); err != nil {
				return false, err
			}
			i++
			continue
		}
		j := i + 1
		for j < len(d.members) && d.members[j].ok && d.members[j].place == m.place+j-i {
			j++
		}
		b := make([]byte, d.members[j-1].centralEnd-m.central)
		if _, err := o.section(g.part(m.central, int64(len(b)))).ReadAt(b, 0); err != nil && err != io.EOF {
			return false, err
		}
		content := make([]byte, 0, len(b))
		for at := range d.members[i:j] {
			r := &d.members[i+at]
			from := b[r.central-m.central : r.centralEnd-m.central]
			to := len(content)
			content = append(append(content, from[:centralSize]...), from[centralSize+len(r.name):]...)
			clear(content[to+16:][:14]) // CRC, sizes, length of the name
			clear(content[to+42:][:4])
		}
		o.out.addCentral(int64(m.place-next), int64(j-i), int64(len(content)))
		next = m.place + j - i
		if err := o.bytes(content); err != nil {
			return false, err
		}
		i = j
	}
	return all, nil
}

// body is what became of the data of a member.
type body struct {
	dataSum, restSum uint64
	header           []byte // as content
	known            int64  // record of the base, -1: none
	whole            bool   // all of the record is the same
	kind             byte   // partStream, partStored or partOpaque
	headed           bool   // the header is in the content already
	plain            *plain
	stream           *deflate.Stream
}

// member opens one member. A small one may be opened ahead: then its plain
// bytes stay in memory, and nothing of o is changed.
func (o *opener) member(ctx context.Context, g region, m *member, depth, tower int) (*body, error) {
	b := &body{known: -1, kind: partOpaque}
	header, tail := make([]byte, m.head), make([]byte, m.tail)
	if _, err := o.section(g.part(m.offset, m.head)).ReadAt(header, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if _, err := o.section(g.part(m.offset+m.head+m.data, m.tail)).ReadAt(tail, 0); err != nil && err != io.EOF {
		return nil, err
	}
	header = shorten(header, m.prefix)
	place := g.part(m.offset+m.head, m.data)
	small := m.size <= smallMember && m.data <= 2*smallMember
	data := o.section(place)
	var mem []byte
	if small {
		mem = make([]byte, m.data)
		if _, err := data.ReadAt(mem, 0); err != nil && err != io.EOF {
			return nil, err
		}
		data = io.NewSectionReader(bytes.NewReader(mem), 0, m.data)
	}
	var err error
	if b.dataSum, err = sumOf(make([]byte, min(max(m.data, 1), 64<<10)), data); err != nil {
		return nil, err
	}
	if b.restSum, err = sumOf(make([]byte, 512), bytes.NewReader(header), bytes.NewReader(tail)); err != nil {
		return nil, err
	}
	if m.filled {
		clear(header[14:26])
	}
	b.header = header
	if o.base != nil {
		if b.known, b.whole = o.known(b.dataSum, b.restSum, m.crc, m.size, -1); b.known >= 0 {
			return b, nil
		}
	}
	data.Seek(0, io.SeekStart)
	switch {
	case m.flags&1 != 0: // encrypted
	case m.method == 0 && m.data == m.size:
		sum := crc32.NewIEEE()
		if _, err := copyAll(sum, data); err != nil {
			return nil, err
		}
		if sum.Sum32() == m.crc {
			b.kind = partStored
		}
	case m.method == 8:
		return b, o.memberStream(ctx, b, m, data, depth, tower)
	}
	return b, nil
}

func (o *opener) memberStream(ctx context.Context, b *body, m *member, data *io.SectionReader, depth, tower int) error {
	var p plain
	if m.size <= smallMember && m.data <= 2*smallMember {
		buf := bytes.NewBuffer(make([]byte, 0, m.size+1))
		n, _, err := deflate.Inflate(data, &short{buf, m.size}, deflate.Limits{Plain: m.size + 1})
		if err != nil || n != m.data || int64(buf.Len()) != m.size || crc32.ChecksumIEEE(buf.Bytes()) != m.crc {
			return ctx.Err()
		}
		p = plain{n: m.size, crc: m.crc, mem: buf.Bytes()}
		if len(p.mem) == 0 {
			p.mem = []byte{}
		}
	} else {
		// Its plain bytes go straight behind its header.
		before := o.content.Size()
		if err := o.bytes(b.header); err != nil {
			return err
		}
		var n int64
		var damage bool
		var err error
		if p, n, damage, err = o.inflate(data, depth, tower); err != nil {
			return err
		}
		if damage || n != m.data || p.n != m.size || p.crc != m.crc {
			if !damage {
				o.drop(p)
			}
			o.content.Truncate(before)
			return nil
		}
		b.headed = true
	}
	if o.base != nil {
		data.Seek(0, io.SeekStart)
		s, err := o.prove(ctx, data, o.plainSection(p))
		if err != nil {
			return err
		}
		if s == nil {
			o.drop(p)
			if b.headed {
				b.headed = false
				o.content.Truncate(o.content.Size() - int64(len(b.header)))
			}
			return nil
		}
		b.stream = s
	}
	b.kind, b.plain = partStream, &p
	return nil
}

// short refuses what is longer than n, before it is in memory.
type short struct {
	buf *bytes.Buffer
	n   int64
}

func (w *short) Write(p []byte) (int, error) {
	if int64(len(p)) > w.n-int64(w.buf.Len()) {
		return 0, ErrTooLarge
	}
	return w.buf.Write(p)
}

// addMember adds what member found.
func (o *opener) addMember(g region, m *member, b *body, depth, tower int) error {
	if o.base != nil {
		if b.known >= 0 { // in order now, so the next record may be the right one
			b.known, b.whole = o.known(b.dataSum, b.restSum, m.crc, m.size, o.out.kept)
		}
		if m.method == 8 {
			o.count.streams++
			if b.known >= 0 {
				o.count.kept++
			} else if b.stream == nil {
				o.count.unproven += m.data
			}
		}
		if b.whole {
			o.out.addKeep(b.known)
			return nil
		}
	}
	if m.filled {
		o.out.add(partFilledHeader, int64(len(b.header)))
	} else {
		o.out.add(partHeader, int64(len(b.header)))
	}
	if !b.headed {
		if err := o.bytes(b.header); err != nil {
			return err
		}
	}
	if err := o.addBody(g, m, b, depth, tower); err != nil {
		return err
	}
	switch {
	case m.tail == 0:
	case m.bare:
		o.out.add(partBareDescriptor)
	default:
		o.out.add(partDescriptor)
	}
	return o.addRecord(record{place: g.part(m.offset, m.head+m.data+m.tail), head: int32(m.head), tail: int32(m.tail), zip: true, prefix: int32(m.prefix),
		crc: m.crc, size: m.size, dataSum: b.dataSum, restSum: b.restSum})
}

// shorten takes the first n bytes from the name in a local header.
func shorten(h []byte, n int) []byte {
	name := int(binary.LittleEndian.Uint16(h[26:]))
	binary.LittleEndian.PutUint16(h[26:], uint16(name-n))
	return slices.Delete(h, localSize, localSize+n)
}

func (o *opener) addBody(g region, m *member, b *body, depth, tower int) error {
	place := g.part(m.offset+m.head, m.data)
	if b.known >= 0 {
		o.out.addData(b.known)
		return nil
	}
	switch b.kind {
	case partStream:
		p := *b.plain
		if p.mem != nil {
			if err := o.room(p.n); err != nil {
				return err
			}
			to := o.content
			if depth > 1 && tower < maxTower-1 && like(o.plainSection(p), tower+1) {
				p.nested, to = true, o.plains
			}
			p.off = to.Size()
			if _, err := to.Write(p.mem); err != nil {
				return err
			}
		}
		return o.stream(p, b.stream, depth, tower)
	case partStored:
		if depth > 1 && tower < maxTower-1 && like(o.section(place), tower+1) {
			o.out.add(partNestedStored)
			if err := o.region(place, depth-1, tower+1); err != nil {
				return err
			}
			o.out.add(partEnd)
			return nil
		}
		o.out.add(partStored, m.data)
	default:
		o.out.addOpaque(m.data, m.size, m.crc)
	}
	if err := o.room(m.data); err != nil {
		return err
	}
	_, err := copyAll(o.content, o.section(place))
	return err
}
