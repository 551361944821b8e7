package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"golang.org/x/sync/errgroup"

	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
)

// MaxDepth bounds how many lists stand above a stream's chunks.
const MaxDepth = 4

// openPack opens a pack's object and checks it against the index.
func (s *Store) openPack(ctx context.Context, info PackInfo) (*openedPack, error) {
	object, err := s.bucket.Open(ctx, PackObject(info.Name))
	if errors.Is(err, bucket.ErrNotExist) {
		return nil, fmt.Errorf("open pack %s: %w: the object is gone from the bucket", info.Name, ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("open pack %s: %w", info.Name, err)
	}
	if info.Size != 0 && object.Size() != info.Size {
		size := object.Size()
		object.Close()
		return nil, fmt.Errorf("open pack %s: %w: it has %d bytes instead of %d", info.Name, ErrDamaged, size, info.Size)
	}
	reader, err := pack.Open(object, object.Size(), s.keys)
	if err != nil {
		object.Close()
		return nil, damagedPack(info.Name, err)
	}
	return &openedPack{object, reader, info}, nil
}

// damagedPack says which pack a reading error was in, and whether it means
// damage or something else, such as a wrong key or a medium that is gone.
func damagedPack(name pack.Name, err error) error {
	if errors.Is(err, pack.ErrDamaged) {
		return fmt.Errorf("read pack %s: %w: %w", name, ErrDamaged, err)
	}
	return fmt.Errorf("read pack %s: %w", name, err)
}

// A run is a row of wanted chunks that lie in one frame.
type run struct {
	frame frameKey
	items []runItem
	held  *cached[frameKey, []byte]
	err   error
	ready chan struct{} // closed when held or err is set
}

type runItem struct {
	entry chunk.Entry
	loc   Location
}

const (
	locateBatch = 256  // chunks looked up at once
	runItems    = 4096 // chunks in a run at most
)

// Read calls fn for each entry in order with the chunk's bytes, which are
// verified against the chunk's name and valid only during the call. Frames are
// read and decoded ahead on all workers; fn runs in one goroutine.
// A chunk that the store does not hold is a *MissingChunkError.
func (s *Store) Read(ctx context.Context, entries iter.Seq2[chunk.Entry, error], fn func(chunk.Entry, []byte) error) error {
	return s.read(ctx, entries, true, fn)
}

// ReadUnverified is Read for a caller that compares the bytes with a sum of
// its own and believes nothing before: chunks are not verified against their
// names.
func (s *Store) ReadUnverified(ctx context.Context, entries iter.Seq2[chunk.Entry, error], fn func(chunk.Entry, []byte) error) error {
	return s.read(ctx, entries, false, fn)
}

func (s *Store) read(ctx context.Context, entries iter.Seq2[chunk.Entry, error], verify bool, fn func(chunk.Entry, []byte) error) error {
	g, ctx := errgroup.WithContext(ctx)
	ordered := make(chan *run, 2*s.workers)
	work := make(chan *run, 2*s.workers)
	g.Go(func() error {
		defer close(ordered)
		defer close(work)
		return s.planRuns(ctx, entries, func(r *run) error {
			if err := send(ctx, ordered, r); err != nil {
				return err
			}
			return send(ctx, work, r)
		})
	})
	for range s.workers {
		g.Go(func() error {
			for r := range work {
				r.held, r.err = s.loadRun(ctx, r, verify)
				close(r.ready)
			}
			return nil
		})
	}
	var left *run
	g.Go(func() error {
		for r := range ordered {
			if err := await(ctx, r.ready); err != nil {
				left = r
				return err
			}
			if err := s.deliver(r, fn); err != nil {
				return err
			}
		}
		return nil
	})
	err := g.Wait()
	// After an error there are frames that nobody will take.
	if left != nil && left.held != nil {
		s.frames.release(left.held)
	}
	for r := range ordered {
		if r.held != nil {
			s.frames.release(r.held)
		}
	}
	return err
}

func (s *Store) deliver(r *run, fn func(chunk.Entry, []byte) error) error {
	if r.err != nil {
		return r.err
	}
	defer s.frames.release(r.held)
	for _, it := range r.items {
		at := it.loc.Offset
		if err := fn(it.entry, r.held.v[at:at+it.loc.Length]); err != nil {
			return err
		}
	}
	return nil
}

// planRuns looks entries up and gathers neighbours that lie in one frame.
func (s *Store) planRuns(ctx context.Context, entries iter.Seq2[chunk.Entry, error], emit func(*run) error) error {
	var (
		block [locateBatch]chunk.Entry
		names [locateBatch]chunk.Name
		found [locateBatch]Location
		n     int
		cur   *run
	)
	flush := func() error {
		if n == 0 {
			return nil
		}
		if err := s.index.Locate(ctx, names[:n], found[:n]); err != nil {
			return err
		}
		for i, e := range block[:n] {
			loc := found[i]
			if !loc.Held() {
				return &MissingChunkError{e.Name}
			}
			if e.Length != 0 && loc.Length != e.Length {
				return lengthError(e, loc)
			}
			key := frameKey{loc.Pack, loc.Frame}
			if cur != nil && (cur.frame != key || len(cur.items) >= runItems) {
				if err := emit(cur); err != nil {
					return err
				}
				cur = nil
			}
			if cur == nil {
				cur = &run{frame: key, ready: make(chan struct{})}
			}
			cur.items = append(cur.items, runItem{e, loc})
		}
		n = 0
		return nil
	}
	for e, err := range entries {
		if err != nil {
			return err
		}
		block[n], names[n] = e, e.Name
		if n++; n == locateBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if cur != nil {
		return emit(cur)
	}
	return nil
}

// loadRun gets a run's frame and verifies the chunks wanted from it.
func (s *Store) loadRun(ctx context.Context, r *run, verify bool) (*cached[frameKey, []byte], error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	held, err := s.frames.acquire(ctx, r.frame)
	if err != nil {
		return nil, err
	}
	for i, it := range r.items {
		// A row of one and the same chunk, as in a sparse file, is one check.
		if i > 0 && it.loc == r.items[i-1].loc && it.entry.Name == r.items[i-1].entry.Name {
			continue
		}
		check := inFrame
		if verify {
			check = verifyChunk
		}
		if err := check(held.v, it.entry.Name, it.loc); err != nil {
			s.frames.release(held)
			return nil, err
		}
	}
	return held, nil
}

func verifyChunk(frame []byte, name chunk.Name, loc Location) error {
	if err := inFrame(frame, name, loc); err != nil {
		return err
	}
	if chunk.NameOf(frame[loc.Offset:loc.Offset+loc.Length]) != name {
		return fmt.Errorf("%w: chunk %s is not what its name says", ErrDamaged, name)
	}
	return nil
}

func inFrame(frame []byte, name chunk.Name, loc Location) error {
	if uint64(loc.Offset)+uint64(loc.Length) > uint64(len(frame)) {
		return fmt.Errorf("%w: chunk %s lies beyond the end of its frame", ErrDamaged, name)
	}
	return nil
}

// Chunk returns the bytes of one chunk, verified.
func (s *Store) Chunk(ctx context.Context, name chunk.Name) ([]byte, error) {
	var found [1]Location
	if err := s.index.Locate(ctx, []chunk.Name{name}, found[:]); err != nil {
		return nil, err
	}
	loc := found[0]
	if !loc.Held() {
		return nil, &MissingChunkError{name}
	}
	held, err := s.frames.acquire(ctx, frameKey{loc.Pack, loc.Frame})
	if err != nil {
		return nil, err
	}
	defer s.frames.release(held)
	if err := verifyChunk(held.v, name, loc); err != nil {
		return nil, err
	}
	return append([]byte(nil), held.v[loc.Offset:loc.Offset+loc.Length]...), nil
}

// Entries lists the chunks of a stream's content in order. It is an error
// wrapping ErrDamaged when they do not add up to the stream's size.
func (s *Store) Entries(ctx context.Context, ref chunk.Ref) iter.Seq2[chunk.Entry, error] {
	return func(yield func(chunk.Entry, error) bool) {
		if ref.Size == 0 {
			return
		}
		var sum int64
		for e, err := range s.level(ctx, ref, 0) {
			if err != nil {
				yield(chunk.Entry{}, err)
				return
			}
			if ref.Depth == 0 {
				e.Length = uint32(ref.Size)
			}
			if sum += int64(e.Length); sum > ref.Size {
				break
			}
			if !yield(e, nil) {
				return
			}
		}
		if sum != ref.Size {
			yield(chunk.Entry{}, fmt.Errorf("%w: the list under %s does not add up to %d bytes", ErrList, ref.Root, ref.Size))
		}
	}
}

// Chunks lists every chunk that a stream needs: its lists, top first, then its
// content. The top chunk's length is unknown and given as 0.
func (s *Store) Chunks(ctx context.Context, ref chunk.Ref) iter.Seq2[chunk.Entry, error] {
	return func(yield func(chunk.Entry, error) bool) {
		if ref.Size == 0 {
			return
		}
		for level := ref.Depth; level > 0; level-- {
			for e, err := range s.level(ctx, ref, level) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
		for e, err := range s.Entries(ctx, ref) {
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// level lists the chunks that make up one level: at ref.Depth the root alone,
// at 0 the content.
func (s *Store) level(ctx context.Context, ref chunk.Ref, level int) iter.Seq2[chunk.Entry, error] {
	return func(yield func(chunk.Entry, error) bool) {
		if ref.Depth > MaxDepth || level > ref.Depth {
			yield(chunk.Entry{}, fmt.Errorf("%w: it has depth %d", ErrList, ref.Depth))
			return
		}
		if level == ref.Depth {
			yield(chunk.Entry{Name: ref.Root}, nil)
			return
		}
		above, stop := s.stream(ctx, s.level(ctx, ref, level+1))
		defer stop()
		lists := chunk.NewListReader(above, s.config.Chunk.Max)
		for n, most := int64(0), s.mostEntries(level); ; n++ {
			e, err := lists.Next()
			if err == io.EOF {
				return
			}
			if err == nil && n == most {
				err = fmt.Errorf("%w: it names more than %d chunks", ErrList, most)
			}
			if errors.Is(err, chunk.ErrDamaged) {
				err = fmt.Errorf("%w: %w", ErrList, err)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// MaxEntries is the most chunks that one stream may have: about 2 TiB.
const MaxEntries = 1 << 25

// mostEntries is the most chunks that a level may have: without a bound, a few
// lists that name each other over and over would keep a reader for years. A
// list is cut like any stream, so the level above needs far fewer chunks.
func (s *Store) mostEntries(level int) int64 {
	most := int64(MaxEntries)
	for range level {
		most = most*chunk.EntrySize/int64(s.config.Chunk.Min) + 2
	}
	return most
}

func lengthError(e chunk.Entry, loc Location) error {
	return fmt.Errorf("%w: chunk %s has %d bytes, the list says %d", ErrList, e.Name, loc.Length, e.Length)
}

// stream reads the chunks of entries one after another.
func (s *Store) stream(ctx context.Context, entries iter.Seq2[chunk.Entry, error]) (io.Reader, func()) {
	next, stop := iter.Pull2(entries)
	return &chunkReader{s: s, ctx: ctx, next: next}, stop
}

type chunkReader struct {
	s    *Store
	ctx  context.Context
	next func() (chunk.Entry, error, bool)
	rest []byte
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		e, err, ok := r.next()
		if !ok {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		if r.rest, err = r.s.Chunk(r.ctx, e.Name); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Open reads a stream from its beginning, chunk after chunk. For large
// content Read is faster.
func (s *Store) Open(ctx context.Context, ref chunk.Ref) io.ReadCloser {
	r, stop := s.stream(ctx, s.Entries(ctx, ref))
	return &streamReader{r, stop}
}

type streamReader struct {
	io.Reader
	stop func()
}

func (r *streamReader) Close() error {
	r.stop()
	return nil
}

// Complete reports whether every chunk of a stream is held: nil, a
// *MissingChunkError for the first that is not, or another error.
func (s *Store) Complete(ctx context.Context, ref chunk.Ref) error {
	var (
		block [locateBatch]chunk.Entry
		names [locateBatch]chunk.Name
		found [locateBatch]Location
		n     int
	)
	flush := func() error {
		if err := s.index.Locate(ctx, names[:n], found[:n]); err != nil {
			return err
		}
		for i, loc := range found[:n] {
			switch e := block[i]; {
			case !loc.Held():
				return &MissingChunkError{e.Name}
			case e.Length != 0 && e.Length != loc.Length:
				return lengthError(e, loc)
			}
		}
		n = 0
		return nil
	}
	for e, err := range s.Chunks(ctx, ref) {
		if err != nil {
			return err
		}
		block[n], names[n] = e, e.Name
		if n++; n == locateBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
