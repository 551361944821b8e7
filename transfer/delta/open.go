package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"davit/transfer/delta/deflate"
)

// opened is a file that was opened.
type opened struct {
	file      io.ReaderAt
	content   *scratch // content, then structure
	structure int64    // bytes of structure
	plains    *scratch // plain bytes of nested archives
	closings  *scratch // of a target
	records   []record
	byData    map[uint64]int32 // first record by the sum of its data
}

func (o *opened) Close() error {
	return errors.Join(o.content.Close(), o.plains.Close(), o.closings.Close())
}

// record is a piece of a base that a target may have, too: a zip member or a
// gzip member.
type record struct {
	place            region // the whole of it
	head, tail       int32  // bytes before and after the data
	zip              bool   // of a zip
	prefix           int32  // bytes that all names of its zip begin with
	crc              uint32
	size             int64
	dataSum, restSum uint64
}

// region is a run of bytes of the file, or of the plain bytes of a nested archive.
type region struct {
	nested bool
	off, n int64
}

func (g region) part(off, n int64) region { return region{g.nested, g.off + off, n} }

// section is where the bytes of g can be read.
func (o *opened) section(g region) *io.SectionReader {
	if g.nested {
		return io.NewSectionReader(o.plains, g.off, g.n)
	}
	return io.NewSectionReader(o.file, g.off, g.n)
}

func (o *opened) data(i int32) *io.SectionReader {
	r := &o.records[i]
	return o.section(r.place.part(int64(r.head), r.place.n-int64(r.head)-int64(r.tail)))
}

// opener opens one file.
type opener struct {
	*opened
	ctx     context.Context
	out     builder
	max     int64 // content and plains together
	workers int

	// Only when a target is opened:
	base     *opened // nil: a base is being opened
	encoders []deflate.Encoder
	deadline time.Time
	trust    bool
	hint     atomic.Pointer[deflate.Stream]
	count    counts
}

// counts says what became of the streams of a target.
type counts struct {
	streams, kept, proven int
	unproven              int64
	late                  atomic.Bool // the budget was used up
	used                  map[deflate.Encoder]bool
}

// limit is how much opening a file of this size may take.
func limit(size, option int64) int64 {
	most := int64(maxTotal)
	if size < most/64-(1<<20) {
		most = 64*size + 64<<20
	}
	if option > 0 {
		most = min(most, option)
	}
	return most
}

func newOpener(ctx context.Context, file io.ReaderAt, size int64, o Options) *opener {
	workers := o.Workers
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	return &opener{
		opened: &opened{
			file:     file,
			content:  newScratch(o.TempDir, 0),
			plains:   newScratch(o.TempDir, 0),
			closings: newScratch(o.TempDir, 0),
		},
		ctx: ctx, max: limit(size, o.MaxOpened), workers: workers,
		count: counts{used: map[deflate.Encoder]bool{}},
	}
}

// openBase opens a base. What comes out depends on its bytes and depth alone.
func openBase(ctx context.Context, file io.ReaderAt, size int64, depth int, o Options) (*opened, error) {
	p := newOpener(ctx, file, size, o)
	if err := p.open(size, depth); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.byData = make(map[uint64]int32, len(p.records))
	for i := len(p.records) - 1; i >= 0; i-- {
		p.byData[p.records[i].dataSum] = int32(i)
	}
	return p.opened, nil
}

func (o *opener) open(size int64, depth int) error {
	if err := o.region(region{off: 0, n: size}, depth, 0); err != nil {
		return fmt.Errorf("open file: %w", err)
	}
	o.out.add(partEnd)
	if len(o.out.b) > maxStructure {
		return fmt.Errorf("open file: structure: %w", ErrTooLarge)
	}
	o.structure = int64(len(o.out.b))
	_, err := o.content.Write(o.out.b)
	return err
}

