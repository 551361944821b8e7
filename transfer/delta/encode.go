package delta

import (
	"context"
	"fmt"
	"io"
)

// The sections of a delta, in order. The first secClosings are the coder's, and
// where literals go is known when those before have been read.
const (
	secGaps = iota
	secCopies
	secAddresses
	secLiterals
	secDifferences
	secClosings
	sections
)

// How the encoder chooses. None of it is in the format.
const (
	lookahead  = 1 << 20 // bytes of the target that are there when a match is looked for
	maxPending = 64 << 10
	nearby     = 64 << 10
	early      = 16 // places whose entry in the index is fetched before it is needed
)

// manner is how much an encoder trusts that the target goes on like the source
// where the last copy led to.
type manner struct {
	near  int // equal bytes that are worth an address nearby
	far   int // and one further away, which loses the place
	gap   int // bytes that may differ before a copy is not gone on with
	goOn  int // equal bytes that are worth going on for
	slope int // one more for so many that differ
	leave int // equal bytes more that it takes to leave a place that is like the target
}

var (
	// eager suits versions of the same: programs whose addresses moved, text with
	// small edits.
	eager = manner{near: 16, far: 32, gap: 256, goOn: 4, slope: 16, leave: 32}

	// wary suits what was built anew, where likeness is chance, and long texts:
	// short copies cost more than literals of which the dictionary has the like.
	wary = manner{near: 32, far: 64, gap: 48, goOn: 6, slope: 4, leave: 0}
)

// encoder codes a target against a source into sections, not yet compressed.
type encoder struct {
	manner
	src *pages
	idx *index
	out [secClosings]io.Writer

	buf  []byte // of the target: pending bytes, then what is looked at
	lit  int    // where the pending bytes begin in buf
	pos  int    // where the encoder stands in buf
	at   int64  // place in the source, as the decoder will have it when the pending bytes begin
	live bool   // at is behind a copy

	round  round // that is held back, for what comes may be part of it
	number []byte
	diff   []byte
}

// encode codes size bytes of target.
func encode(ctx context.Context, how manner, src *pages, idx *index, target io.ReaderAt, size int64, out [secClosings]io.Writer) error {
	e := &encoder{manner: how, src: src, idx: idx, out: out, buf: make([]byte, 0, min(size, maxPending+4*lookahead))}
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.lit > 0 {
			e.buf = e.buf[:copy(e.buf, e.buf[e.lit:])]
			e.pos -= e.lit
			e.lit = 0
		}
		have := len(e.buf)
		e.buf = e.buf[:min(int64(cap(e.buf)), int64(have)+size-off)]
		if n, err := target.ReadAt(e.buf[have:], off); n < len(e.buf)-have {
			return fmt.Errorf("read target: %w", unexpected(err))
		}
		off += int64(len(e.buf) - have)
		end := len(e.buf) - lookahead
		if off == size {
			end = len(e.buf)
		}
		if err := e.advance(end); err != nil {
			return err
		}
		if off == size {
			if err := e.add(len(e.buf)); err != nil {
				return err
			}
			return e.flush()
		}
	}
}

// advance codes until pos has passed end.
func (e *encoder) advance(end int) error {
	for e.pos < end {
		if e.live {
			on, err := e.proceed()
			if err != nil {
				return err
			}
			if on {
				continue
			}
		}
		if e.pos+seed > len(e.buf) {
			e.pos++
			continue
		}
		from, back, n, err := e.match()
		if err != nil {
			return err
		}
		if n == 0 {
			e.pos++
			if e.pos-e.lit > maxPending {
				if err := e.add(e.pos); err != nil {
					return err
				}
				e.live = false
			}
			continue
		}
		if err := e.add(e.pos - back); err != nil {
			return err
		}
		if err := e.copy(from, back+n); err != nil {
			return err
		}
	}
	return nil
}

// match finds what is worth a copy: n bytes from pos on, 0 if there are none, and
// back bytes before it.
func (e *encoder) match() (from int64, back, n int, err error) {
	if e.pos+early+seed <= len(e.buf) {
		e.idx.fetch(hash(e.buf[e.pos+early:]))
	}
	var found [probes]int64
	most, alike := 0, -1 // -1: not known yet
	for _, off := range found[:e.idx.find(hash(e.buf[e.pos:]), &found)] {
		same, err := e.src.same(off, e.buf[e.pos:])
		if err != nil {
			return 0, 0, 0, err
		}
		if same < seed {
			continue
		}
		before, err := e.src.sameBefore(off, e.buf[e.lit:e.pos])
		if err != nil {
			return 0, 0, 0, err
		}
		worth := same + before
		if jump := off - int64(e.pos-e.lit) - e.at; jump < -nearby || jump > nearby {
			worth -= e.far - e.near
		}
		if worth >= e.near && worth < e.near+e.leave && alike < 0 {
			if alike, err = e.alike(); err != nil {
				return 0, 0, 0, err
			}
		}
		if alike == 1 {
			worth -= e.leave
		}
		if worth >= e.near && worth > most {
			most, from, back, n = worth, off-int64(before), before, same
		}
	}
	return from, back, n, nil
}

