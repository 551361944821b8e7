package store

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"davit/store/bucket"
	"davit/store/pack"
)

const (
	openPacks       = 16       // packs held open at most, when none is in use
	frameCacheBytes = 24 << 20 // decoded frames kept, in bytes, when none is in use
)

// cache keeps values that are costly to open. A value in use is never closed;
// the least recently used ones go when their summed cost passes max.
type cache[K comparable, V any] struct {
	open  func(context.Context, K) (v V, cost int64, err error)
	close func(V)
	max   int64

	mu     sync.Mutex // guards all below
	used   int64
	items  map[K]*cached[K, V]
	recent *list.List // of *cached; front is the most recent
}

type cached[K comparable, V any] struct {
	key  K
	elem *list.Element
	refs int
	cost int64

	once sync.Once
	v    V
	err  error
}

func newCache[K comparable, V any](max int64, open func(context.Context, K) (V, int64, error), close func(V)) *cache[K, V] {
	return &cache[K, V]{open: open, close: close, max: max, items: map[K]*cached[K, V]{}, recent: list.New()}
}

// acquire returns the value for k, opening it if needed. The caller must
// release it.
func (c *cache[K, V]) acquire(ctx context.Context, k K) (*cached[K, V], error) {
	for {
		c.mu.Lock()
		it := c.items[k]
		if it == nil {
			it = &cached[K, V]{key: k}
			it.elem = c.recent.PushFront(it)
			c.items[k] = it
		} else if it.elem != nil {
			c.recent.MoveToFront(it.elem)
		}
		it.refs++
		c.mu.Unlock()

		it.once.Do(func() {
			v, cost, err := c.open(ctx, k)
			c.mu.Lock()
			defer c.mu.Unlock()
			it.v, it.err, it.cost = v, err, cost
			if err != nil {
				c.forget(it)
				return
			}
			c.used += cost
			c.evict()
		})
		if it.err == nil {
			return it, nil
		}
		// Another caller's cancelled context must not fail this one.
		if ctx.Err() == nil && (errors.Is(it.err, context.Canceled) || errors.Is(it.err, context.DeadlineExceeded)) {
			continue
		}
		return nil, it.err
	}
}

// release gives a value back.
func (c *cache[K, V]) release(it *cached[K, V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	it.refs--
	if it.elem == nil && it.refs == 0 {
		c.close(it.v)
		return
	}
	c.evict()
}

// forget takes an item out of the cache's sight. c.mu is held.
func (c *cache[K, V]) forget(it *cached[K, V]) {
	if it.elem != nil {
		c.recent.Remove(it.elem)
		it.elem = nil
		delete(c.items, it.key)
		c.used -= it.cost
		if it.err != nil {
			it.cost = 0
		}
	}
}

// evict closes the least recently used values that nobody uses. c.mu is held.
func (c *cache[K, V]) evict() {
	for e := c.recent.Back(); e != nil && c.used > c.max; {
		it := e.Value.(*cached[K, V])
		e = e.Prev()
		if it.refs == 0 {
			c.forget(it)
			c.close(it.v)
		}
	}
}

// drop closes everything that nobody uses.
func (c *cache[K, V]) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	max := c.max
	c.max = -1
	c.evict()
	c.max = max
}

// openedPack is a pack open for reading.
type openedPack struct {
	object bucket.Object
	reader *pack.Reader
	info   PackInfo
}

type packCache struct{ *cache[int64, *openedPack] }

func newPackCache(s *Store, max int64) *packCache {
	return &packCache{newCache(max, func(ctx context.Context, id int64) (*openedPack, int64, error) {
		info, err := s.index.Pack(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		p, err := s.openPack(ctx, info)
		return p, 1, err
	}, func(p *openedPack) { p.object.Close() })}
}

func (c *packCache) close() error {
	c.drop()
	return nil
}

type frameKey struct {
	pack  int64
	frame uint32
}

type frameCache struct {
	*cache[frameKey, []byte]
}

func newFrameCache(s *Store, max int64) *frameCache {
	// Frames are large and short-lived: their memory is used again rather
	// than left to the collector.
	buffers := sync.Pool{New: func() any { b := make([]byte, 0, pack.MaxFrame); return &b }}
	return &frameCache{newCache(max, func(ctx context.Context, k frameKey) ([]byte, int64, error) {
		p, err := s.packs.acquire(ctx, k.pack)
		if err != nil {
			return nil, 0, err
		}
		defer s.packs.release(p)
		buf := *buffers.Get().(*[]byte)
		plain, err := p.v.reader.Frame(int(k.frame), buf[:0])
		if err != nil {
			return nil, 0, damagedPack(p.v.info.Name, err)
		}
		return plain, int64(cap(plain)), nil
	}, func(b []byte) { b = b[:0]; buffers.Put(&b) })}
}
