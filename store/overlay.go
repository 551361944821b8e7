package store

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
)

// Guest is a pack that lies in the bucket under a name of its own and is not
// part of the store yet: one in quarantine.
type Guest struct {
	Name   pack.Name
	Object string // its name in the bucket
}

// Overlay returns a view of the store in which the guests' chunks can be read
// and looked up as if they were stored. The store itself does not change, and
// the view must not be written to.
func (s *Store) Overlay(ctx context.Context, guests []Guest) (*Store, error) {
	index := NewMemoryIndex(overlayFirst)
	objects := map[string]string{}
	view := &Store{bucket: guestBucket{s.bucket, objects}, index: overlayIndex{index, s.index},
		keys: s.keys, config: s.config, size: s.size, workers: s.workers, temp: s.temp, log: s.log}
	view.packs = newPackCache(view, openPacks)
	view.frames = newFrameCache(view, frameCacheBytes)
	for _, g := range guests {
		objects[PackObject(g.Name)] = g.Object
		p, err := view.openPack(ctx, PackInfo{Name: g.Name})
		if err != nil {
			return nil, err
		}
		_, err = index.AddPack(ctx, g.Name, p.object.Size(), p.reader.Table())
		p.object.Close()
		if err != nil {
			return nil, err
		}
	}
	return view, nil
}

// overlayFirst is the number of an overlay's first pack, far above those of
// any index.
const overlayFirst = 1 << 50

type guestBucket struct {
	bucket.Bucket
	objects map[string]string
}

func (b guestBucket) Open(ctx context.Context, name string) (bucket.Object, error) {
	if guest, ok := b.objects[name]; ok {
		name = guest
	}
	return b.Bucket.Open(ctx, name)
}

// overlayIndex looks into the upper index first.
type overlayIndex struct {
	upper *MemoryIndex
	Index
}

func (x overlayIndex) Locate(ctx context.Context, names []chunk.Name, out []Location) error {
	if err := x.Index.Locate(ctx, names, out); err != nil {
		return err
	}
	mine := make([]Location, len(names))
	if err := x.upper.Locate(ctx, names, mine); err != nil {
		return err
	}
	for i := range out {
		if mine[i].Held() { // verified just now
			out[i] = mine[i]
		}
	}
	return nil
}

func (x overlayIndex) Pack(ctx context.Context, id int64) (PackInfo, error) {
	if id >= overlayFirst {
		return x.upper.Pack(ctx, id)
	}
	return x.Index.Pack(ctx, id)
}

func (x overlayIndex) AddPack(context.Context, pack.Name, int64, *pack.Table) (int64, error) {
	return 0, fmt.Errorf("an overlay cannot be written to")
}

func (x overlayIndex) ReplacePack(context.Context, pack.Name, pack.Name, int64, *pack.Table) error {
	return fmt.Errorf("an overlay cannot be written to")
}

// MemoryIndex is an Index that lives and dies with the process.
type MemoryIndex struct {
	first int64

	mu     sync.RWMutex // guards all below
	packs  []PackInfo   // by number - first; a zero Name means removed
	byName map[pack.Name]int64
	chunks map[chunk.Name]Location
}

// NewMemoryIndex returns an empty index that numbers packs from first, which
// must be 1 or more.
func NewMemoryIndex(first int64) *MemoryIndex {
	return &MemoryIndex{first: first, byName: map[pack.Name]int64{}, chunks: map[chunk.Name]Location{}}
}

// Locate implements Index.
func (x *MemoryIndex) Locate(_ context.Context, names []chunk.Name, out []Location) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i, n := range names {
		out[i] = x.chunks[n]
	}
	return nil
}

// AddPack implements Index.
func (x *MemoryIndex) AddPack(_ context.Context, name pack.Name, size int64, table *pack.Table) (int64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	id, ok := x.byName[name]
	if !ok {
		id = x.first + int64(len(x.packs))
		x.packs = append(x.packs, PackInfo{ID: id, Name: name, Size: size, Chunks: len(table.Chunks)})
		x.byName[name] = id
	}
	for _, c := range table.Chunks {
		if !x.chunks[c.Name].Held() {
			x.chunks[c.Name] = Location{Pack: id, Frame: c.Frame, Offset: c.Offset, Length: c.Length}
		}
	}
	return id, nil
}

// Pack implements Index.
func (x *MemoryIndex) Pack(_ context.Context, id int64) (PackInfo, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if i := id - x.first; i >= 0 && i < int64(len(x.packs)) && x.packs[i].ID != 0 {
		return x.packs[i], nil
	}
	return PackInfo{}, fmt.Errorf("look up pack %d: %w", id, ErrMissing)
}

// Packs implements Index.
func (x *MemoryIndex) Packs(context.Context) iter.Seq2[PackInfo, error] {
	return func(yield func(PackInfo, error) bool) {
		x.mu.RLock()
		packs := append([]PackInfo(nil), x.packs...)
		x.mu.RUnlock()
		for _, p := range packs {
			if p.ID != 0 && !yield(p, nil) {
				return
			}
		}
	}
}

// ReplacePack implements Index.
func (x *MemoryIndex) ReplacePack(ctx context.Context, old, name pack.Name, size int64, table *pack.Table) error {
	x.mu.Lock()
	if id, ok := x.byName[old]; ok {
		delete(x.byName, old)
		x.packs[id-x.first] = PackInfo{}
		for n, loc := range x.chunks {
			if loc.Pack == id {
				delete(x.chunks, n)
			}
		}
	}
	x.mu.Unlock()
	if name == (pack.Name{}) {
		return nil
	}
	_, err := x.AddPack(ctx, name, size, table)
	return err
}
