package bundle

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// mendedWindows is how many windows a Payload keeps that needed repair.
	mendedWindows = 2
	// recentShards is how many whole shards it keeps for reads of less.
	recentShards = 16
)

// mender reads the payload of a set with parity. What is whole is read as it
// is, a shard at a time; the first shard of a window that is lost makes it read
// the whole window and repair it, and from then on the window serves all reads.
type mender struct {
	files *shardFiles
	codec *codec

	reading sync.RWMutex // held for reading by reads, so that close waits
	closed  bool         // guarded by reading

	loading  sync.Mutex  // one window at a time: it bounds the memory
	straight atomic.Bool // a volume is lost, and so something of every window
	repaired atomic.Int64

	mu      sync.Mutex
	windows []*mended // guarded by mu; least recently used first
	recent  []recentShard
}

// mended is a window whose payload is there, but for what is lost for good.
type mended struct {
	*window
	lost *losses
	harm *harm
}

type recentShard struct {
	place
	data []byte
}

func newMender(ctx context.Context, s *Set) (*mender, error) {
	files := newShardFiles(ctx, s)
	codec, err := newCodec(files.spread)
	if err != nil {
		return nil, err
	}
	m := &mender{files: files, codec: codec}
	for v, names := range files.files {
		if len(names) == 0 && files.dataCells(v) > 0 {
			m.straight.Store(true)
		}
	}
	return m, nil
}

// readAt implements Payload.ReadAt.
func (m *mender) readAt(b []byte, at int64) (int, error) {
	m.reading.RLock()
	defer m.reading.RUnlock()
	if m.closed {
		return 0, errClosed
	}
	done := 0
	for done < len(b) {
		if at >= m.codec.payload {
			return done, io.EOF
		}
		p, within := m.codec.at(at)
		n := int(min(int64(len(b)-done), int64(m.codec.Shard-within), m.codec.payload-at))
		if err := m.read(b[done:done+n], p, within); err != nil {
			return done, err
		}
		done += n
		at += int64(n)
	}
	return done, nil
}

// read reads a piece of one shard.
func (m *mender) read(b []byte, p place, within int) error {
	if done, err := m.fromMemory(b, p, within); done || err != nil {
		return err
	}
	if !m.whole(p) {
		if whole, err := m.direct(b, p, within); whole || err != nil {
			return err
		}
	}
	for { // other reads may push it out before it is used
		if err := m.load(p.window); err != nil {
			return err
		}
		if done, err := m.fromMemory(b, p, within); done || err != nil {
			return err
		}
	}
}

// whole reports whether the window of a shard is better read as a whole at
// once: when something of every window is lost, and reading goes through them
// in order.
func (m *mender) whole(p place) bool {
	if !m.straight.Load() {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := func(w *mended) bool { return w.number == p.window-1 }
	return p.i == 0 && p.d == 0 || slices.ContainsFunc(m.windows, before)
}

// fromMemory copies what a window or shard that is kept holds.
func (m *mender) fromMemory(b []byte, p place, within int) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, w := range m.windows {
		if w.number != p.window {
			continue
		}
		m.windows = append(slices.Delete(m.windows, i, i+1), w)
		if w.lost.is(p.d, p.i) && w.lost.gone(p.d) {
			return false, m.stripeError(w, p.d)
		}
		copy(b, w.shard(p.d, p.i)[within:])
		return true, nil
	}
	for _, r := range m.recent {
		if r.place == p {
			copy(b, r.data[within:])
			return true, nil
		}
	}
	return false, nil
}

