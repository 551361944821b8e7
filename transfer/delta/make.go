package delta

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"davit/transfer/delta/deflate"
)

func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// maker makes one delta.
type maker struct {
	ctx                  context.Context
	base, target         io.ReaderAt
	baseSize, targetSize int64
	baseSum, targetSum   [32]byte
	o                    Options
}

// Make writes the smallest delta it finds that gives target from base to w: it
// was applied before the first byte is written. When it would be as large as
// the limit the error wraps ErrNotWorth, w gets nothing, and the Result says
// why. Memory is bounded whatever the sizes are; both files may be read several
// times and at random.
func Make(ctx context.Context, base io.ReaderAt, baseSize int64, target io.ReaderAt, targetSize int64, w io.Writer, o Options) (*Result, error) {
	if o.Limit <= 0 {
		o.Limit = targetSize
	}
	m := &maker{ctx: ctx, base: base, target: target, baseSize: baseSize, targetSize: targetSize, o: o}
	var err error
	if m.baseSum, err = hashOf(ctx, base, baseSize); err != nil {
		return nil, fmt.Errorf("make delta: read base: %w", err)
	}
	if m.targetSum, err = hashOf(ctx, target, targetSize); err != nil {
		return nil, fmt.Errorf("make delta: read target: %w", err)
	}
	result, best, err := m.best()
	if best != nil {
		defer best.Close()
	}
	if err != nil {
		return result, fmt.Errorf("make delta: %w", err)
	}
	if result.Bytes >= o.Limit {
		return result, fmt.Errorf("make delta: %d bytes of %d: %w", result.Bytes, targetSize, ErrNotWorth)
	}
	if _, err := copyAll(w, io.NewSectionReader(best, 0, best.Size())); err != nil {
		return nil, fmt.Errorf("write delta: %w", err)
	}
	return result, nil
}

// best makes the delta in the forms that may be the smallest.
func (m *maker) best() (*Result, *scratch, error) {
	opened, first, reason, err := m.opened()
	if err != nil {
		return nil, nil, err
	}
	// Whatever is opened is smaller than it is raw, but for streams that are not.
	if first != nil && opened.Unproven < m.targetSize/10 && opened.Bytes < m.targetSize/2 {
		return opened, first, nil
	}
	raw, second, err := m.raw()
	if err != nil {
		return nil, first, err
	}
	raw.Reason = reason
	if first == nil {
		return raw, second, nil
	}
	if opened.Bytes <= raw.Bytes {
		second.Close()
		return opened, first, nil
	}
	first.Close()
	raw.Streams, raw.Kept, raw.Proven, raw.Unproven = opened.Streams, opened.Kept, opened.Proven, opened.Unproven
	raw.Reason = opened.Reason
	if raw.Reason == "" {
		raw.Reason = "raw is smaller"
	}
	return raw, second, nil
}

// raw makes the delta between the files as they are.
func (m *maker) raw() (*Result, *scratch, error) {
	sum, err := sourceSum(m.base, m.baseSize)
	if err != nil {
		return nil, nil, fmt.Errorf("read base: %w", err)
	}
	h := &header{form: formRaw, baseSize: m.baseSize, targetSize: m.targetSize, baseSum: m.baseSum, targetSum: m.targetSum,
		sourceSize: m.baseSize, sourceSum: sum, openedSize: m.targetSize}
	out, err := m.encode(h, m.base, m.target, nil)
	if err == nil {
		err = m.proof(h, nil, out)
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeIf(out))
	}
	return &Result{Form: Raw, Bytes: out.Size(), Opened: m.targetSize}, out, nil
}

// opened makes the delta between the opened files. When there is none, reason
// says why.
func (m *maker) opened() (*Result, *scratch, string, error) {
	base, err := openBase(m.ctx, m.base, m.baseSize, maxDepth, m.o)
	if errors.Is(err, ErrTooLarge) {
		return nil, nil, "base is " + ErrTooLarge.Error(), nil
	}
	if err != nil {
		return nil, nil, "", err
	}
	defer base.Close()
	sum, err := sourceSum(base.content, base.content.Size())
	if err != nil {
		return nil, nil, "", err
	}
	deadline := time.Time{}
	if m.o.Budget > 0 {
		deadline = time.Now().Add(m.o.Budget)
	}
	// The proof at the end rebuilds every stream. Only when it fails is each
	// stream rebuilt by itself before, to find those that lie.
	for _, trust := range []bool{true, false} {
		result, out, reason, err := m.openedOnce(base, sum, deadline, trust)
		if !errors.Is(err, errProof) {
			return result, out, reason, err
		}
	}
	return nil, nil, "the opened target does not close to the same bytes", nil
}

var errProof = errors.New("proof failed")