// proceed goes on with the last copy when after a few other bytes the target is
// like the source again.
func (e *encoder) proceed() (bool, error) {
	gap := e.pos - e.lit
	if gap > e.gap {
		return false, nil
	}
	from := e.at + int64(gap)
	if from >= e.src.size {
		return false, nil
	}
	n, err := e.src.same(from, e.buf[e.pos:])
	if err != nil || n == 0 || n < e.manner.goOn+gap/e.slope && e.pos+n < len(e.buf) {
		return false, err
	}
	if gap > 0 {
		old := append(e.diff[:0], make([]byte, gap)...)
		if err := e.src.read(e.at, old); err != nil {
			return false, err
		}
		e.diff = old
		now := e.buf[e.lit:e.pos]
		if text(old) && text(now) && text(e.buf[e.pos:e.pos+min(n, 16)]) {
			if err := e.add(e.pos); err != nil {
				return false, err
			}
			return true, e.copy(from, n)
		}
		for i := range old {
			old[i] = now[i] - old[i]
		}
		if err := e.addGap(gap, true); err != nil {
			return false, err
		}
		if _, err := e.out[secDifferences].Write(old); err != nil {
			return false, err
		}
	}
	return true, e.copy(from, n)
}

// alike reports whether the place that the last copy led to is like the target
// here, though not the same: 1 or 0.
func (e *encoder) alike() (int, error) {
	from := e.at + int64(e.pos-e.lit)
	now := e.buf[e.pos:min(len(e.buf), e.pos+64)]
	if !e.live || from < 0 || from+int64(len(now)) > e.src.size {
		return 0, nil
	}
	var old [64]byte
	if err := e.src.read(from, old[:len(now)]); err != nil {
		return 0, err
	}
	n := 0
	for i := range now {
		if old[i] == now[i] {
			n++
		}
	}
	if n < len(now)*5/8 {
		return 0, nil
	}
	return 1, nil
}

// text reports whether b looks like something whose differences mean nothing.
func text(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c >= 0x7f {
			return false
		}
	}
	return true
}

// add codes the pending bytes up to end as they are.
func (e *encoder) add(end int) error {
	if end == e.lit {
		return nil
	}
	if _, err := e.out[secLiterals].Write(e.buf[e.lit:end]); err != nil {
		return err
	}
	return e.addGap(end-e.lit, false)
}

// addGap codes the next n bytes as a gap.
func (e *encoder) addGap(n int, differ bool) error {
	r := &e.round
	if r.copy > 0 || r.gap > 0 && r.differ != differ {
		if err := e.flush(); err != nil {
			return err
		}
	}
	if r.gap == 0 {
		r.at, r.differ = e.at, differ
	}
	r.gap += int64(n)
	e.at += int64(n)
	e.lit += n
	return nil
}

// copy codes the next n bytes as being in the source at from.
func (e *encoder) copy(from int64, n int) error {
	r := &e.round
	if r.copy > 0 && from != e.at {
		if err := e.flush(); err != nil {
			return err
		}
	}
	if r.copy == 0 {
		if r.gap == 0 {
			r.at = e.at
		}
		r.from = from
	}
	r.copy += int64(n)
	e.at, e.live = from+int64(n), true
	e.lit += n
	e.pos = e.lit
	return nil
}

// flush writes the round that is held back.
func (e *encoder) flush() error {
	r := e.round
	e.round = round{}
	if r.gap+r.copy == 0 {
		return nil
	}
	gap, n, jump := r.gap<<1, r.copy<<1, int64(0)
	if r.differ {
		gap |= 1
	}
	if r.copy > 0 {
		jump = r.from - r.at - r.gap
	}
	if jump != 0 {
		n |= 1
		if err := e.write(secAddresses, appendSigned(e.number[:0], jump)); err != nil {
			return err
		}
	}
	if err := e.write(secGaps, appendNumber(e.number[:0], gap)); err != nil {
		return err
	}
	return e.write(secCopies, appendNumber(e.number[:0], n))
}

func (e *encoder) write(section int, number []byte) error {
	e.number = number
	_, err := e.out[section].Write(number)
	return err
}
