package delta

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"davit/transfer/delta/deflate"
)

const (
	applyPages = 16 << 20
	makePages  = 32 << 20
)

// Apply writes the target that delta makes of base to w, after its SHA-256 was
// found right: w gets all of it, or nothing, unless w itself fails. An error
// wraps ErrDamaged, ErrVersion, ErrWrongBase or ErrTooLarge, or is an
// *EncoderError, when the delta is to blame.
func Apply(ctx context.Context, base io.ReaderAt, baseSize int64, delta io.ReaderAt, deltaSize int64, w io.Writer, o Options) error {
	h, start, err := readHeader(delta, deltaSize)
	if err != nil {
		return err
	}
	if lacking := h.lacking(deflate.Encoders()); lacking != nil {
		return fmt.Errorf("apply delta: %w", &EncoderError{lacking})
	}
	if baseSize != h.baseSize {
		return fmt.Errorf("apply delta: base has %d bytes instead of %d: %w", baseSize, h.baseSize, ErrWrongBase)
	}
	if most := limit(h.targetSize, o.MaxOpened); h.openedSize > most+maxStructure || h.targetSize > most {
		return fmt.Errorf("apply delta: target opens to %d bytes: %w", h.openedSize, ErrTooLarge)
	}
	sum, err := hashOf(ctx, base, baseSize)
	if err != nil {
		return fmt.Errorf("apply delta: read base: %w", err)
	}
	if sum != h.baseSum {
		return fmt.Errorf("apply delta: sha256 of base is %x instead of %x: %w", sum, h.baseSum, ErrWrongBase)
	}
	var source *opened
	if h.form == formOpened {
		if source, err = openBase(ctx, base, baseSize, int(h.depth), o); err != nil {
			return fmt.Errorf("apply delta: %w", err)
		}
		defer source.Close()
		if err := source.check(h); err != nil {
			return fmt.Errorf("apply delta: %w", err)
		}
	}
	target := newScratch(o.TempDir, h.targetSize+1)
	defer target.Close()
	if err := apply(ctx, base, source, h, delta, start, target, o); err != nil {
		return fmt.Errorf("apply delta: %w", err)
	}
	if _, err := copyAll(w, io.NewSectionReader(target, 0, target.Size())); err != nil {
		return fmt.Errorf("write target: %w", err)
	}
	return nil
}

// check makes sure that both sides opened the base alike.
func (o *opened) check(h *header) error {
	sum, err := sumOf(make([]byte, 64<<10), io.NewSectionReader(o.content, 0, o.content.Size()))
	if err != nil {
		return err
	}
	if o.content.Size() != h.sourceSize || sum != h.sourceSum {
		return fmt.Errorf("base opens to other bytes than it did where the delta was made: %w", ErrDamaged)
	}
	return nil
}

// apply writes the target to w and compares its SHA-256. source is the opened
// base, nil in the raw form.
func apply(ctx context.Context, base io.ReaderAt, source *opened, h *header, delta io.ReaderAt, start int64, w io.Writer, o Options) error {
	d := &reader{delta: delta, start: start, h: h}
	digest := sha256.New()
	w = io.MultiWriter(digest, w)
	if source == nil {
		src := newPages(base, h.baseSize, applyPages)
		if err := d.decode(ctx, src, w); err != nil {
			return err
		}
	} else if err := source.applyOpened(ctx, d, w, o); err != nil {
		return err
	}
	if sum := digest.Sum(nil); !bytes.Equal(sum, h.targetSum[:]) {
		return fmt.Errorf("sha256 of target is %x instead of %x: %w", sum, h.targetSum, ErrDamaged)
	}
	return nil
}