// region opens g, around which archives stand that leave depth more to be
// undone, and tower regions of any kind.
func (o *opener) region(g region, depth, tower int) error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	s := o.section(g)
	switch kind := sniff(s); {
	case kind == kindGzip && depth > 0:
		return o.gzip(g, depth, tower)
	case kind == kindZip && depth > 0, kind == kindOther && depth > 0 && tower == 0:
		return o.zip(g, depth, tower)
	case (kind == kindTar || kind == kindAr) && depth > 0 && tower < maxTower-1:
		done := int64(0)
		err := walkFiles(s, kind, func(off, n int64) error {
			if !like(io.NewSectionReader(s, off, n), tower+1) {
				return nil
			}
			if err := o.raw(g.part(done, off-done)); err != nil {
				return err
			}
			done = off + n
			return o.region(g.part(off, n), depth, tower+1)
		})
		if err != nil {
			return err
		}
		return o.raw(g.part(done, g.n-done))
	}
	return o.raw(g)
}

// raw takes g as it is.
func (o *opener) raw(g region) error {
	if err := o.room(g.n); err != nil {
		return err
	}
	if _, err := copyAll(o.content, o.section(g)); err != nil {
		return err
	}
	o.out.addRaw(g.n)
	return nil
}

// bytes adds b to the content.
func (o *opener) bytes(b []byte) error {
	if err := o.room(int64(len(b))); err != nil {
		return err
	}
	_, err := o.content.Write(b)
	return err
}

// room makes sure that n bytes more may be opened.
func (o *opener) room(n int64) error {
	if n > o.left() {
		return ErrTooLarge
	}
	return nil
}

func (o *opener) left() int64 { return o.max - o.content.Size() - o.plains.Size() }

// plain is what a stream inflates to, at the end of content or plains, or in memory.
type plain struct {
	nested bool  // in plains: to be opened
	off    int64 // where
	n      int64
	crc    uint32
	mem    []byte
}

func (o *opener) plainSection(p plain) *io.SectionReader {
	switch {
	case p.mem != nil:
		return io.NewSectionReader(bytes.NewReader(p.mem), 0, p.n)
	case p.nested:
		return io.NewSectionReader(o.plains, p.off, p.n)
	}
	return io.NewSectionReader(o.content, p.off, p.n)
}

// drop takes p back.
func (o *opener) drop(p plain) {
	switch {
	case p.mem != nil:
	case p.nested:
		o.plains.Truncate(p.off)
	default:
		o.content.Truncate(p.off)
	}
}

// inflate decompresses the stream that s begins with, to the end of plains when
// it is to be opened, else to the end of content. damage is true when it does
// not inflate.
func (o *opener) inflate(s *io.SectionReader, depth, tower int) (p plain, compressed int64, damage bool, err error) {
	k := &sink{o: o, deeper: depth > 1 && tower < maxTower-1}
	left := o.left()
	compressed, _, err = deflate.Inflate(s, k, deflate.Limits{Plain: left + 1})
	if k.err != nil {
		return p, 0, false, k.err
	}
	if k.n > left || errors.Is(err, deflate.ErrLimit) {
		return p, 0, false, ErrTooLarge
	}
	if e := k.decide(); e != nil {
		return p, 0, false, e
	}
	p = plain{nested: k.to == o.plains, off: k.off, n: k.n, crc: k.crc}
	if err != nil {
		o.drop(p)
		return plain{}, 0, true, o.ctx.Err()
	}
	return o.settle(p, depth, tower, compressed)
}

// settle moves a tar that holds archives to where it is opened.
func (o *opener) settle(p plain, depth, tower int, compressed int64) (plain, int64, bool, error) {
	s := o.plainSection(p)
	if p.nested || depth < 2 || tower >= maxTower-1 || !like(s, tower+1) {
		return p, compressed, false, nil
	}
	off := o.plains.Size()
	if _, err := copyAll(o.plains, s); err != nil {
		return p, 0, false, err
	}
	o.drop(p)
	p.nested, p.off = true, off
	return p, compressed, false, nil
}

// sink takes the plain bytes of a stream and finds out where they belong.
type sink struct {
	o      *opener
	deeper bool
	begin  []byte // until it is known where to
	to     *scratch
	off, n int64
	crc    uint32
	err    error
}