// direct reads a shard from its place. false means that it is lost.
func (m *mender) direct(b []byte, p place, within int) (bool, error) {
	whole, shard := true, b
	kept := len(b) < m.codec.Shard
	if kept {
		m.mu.Lock()
		if len(m.recent) >= recentShards {
			shard = m.recent[0].data
			m.recent = slices.Delete(m.recent, 0, 1)
		} else {
			shard = make([]byte, m.codec.Shard)
		}
		m.mu.Unlock()
	}
	volume, block := m.codec.block(p)
	err := m.files.read(volume, shard, block, &harm{}, func(int) { whole = false })
	if err != nil || !whole {
		return false, err
	}
	if kept {
		copy(b, shard[within:])
		m.mu.Lock()
		m.recent = append(m.recent, recentShard{p, shard})
		m.mu.Unlock()
	}
	return true, nil
}

// load reads a window and repairs it.
func (m *mender) load(number int64) error {
	m.loading.Lock()
	defer m.loading.Unlock()
	m.mu.Lock()
	if slices.ContainsFunc(m.windows, func(w *mended) bool { return w.number == number }) {
		m.mu.Unlock()
		return nil // another read was faster
	}
	w := (*window)(nil)
	if len(m.windows) >= mendedWindows {
		w = m.windows[0].window
		m.windows = slices.Delete(m.windows, 0, 1)
	}
	m.mu.Unlock()
	if w == nil {
		w = newWindow(m.codec.spread)
	}
	w.reset(number)
	lost, h, err := m.files.load(m.codec, w, false)
	if err != nil {
		return err
	}
	for d := range w.stripes {
		if lost.mendable(d) {
			m.repaired.Add(int64(lost.data[d]))
		}
	}
	for _, d := range h.files {
		if len(d.Blocks) == 0 { // a file that cannot be opened
			m.straight.Store(true)
		}
	}
	m.mu.Lock()
	m.windows = append(m.windows, &mended{w, lost, h})
	m.mu.Unlock()
	return nil
}

func (m *mender) stripeError(w *mended, d int) error {
	return m.files.stripeError(w.number*int64(m.codec.Depth)+int64(d), w.lost.counts[d], w.harm)
}

// close lets reads that are under way finish first.
func (m *mender) close() error {
	m.reading.Lock()
	defer m.reading.Unlock()
	m.closed = true
	m.windows, m.recent = nil, nil
	return m.files.close()
}

// load fills a window, all of it or its payload alone, and repairs what is
// lost where that can be done. For the payload it reads no more parity than
// that takes; what it did not read counts as lost.
func (f *shardFiles) load(c *codec, w *window, all bool) (*losses, *harm, error) {
	lost, h := newLosses(f.spread, w.stripes), &harm{}
	var mu sync.Mutex // guards lost
	shardsOf := func(volume, first, cells int) error {
		b := w.part(volume)[first*w.stripes*w.Shard:][:cells*w.stripes*w.Shard]
		return f.read(volume, b, f.firstBlock(w.number)+int64(first*w.stripes), h, func(i int) {
			mu.Lock()
			defer mu.Unlock()
			lost.add(i%w.stripes, (first+i/w.stripes)*f.volumes+volume)
		})
	}
	err := parallel(f.ctx, f.volumes, func(v int) error {
		if all {
			return shardsOf(v, 0, f.perVolume())
		}
		return shardsOf(v, 0, f.dataCells(v))
	})
	if err != nil {
		return nil, nil, err
	}
	if !all && slices.Max(lost.data) > 0 {
		if err := f.loadParity(w, lost, shardsOf); err != nil {
			return nil, nil, err
		}
	}
	return lost, h, c.mend(f.ctx, w, lost, all)
}

// loadParity reads so many cells of parity that each stripe has enough shards.
func (f *shardFiles) loadParity(w *window, lost *losses, read func(volume, first, cells int) error) error {
	next := f.Data
	for next < f.shards() {
		n := min(slices.Max(lost.counts)-(next-f.Data), f.shards()-next)
		if n <= 0 {
			break
		}
		err := parallel(f.ctx, n, func(k int) error { return read((next+k)%f.volumes, (next+k)/f.volumes, 1) })
		if err != nil {
			return err
		}
		next += n
	}
	for ; next < f.shards(); next++ {
		for d := range w.stripes {
			lost.add(d, next)
		}
	}
	return nil
}
