package store

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"davit/store/chunk"
	"davit/store/pack"
)

// Selection is a set of stored chunks to be packed anew for somebody else.
// Where all chunks of a stored frame are wanted the frame is taken as it is,
// without decompressing it; chunks wanted from other frames are gathered into
// new frames. The same selection always gives the same frames.
type Selection struct {
	s      *Store
	order  []frameKey // in order of first need
	wanted map[frameKey]*wantedFrame
	chunks int64
	bytes  int64

	made      map[int]pack.Frame // gathered frames kept from the first walk, by number
	madeBytes int
}

type wantedFrame struct {
	first, count int    // the frame's chunks in the pack's table
	want         []bool // by position in the frame
	n            int
}

// keepMade bounds what a Selection keeps of gathered frames between two walks,
// in bytes. Small deltas, the common case, are then compressed once.
const keepMade = 32 << 20

// Select gathers the chunks of entries that skip does not refuse, each once.
func (s *Store) Select(ctx context.Context, entries iter.Seq2[chunk.Entry, error], skip func(chunk.Name) bool) (*Selection, error) {
	sel := &Selection{s: s, wanted: map[frameKey]*wantedFrame{}, made: map[int]pack.Frame{}}
	err := s.planRuns(ctx, Without(entries, skip), func(r *run) error {
		w := sel.wanted[r.frame]
		p, err := s.packs.acquire(ctx, r.frame.pack)
		if err != nil {
			return err
		}
		defer s.packs.release(p)
		table := p.v.reader.Table()
		if w == nil {
			i := int(r.frame.frame)
			count := len(table.FrameChunks(i))
			w = &wantedFrame{first: int(table.Frames[i].First), count: count, want: make([]bool, count)}
			sel.wanted[r.frame] = w
			sel.order = append(sel.order, r.frame)
		}
		for _, it := range r.items {
			// The frame's chunks lie in the order of their offsets.
			i, ok := slices.BinarySearchFunc(table.Chunks[w.first:w.first+w.count], it.loc.Offset,
				func(c pack.ChunkInfo, offset uint32) int { return int(int64(c.Offset) - int64(offset)) })
			if !ok || table.Chunks[w.first+i].Name != it.entry.Name {
				return fmt.Errorf("%w: the index and pack %s disagree on chunk %s", ErrDamaged, p.v.info.Name, it.entry.Name)
			}
			if !w.want[i] {
				w.want[i] = true
				w.n++
				sel.chunks++
				sel.bytes += int64(it.loc.Length)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("select chunks: %w", err)
	}
	return sel, nil
}

// Without leaves out the chunks that skip names; a nil skip names none.
func Without(entries iter.Seq2[chunk.Entry, error], skip func(chunk.Name) bool) iter.Seq2[chunk.Entry, error] {
	return func(yield func(chunk.Entry, error) bool) {
		for e, err := range entries {
			if err == nil && skip != nil && skip(e.Name) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Chunks returns how many chunks are selected, and their plaintext bytes.
func (sel *Selection) Chunks() (n, bytes int64) { return sel.chunks, sel.bytes }

// FrameSize is what is known of a frame without making it.
type FrameSize struct {
	Compressed int // bytes
	Chunks     int
}

// Sizes calls fn for each frame that Frames would give, in the same order,
// without reading those that are taken as they are.
func (sel *Selection) Sizes(ctx context.Context, fn func(FrameSize) error) error {
	return sel.walk(ctx, func(key frameKey, w *wantedFrame) error {
		p, err := sel.s.packs.acquire(ctx, key.pack)
		if err != nil {
			return err
		}
		defer sel.s.packs.release(p)
		info := p.v.reader.Table().Frames[key.frame]
		return fn(FrameSize{int(info.Length), w.count})
	}, func(f pack.Frame) error { return fn(FrameSize{len(f.Data), len(f.Chunks)}) })
}

// Frames calls fn for each frame. The frame is valid only during the call.
func (sel *Selection) Frames(ctx context.Context, fn func(pack.Frame) error) error {
	var (
		buf     []byte
		entries []chunk.Entry
	)
	return sel.walk(ctx, func(key frameKey, w *wantedFrame) error {
		p, err := sel.s.packs.acquire(ctx, key.pack)
		if err != nil {
			return err
		}
		defer sel.s.packs.release(p)
		table := p.v.reader.Table()
		if buf, err = p.v.reader.Compressed(int(key.frame), buf[:0]); err != nil {
			return damagedPack(p.v.info.Name, err)
		}
		entries = entries[:0]
		for _, c := range table.Chunks[w.first : w.first+w.count] {
			entries = append(entries, chunk.Entry{Name: c.Name, Length: c.Length})
		}
		return fn(pack.Frame{Data: buf, Size: int(table.Frames[key.frame].Size), Chunks: entries})
	}, fn)
}

// walk goes through the frames: whole for those taken as they are, gathered
// for those made of several.
func (sel *Selection) walk(ctx context.Context, whole func(frameKey, *wantedFrame) error, gathered func(pack.Frame) error) error {
	var (
		g      = gather{sel: sel, fn: gathered}
		number int
	)
	for _, key := range sel.order {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		w := sel.wanted[key]
		if w.n == w.count {
			if err := whole(key, w); err != nil {
				return err
			}
			continue
		}
		if err := g.add(ctx, key, w, &number); err != nil {
			return err
		}
	}
	return g.flush(&number)
}

// gather fills new frames with the wanted chunks of frames that are not wanted
// whole.
type gather struct {
	sel     *Selection
	fn      func(pack.Frame) error
	enc     *pack.Encoder
	plain   []byte
	size    int
	entries []chunk.Entry
	data    []byte
}

func (g *gather) add(ctx context.Context, key frameKey, w *wantedFrame, number *int) error {
	s := g.sel.s
	p, err := s.packs.acquire(ctx, key.pack)
	if err != nil {
		return err
	}
	defer s.packs.release(p)
	var held *cached[frameKey, []byte]
	defer func() {
		if held != nil {
			s.frames.release(held)
		}
	}()
	table := p.v.reader.Table()
	for i, want := range w.want {
		if !want {
			continue
		}
		c := table.Chunks[w.first+i]
		// A frame kept from the first walk needs no reading.
		if _, kept := g.sel.made[*number]; !kept {
			if held == nil {
				if held, err = s.frames.acquire(ctx, key); err != nil {
					return err
				}
			}
			if err := verifyChunk(held.v, c.Name, Location{Offset: c.Offset, Length: c.Length}); err != nil {
				return err
			}
			g.plain = append(g.plain, held.v[c.Offset:c.Offset+c.Length]...)
		}
		g.size += int(c.Length)
		g.entries = append(g.entries, chunk.Entry{Name: c.Name, Length: c.Length})
		if g.size >= pack.FrameTarget {
			if err := g.flush(number); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *gather) flush(number *int) error {
	if g.size == 0 {
		return nil
	}
	f, kept := g.sel.made[*number]
	if !kept {
		if g.enc == nil {
			enc, err := pack.NewEncoder()
			if err != nil {
				return err
			}
			g.enc = enc
		}
		g.data = g.enc.Encode(g.data[:0], g.plain)
		f = pack.Frame{Data: g.data, Size: g.size, Chunks: g.entries}
		if g.sel.madeBytes+len(f.Data) <= keepMade {
			g.sel.madeBytes += len(f.Data)
			f.Data, f.Chunks = slices.Clone(f.Data), slices.Clone(f.Chunks)
			g.sel.made[*number] = f
		}
	}
	*number++
	g.plain, g.entries, g.size = g.plain[:0], g.entries[:0], 0
	return g.fn(f)
}