func (k *sink) Write(p []byte) (int, error) {
	k.crc = crc32.Update(k.crc, crc32.IEEETable, p)
	k.n += int64(len(p))
	if k.err = k.o.ctx.Err(); k.err != nil {
		return 0, k.err
	}
	if k.to == nil {
		k.begin = append(k.begin, p...)
		if len(k.begin) < sniffSize {
			return len(p), nil
		}
		if err := k.decide(); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	_, k.err = k.to.Write(p)
	return len(p), k.err
}

func (k *sink) decide() error {
	if k.to != nil {
		return nil
	}
	k.to = k.o.content
	if kind := sniffBytes(k.begin); k.deeper && (kind == kindGzip || kind == kindZip) {
		k.to = k.o.plains
	}
	k.off = k.to.Size()
	_, k.err = k.to.Write(k.begin)
	k.begin = nil
	return k.err
}

// prove finds out how to close a stream of a target again: nil without an error
// when it is not known.
func (o *opener) prove(ctx context.Context, data, plain *io.SectionReader) (*deflate.Stream, error) {
	if !o.deadline.IsZero() {
		if time.Now().After(o.deadline) {
			o.count.late.Store(true)
			return nil, nil
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, o.deadline)
		defer cancel()
	}
	s, err := deflate.Prove(ctx, data, plain, o.hint.Load(), deflate.Options{Encoders: o.encoders, Workers: o.workers, Trust: o.trust})
	switch {
	case err == nil:
		o.hint.Store(s)
		return s, nil
	case o.ctx.Err() != nil:
		return nil, o.ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		o.count.late.Store(true)
	}
	return nil, nil
}

// stream adds the body whose plain bytes are p, at the end of content or
// plains, and whose stream s closes, if this is a target.
func (o *opener) stream(p plain, s *deflate.Stream, depth, tower int) error {
	if p.nested {
		o.out.add(partNestedStream)
		if err := o.region(region{true, p.off, p.n}, depth-1, tower+1); err != nil {
			return err
		}
		o.out.add(partEnd)
	} else {
		o.out.add(partStream, p.n)
	}
	if o.base == nil {
		return nil
	}
	o.count.proven++
	o.count.used[s.Encoder] = true
	b := s.Marshal()
	_, err := o.closings.Write(append(appendNumber(nil, int64(len(b))), b...))
	return err
}

// known returns the record of the base with these sums, next where there are
// several; -1 if none. whole is whether all of it is the same.
func (o *opener) known(dataSum, restSum uint64, crc uint32, size, next int64) (i int64, whole bool) {
	fits := func(i int64) bool {
		r := &o.base.records[i]
		return r.dataSum == dataSum && r.crc == crc && r.size == size
	}
	there := next >= 0 && next < int64(len(o.base.records)) && fits(next)
	if there && o.base.records[next].restSum == restSum {
		return next, true
	}
	first, ok := o.base.byData[dataSum]
	if !ok || !fits(int64(first)) {
		return -1, false
	}
	if o.base.records[first].restSum == restSum {
		return int64(first), true
	}
	if there {
		return next, false
	}
	return int64(first), false
}

// addRecord keeps what a base has.
func (o *opener) addRecord(r record) error {
	if o.base != nil {
		return nil
	}
	if len(o.records) >= maxParts {
		return fmt.Errorf("more than %d members: %w", maxParts, ErrTooLarge)
	}
	o.records = append(o.records, r)
	return nil
}

// sumOf is the sum of what readers give one after another.
func sumOf(buf []byte, readers ...io.Reader) (uint64, error) {
	d := xxhash.New()
	for _, r := range readers {
		if _, err := io.CopyBuffer(struct{ io.Writer }{d}, struct{ io.Reader }{r}, buf); err != nil {
			return 0, err
		}
	}
	return d.Sum64(), nil
}

// copyAll copies a section, all of it.
func copyAll(w io.Writer, s *io.SectionReader) (int64, error) {
	buf := make([]byte, max(1, min(s.Size(), 256<<10)))
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s}, buf)
	if err == nil && n < s.Size() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
