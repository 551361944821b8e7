package delta

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/cespare/xxhash/v2"

	"davit/transfer/delta/deflate"
)

// What tests need from inside: the coder by itself, the structure, the header.

const HeaderSumSize = 8

// Encode codes target against source with small memory, and returns the
// sections.
func Encode(ctx context.Context, source, target []byte, memory int) ([5][]byte, error) {
	var out [secClosings]bytes.Buffer
	var to [secClosings]io.Writer
	for i := range out {
		to[i] = &out[i]
	}
	var sections [5][]byte
	idx, err := newIndex(ctx, bytes.NewReader(source), int64(len(source)))
	if err != nil {
		return sections, err
	}
	err = encode(ctx, eager, newPages(bytes.NewReader(source), int64(len(source)), memory), idx, bytes.NewReader(target), int64(len(target)), to)
	for i := range out {
		sections[i] = out[i].Bytes()
	}
	return sections, err
}

// Decode is the opposite of Encode.
func Decode(ctx context.Context, source []byte, sections [5][]byte, size int64, memory int) ([]byte, error) {
	var in [5]*bufio.Reader
	for i, b := range sections {
		in[i] = bufio.NewReader(bytes.NewReader(b))
	}
	var w bytes.Buffer
	r := &rounds{gaps: in[0], copies: in[1], addresses: in[2], left: size, source: int64(len(source))}
	err := decode(ctx, newPages(bytes.NewReader(source), r.source, memory), r, in[3], in[4], &w)
	return w.Bytes(), err
}

// Dictionary is what literals are compressed with.
func Dictionary(ctx context.Context, source []byte, sections [5][]byte, size int64) ([]byte, error) {
	var in [3]*bufio.Reader
	for i := range in {
		in[i] = bufio.NewReader(bytes.NewReader(sections[i]))
	}
	r := &rounds{gaps: in[0], copies: in[1], addresses: in[2], left: size, source: int64(len(source))}
	return dictionary(ctx, newPages(bytes.NewReader(source), r.source, 128<<10), r)
}

// ParseStructure reads a structure and returns the number of its streams.
func ParseStructure(b []byte, content int64) (int, error) {
	_, n, err := parse(b, content)
	return n, err
}

// OpenBase opens a base, and returns its content, its structure and how many
// records it has.
func OpenBase(ctx context.Context, b []byte, depth int, o Options) (content, structure []byte, records int, err error) {
	opened, err := openBase(ctx, bytes.NewReader(b), int64(len(b)), depth, o)
	if err != nil {
		return nil, nil, 0, err
	}
	defer opened.Close()
	all := make([]byte, opened.content.Size())
	if err := readFull(opened.content, all, 0); err != nil {
		return nil, nil, 0, err
	}
	n := len(all) - int(opened.structure)
	return all[:n], all[n:], len(opened.records), nil
}

// Reseal makes the sum of the header right again after change changed what
// stands before it; the header may become longer or shorter.
func Reseal(delta []byte, change func(header []byte) []byte) []byte {
	_, n, err := parseHeader(delta)
	if err != nil {
		panic(err)
	}
	h := change(bytes.Clone(delta[:n-HeaderSumSize]))
	return append(sealed(h), delta[n:]...)
}

func sealed(h []byte) []byte {
	sum := xxhash.Sum64(h)
	for i := range 8 {
		h = append(h, byte(sum>>(56-8*i)))
	}
	return h
}

// HeaderLength is the length of the header of a delta.
func HeaderLength(delta []byte) int {
	_, n, err := parseHeader(delta)
	if err != nil {
		panic(err)
	}
	return n
}

// Rewrite changes the sections of a delta of base, uncompressed, and writes it
// again with a header that fits: a delta of somebody who lies. When pack is true
// and the rounds allow it, its literals are compressed.
func Rewrite(base, delta []byte, pack bool, change func(sections [][]byte)) ([]byte, error) {
	h, at, err := readHeader(bytes.NewReader(delta), int64(len(delta)))
	if err != nil {
		return nil, err
	}
	source, err := sourceOf(base, h)
	if err != nil {
		return nil, err
	}
	dict := func(s [][]byte) ([]byte, error) {
		return Dictionary(context.Background(), source, [5][]byte(append(s, nil, nil)), h.openedSize)
	}
	var plain [][]byte
	for i, n := range h.packed {
		var with []byte
		if i == secLiterals {
			if with, err = dict(plain[:3:3]); err != nil {
				return nil, err
			}
		}
		u, err := unpack(io.NewSectionReader(bytes.NewReader(delta), at, n), h.plain[i], with)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(u)
		u.Close()
		if err != nil {
			return nil, err
		}
		plain = append(plain, b)
		at += n
	}
	change(plain)
	var body bytes.Buffer
	for i, b := range plain {
		h.packed[i], h.plain[i] = int64(len(b)), int64(len(b))
		if with, err := dict(plain[:3:3]); pack && i == secLiterals && err == nil {
			s := newScratch("", 0)
			s.Write(b)
			if h.packed[i], err = new(packer).pack(&body, s, with); err != nil {
				return nil, err
			}
			continue
		}
		body.Write(b)
	}
	return append(h.append(nil), body.Bytes()...), nil
}

// sourceOf is the source of a delta of base.
func sourceOf(base []byte, h *header) ([]byte, error) {
	if h.form == formRaw {
		return base, nil
	}
	opened, err := openBase(context.Background(), bytes.NewReader(base), int64(len(base)), int(h.depth), Options{})
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	source := make([]byte, opened.content.Size())
	return source, readFull(opened.content, source, 0)
}

// WithEncoder says in the header that an encoder more is needed.
func WithEncoder(delta []byte, e uint16) []byte {
	h, n, err := parseHeader(delta)
	if err != nil {
		panic(err)
	}
	h.encoders = append(h.encoders, deflate.Encoder(e))
	return append(h.append(nil), delta[n:]...)
}

// OpenTarget opens a target, and returns its content, structure and recipes.
func OpenTarget(ctx context.Context, base, target []byte) (content, structure, closings []byte, err error) {
	b, err := openBase(ctx, bytes.NewReader(base), int64(len(base)), maxDepth, Options{})
	if err != nil {
		return nil, nil, nil, err
	}
	defer b.Close()
	t := newOpener(ctx, bytes.NewReader(target), int64(len(target)), Options{})
	defer t.opened.Close()
	t.base, t.encoders = b, deflate.Encoders()
	if err := t.open(int64(len(target)), maxDepth); err != nil {
		return nil, nil, nil, err
	}
	all := make([]byte, t.content.Size())
	closings = make([]byte, t.closings.Size())
	if err := errors.Join(readFull(t.content, all, 0), readFull(t.closings, closings, 0)); err != nil {
		return nil, nil, nil, err
	}
	n := len(all) - int(t.structure)
	return all[:n], all[n:], closings, nil
}

// Close closes a target of size bytes.
func Close(ctx context.Context, base, content, structure, closings []byte, size int64) ([]byte, error) {
	b, err := openBase(ctx, bytes.NewReader(base), int64(len(base)), maxDepth, Options{MaxOpened: 4 << 20})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	parts, n, err := parse(structure, int64(len(content)))
	if err != nil {
		return nil, err
	}
	streams, err := splitClosings(closings, n)
	if err != nil {
		return nil, err
	}
	var w bytes.Buffer
	c := &closer{ctx: ctx, content: bytes.NewReader(content), base: b, streams: streams, workers: 2, max: 4 << 20}
	err = c.close(parts, &w, size)
	return w.Bytes(), err
}