func (source *opened) applyOpened(ctx context.Context, d *reader, w io.Writer, o Options) error {
	h := d.h
	content := newScratch(o.TempDir, h.openedSize+1)
	defer content.Close()
	src := newPages(source.content, h.sourceSize, applyPages)
	if err := d.decode(ctx, src, content); err != nil {
		return err
	}
	closings, err := d.closings()
	if err != nil {
		return err
	}
	structure := make([]byte, h.structure)
	if err := readFull(content, structure, h.openedSize-h.structure); err != nil {
		return err
	}
	parts, n, err := parse(structure, h.openedSize-h.structure)
	if err != nil {
		return err
	}
	streams, err := splitClosings(closings, n)
	if err != nil {
		return err
	}
	c := &closer{ctx: ctx, content: content, base: source, streams: streams,
		temp: o.TempDir, workers: o.workers(), max: limit(h.targetSize, o.MaxOpened)}
	return c.close(parts, w, h.targetSize)
}

// reader reads the sections of a delta.
type reader struct {
	delta io.ReaderAt
	start int64 // where the first begins
	h     *header
}

func (d *reader) section(i int, dict []byte) (*unpacked, error) {
	at := d.start
	for _, n := range d.h.packed[:i] {
		at += n
	}
	return unpack(io.NewSectionReader(d.delta, at, d.h.packed[i]), d.h.plain[i], dict)
}

// decode writes the output of the coder.
func (d *reader) decode(ctx context.Context, src *pages, w io.Writer) error {
	var dict []byte
	if d.h.packed[secLiterals] != d.h.plain[secLiterals] {
		err := d.rounds(func(r *rounds) (err error) {
			dict, err = dictionary(ctx, src, r)
			return err
		})
		if err != nil {
			return err
		}
	}
	return d.rounds(func(r *rounds) error {
		literals, err := d.section(secLiterals, dict)
		if err != nil {
			return err
		}
		defer literals.Close()
		differences, err := d.section(secDifferences, nil)
		if err != nil {
			return err
		}
		defer differences.Close()
		return decode(ctx, src, r, literals.Reader, differences.Reader, w)
	})
}

// rounds reads the rounds from their beginning.
func (d *reader) rounds(read func(*rounds) error) error {
	r := &rounds{left: d.h.openedSize, source: d.h.sourceSize}
	for i, to := range []**bufio.Reader{&r.gaps, &r.copies, &r.addresses} {
		u, err := d.section(secGaps+i, nil)
		if err != nil {
			return err
		}
		defer u.Close()
		*to = u.Reader
	}
	return read(r)
}

func (d *reader) closings() ([]byte, error) {
	u, err := d.section(secClosings, nil)
	if err != nil {
		return nil, err
	}
	defer u.Close()
	b, err := io.ReadAll(u)
	if err != nil {
		return nil, fmt.Errorf("read closings: %w", damaged(err))
	}
	return b, nil
}

// splitClosings reads n recipes, all of b.
func splitClosings(b []byte, n int) ([][]byte, error) {
	r := bytes.NewReader(b)
	streams := make([][]byte, 0, min(n, len(b)))
	for range n {
		size, err := readNumber(r)
		if err == nil && size > int64(r.Len()) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("read closings: %w", damaged(err))
		}
		at := len(b) - r.Len()
		streams = append(streams, b[at:at+int(size)])
		r.Seek(size, io.SeekCurrent)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("read closings: %d bytes too many: %w", r.Len(), ErrDamaged)
	}
	return streams, nil
}

// hashOf is the SHA-256 of a file.
func hashOf(ctx context.Context, r io.ReaderAt, size int64) (sum [32]byte, err error) {
	h := sha256.New()
	buf := make([]byte, max(1, min(size, 1<<20)))
	for off := int64(0); off < size; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		b := buf[:min(int64(len(buf)), size-off)]
		if err := readFull(r, b, off); err != nil {
			return sum, err
		}
		h.Write(b)
	}
	return [32]byte(h.Sum(nil)), nil
}

// sourceSum is the xxhash64 of a file.
func sourceSum(r io.ReaderAt, size int64) (uint64, error) {
	d := xxhash.New()
	n, err := copyAll(d, io.NewSectionReader(r, 0, size))
	if err == nil && n != size {
		err = errors.New("file is shorter than it was said to be")
	}
	return d.Sum64(), err
}