func (m *maker) openedOnce(base *opened, sum uint64, deadline time.Time, trust bool) (*Result, *scratch, string, error) {
	t := newOpener(m.ctx, m.target, m.targetSize, m.o)
	defer t.opened.Close()
	t.base, t.deadline, t.trust, t.encoders = base, deadline, trust, m.o.Encoders
	if t.encoders == nil {
		t.encoders = deflate.Encoders()
	}
	if err := t.open(m.targetSize, maxDepth); errors.Is(err, ErrTooLarge) {
		return nil, nil, ErrTooLarge.Error(), nil
	} else if err != nil {
		return nil, nil, "", err
	}
	c := &t.count
	result := &Result{Form: Opened, Opened: t.content.Size() - t.structure,
		Streams: c.streams, Kept: c.kept, Proven: c.proven, Unproven: c.unproven, Reason: t.reason()}
	if c.kept+c.proven == 0 && len(base.records) == 0 {
		if result.Reason == "" {
			result.Reason = "nothing to open"
		}
		return nil, nil, result.Reason, nil
	}
	for e := range c.used {
		result.Encoders = append(result.Encoders, e)
	}
	slices.Sort(result.Encoders)
	if t.closings.Size() > maxClosings {
		return nil, nil, "recipes are too large", nil
	}
	h := &header{form: formOpened, baseSize: m.baseSize, targetSize: m.targetSize, baseSum: m.baseSum, targetSum: m.targetSum,
		sourceSize: base.content.Size(), sourceSum: sum, openedSize: t.content.Size(), structure: t.structure, depth: maxDepth,
		encoders: result.Encoders}
	out, err := m.encode(h, base.content, t.content, t.closings)
	if err == nil {
		if err = m.proof(h, base, out); err != nil && m.ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errProof, err)
		}
	}
	if err != nil {
		return nil, nil, "", errors.Join(err, closeIf(out))
	}
	result.Bytes = out.Size()
	return result, out, "", nil
}

// reason says why not all streams were proven.
func (o *opener) reason() string {
	switch left := o.count.streams - o.count.kept - o.count.proven; {
	case left == 0:
		return ""
	case o.count.late.Load():
		return fmt.Sprintf("time was up with %d of %d streams unproven", left, o.count.streams)
	default:
		return fmt.Sprintf("no encoder gives back %d of %d streams", left, o.count.streams)
	}
}

// encode writes a delta, in the manner that makes it smaller. It completes h.
func (m *maker) encode(h *header, source, target io.ReaderAt, closings *scratch) (*scratch, error) {
	idx, err := newIndex(m.ctx, source, h.sourceSize)
	if err != nil {
		return nil, err
	}
	src := newPages(source, h.sourceSize, makePages)
	z := &packer{}
	out, err := m.encodeAs(eager, h, src, idx, z, target, closings)
	if err != nil || out.Size() < 16<<10 || out.Size() < h.openedSize/50 || h.plain[secLiterals] < 2*h.plain[secDifferences] {
		return out, err
	}
	other := *h
	out2, err := m.encodeAs(wary, &other, src, idx, z, target, closings)
	if err != nil || out2.Size() >= out.Size() {
		return out, errors.Join(err, closeIf(out2))
	}
	*h = other
	return out2, out.Close()
}

func (m *maker) encodeAs(how manner, h *header, src *pages, idx *index, z *packer, target io.ReaderAt, closings *scratch) (*scratch, error) {
	var plain [sections]*scratch
	var to [secClosings]io.Writer
	for i := range plain {
		if i == secClosings && closings != nil {
			plain[i] = closings
			break
		}
		plain[i] = newScratch(m.o.TempDir, 0)
		defer plain[i].Close()
		if i < secClosings {
			to[i] = plain[i]
		}
	}
	if err := encode(m.ctx, how, src, idx, target, h.openedSize, to); err != nil {
		return nil, err
	}
	packed := newScratch(m.o.TempDir, 0)
	defer packed.Close()
	for i, s := range plain {
		h.plain[i] = s.Size()
	}
	r := &rounds{left: h.openedSize, source: h.sourceSize}
	for i, to := range []**bufio.Reader{&r.gaps, &r.copies, &r.addresses} {
		*to = bufio.NewReader(io.NewSectionReader(plain[secGaps+i], 0, h.plain[secGaps+i]))
	}
	dict, err := dictionary(m.ctx, src, r)
	if err != nil {
		return nil, err
	}
	for i, s := range plain {
		with := dict
		if i != secLiterals {
			with = nil
		}
		if h.packed[i], err = z.pack(packed, s, with); err != nil {
			return nil, fmt.Errorf("compress section: %w", err)
		}
	}
	out := newScratch(m.o.TempDir, 0)
	_, err = out.Write(h.append(nil))
	if err == nil {
		_, err = copyAll(out, io.NewSectionReader(packed, 0, packed.Size()))
	}
	return out, err
}

// proof applies a delta.
func (m *maker) proof(h *header, base *opened, out *scratch) error {
	start := int64(len(h.append(nil)))
	if err := h.validate(out.Size() - start); err != nil {
		return err
	}
	return apply(m.ctx, m.base, base, h, out, start, io.Discard, m.o)
}

func closeIf(s *scratch) error {
	if s == nil {
		return nil
	}
	return s.Close()
}
